// HTTP requests as a browser makes them, and as no browser does.
#pragma once

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"

namespace iterand {

// A connection to a server on this machine. `address` is HOST:PORT.
class HttpConnection {
 public:
  explicit HttpConnection(const std::string& address) : descriptor_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    to.sin_port = htons(static_cast<std::uint16_t>(std::stoi(address.substr(address.rfind(':') + 1))));
    connected_ = connect(descriptor_, reinterpret_cast<sockaddr*>(&to), sizeof(to)) == 0;
  }
  ~HttpConnection() { Close(); }
  HttpConnection(const HttpConnection&) = delete;
  HttpConnection& operator=(const HttpConnection&) = delete;

  bool connected() const { return connected_; }

  bool Send(const std::string& bytes) {
    std::size_t sent = 0;
    while (sent < bytes.size()) {
      const ssize_t size = send(descriptor_, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
      if (size <= 0) return false;
      sent += static_cast<std::size_t>(size);
    }
    return true;
  }

  // What arrives until the server closes the connection, or until `milliseconds` without a byte.
  std::string ReadAll(int milliseconds = 30000) {
    std::string bytes;
    char buffer[4096];
    for (;;) {
      pollfd ready{descriptor_, POLLIN, 0};
      if (poll(&ready, 1, milliseconds) <= 0) break;
      const ssize_t size = recv(descriptor_, buffer, sizeof(buffer), 0);
      if (size <= 0) break;
      bytes.append(buffer, static_cast<std::size_t>(size));
    }
    return bytes;
  }

  // Whether the server closes the connection within so long; what it sends is dropped.
  bool ClosedWithin(int milliseconds) {
    for (;;) {
      pollfd ready{descriptor_, POLLIN, 0};
      if (poll(&ready, 1, milliseconds) <= 0) return false;
      char buffer[4096];
      if (recv(descriptor_, buffer, sizeof(buffer), 0) <= 0) return true;
    }
  }

  void Close() {
    if (descriptor_ >= 0) close(std::exchange(descriptor_, -1));
  }

 private:
  int descriptor_;
  bool connected_ = false;
};

struct HttpAnswer {
  int status = 0;  // 0: none
  std::string head;
  std::string body;
  nlohmann::json json() const { return nlohmann::json::parse(body, nullptr, /*allow_exceptions=*/false); }
};

inline HttpAnswer ParseHttp(const std::string& bytes) {
  HttpAnswer answer;
  const std::size_t end = bytes.find("\r\n\r\n");
  if (bytes.size() < 12 || end == std::string::npos) return answer;
  answer.status = std::stoi(bytes.substr(9, 3));
  answer.head = bytes.substr(0, end);
  answer.body = bytes.substr(end + 4);
  return answer;
}

struct HttpAsk {
  std::string method = "GET";
  std::string path = "/";
  std::string body = "";
  std::vector<std::string> headers = {};  // "name: value"
  std::string host = "localhost";
};

inline std::string Wire(const HttpAsk& ask) {
  std::string bytes = absl::StrCat(ask.method, " ", ask.path, " HTTP/1.1\r\n");
  if (!ask.host.empty()) absl::StrAppend(&bytes, "Host: ", ask.host, "\r\n");
  for (const std::string& header : ask.headers) absl::StrAppend(&bytes, header, "\r\n");
  if (ask.method == "POST") absl::StrAppend(&bytes, "Content-Length: ", ask.body.size(), "\r\n");
  return absl::StrCat(bytes, "Connection: close\r\n\r\n", ask.body);
}

inline HttpAnswer Ask(const std::string& address, const HttpAsk& ask) {
  HttpConnection connection(address);
  connection.Send(Wire(ask));
  return ParseHttp(connection.ReadAll());
}

inline HttpAnswer Post(const std::string& address, const std::string& path, const nlohmann::json& body,
                       std::vector<std::string> headers = {}) {
  headers.emplace_back("Content-Type: application/json");
  return Ask(address, {.method = "POST", .path = path, .body = body.dump(), .headers = std::move(headers)});
}

}  // namespace iterand
