#include "randnet/base/rng.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <vector>

#include "tests/randnet/targets.h"

namespace iterand {
namespace {

constexpr std::uint64_t kState = 0x853C49E6748FEA9BU;
constexpr std::uint64_t kStream = 0xDA3E39CB94B95BDBU;

TEST(RngTest, NextIsPcg32) {
  Rng rng(kState, kStream);
  pcg32 reference(kState, kStream);
  for (int i = 0; i < 1000; ++i) ASSERT_EQ(rng.Next(), reference());
}

TEST(RngTest, FillsEqualSuccessiveCallsOnEveryTarget) {
  ForEachTarget([](const char* target) {
    SCOPED_TRACE(target);
    for (const std::size_t count : {0, 1, 3, 4, 7, 8, 9, 15, 16, 17, 31, 33, 100, 1000, 20000}) {
      Rng vector_rng(kState + count, kStream);
      Rng scalar_rng(kState + count, kStream);
      std::vector<std::uint32_t> words(count);
      std::vector<float> uniforms(count);
      std::vector<float> normals(count);
      vector_rng.Fill(words);
      vector_rng.FillUniform(-0.3F, 1.7F, uniforms);
      vector_rng.FillNormal(0.01F, normals);
      for (std::size_t i = 0; i < count; ++i) ASSERT_EQ(words[i], scalar_rng.Next()) << i << " of " << count;
      for (std::size_t i = 0; i < count; ++i) {
        const float range = 1.7F - -0.3F;
        ASSERT_EQ(uniforms[i], -0.3F + range * scalar_rng.Uniform()) << i << " of " << count;
      }
      for (std::size_t i = 0; i < count; ++i)
        ASSERT_EQ(normals[i], 0.01F * scalar_rng.Normal()) << i << " of " << count;
      ASSERT_EQ(vector_rng.Next(), scalar_rng.Next()) << "state after " << count;
    }
  });
}

TEST(RngTest, KeysGiveDifferentStreams) {
  std::set<std::pair<std::uint32_t, std::uint32_t>> seen;
  int keys = 0;
  const auto add = [&](const RandomKey& key, Purpose purpose, std::uint64_t row) {
    Rng rng = MakeRng(key, purpose, row);
    const std::uint32_t first = rng.Next();
    seen.insert({first, rng.Next()});
    ++keys;
  };
  for (std::uint64_t i = 1; i < 200; ++i) {
    add({.seed = i}, Purpose::kNoise, 0);
    add({.lane = i}, Purpose::kNoise, 0);
    add({.segment = i}, Purpose::kNoise, 0);
    add({.round = i}, Purpose::kNoise, 0);
    add({}, Purpose::kNoise, i);
    add({.seed = i, .lane = i}, Purpose::kNoise, 0);
    add({.lane = i, .segment = i}, Purpose::kNoise, 0);
    add({.seed = ~i, .lane = i << 32, .segment = i << 48, .round = i}, Purpose::kRunRow, i);
  }
  add({}, Purpose::kNoise, 0);
  add({}, Purpose::kMix, 0);
  EXPECT_EQ(seen.size(), static_cast<std::size_t>(keys));
}

TEST(RngTest, KeyedStreamsAreFixed) {
  // Part of every stream's definition: a change here is a change of engine version.
  Rng rng = MakeRng({.seed = 1, .lane = 2, .segment = 3, .round = 4}, Purpose::kSampleProgram, 5);
  EXPECT_EQ(rng.Next(), 261417252U);
  EXPECT_EQ(rng.Next(), 1137906262U);
}

TEST(RngTest, FirstBitsOfNeighbouringKeysAreBalanced) {
  // Bit counts over 4096 neighbouring rows: five standard deviations are 160.
  std::vector<int> ones(32);
  for (std::uint64_t row = 0; row < 4096; ++row) {
    const std::uint32_t word = MakeRng({.seed = 7}, Purpose::kRunRow, row).Next();
    for (int bit = 0; bit < 32; ++bit) ones[static_cast<std::size_t>(bit)] += static_cast<int>(word >> bit & 1U);
  }
  for (const int count : ones) EXPECT_NEAR(count, 2048, 160);
}

TEST(RngTest, BelowIsUniform) {
  Rng rng(kState, kStream);
  constexpr int kBound = 7;
  std::vector<int> counts(kBound);
  for (int i = 0; i < 70000; ++i) ++counts[rng.Below(kBound)];
  for (const int count : counts) EXPECT_NEAR(count, 10000, 500);
  EXPECT_EQ(rng.Below(1), 0U);
  std::uint32_t largest = 0;
  for (int i = 0; i < 1000; ++i) largest = std::max(largest, rng.Below(0xFFFFFFFFU));
  EXPECT_GT(largest, 0xF0000000U);
}

TEST(RngTest, UniformStaysInRange) {
  Rng rng(kState, kStream);
  for (int i = 0; i < 100000; ++i) {
    const float u = rng.Uniform();
    ASSERT_TRUE(u >= 0.0F && u < 1.0F);
    const float p = rng.UniformPositive();
    ASSERT_TRUE(p > 0.0F && p <= 1.0F);
  }
}

TEST(RngTest, NormalHasTheRightMoments) {
  Rng rng(kState, kStream);
  constexpr int kCount = 1 << 20;
  std::vector<float> values(kCount);
  rng.FillNormal(1.0F, values);
  double moments[5] = {};
  int beyond_two = 0;
  for (const double z : values) {
    for (int n = 1; n <= 4; ++n) moments[n] += std::pow(z, n) / kCount;
    beyond_two += std::abs(z) > 2.0 ? 1 : 0;
  }
  // Five standard errors each.
  EXPECT_NEAR(moments[1], 0, 5 * 1.0 / 1024);
  EXPECT_NEAR(moments[2], 1, 5 * 1.4143 / 1024);
  EXPECT_NEAR(moments[3], 0, 5 * 3.873 / 1024);
  EXPECT_NEAR(moments[4], 3, 5 * 9.8 / 1024);
  EXPECT_NEAR(static_cast<double>(beyond_two) / kCount, 0.0455003, 5 * 0.2084 / 1024);
}

TEST(RngTest, ShuffleIsUniform) {
  Rng rng(kState, kStream);
  int first_last[3][3] = {};
  for (int i = 0; i < 9000; ++i) {
    int values[] = {0, 1, 2};
    Shuffle(rng, std::span<int>(values));
    ++first_last[values[0]][values[2]];
  }
  for (int a = 0; a < 3; ++a) {
    for (int b = 0; b < 3; ++b) EXPECT_NEAR(first_last[a][b], a == b ? 0 : 1500, a == b ? 0 : 180);
  }
}

}  // namespace
}  // namespace iterand
