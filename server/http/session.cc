#include "server/http/session.h"

#include <poll.h>

#include <array>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <boost/version.hpp>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace iterand {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;

using Plain = beast::tcp_stream;
using Encrypted = asio::ssl::stream<beast::tcp_stream>;
using boost::system::error_code;

constexpr auto kLinger = std::chrono::seconds(2);
constexpr std::size_t kLingerBytes = std::size_t{4} << 20;

// Nothing from elsewhere, nothing inline, no frames and no forms.
constexpr char kPolicy[] =
    "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'";

template <typename View>
std::string Text(const View& view) {
  return {view.data(), view.size()};
}

HttpHead HeadOf(const http::request<http::string_body>& request) {
  std::string path = Text(request.target());
  path.resize(std::min(path.size(), path.find('?')));
  return {.method = Text(request.method_string()),
          .path = std::move(path),
          .host = Text(request[http::field::host]),
          .origin = Text(request[http::field::origin]),
          .fetch_site = Text(request["Sec-Fetch-Site"]),
          .authorization = Text(request[http::field::authorization]),
          .content_type = Text(request[http::field::content_type])};
}

http::response<http::string_body> ToMessage(HttpResponse response, unsigned version, bool keep_alive) {
  http::response<http::string_body> message(static_cast<http::status>(response.status), version);
  message.set(http::field::content_type, response.content_type);
  message.set(http::field::cache_control, response.may_cache ? "no-cache" : "no-store");
  message.set("Content-Security-Policy", kPolicy);
  message.set("Cross-Origin-Opener-Policy", "same-origin");
  message.set("Cross-Origin-Resource-Policy", "same-origin");
  message.set("Referrer-Policy", "no-referrer");
  message.set("X-Content-Type-Options", "nosniff");
  if (response.status == 401) message.set(http::field::www_authenticate, "Bearer");
  message.keep_alive(keep_alive);
  message.body() = std::move(response.body);
  message.prepare_payload();
  return message;
}

HttpResponse Refusal(int status, std::string_view message) {
  return {.status = status, .body = "{\"error\": {\"message\": \"" + std::string(message) + "\"}}"};
}

// The answer to a request that could not be read; nothing if the connection is of no use any more.
std::optional<HttpResponse> AnswerTo(const error_code& error) {
  if (error == http::error::body_limit) return Refusal(413, "the body of the request is too large");
  if (error == http::error::header_limit || error == http::error::buffer_overflow) {
    return Refusal(431, "the head of the request is too large");
  }
  if (error == http::error::end_of_stream || error == http::error::partial_message) return std::nullopt;
  if (error.category() == http::make_error_code(http::error::bad_method).category()) {
    return Refusal(400, "the request is not valid HTTP/1.1");
  }
  return std::nullopt;
}

template <class Stream>
class Session final : public HttpSession, public std::enable_shared_from_this<Session<Stream>> {
 public:
  Session(asio::ip::tcp::socket socket, asio::ssl::context* tls, const std::shared_ptr<SessionHost>& host)
      : host_(host), stream_(MakeStream(std::move(socket), tls)), watch_(stream_.get_executor()) {}

  void Start() override {
    if constexpr (std::is_same_v<Stream, Encrypted>) {
      Lowest().expires_after(host_->limits.handshake);
      stream_.async_handshake(asio::ssl::stream_base::server, [self = this->shared_from_this()](error_code error) {
        return error ? self->Close() : self->AwaitRequest();
      });
    } else {
      AwaitRequest();
    }
  }

  void Close() override {
    if (closed_) return;
    closed_ = true;
    idle_ = false;
    watch_.cancel();
    Lowest().close();
    if (exchange_) exchange_->Cancel();
    exchange_ = nullptr;
    host_->sessions.erase(this->shared_from_this());
  }

 private:
  static Stream MakeStream(asio::ip::tcp::socket socket, asio::ssl::context* tls) {
    if constexpr (std::is_same_v<Stream, Encrypted>) {
      return Stream(beast::tcp_stream(std::move(socket)), *tls);
    } else {
      static_cast<void>(tls);
      return Stream(std::move(socket));
    }
  }

  beast::tcp_stream& Lowest() { return beast::get_lowest_layer(stream_); }

  // Waits for the first bytes of a request, which may take long, and then for the rest, which may not.
  void AwaitRequest() {
    if (closed_) return;
    if (host_->stopping) return Close();
    parser_ = std::make_unique<http::request_parser<http::string_body>>();
    parser_->header_limit(static_cast<std::uint32_t>(host_->limits.head_bytes));
    parser_->body_limit(host_->limits.body_bytes);
    if (buffer_.size() > 0) return ReadHead();
    idle_ = true;
    idle_since_ = Clock::now();
    Lowest().expires_after(host_->limits.idle);
    stream_.async_read_some(buffer_.prepare(4096),
                            [self = this->shared_from_this()](error_code error, std::size_t bytes) {
                              if (error) return self->Close();
                              self->buffer_.commit(bytes);
                              self->ReadHead();
                            });
  }

