#include "clients/cli/measure.h"

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>

#include "common/thread_clock.h"
#include "iterate/stream.h"
#include "randnet/run_control.h"

namespace iterand::cli {
namespace {

// Stops a computation after some time, unless it is destroyed before.
class Deadline {
 public:
  Deadline(RunControl* control, double seconds)
      : thread_([this, control, seconds] {
          std::unique_lock lock(mutex_);
          if (!ended_.wait_for(lock, std::chrono::duration<double>(seconds), [this] { return over_; })) control->Stop();
        }) {}
  ~Deadline() {
    {
      const std::lock_guard lock(mutex_);
      over_ = true;
    }
    ended_.notify_all();
    thread_.join();
  }
  Deadline(const Deadline&) = delete;
  Deadline& operator=(const Deadline&) = delete;

 private:
  std::mutex mutex_;
  std::condition_variable ended_;
  bool over_ = false;
  std::thread thread_;  // last: it uses the others
};

}  // namespace

double MeasureTokensPerSecond(const std::shared_ptr<const StreamPlan>& plan, double seconds, double patience) {
  const std::shared_ptr<Stream> stream = Stream::FromPlan(plan);
  const std::unique_ptr<Workspace> workspace = stream->NewWorkspace();
  Segment segment;
  RunControl control;
  const Deadline deadline(&control, patience);
  const double begin = ThreadSeconds();
  const auto tokens = static_cast<double>(stream->segment_sequences()) * stream->length();
  const auto lanes = static_cast<std::uint64_t>(stream->lanes());
  double rate = 0;
  for (std::uint64_t i = 0;; ++i) {
    const auto lane = static_cast<std::uint32_t>(i % lanes);
    if (!stream->GenerateSegment(lane, i / lanes, *workspace, &control, segment).ok()) return rate;
    const double taken = ThreadSeconds() - begin;
    rate = static_cast<double>(i + 1) * tokens / taken;
    if (taken >= seconds) return rate;
  }
}

}  // namespace iterand::cli
