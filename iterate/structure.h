// What is regular in sequences, in more detail than iterate/statistics.h. It measures where a reader would begin to
// predict a sequence, what repeats, and how far dependence reaches. For reports and tests; nothing here is on the
// generating path.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace iterand {

inline constexpr int kStructureOrders = 4;
inline constexpr int kStructureBins = 16;

struct StructureProfile {
  std::uint64_t sequences = 0;

  // In-context Markov code length in bits per token by order and by sixteenth of the sequence: the mean over sequences.
  // Counts within the sequence, 0.01 added to each token's.
  std::array<std::array<double, kStructureBins>, kStructureOrders> code_bits{};

  // Mean mutual information in bits between tokens at a distance, of the seven most frequent tokens of a sequence and
  // one class for all others. Corrected for its bias in short sequences (Miller 1955), at least 0 in each.
  std::vector<int> distances;  // 1, 2, 3, 4, 6, 8, 12, ... below half of the length
  std::vector<double> mutual_information;

  double repeat_share = 0;  // tokens that end an 8-gram which the same sequence had before
  // Sequences whose second half has a period p, at most a quarter of the length: 90 % of its tokens equal the one p
  // before.
  double periodic_share = 0;
  double median_period = 0;  // of those; 0 if there are none

  // Of each sequence, in the order of Add; see iterate/complexity.h.
  std::vector<float> complexity;
};

class StructureCollector {
 public:
  // Sequences of `length` tokens below `vocab_size`.
  StructureCollector(int length, std::uint64_t vocab_size);

  // Adds a sequence. `alphabet` is what its complexity is measured against, at most 65 536. Returns its complexity.
  double Add(std::span<const std::uint32_t> tokens, int alphabet);

  StructureProfile Profile() const;

 private:
  void AddCodeLengths();
  void AddMutualInformation();
  void AddRepeats();

  const int length_;
  const double vocab_size_;
  std::vector<std::uint16_t> ranks_;  // of the tokens of the sequence at hand, by falling frequency
  StructureProfile sums_;
  std::vector<int> periods_;
};

}  // namespace iterand
