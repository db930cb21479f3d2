#include "server/http/exchange.h"

namespace iterand {

void HttpExchange::Respond(HttpResponse response) {
  if (!answered_.exchange(true)) send_(std::move(response));
}

void HttpExchange::OnCancel(std::function<void()> stop) {
  const std::lock_guard lock(mutex_);
  stop_ = std::move(stop);
  if (stop_ && cancelled()) stop_();
}

void HttpExchange::Cancel() {
  const std::lock_guard lock(mutex_);
  if (!cancelled_.exchange(true) && stop_) stop_();
}

}  // namespace iterand
