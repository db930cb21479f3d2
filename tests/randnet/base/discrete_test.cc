#include "randnet/base/discrete.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "randnet/base/math.h"
#include "tests/randnet/targets.h"

namespace iterand {
namespace {

// The definition of DrawLogGammas, value by value.
std::vector<float> PlainLogGammas(Rng& rng, float shape, std::size_t count) {
  std::vector<float> out;
  const bool boosts = shape < 1.0F;
  const float d = (boosts ? shape + 1.0F : shape) - 1.0F / 3.0F;
  const float c = 1.0F / std::sqrt(9.0F * d);
  while (out.size() < count) {
    const std::size_t n = std::min<std::size_t>(64, count - out.size());
    std::vector<float> normals(n);
    std::vector<float> uniforms(n);
    std::vector<float> boost(n);
    for (float& x : normals) x = rng.Normal();
    for (float& u : uniforms) u = rng.UniformPositive();
    if (boosts) {
      for (float& u : boost) u = rng.UniformPositive();
    }
    for (std::size_t i = 0; i < n; ++i) {
      const float root = std::fma(c, normals[i], 1.0F);
      const float v = root * root * root;
      const bool accepted =
          root > 0 && math::Log(uniforms[i]) < std::fma(0.5F * normals[i], normals[i], d * (1.0F - v + math::Log(v)));
      const float log_gamma = math::Log(d) + (accepted ? math::Log(v) : ProposeUntilAccepted(rng, d, c));
      out.push_back(boosts ? log_gamma + math::Log(boost[i]) / shape : log_gamma);
    }
  }
  return out;
}

TEST(DiscreteTest, LogGammasAreThePlainOnesOnEveryTarget) {
  ForEachTarget([](const char* target) {
    SCOPED_TRACE(target);
    for (const float shape : {1e-4F, 0.03F, 0.5F, 1.0F, 2.5F, 1e4F}) {
      for (const std::size_t count : {1, 7, 8, 63, 64, 65, 1000}) {
        Rng rng(count, 5);
        Rng plain_rng(count, 5);
        std::vector<float> values(count);
        DrawLogGammas(rng, GammaShape(shape), values);
        ASSERT_EQ(values, PlainLogGammas(plain_rng, shape, count)) << shape << " x " << count;
        ASSERT_EQ(rng.Next(), plain_rng.Next());
        float largest = values[0];
        for (const float value : values) largest = std::max(largest, value);
        std::vector<float> weights = values;
        ExpBelowLargest(weights);
        for (std::size_t i = 0; i < count; ++i) ASSERT_EQ(weights[i], math::Exp(values[i] - largest));
      }
    }
  });
}

TEST(DiscreteTest, LogGammasHaveTheRightMoments) {
  // E ln X = digamma(shape), Var ln X = trigamma(shape); from Abramowitz and Stegun and mpmath.
  struct Case {
    float shape;
    double mean;
    double variance;
  };
  constexpr int kCount = 200000;
  std::vector<float> values(kCount);
  for (const Case& c :
       {Case{0.05F, -20.4978447, 401.5323574}, Case{0.5F, -1.9635100, 4.9348022}, Case{1.0F, -0.5772157, 1.6449341},
        Case{2.5F, 0.7031566, 0.4903578}, Case{30.0F, 3.3844381, 0.0338950}}) {
    Rng rng(1, 1);
    DrawLogGammas(rng, GammaShape(c.shape), values);
    double sum = 0;
    double squares = 0;
    for (const double x : values) {
      ASSERT_TRUE(std::isfinite(x));
      sum += x;
      squares += (x - c.mean) * (x - c.mean);
    }
    EXPECT_NEAR(sum / kCount, c.mean, 5 * std::sqrt(c.variance / kCount)) << c.shape;
    EXPECT_NEAR(squares / kCount / c.variance, 1, 0.06) << c.shape;
  }
  Rng rng(1, 1);
  DrawLogGammas(rng, GammaShape(1e-4F), values);
  for (const float x : values) ASSERT_TRUE(std::isfinite(x));
}

TEST(DiscreteTest, AliasTablesDrawTheirWeights) {
  Rng rng(3, 4);
  for (const std::size_t n : {1, 2, 3, 17, 100}) {
    std::vector<float> weights(n);
    std::vector<Symbol> symbols(n);
    std::vector<AliasColumn> columns(n);
    for (std::size_t i = 0; i < n; ++i) {
      weights[i] = rng.Below(4) == 0 ? 0.0F : rng.Uniform();
      symbols[i] = static_cast<Symbol>(1000 + i);
    }
    weights[n / 2] = 1.0F;
    AliasBuilder builder;
    builder.Build(weights, symbols, columns);
    // Exact: each column holds 2^24 units.
    std::vector<double> mass(n);
    for (const AliasColumn& column : columns) {
      mass[column.drawn[0] - 1000U] += column.threshold;
      mass[column.drawn[1] - 1000U] += 0x1p24 - column.threshold;
    }
    const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
    for (std::size_t i = 0; i < n; ++i) {
      EXPECT_NEAR(mass[i] / (0x1p24 * static_cast<double>(n)), weights[i] / total, 1e-5) << i << " of " << n;
      if (weights[i] == 0) {
        EXPECT_EQ(mass[i], 0);
      }
    }
  }
}

TEST(DiscreteTest, DirichletTablesAreThoseOfTheirWeightsOnEveryTarget) {
  ForEachTarget([](const char* target) {
    SCOPED_TRACE(target);
    AliasBuilder builder;
    for (const float shape : {1e-4F, 0.03F, 0.2F, 0.5F, 1.0F, 30.0F, 1e4F}) {
      const GammaShape concentration(shape);
      for (std::size_t n = 1; n <= 70; ++n) {
        std::vector<AliasColumn> before;  // of this seed, drawn beside the one before
        for (std::uint64_t seed = 0; seed < 40; ++seed) {
          Rng weights_rng(seed, n);
          std::vector<float> weights(n);
          DrawDirichlet(weights_rng, concentration, weights);
          std::vector<Symbol> numbers(n);
          std::iota(numbers.begin(), numbers.end(), Symbol{0});
          std::vector<AliasColumn> expected(n);
          builder.Build(weights, numbers, expected);
          Rng rngs[] = {Rng(seed, n), Rng(seed, n), Rng(seed + 1, n)};
          std::vector<AliasColumn> tables[3];
          for (std::vector<AliasColumn>& table : tables) table.assign(n + 1, AliasColumn{7, {8, 9}});
          builder.DrawDirichlet(rngs[0], concentration, {tables[0].data(), n});
          builder.DrawTwoDirichlets(rngs[1], rngs[2], concentration, {tables[1].data(), n}, {tables[2].data(), n});
          for (const std::vector<AliasColumn>& table : {tables[0], tables[1], seed > 0 ? before : tables[0]}) {
            for (std::size_t i = 0; i < n; ++i) {
              ASSERT_EQ(table[i].threshold, expected[i].threshold)
                  << shape << ", seed " << seed << ", " << i << "/" << n;
              ASSERT_EQ(table[i].drawn[0], expected[i].drawn[0]) << shape << ", seed " << seed << ", " << i << "/" << n;
              ASSERT_EQ(table[i].drawn[1], expected[i].drawn[1]) << shape << ", seed " << seed << ", " << i << "/" << n;
            }
            ASSERT_EQ(table[n].threshold, 7U);  // nothing after the last is written
          }
          before = tables[2];
        }
      }
    }
  });
}

}  // namespace
}  // namespace iterand
