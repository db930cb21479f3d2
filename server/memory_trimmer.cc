#include "server/memory_trimmer.h"

#include <malloc.h>

#include <algorithm>
#include <chrono>
#include <utility>

namespace iterand {
namespace {

constexpr std::chrono::seconds kInterval(1);

// A trim needs usage to be this far below the peak since the last one.
constexpr std::size_t kWorthwhileBytes = std::size_t{16} << 20;

// Work that was cancelled frees its memory some time after it no longer counts, so trims are repeated this often.
constexpr int kTrims = 3;

}  // namespace

MemoryTrimmer::MemoryTrimmer(std::function<std::size_t()> in_use)
    : in_use_(std::move(in_use)), thread_([this] { Run(); }) {}

MemoryTrimmer::~MemoryTrimmer() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void MemoryTrimmer::Run() {
  std::size_t peak = 0;
  int trims_left = 0;
  std::unique_lock lock(mutex_);
  while (!changed_.wait_for(lock, kInterval, [this] { return stopping_; })) {
    lock.unlock();
    const std::size_t now = in_use_();
    peak = std::max(peak, now);
    if (peak - now >= kWorthwhileBytes) {
      peak = now;
      trims_left = kTrims;
    }
    if (trims_left > 0) {
      --trims_left;
      malloc_trim(0);
    }
    lock.lock();
  }
}

}  // namespace iterand
