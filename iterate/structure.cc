#include "iterate/structure.h"

#include <algorithm>
#include <cmath>
#include <unordered_map>
#include <unordered_set>

#include "iterate/complexity.h"

namespace iterand {
namespace {

constexpr double kSmoothing = 0.01;
constexpr int kClasses = 8;
constexpr int kRepeat = 8;
constexpr double kPeriodic = 0.9;

std::uint64_t Mix(std::uint64_t hash, std::uint64_t value) {
  hash = (hash ^ value) * 0x9E3779B97F4A7C15U;
  return hash ^ hash >> 29;
}

// Each token's place in the order of frequency, ties by first occurrence.
void RankTokens(std::span<const std::uint32_t> tokens, std::vector<std::uint16_t>& ranks) {
  struct Seen {
    std::uint32_t token;
    std::size_t count;
  };
  std::unordered_map<std::uint32_t, std::size_t> place;
  std::vector<Seen> seen;  // by first occurrence
  for (const std::uint32_t token : tokens) {
    const auto [at, is_new] = place.try_emplace(token, seen.size());
    if (is_new) seen.push_back({token, 0});
    ++seen[at->second].count;
  }
  std::stable_sort(seen.begin(), seen.end(), [](const Seen& a, const Seen& b) { return a.count > b.count; });
  for (std::size_t rank = 0; rank < seen.size(); ++rank) place[seen[rank].token] = rank;
  ranks.clear();
  for (const std::uint32_t token : tokens) ranks.push_back(static_cast<std::uint16_t>(place[token]));
}

// 1, 2, 3, 4, 6, 8, 12, 16, ...
std::vector<int> Distances(int length) {
  std::vector<int> distances;
  for (int power = 1; power < length / 2; power *= 2) {
    distances.push_back(power);
    if (power > 1 && power + power / 2 < length / 2) distances.push_back(power + power / 2);
  }
  return distances;
}

double MutualInformation(std::span<const std::uint16_t> ranks, std::size_t distance) {
  double joint[kClasses][kClasses] = {};
  double left[kClasses] = {};
  double right[kClasses] = {};
  const auto total = static_cast<double>(ranks.size() - distance);
  for (std::size_t t = distance; t < ranks.size(); ++t) {
    const int a = std::min<int>(ranks[t - distance], kClasses - 1);
    const int b = std::min<int>(ranks[t], kClasses - 1);
    ++joint[a][b];
    ++left[a];
    ++right[b];
  }
  double bits = 0;
  int joint_kinds = 0;
  int left_kinds = 0;
  int right_kinds = 0;
  for (int a = 0; a < kClasses; ++a) {
    left_kinds += left[a] > 0 ? 1 : 0;
    right_kinds += right[a] > 0 ? 1 : 0;
    for (int b = 0; b < kClasses; ++b) {
      if (joint[a][b] == 0) continue;
      ++joint_kinds;
      bits += joint[a][b] / total * std::log2(joint[a][b] * total / (left[a] * right[b]));
    }
  }
  return std::max(0.0, bits - (joint_kinds - left_kinds - right_kinds + 1) / (2 * total * std::log(2.0)));
}

// The smallest period of the second half, or 0.
int PeriodOf(std::span<const std::uint16_t> ranks) {
  const std::size_t half = ranks.size() / 2;
  const auto misses_allowed = static_cast<std::size_t>((1 - kPeriodic) * static_cast<double>(ranks.size() - half));
  for (std::size_t period = 1; period <= ranks.size() / 4; ++period) {
    std::size_t misses = 0;
    for (std::size_t t = half; t < ranks.size() && misses <= misses_allowed; ++t) {
      misses += ranks[t] == ranks[t - period] ? 0 : 1;
    }
    if (misses <= misses_allowed) return static_cast<int>(period);
  }
  return 0;
}

}  // namespace

StructureCollector::StructureCollector(int length, std::uint64_t vocab_size)
    : length_(length), vocab_size_(static_cast<double>(vocab_size)) {
  sums_.distances = Distances(length);
  sums_.mutual_information.resize(sums_.distances.size());
}

double StructureCollector::Add(std::span<const std::uint32_t> tokens, int alphabet) {
  RankTokens(tokens, ranks_);
  ++sums_.sequences;
  AddCodeLengths();
  AddMutualInformation();
  AddRepeats();
  ComplexityMeter meter(std::max<int>(alphabet, 1 + *std::max_element(ranks_.begin(), ranks_.end())), length_);
  const auto plain = static_cast<double>(ComplexityMeter::Plain(alphabet, length_));
  const double complexity = static_cast<double>(meter.Measure(ranks_.data())) / plain;
  sums_.complexity.push_back(static_cast<float>(complexity));
  return complexity;
}

void StructureCollector::AddCodeLengths() {
  const std::size_t length = ranks_.size();
  std::unordered_map<std::uint64_t, std::uint32_t> counts;
  for (std::size_t order = 0; order < kStructureOrders; ++order) {
    counts.clear();
    std::array<double, kStructureBins> bits{};
    std::array<double, kStructureBins> coded{};
    for (std::size_t t = order; t < length; ++t) {
      std::uint64_t context = 1;
      for (std::size_t back = order; back > 0; --back) context = Mix(context, ranks_[t - back]);
      std::uint32_t& times = counts[context];
      std::uint32_t& hits = counts[Mix(~context, ranks_[t])];
      const std::size_t bin = t * kStructureBins / length;
      bits[bin] -= std::log2((hits + kSmoothing) / (times + kSmoothing * vocab_size_));
      ++coded[bin];
      ++times;
      ++hits;
    }
    for (std::size_t bin = 0; bin < kStructureBins; ++bin) {
      sums_.code_bits[order][bin] += coded[bin] > 0 ? bits[bin] / coded[bin] : 0;
    }
  }
}

void StructureCollector::AddMutualInformation() {
  for (std::size_t i = 0; i < sums_.distances.size(); ++i) {
    sums_.mutual_information[i] += MutualInformation(ranks_, static_cast<std::size_t>(sums_.distances[i]));
  }
}

void StructureCollector::AddRepeats() {
  std::unordered_set<std::uint64_t> seen;
  std::size_t repeats = 0;
  for (std::size_t t = kRepeat; t <= ranks_.size(); ++t) {
    std::uint64_t hash = 1;
    for (std::size_t i = t - kRepeat; i < t; ++i) hash = Mix(hash, ranks_[i]);
    repeats += seen.insert(hash).second ? 0 : 1;
  }
  sums_.repeat_share += static_cast<double>(repeats) / static_cast<double>(length_);
  if (const int period = PeriodOf(ranks_); period > 0) periods_.push_back(period);
}

StructureProfile StructureCollector::Profile() const {
  StructureProfile profile = sums_;
  if (profile.sequences == 0) return profile;
  const auto total = static_cast<double>(profile.sequences);
  for (auto& order : profile.code_bits) {
    for (double& bits : order) bits /= total;
  }
  for (double& bits : profile.mutual_information) bits /= total;
  profile.repeat_share /= total;
  profile.periodic_share = static_cast<double>(periods_.size()) / total;
  if (!periods_.empty()) {
    std::vector<int> sorted = periods_;
    std::ranges::sort(sorted);
    profile.median_period = sorted[sorted.size() / 2];
  }
  return profile;
}

}  // namespace iterand
