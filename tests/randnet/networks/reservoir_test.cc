#include "randnet/networks/reservoir.h"

#include <gtest/gtest.h>

#include <Eigen/Dense>
#include <algorithm>
#include <set>

#include "tests/randnet/family_checks.h"

namespace iterand {
namespace {

constexpr FamilyContext kContext{.alphabet = 61, .length = 48};
const char kSmall[] =
    R"({"reservoir": {"width": {"uniform": {"low": 20, "high": 70}}, "emitted": {"uniform": {"low": 1, "high": 40}}}})";

TEST(ReservoirTest, Rows) {
  CheckRows(kSmall, kContext);
  CheckRows(R"({"reservoir": {"width": {"fixed": 64}, "temperature": {"fixed": 0}}})", kContext);
}

TEST(ReservoirTest, Memory) { CheckMemory(kSmall, kContext); }

// Same weights in double precision. With weights of standard deviation 0.21 the network forgets, so that rounding does
// not grow.
TEST(ReservoirTest, LogitsAreThoseOfDoublePrecision) {
  const auto family = MakeFamily(R"({"reservoir": {"width": {"fixed": 300}, "emitted": {"fixed": 9}}})", kContext);
  SampledProgram sampled(*family, kContext, 3, 5);
  auto& program = static_cast<ReservoirProgram&>(*sampled.program);
  const ReservoirNet& net = program.net();
  std::vector<float> logits(static_cast<std::size_t>(5 * kContext.length * net.emitted));
  program.RunWithLogits(sampled.input.view(), RowRng(sampled.key), sampled.out.mutable_view(), logits.data());

  Eigen::MatrixXd recurrent = Eigen::MatrixXd::Zero(net.width, net.width);
  for (int u = 0; u < net.width; ++u) {
    for (int k = 0; k < net.connections; ++k) {
      const int source = static_cast<int>(net.sources[u * net.connections + k]);
      EXPECT_EQ(recurrent(u, source), 0) << "sources of a unit are distinct";
      recurrent(u, source) = net.weights[u * net.connections + k];
    }
  }
  using RowMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const Eigen::MatrixXd embedding =
      Eigen::Map<const RowMajor>(net.embedding, kContext.alphabet, net.width).cast<double>();
  const Eigen::MatrixXd output = Eigen::Map<const RowMajor>(net.output_weights, net.emitted, net.width).cast<double>();
  double worst = 0;
  const float* at = logits.data();
  for (int r = 0; r < 5; ++r) {
    Eigen::VectorXd h = Eigen::VectorXd::Zero(net.width);
    for (int t = 0; t < kContext.length; ++t) {
      h = (embedding.row(sampled.input.row(r)[t]).transpose() + recurrent * h).array().tanh().matrix();
      const Eigen::VectorXd expected = output * h;
      for (int m = 0; m < net.emitted; ++m) worst = std::max(worst, std::abs(expected[m] - *at++));
    }
  }
  EXPECT_LT(worst, 2e-6);
}

TEST(ReservoirTest, EmitsOnlyItsSymbols) {
  const auto family =
      MakeFamily(R"({"reservoir": {"width": {"fixed": 32}, "output_scale": {"fixed": 0.1}}})", kContext);
  for (std::uint64_t seed = 0; seed < 8; ++seed) {
    SampledProgram sampled(*family, kContext, seed, 8);
    sampled.Run();
    const auto& symbols = static_cast<ReservoirProgram&>(*sampled.program).symbols();
    const std::set<Symbol> allowed(symbols.begin(), symbols.end());
    EXPECT_EQ(allowed.size(), symbols.size());
    EXPECT_GE(symbols.size(), 2U);
    EXPECT_LE(symbols.size(), 16U);
    std::set<Symbol> seen;
    for (int r = 0; r < 8; ++r) seen.insert(sampled.out.row(r), sampled.out.row(r) + kContext.length);
    // With logits of standard deviation 0.1 every symbol occurs.
    EXPECT_EQ(seen, allowed);
  }
}

// The state forgets its beginning: rows that differ in their first symbol alone have nearly the same logits at the end.
TEST(ReservoirTest, ForgetsAtTheDefaultScale) {
  const auto family = MakeFamily(R"({"reservoir": {"width": {"fixed": 256}}})", kContext);
  SampledProgram sampled(*family, kContext, 5, 2);
  std::copy_n(sampled.input.row(0), kContext.length, sampled.input.row(1));
  sampled.input.row(1)[0] = static_cast<Symbol>((sampled.input.row(0)[0] + 1) % kContext.alphabet);
  auto& program = static_cast<ReservoirProgram&>(*sampled.program);
  const auto floats = static_cast<std::size_t>(kContext.length * program.net().emitted);
  std::vector<float> logits(2 * floats);
  program.RunWithLogits(sampled.input.view(), RowRng(sampled.key), sampled.out.mutable_view(), logits.data());
  EXPECT_GT(std::abs(logits[0] - logits[floats]), 1e-3F);
  EXPECT_LT(std::abs(logits[floats - 1] - logits[2 * floats - 1]), 1e-5F);
}

}  // namespace
}  // namespace iterand
