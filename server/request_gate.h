// Bounds the memory of requests that are being received or parsed.
//
// A request takes memory as soon as gRPC is asked to read it, up to the method's largest request. A call therefore asks
// the gate first, and reads when the gate lets it through. Of a call that waits, gRPC buffers at most 64 KiB.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include "server/server_stats.h"

namespace iterand {

// Thread-safe.
class RequestGate {
 public:
  // Requests of a method that may be read at a time. Each method has its own limit, so that none keeps the others
  // waiting. With the largest request of each method (server/service.h) that makes 192 MiB.
  static constexpr int MaxReads(Method method) {
    switch (method) {
      case Method::kExecute:
        return 4;
      case Method::kStream:
        return 32;
      default:
        return 16;
    }
  }

  // What a call holds while its request is read and parsed. Lets the next call through when it is destroyed. Movable.
  // The gate must outlive it.
  class Passage {
   public:
    Passage() = default;  // none
    Passage(RequestGate* gate, Method method) : gate_(gate), method_(method) {}
    Passage(Passage&& other) noexcept : gate_(std::exchange(other.gate_, nullptr)), method_(other.method_) {}
    Passage& operator=(Passage&& other) noexcept {
      std::swap(gate_, other.gate_);
      std::swap(method_, other.method_);
      return *this;
    }
    ~Passage() {
      if (gate_ != nullptr) gate_->Leave(method_);
    }

   private:
    RequestGate* gate_ = nullptr;
    Method method_ = Method::kStream;
  };

  // What waits at the gate.
  class Reader {
   public:
    virtual ~Reader() = default;
    // It is let through. Called once, without a lock.
    virtual void StartReading(Passage passage) = 0;
  };

  // Lets a reader through once there is room, perhaps before this returns: first come, first served. Returns a ticket.
  std::uint64_t Enter(Method method, const std::shared_ptr<Reader>& reader);

  // The reader gives up its place. It may be let through at the same moment.
  void Abandon(Method method, std::uint64_t ticket);

 private:
  struct Queue {
    int reading = 0;
    std::map<std::uint64_t, std::shared_ptr<Reader>> waiting;  // by ticket
  };

  Queue& QueueOf(Method method) { return queues_[static_cast<std::size_t>(method)]; }
  void Leave(Method method);
  // Lets readers through as far as there is room.
  void Admit(Method method);

  std::mutex mutex_;
  std::uint64_t next_ticket_ = 0;
  std::array<Queue, kMethods.size()> queues_;
};

}  // namespace iterand
