// Progress bar on standard error, only where that is a terminal.
#pragma once

#include <chrono>
#include <cstdint>

namespace iterand::cli {

class Progress {
 public:
  // `done` of `total` sequences of `length` tokens existed before.
  Progress(std::uint64_t done, std::uint64_t total, int length);
  ~Progress();  // clears
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // Draws the bar, at most about ten times per second.
  void Update(std::uint64_t done);
  // Removes the bar, so that a line can be written.
  void Clear();
  // Measures speed from here on, with `done` sequences complete.
  void Restart(std::uint64_t done);

 private:
  using Clock = std::chrono::steady_clock;

  bool shown_;
  bool drawn_ = false;
  std::uint64_t first_;
  std::uint64_t total_;
  int length_;
  Clock::time_point started_ = Clock::now();
  Clock::time_point next_ = started_;
};

}  // namespace iterand::cli
