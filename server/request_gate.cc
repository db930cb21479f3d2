#include "server/request_gate.h"

namespace iterand {

std::uint64_t RequestGate::Enter(Method method, const std::shared_ptr<Reader>& reader) {
  std::uint64_t ticket;
  {
    std::lock_guard lock(mutex_);
    ticket = next_ticket_++;
    QueueOf(method).waiting.emplace(ticket, reader);
  }
  Admit(method);
  return ticket;
}

void RequestGate::Abandon(Method method, std::uint64_t ticket) {
  std::shared_ptr<Reader> reader;  // released without the lock
  std::lock_guard lock(mutex_);
  auto& waiting = QueueOf(method).waiting;
  const auto found = waiting.find(ticket);
  if (found == waiting.end()) return;
  reader = std::move(found->second);
  waiting.erase(found);
}

void RequestGate::Leave(Method method) {
  {
    std::lock_guard lock(mutex_);
    --QueueOf(method).reading;
  }
  Admit(method);
}

void RequestGate::Admit(Method method) {
  for (;;) {
    std::shared_ptr<Reader> reader;
    {
      std::lock_guard lock(mutex_);
      Queue& queue = QueueOf(method);
      if (queue.reading >= MaxReads(method) || queue.waiting.empty()) return;
      reader = std::move(queue.waiting.begin()->second);
      queue.waiting.erase(queue.waiting.begin());
      ++queue.reading;
    }
    reader->StartReading(Passage(this, method));
  }
}

}  // namespace iterand
