#include "iterate/statistics.h"

#include <zlib.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "absl/strings/str_format.h"

namespace iterand {
namespace {

constexpr double kSmoothing = 0.01;
constexpr double kStructuredLow = 0.06;
constexpr double kStructuredHigh = 0.9;
constexpr double kHighEntropy = 7.0;

std::uint64_t Mix(std::uint64_t hash, std::uint64_t value) {
  hash = (hash ^ value) * 0x9E3779B97F4A7C15U;
  return hash ^ hash >> 29;
}

double Quantile(std::vector<float> values, double q) {
  if (values.empty()) return 0;
  const auto at = static_cast<std::size_t>(std::lround(q * static_cast<double>(values.size() - 1)));
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(at), values.end());
  return static_cast<double>(values[at]);
}

}  // namespace

StatisticsCollector::StatisticsCollector(Dtype dtype, int length, std::uint64_t vocab_size)
    : dtype_(dtype), length_(length), vocab_size_(vocab_size), tokens_(static_cast<std::size_t>(length)) {}

double StatisticsCollector::ZlibRatio(const void* bytes, std::size_t size) {
  uLongf compressed = compressBound(static_cast<uLong>(size));
  std::vector<Bytef> buffer(compressed);
  compress2(buffer.data(), &compressed, static_cast<const Bytef*>(bytes), static_cast<uLong>(size), 9);
  return static_cast<double>(compressed) / static_cast<double>(size);
}

void StatisticsCollector::Add(const void* tokens, int rows, std::span<const std::uint8_t> parts) {
  const std::size_t bytes = static_cast<std::size_t>(length_) * DtypeBytes(dtype_);
  for (std::size_t r = 0; r < static_cast<std::size_t>(rows); ++r) {
    AddRow(static_cast<const std::byte*>(tokens) + r * bytes, parts.empty() ? -1 : parts[r]);
  }
}

void StatisticsCollector::AddRow(const std::byte* row, int part) {
  const std::size_t width = DtypeBytes(dtype_);
  const std::size_t length = tokens_.size();
  std::uint64_t hash = 0;
  for (std::size_t t = 0; t < length; ++t) {
    std::uint32_t token = 0;
    std::memcpy(&token, row + t * width, width);
    tokens_[t] = token;
    hash = Mix(hash, token);
  }
  ++row_hashes_[hash];

  counts_.clear();
  for (const std::uint32_t token : tokens_) ++counts_[token];
  double entropy = 0;
  for (const auto& [token, count] : counts_) {
    const double p = static_cast<double>(count) / static_cast<double>(length);
    entropy -= p * std::log2(p);
  }
  const double ratio = ZlibRatio(row, length * width);
  const bool structured = counts_.size() > 1 && ratio > kStructuredLow && ratio < kStructuredHigh;
  if (counts_.size() == 1) ++constants_;
  if (structured) ++structured_;
  if (part >= 0) {
    const auto number = static_cast<std::size_t>(part);
    if (number >= parts_.size()) parts_.resize(number + 1);
    ++parts_[number].sequences;
    parts_[number].structured_share += structured ? 1 : 0;
    parts_[number].mean_entropy += entropy;
  }
  entropies_.push_back(static_cast<float>(entropy));
  distinct_tokens_.push_back(static_cast<std::uint32_t>(counts_.size()));

  for (std::size_t order = 0; order < markov_sum_.size(); ++order) {
    counts_.clear();
    double bits = 0;
    std::size_t counted = 0;
    for (std::size_t t = order; t < length; ++t) {
      std::uint64_t context = 1;
      for (std::size_t back = order; back > 0; --back) context = Mix(context, tokens_[t - back]);
      std::uint32_t& times = counts_[context];
      std::uint32_t& hits = counts_[Mix(~context, tokens_[t])];
      if (t >= length / 2) {
        const double p = (hits + kSmoothing) / (times + kSmoothing * static_cast<double>(vocab_size_));
        bits -= std::log2(p);
        ++counted;
      }
      ++times;
      ++hits;
    }
    if (counted > 0) markov_sum_[order] += bits / static_cast<double>(counted);
  }
}

StreamStatistics StatisticsCollector::Summary() const {
  StreamStatistics summary;
  summary.sequences = entropies_.size();
  if (summary.sequences == 0) return summary;
  const auto total = static_cast<double>(summary.sequences);
  summary.constant_share = static_cast<double>(constants_) / total;
  summary.high_entropy_share = static_cast<double>(std::count_if(entropies_.begin(), entropies_.end(),
                                                                 [](float e) { return e > kHighEntropy; })) /
                               total;
  summary.structured_share = static_cast<double>(structured_) / total;
  summary.duplicate_share = 1 - static_cast<double>(row_hashes_.size()) / total;
  summary.median_distinct_tokens = Quantile({distinct_tokens_.begin(), distinct_tokens_.end()}, 0.5);
  constexpr std::array kQuantiles = {0.05, 0.25, 0.5, 0.75, 0.95};
  for (std::size_t i = 0; i < kQuantiles.size(); ++i) {
    summary.entropy_quantiles[i] = Quantile(entropies_, kQuantiles[i]);
  }
  for (std::size_t i = 0; i < markov_sum_.size(); ++i) summary.markov_bits[i] = markov_sum_[i] / total;
  summary.parts = parts_;
  for (PartStatistics& part : summary.parts) {
    if (part.sequences == 0) continue;
    part.structured_share /= static_cast<double>(part.sequences);
    part.mean_entropy /= static_cast<double>(part.sequences);
  }
  return summary;
}

std::string FormatStatistics(const StreamStatistics& s, std::span<const std::string> part_names) {
  const auto& q = s.entropy_quantiles;
  const auto& m = s.markov_bits;
  std::string text = absl::StrFormat(
      "sequences                              %d\n"
      "constant (one token repeated)          %.1f %%\n"
      "order-0 entropy above 7 bits           %.1f %%\n"
      "structured (zlib ratio 0.06 to 0.9)    %.1f %%\n"
      "exact duplicates                       %.1f %%\n"
      "median distinct tokens                 %.0f\n"
      "order-0 entropy 5/25/50/75/95 %%        %.2f %.2f %.2f %.2f %.2f bits\n"
      "in-context Markov, orders 0-3          %.2f %.2f %.2f %.2f bits\n",
      s.sequences, 100 * s.constant_share, 100 * s.high_entropy_share, 100 * s.structured_share,
      100 * s.duplicate_share, s.median_distinct_tokens, q[0], q[1], q[2], q[3], q[4], m[0], m[1], m[2], m[3]);
  if (s.parts.empty()) return text;
  std::size_t width = 4;
  for (const std::string& name : part_names) width = std::max(width, name.size());
  const int columns = static_cast<int>(width);
  absl::StrAppendFormat(&text, "\n%-*s  sequences  structured  mean order-0 entropy\n", columns, "part");
  for (std::size_t i = 0; i < part_names.size(); ++i) {
    const PartStatistics part = i < s.parts.size() ? s.parts[i] : PartStatistics();
    absl::StrAppendFormat(&text, "%-*s  %7.1f %%  %8.1f %%  %15.2f bits\n", columns, part_names[i],
                          100 * static_cast<double>(part.sequences) / static_cast<double>(s.sequences),
                          100 * part.structured_share, part.mean_entropy);
  }
  return text;
}

}  // namespace iterand
