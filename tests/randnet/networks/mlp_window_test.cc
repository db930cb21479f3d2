#include "randnet/networks/mlp_window.h"

#include <gtest/gtest.h>

#include <Eigen/Dense>
#include <map>
#include <vector>

#include "tests/randnet/family_checks.h"

namespace iterand {
namespace {

constexpr FamilyContext kContext{.alphabet = 50, .length = 64};
const char kMixed[] =
    R"({"mlp_window": {"layers": {"uniform": {"low": 1, "high": 3}}, "hidden": {"uniform": {"low": 1, "high": 40}},
        "input_window": {"uniform": {"low": 0, "high": 3}}, "temperature": {"uniform": {"low": 0, "high": 1}}}})";

TEST(MlpWindowTest, Rows) {
  CheckRows(kMixed, kContext);
  CheckRows(R"({"mlp_window": {}})", kContext);
}

TEST(MlpWindowTest, Memory) { CheckMemory(kMixed, kContext); }

TEST(MlpWindowTest, LogitsAreThoseOfDoublePrecision) {
  const auto family = MakeFamily(
      R"({"mlp_window": {"order": {"fixed": 5}, "input_window": {"fixed": 2}, "layers": {"fixed": 3}, "hidden": {"fixed": 37},
          "symbols": {"fixed": 23}, "weight_factor": {"fixed": 1.5}}})",
      kContext);
  SampledProgram sampled(*family, kContext, 2, 4);
  auto& program = static_cast<MlpWindowProgram&>(*sampled.program);
  const int steps = kContext.length - 5;
  std::vector<float> logits(static_cast<std::size_t>(steps * 4 * 23));
  program.RunWithLogits(sampled.input.view(), sampled.prompt.view(), RowRng(sampled.key), sampled.out.mutable_view(),
                        logits.data());
  const float* at = logits.data();
  double worst = 0;
  for (int t = 4; t + 1 < kContext.length; ++t) {
    for (int r = 0; r < 4; ++r) {
      Eigen::VectorXd v(37);
      for (int u = 0; u < 37; ++u) {
        v[u] = program.first_bias(u);
        for (int i = 0; i < 5; ++i) v[u] += program.first_weight(i, sampled.out.row(r)[t - i] % 23, u);
        for (int i = 0; i < 2; ++i) v[u] += program.first_weight(5 + i, sampled.input.row(r)[t - i] % 23, u);
      }
      v = v.array().tanh().matrix();
      int best = 0;
      for (int l = 1; l <= 3; ++l) {
        const matrix::Linear& linear = program.layer(l);
        Eigen::VectorXd next(linear.outputs());
        for (int n = 0; n < linear.outputs(); ++n) {
          next[n] = linear.bias(n);
          for (int k = 0; k < linear.inputs(); ++k) next[n] += static_cast<double>(linear.weight(n, k)) * v[k];
        }
        v = l < 3 ? Eigen::VectorXd(next.array().tanh().matrix()) : next;
      }
      for (int n = 0; n < 23; ++n) worst = std::max(worst, std::abs(v[n] - *at++));
      v.maxCoeff(&best);
      EXPECT_EQ(sampled.out.row(r)[t + 1], best);
    }
  }
  EXPECT_LT(worst, 1e-5);
}

// At temperature 0 and without input the next token is a function of the last n.
TEST(MlpWindowTest, IsASourceOfItsOrder) {
  const FamilyContext context{.alphabet = 6, .length = 400};
  const auto family = MakeFamily(R"({"mlp_window": {"order": {"fixed": 3}, "weight_factor": {"fixed": 8}}})", context);
  EXPECT_FALSE(family->reads_input());
  for (std::uint64_t seed = 0; seed < 5; ++seed) {
    SampledProgram sampled(*family, context, seed, 8);
    sampled.Run();
    std::map<std::vector<Symbol>, Symbol> next;
    for (int r = 0; r < 8; ++r) {
      const Symbol* x = sampled.out.row(r);
      for (int t = 3; t < context.length; ++t) {
        const auto [entry, is_new] = next.insert({{x[t - 3], x[t - 2], x[t - 1]}, x[t]});
        ASSERT_EQ(entry->second, x[t]);
      }
    }
  }
}

}  // namespace
}  // namespace iterand
