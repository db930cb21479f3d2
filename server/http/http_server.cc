#include "server/http/http_server.h"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <list>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/http/session.h"
#include "server/listen_sockets.h"

namespace iterand {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

constexpr auto kAcceptPause = std::chrono::milliseconds(100);  // after an error, such as no descriptor

}  // namespace

class HttpServer::Impl {
 public:
  explicit Impl(Options options)
      : tls_(std::move(options.tls)),
        host_(std::make_shared<SessionHost>(
            SessionHost{options.limits, std::move(options.judge), std::move(options.handle), {}, false})) {}

  absl::StatusOr<std::string> Bind(const std::string& listen) {
    if (absl::StartsWith(listen, "unix:")) {
      return absl::InvalidArgumentError(
          absl::StrCat("cannot serve the page on ", listen, ": it must be HOST:PORT or [IPV6]:PORT"));
    }
    absl::StatusOr<ListenSockets> sockets = ListenSockets::Bind(listen);
    if (!sockets.ok()) return sockets.status();
    if (tls_ != nullptr) {
      context_ = std::make_unique<asio::ssl::context>(asio::ssl::context::tls_server);
      ServerTls::Configure(tls_, context_->native_handle());
    }
    for (const int descriptor : sockets->descriptors()) {
      sockaddr_storage bound{};
      socklen_t size = sizeof(bound);
      getsockname(descriptor, reinterpret_cast<sockaddr*>(&bound), &size);
      const int own = dup(descriptor);
      if (own < 0)
        return absl::UnavailableError(
            absl::StrCat("cannot listen on ", listen, ": the process has no file descriptor left (ulimit -n)"));
      acceptors_.emplace_back(io_, bound.ss_family == AF_INET6 ? tcp::v6() : tcp::v4(), own);
    }
    return sockets->address();
  }

  void Run() {
    for (tcp::acceptor& acceptor : acceptors_) Accept(acceptor);
    thread_ = std::thread([this] { io_.run(); });
  }

  void Stop() {
    const std::lock_guard lock(mutex_);
    if (!thread_.joinable()) return;
    asio::post(io_, [this] {
      host_->stopping = true;
      error_code ignored;
      for (tcp::acceptor& acceptor : acceptors_) static_cast<void>(acceptor.close(ignored));
      pause_.cancel();
      const std::vector<std::shared_ptr<HttpSession>> open(host_->sessions.begin(), host_->sessions.end());
      for (const std::shared_ptr<HttpSession>& session : open) session->Close();
    });
    thread_.join();  // nothing is left to run
  }

 private:
  void Accept(tcp::acceptor& acceptor) {
    acceptor.async_accept([this, &acceptor](error_code error, tcp::socket socket) {
      if (host_->stopping) return;
      if (!error) {
        Admit(std::move(socket));
        return Accept(acceptor);
      }
      pause_.expires_after(kAcceptPause);
      pause_.async_wait([this, &acceptor](error_code) {
        if (!host_->stopping) Accept(acceptor);
      });
    });
  }

  void Admit(tcp::socket socket) {
    if (host_->sessions.size() >= host_->limits.connections) {
      std::shared_ptr<HttpSession> oldest;
      for (const std::shared_ptr<HttpSession>& session : host_->sessions) {
        if (session->idle() && (!oldest || session->idle_since() < oldest->idle_since())) oldest = session;
      }
      if (!oldest) return;  // closes the new one
      oldest->Close();
    }
    error_code ignored;
    static_cast<void>(socket.set_option(tcp::no_delay(true), ignored));
    const std::shared_ptr<HttpSession> session = NewHttpSession(std::move(socket), context_.get(), host_);
    host_->sessions.insert(session);
    session->Start();
  }

  const std::shared_ptr<ServerTls> tls_;
  std::unique_ptr<asio::ssl::context> context_;
  asio::io_context io_{1};
  std::shared_ptr<SessionHost> host_;
  std::list<tcp::acceptor> acceptors_;
  asio::steady_timer pause_{io_};
  std::mutex mutex_;
  std::thread thread_;
};

HttpServer::HttpServer() = default;
HttpServer::~HttpServer() { Stop(); }

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(Options options) {
  std::unique_ptr<HttpServer> server(new HttpServer());
  const std::string listen = options.listen;
  server->impl_ = std::make_shared<Impl>(std::move(options));
  absl::StatusOr<std::string> address = server->impl_->Bind(listen);
  if (!address.ok()) return address.status();
  server->address_ = *std::move(address);
  server->impl_->Run();
  return server;
}

void HttpServer::Stop() { impl_->Stop(); }

}  // namespace iterand
