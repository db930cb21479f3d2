// A connection of HttpServer, from its first byte to its last. For http_server.cc and session.cc alone.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <chrono>
#include <memory>
#include <set>

#include "server/http/http_server.h"

namespace iterand {

class HttpSession;

// What the connections of a server share. Used from the server's thread alone.
struct SessionHost {
  HttpServer::Limits limits;
  HttpServer::Judge judge;
  HttpServer::Handle handle;
  std::set<std::shared_ptr<HttpSession>> sessions;
  bool stopping = false;
};

// Used from the server's thread alone.
class HttpSession {
 public:
  using Clock = std::chrono::steady_clock;

  virtual ~HttpSession() = default;
  virtual void Start() = 0;

  // Closes the connection at once, and cancels the exchange in progress.
  virtual void Close() = 0;

  // Whether no request has begun, and since when.
  bool idle() const { return idle_; }
  Clock::time_point idle_since() const { return idle_since_; }

 protected:
  bool idle_ = false;
  Clock::time_point idle_since_ = Clock::now();
};

// `tls` is null for a connection that is not encrypted. Both must outlive the session. The session is in
// host->sessions until it is closed.
std::shared_ptr<HttpSession> NewHttpSession(boost::asio::ip::tcp::socket socket, boost::asio::ssl::context* tls,
                                            const std::shared_ptr<SessionHost>& host);

}  // namespace iterand
