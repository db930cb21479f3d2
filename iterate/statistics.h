// Statistics of sequences: what a stream is made of. For reports and tests only; nothing here is on the generating
// path, so it may use zlib and floating point freely.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "iterate/segment.h"

namespace iterand {

// Of the sequences that one part of a mixture made.
struct PartStatistics {
  std::uint64_t sequences = 0;
  double structured_share = 0;  // as in StreamStatistics
  double mean_entropy = 0;      // order 0, bits per token
};

struct StreamStatistics {
  std::uint64_t sequences = 0;
  double constant_share = 0;      // one token repeated
  double high_entropy_share = 0;  // order-0 entropy above 7 bits per token
  // zlib (level 9) size / plain size within (0.06, 0.9), and not constant. Expects rows of about 200 bytes. zlib needs
  // 12 bytes for a row that contains almost nothing, which is a large part of a shorter row.
  double structured_share = 0;
  double duplicate_share = 0;  // equal to an earlier sequence: 1 - distinct sequences / sequences
  double median_distinct_tokens = 0;
  std::array<double, 5> entropy_quantiles{};  // order-0 entropy in bits per token: 5, 25, 50, 75, 95 %
  std::array<double, 4> markov_bits{};        // in-context Markov code length, orders 0-3, bits per token, mean over
                                              // the second halves; counts within the row, 0.01 added to each token's
  std::vector<PartStatistics> parts;          // by number of the part; empty if no parts were given
};

// Collects statistics of sequences of one length and dtype, in memory of 8 bytes per sequence and more for distinct
// ones.
class StatisticsCollector {
 public:
  StatisticsCollector(Dtype dtype, int length, std::uint64_t vocab_size);

  // Adds `rows` sequences, row-major; of a mixture, with the part that made each.
  void Add(const void* tokens, int rows, std::span<const std::uint8_t> parts = {});

  StreamStatistics Summary() const;

  // zlib level 9 size / plain size of one sequence's bytes.
  static double ZlibRatio(const void* bytes, std::size_t size);

 private:
  // Adds a row, of a part or of none (-1).
  void AddRow(const std::byte* row, int part);

  Dtype dtype_;
  int length_;
  std::uint64_t vocab_size_;
  std::vector<std::uint32_t> tokens_;  // of the row at hand
  std::unordered_map<std::uint64_t, std::uint32_t> counts_;
  std::uint64_t constants_ = 0;
  std::uint64_t structured_ = 0;
  std::vector<float> entropies_;
  std::vector<std::uint32_t> distinct_tokens_;
  std::unordered_map<std::uint64_t, std::uint32_t> row_hashes_;  // 64-bit hash of a row's bytes -> how often
  std::array<double, 4> markov_sum_{};
  // By part; sums in place of the share and the mean.
  std::vector<PartStatistics> parts_;
};

// The statistics as lines of "name value", for people; and a table of the parts, whose names are given.
std::string FormatStatistics(const StreamStatistics& statistics, std::span<const std::string> part_names = {});

}  // namespace iterand
