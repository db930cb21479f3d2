// Some of the sequences that a server sends, for people who look at its page.
//
// Streams offer a row of a batch now and then, but only while somebody looks. Otherwise a batch costs one load.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <mutex>
#include <string>
#include <vector>

#include "iterate/segment.h"
#include "iterate/stream.h"

namespace iterand {

// Thread-safe.
class LiveRows {
 public:
  // Rows that are kept, and the most that are taken between two looks.
  static constexpr std::size_t kRows = 64;
  static constexpr int kRowsPerBatch = 8;
  // Tokens of each that are kept.
  static constexpr std::size_t kTokens = 512;
  // How long a look lasts.
  static constexpr auto kWatch = std::chrono::seconds(3);

  struct Row {
    std::uint64_t number = 0;  // counts all rows that were taken
    std::uint64_t index = 0;
    std::string stream;  // the beginning of its fingerprint
    std::string part;    // empty if the recipe is not a mixture
    std::string family;
    int depth = 0;
    Dtype dtype = Dtype::kUint8;
    std::string tokens;  // the first ones, as in a segment
  };

  // Which rows of a batch are to be offered.
  class Picks {
   public:
    Picks() = default;  // none
    Picks(int first, int step) : first_(first), step_(step) {}
    bool empty() const { return step_ == 0; }
    bool Contains(int row) const { return step_ > 0 && row % step_ == first_; }

   private:
    int first_ = 0;  // below step_
    int step_ = 0;
  };

  // About kRowsPerBatch of a batch of `rows`; none if nobody looks or enough were taken.
  Picks Pick(int rows);

  // Takes a row.
  void Offer(const Stream& stream, std::uint64_t index, const Segment& segment, std::uint32_t offset);

  // Somebody looks: the latest rows, the oldest first.
  std::vector<Row> Look();

 private:
  using Clock = std::chrono::steady_clock;

  std::atomic<Clock::rep> until_{0};  // when the latest look ends; 0: nobody looks
  std::atomic<int> room_{0};          // rows that may be taken before the next look
  std::atomic<std::uint32_t> picks_{0};
  std::mutex mutex_;
  std::uint64_t taken_ = 0;
  std::deque<Row> rows_;
};

}  // namespace iterand