  void ReadHead() {
    idle_ = false;
    Lowest().expires_after(host_->limits.request);
    http::async_read_header(stream_, buffer_, *parser_,
                            [self = this->shared_from_this()](error_code error, std::size_t /*bytes*/) {
                              if (error) return self->Fail(error);
                              self->OnHead();
                            });
  }

  void OnHead() {
    if (closed_) return;
    head_ = HeadOf(parser_->get());
    if (std::optional<HttpResponse> refusal = host_->judge(head_)) {
      // What is left of the request is not read.
      return Write(*std::move(refusal), /*keep_alive=*/parser_->is_done() && parser_->keep_alive());
    }
    http::async_read(stream_, buffer_, *parser_,
                     [self = this->shared_from_this()](error_code error, std::size_t /*bytes*/) {
                       if (error) return self->Fail(error);
                       self->OnRequest();
                     });
  }

  void OnRequest() {
    if (closed_) return;
    Lowest().expires_never();
    exchange_ = std::make_shared<HttpExchange>(
        std::move(head_), std::move(parser_->get().body()),
        [weak = this->weak_from_this(), executor = stream_.get_executor()](HttpResponse response) {
          asio::post(executor, [weak, response = std::move(response)]() mutable {
            const auto self = weak.lock();
            if (!self || self->closed_) return;
            self->exchange_ = nullptr;
            self->watch_.cancel();
            self->Write(std::move(response), self->parser_->keep_alive());
          });
        });
    Watch();
    host_->handle(exchange_);
  }

  // Looks whether the client has closed the connection, until the exchange is over.
  void Watch() {
    watch_.expires_after(HttpServer::kWatchInterval);
    watch_.async_wait([self = this->shared_from_this()](error_code error) {
      if (error || self->closed_ || !self->exchange_) return;
      pollfd client{.fd = self->Lowest().socket().native_handle(), .events = POLLRDHUP, .revents = 0};
      if (poll(&client, 1, 0) > 0 && (client.revents & (POLLRDHUP | POLLERR | POLLHUP)) != 0) return self->Close();
      self->Watch();
    });
  }

  void Fail(const error_code& error) {
    if (closed_) return;
    std::optional<HttpResponse> answer = AnswerTo(error);
    if (!answer) return Close();
    Write(*std::move(answer), /*keep_alive=*/false);
  }

  void Write(HttpResponse response, bool keep_alive) {
    if (closed_) return;
    const unsigned version = parser_->is_header_done() ? parser_->get().version() : 11;
    message_ = ToMessage(std::move(response), version, keep_alive && !host_->stopping);
    Lowest().expires_after(host_->limits.response);
    http::async_write(stream_, message_, [self = this->shared_from_this()](error_code error, std::size_t /*bytes*/) {
      if (error) return self->Close();
      const bool keep = self->message_.keep_alive();
      self->message_ = {};
      if (keep) return self->AwaitRequest();
      self->Linger();
    });
  }

  // Ends the connection once the client has taken the answer: to close it while bytes arrive would reset it.
  void Linger() {
    if (closed_) return;
    error_code ignored;
    Lowest().socket().shutdown(asio::ip::tcp::socket::shutdown_send, ignored);
    Lowest().expires_after(kLinger);
    left_to_drop_ = kLingerBytes;
    Drop();
  }

  void Drop() {
    Lowest().async_read_some(asio::buffer(dropped_),
                             [self = this->shared_from_this()](error_code error, std::size_t bytes) {
                               if (error || bytes >= self->left_to_drop_) return self->Close();
                               self->left_to_drop_ -= bytes;
                               self->Drop();
                             });
  }

  const std::shared_ptr<SessionHost> host_;
  Stream stream_;
  asio::steady_timer watch_;
  beast::flat_buffer buffer_;
  std::unique_ptr<http::request_parser<http::string_body>> parser_;
  HttpHead head_;
  std::shared_ptr<HttpExchange> exchange_;
  http::response<http::string_body> message_;
  std::array<char, 4096> dropped_;
  std::size_t left_to_drop_ = 0;
  bool closed_ = false;
};

}  // namespace

std::shared_ptr<HttpSession> NewHttpSession(asio::ip::tcp::socket socket, asio::ssl::context* tls,
                                            const std::shared_ptr<SessionHost>& host) {
  if (tls != nullptr) return std::make_shared<Session<Encrypted>>(std::move(socket), tls, host);
  return std::make_shared<Session<Plain>>(std::move(socket), tls, host);
}

}  // namespace iterand
