#include "iterate/statistics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <map>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "iterate/presets.h"
#include "iterate/stream.h"

namespace iterand {
namespace {

StreamStatistics StatisticsOf(const std::vector<std::vector<std::uint8_t>>& rows) {
  StatisticsCollector collector(Dtype::kUint8, static_cast<int>(rows[0].size()), 256);
  for (const auto& row : rows) collector.Add(row.data(), 1);
  return collector.Summary();
}

StreamStatistics StatisticsOfPreset(const std::string& preset, std::uint64_t seed, std::uint64_t first, int count) {
  auto stream = *Stream::Open(*LoadPreset(preset), seed);
  StatisticsCollector collector(stream->dtype(), stream->length(), 256);
  std::vector<std::byte> batch(static_cast<std::size_t>(count) * stream->sequence_bytes());
  const absl::Status status = stream->Read({.first_index = first, .rows = count}, batch);
  EXPECT_TRUE(status.ok()) << status;
  collector.Add(batch.data(), count);
  return collector.Summary();
}

TEST(StatisticsTest, ConstantsAndPeriods) {
  std::vector<std::uint8_t> constant(512, 5);
  std::vector<std::uint8_t> period(512);
  for (std::size_t t = 0; t < 512; ++t) period[t] = static_cast<std::uint8_t>(t % 4);
  const StreamStatistics s = StatisticsOf({constant, constant, period, period});
  EXPECT_EQ(s.sequences, 4U);
  EXPECT_DOUBLE_EQ(s.constant_share, 0.5);
  EXPECT_DOUBLE_EQ(s.duplicate_share, 0.5);
  EXPECT_DOUBLE_EQ(s.high_entropy_share, 0);
  EXPECT_DOUBLE_EQ(s.structured_share, 0);
  EXPECT_FLOAT_EQ(static_cast<float>(s.entropy_quantiles[4]), 2.0F);
  EXPECT_NEAR(s.markov_bits[1], 0.02, 0.03);  // the next token follows from the last
  EXPECT_NEAR(s.markov_bits[0], 1.0, 0.05);   // half of the rows have four equally frequent tokens
}

// zlib makes 11 bytes of 16 equal ones, which is a ratio of structure.
TEST(StatisticsTest, ShortConstantsAreNotStructured) {
  const std::vector<std::uint8_t> constant(16, 5);
  const double ratio = StatisticsCollector::ZlibRatio(constant.data(), 16);
  EXPECT_GT(ratio, 0.06);
  EXPECT_LT(ratio, 0.9);
  const StreamStatistics s = StatisticsOf({constant});
  EXPECT_EQ(s.constant_share, 1);
  EXPECT_EQ(s.structured_share, 0);
}

TEST(StatisticsTest, NoiseIsNoise) {
  const StreamStatistics s = StatisticsOfPreset("uniform", 0, 0, 1000);
  EXPECT_EQ(s.constant_share, 0);
  EXPECT_EQ(s.duplicate_share, 0);
  EXPECT_EQ(s.high_entropy_share, 1);
  EXPECT_EQ(s.structured_share, 0);  // zlib makes it larger
  EXPECT_GT(s.markov_bits[0], 8);
}

// The tokens of `uniform` are uniform: chi-square over 256 values, mean 255, standard deviation 22.6.
TEST(StatisticsTest, UniformTokensAreUniform) {
  auto stream = *Stream::Open(*LoadPreset("uniform"), 7);
  std::vector<std::uint8_t> tokens(2000 * 512);
  ASSERT_TRUE(stream->Read({.rows = 2000}, std::as_writable_bytes(std::span(tokens))).ok());
  std::vector<double> counts(256);
  for (const std::uint8_t token : tokens) ++counts[token];
  const double expected = static_cast<double>(tokens.size()) / 256;
  double chi = 0;
  for (const double count : counts) chi += (count - expected) * (count - expected) / expected;
  EXPECT_GT(chi, 255 - 5 * 22.6);
  EXPECT_LT(chi, 255 + 5 * 22.6);
}

// More than 55 % of the sequences of `lstm` are structured, and under 1 % of those of `up` are duplicates.
TEST(StatisticsTest, NetworksAreStructured) {
  EXPECT_GT(StatisticsOfPreset("lstm", 0, 0, 4096).structured_share, 0.55);
}

TEST(StatisticsTest, UpHasFewDuplicates) {
  const StreamStatistics s = StatisticsOfPreset("up", 0, 0, 8192);
  EXPECT_LT(s.duplicate_share, 0.01);
}

// The default is iterated computation: half of its sequences have passed through two programs or more, and a network
// made a fifth of them last, so that at least as many have passed through one.
TEST(StatisticsTest, UpIsIteratedComputation) {
  const std::set<std::string> networks = {"lstm",      "gru",         "rnn",        "transformer",
                                          "reservoir", "state_space", "mlp_window", "nca"};
  auto stream = *Stream::Open(*LoadPreset("up"), 0);
  constexpr int kRows = 6144;  // four stripes
  std::vector<std::byte> batch(kRows * stream->sequence_bytes());
  std::vector<RowProvenance> provenance(kRows);
  ASSERT_TRUE(stream->Read({.rows = kRows, .provenance = provenance}, batch).ok());
  int chained = 0;
  int of_networks = 0;
  std::map<std::string, int> parts;
  std::set<std::string> families;
  for (const RowProvenance& row : provenance) {
    const std::string& family = stream->family_name(row);
    families.insert(family);
    chained += row.depth >= 2 ? 1 : 0;
    of_networks += networks.contains(family) ? 1 : 0;
    ++parts[stream->part_names()[row.part]];
  }
  EXPECT_GE(chained, kRows / 2);
  EXPECT_GE(of_networks, kRows / 5);
  // Four fifths of 32 lanes are 25 or 26.
  EXPECT_GE(parts["chains"], 4 * 25 * 48);
  EXPECT_LE(parts["chains"], 4 * 26 * 48);
  EXPECT_EQ(parts["chains"] + parts["networks"], kRows);
  for (const std::string& network : networks) EXPECT_TRUE(families.contains(network)) << network;
}

// Every family has its part in `mix`, none more than a quarter, and what it makes is neither repeated nor too simple.
TEST(StatisticsTest, MixIsBalanced) {
  auto stream = *Stream::Open(*LoadPreset("mix"), 0);
  const int rows = 8192;
  std::vector<std::byte> batch(static_cast<std::size_t>(rows) * stream->sequence_bytes());
  std::vector<RowProvenance> provenance(static_cast<std::size_t>(rows));
  ASSERT_TRUE(stream->Read({.rows = rows, .provenance = provenance}, batch).ok());
  StatisticsCollector collector(stream->dtype(), stream->length(), 256);
  collector.Add(batch.data(), rows);
  const StreamStatistics s = collector.Summary();
  EXPECT_LT(s.duplicate_share, 0.01);
  EXPECT_GT(s.structured_share, 0.75);
  EXPECT_EQ(s.constant_share, 0);
  std::map<std::string, int> sequences;
  for (const RowProvenance& row : provenance) ++sequences[stream->family_name(row)];
  EXPECT_EQ(sequences.size(), static_cast<std::size_t>(stream->recipe().families_size()));
  for (const auto& [family, count] : sequences) {
    EXPECT_GT(count, rows / 100) << family;
    EXPECT_LT(count, rows / 4) << family;
  }
}

// The published stream as it was measured after 60 rounds (two seeds, 18 720 sequences each): 24 % constant, 51 % above
// 7 bits, 5.6 % structured. Rows of a round share a program, so the sampling error is that of about 20 programs here.
// The share of one kind varies by about 10 percentage points between stretches of 1 040 sequences.
TEST(StatisticsTest, UpPaperIsThePublishedStream) {
  const StreamStatistics s = StatisticsOfPreset("up-paper", 0, 60 * 52, 20 * 52);
  EXPECT_NEAR(s.constant_share, 0.24, 0.15);
  EXPECT_NEAR(s.high_entropy_share, 0.51, 0.20);
  EXPECT_LT(s.structured_share, 0.15);
  EXPECT_GT(s.duplicate_share, 0.15);
}

}  // namespace
}  // namespace iterand
