#include "iterate/structure.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <vector>

#include "randnet/base/rng.h"

namespace iterand {
namespace {

using testing::Each;
using testing::Gt;
using testing::Lt;

constexpr int kLength = 512;

StructureProfile ProfileOf(const std::function<std::uint32_t(int row, int t)>& token, int rows = 8) {
  StructureCollector collector(kLength, 256);
  for (int row = 0; row < rows; ++row) {
    std::vector<std::uint32_t> tokens(kLength);
    for (int t = 0; t < kLength; ++t) tokens[static_cast<std::size_t>(t)] = token(row, t);
    collector.Add(tokens, 256);
  }
  return collector.Profile();
}

TEST(Structure, ConstantRowsAreKnownAtOnce) {
  const StructureProfile profile = ProfileOf([](int row, int) { return static_cast<std::uint32_t>(row); });
  EXPECT_EQ(profile.sequences, 8U);
  EXPECT_EQ(profile.periodic_share, 1);
  EXPECT_EQ(profile.median_period, 1);
  EXPECT_GT(profile.repeat_share, 0.97);
  EXPECT_THAT(profile.mutual_information, Each(0));
  EXPECT_LT(profile.code_bits[0].back(), 0.1);
  EXPECT_THAT(profile.complexity, Each(Lt(0.05F)));
}

TEST(Structure, NoiseHasNone) {
  Rng rng(1, 2);
  const StructureProfile profile = ProfileOf([&](int, int) { return rng.Below(256); });
  EXPECT_EQ(profile.periodic_share, 0);
  EXPECT_EQ(profile.repeat_share, 0);
  EXPECT_THAT(profile.mutual_information, Each(Lt(0.05)));
  EXPECT_GT(profile.code_bits[0].back(), 7.5);
  EXPECT_THAT(profile.complexity, Each(Gt(0.7F)));
}

TEST(Structure, PeriodsAreFoundWhateverTheLabels) {
  const StructureProfile profile =
      ProfileOf([](int row, int t) { return static_cast<std::uint32_t>(10 * row + 200 + t % 3) % 256; });
  EXPECT_EQ(profile.periodic_share, 1);
  EXPECT_EQ(profile.median_period, 3);
  // Order 1 predicts it, order 0 does not.
  EXPECT_GT(profile.code_bits[0].back(), 1.5);
  EXPECT_LT(profile.code_bits[1].back(), 0.2);
  EXPECT_NEAR(profile.mutual_information[2], 1.585, 0.01);  // at distance 3
}

TEST(Structure, DistancesStayBelowHalfTheLength) {
  const StructureProfile profile = ProfileOf([](int, int t) { return static_cast<std::uint32_t>(t); }, 1);
  EXPECT_EQ(profile.distances.front(), 1);
  EXPECT_LT(profile.distances.back(), kLength / 2);
  EXPECT_TRUE(std::ranges::is_sorted(profile.distances));
}

TEST(Structure, NothingIsNoError) { EXPECT_EQ(StructureCollector(16, 2).Profile().sequences, 0U); }

}  // namespace
}  // namespace iterand
