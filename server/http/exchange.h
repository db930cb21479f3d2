// One request of HTTP and its answer, free of any library's types.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace iterand {

// What a request says before its body. Headers that are missing are empty.
struct HttpHead {
  std::string method;  // "GET"
  std::string path;    // "/api/presets", without the query
  std::string host;
  std::string origin;
  std::string fetch_site;  // Sec-Fetch-Site
  std::string authorization;
  std::string content_type;
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  std::string body;
  bool may_cache = false;  // the body is the same until the program changes
};

// A request whose body has arrived, until it is answered. Thread-safe.
class HttpExchange {
 public:
  using Send = std::function<void(HttpResponse)>;

  // `send` is called once, from any thread.
  HttpExchange(HttpHead head, std::string body, Send send)
      : head_(std::move(head)), body_(std::move(body)), send_(std::move(send)) {}
  HttpExchange(const HttpExchange&) = delete;
  HttpExchange& operator=(const HttpExchange&) = delete;

  const HttpHead& head() const { return head_; }
  const std::string& body() const { return body_; }

  // Answers. Only the first call has an effect.
  void Respond(HttpResponse response);

  // Whether the client is gone or the server is stopping: the answer would reach nobody.
  bool cancelled() const { return cancelled_.load(std::memory_order_relaxed); }

  // Calls `stop` when the exchange is cancelled, at once if it has been: on any thread, while a lock is held.
  // Null: no longer. Once this has returned, the function before is not running and will not be called.
  void OnCancel(std::function<void()> stop);

  void Cancel();

 private:
  const HttpHead head_;
  const std::string body_;
  const Send send_;
  std::atomic<bool> answered_{false};
  std::atomic<bool> cancelled_{false};
  std::mutex mutex_;
  std::function<void()> stop_;  // guarded by mutex_
};

}  // namespace iterand
