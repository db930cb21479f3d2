#include "randnet/networks/state_space.h"

#include <gtest/gtest.h>

#include <Eigen/Dense>
#include <complex>
#include <vector>

#include "tests/randnet/family_checks.h"

namespace iterand {
namespace {

constexpr FamilyContext kContext{.alphabet = 50, .length = 64};
const char kMixed[] =
    R"({"state_space": {"layers": {"uniform": {"low": 1, "high": 3}}, "width": {"uniform": {"low": 4, "high": 40}},
        "temperature": {"uniform": {"low": 0, "high": 1}}, "prompt_length": {"uniform": {"low": 0, "high": 9}}}})";

TEST(StateSpaceTest, Rows) {
  CheckRows(kMixed, kContext);
  CheckRows(R"({"state_space": {}})", kContext);
}

TEST(StateSpaceTest, Memory) { CheckMemory(kMixed, kContext); }

// The recurrence is linear and forgets, and with a weight factor of 1 the layers do not amplify.
TEST(StateSpaceTest, LogitsAreThoseOfDoublePrecision) {
  const auto family = MakeFamily(
      R"({"state_space": {"layers": {"fixed": 2}, "width": {"fixed": 21}, "weight_factor": {"fixed": 1}, "prompt_length": {"fixed": 3}}})",
      kContext);
  SampledProgram sampled(*family, kContext, 2, 4);
  auto& program = static_cast<StateSpaceProgram&>(*sampled.program);
  std::vector<float> logits(static_cast<std::size_t>((kContext.length - 3) * 4 * kContext.alphabet));
  program.RunWithLogits(sampled.input.view(), sampled.prompt.view(), RowRng(sampled.key), sampled.out.mutable_view(),
                        logits.data());
  const int width = program.width();
  const auto apply = [](const matrix::Linear& linear, const Eigen::VectorXd& in) {
    Eigen::VectorXd out(linear.outputs());
    for (int n = 0; n < linear.outputs(); ++n) {
      out[n] = linear.bias(n);
      for (int k = 0; k < linear.inputs(); ++k) out[n] += static_cast<double>(linear.weight(n, k)) * in[k];
    }
    return out;
  };
  double worst = 0;
  for (int r = 0; r < 4; ++r) {
    std::vector<Eigen::VectorXcd> states(2, Eigen::VectorXcd::Zero(width));
    for (int t = 0; t + 1 < kContext.length; ++t) {
      Eigen::VectorXd v(width);
      for (int i = 0; i < width; ++i) {
        v[i] = static_cast<double>(program.embedding_x(sampled.out.row(r)[t])[i]) +
               static_cast<double>(program.embedding_z(sampled.input.row(r)[t])[i]);
      }
      for (int l = 0; l < 2; ++l) {
        const StateSpaceProgram::Layer& layer = program.layer(l);
        Eigen::VectorXd both(2 * width);
        for (int i = 0; i < width; ++i) {
          const auto at = static_cast<std::size_t>(i);
          const std::complex<double> eigenvalue(layer.p[at], layer.q[at]);
          EXPECT_LT(std::abs(eigenvalue), 1);
          std::complex<double>& state = states[static_cast<std::size_t>(l)][i];
          state = eigenvalue * state + static_cast<double>(layer.g[at]) * v[i];
          both[i] = state.real();
          both[width + i] = state.imag();
        }
        const Eigen::VectorXd gate = apply(layer.gate, v);
        v = (apply(layer.mixer, both).array().tanh() / (1 + (-gate.array()).exp())).matrix();
      }
      if (t < 2) continue;
      const Eigen::VectorXd expected = apply(program.output(), v);
      const float* at = logits.data() + ((t - 2) * 4 + r) * kContext.alphabet;
      for (int n = 0; n < kContext.alphabet; ++n) worst = std::max(worst, std::abs(expected[n] - at[n]));
    }
  }
  EXPECT_LT(worst, 1e-5);
}

// A channel of radius r forgets at the rate of its time constant. tau is where the knobs put it, and the input factor
// keeps the variance.
TEST(StateSpaceTest, TimeConstantsLieBetweenTheKnobs) {
  const auto family = MakeFamily(
      R"({"state_space": {"width": {"fixed": 400}, "shortest_time": {"fixed": 2}, "longest_time": {"fixed": 200}}})",
      kContext);
  SampledProgram sampled(*family, kContext, 1, 1);
  const StateSpaceProgram::Layer& layer = static_cast<StateSpaceProgram&>(*sampled.program).layer(0);
  int below = 0;
  double real = 0;
  for (std::size_t i = 0; i < 400; ++i) {
    const double radius = std::hypot(layer.p[i], layer.q[i]);
    const double tau = -1 / std::log(radius);
    EXPECT_GT(tau, 1.99);
    EXPECT_LT(tau, 201);
    if (tau < 20) ++below;
    EXPECT_NEAR(layer.g[i] * layer.g[i] + radius * radius, 1, 1e-5);
    real += layer.p[i] / radius;
  }
  EXPECT_NEAR(below, 200, 50);       // log-uniform: half below the geometric mean
  EXPECT_NEAR(real / 400, 0, 0.15);  // uniform angles
}

TEST(StateSpaceTest, EmptyPromptStartsFromTheInput) {
  const auto family = MakeFamily(R"({"state_space": {"prompt_length": {"fixed": 0}}})", kContext);
  SampledProgram sampled(*family, kContext, 1, 3);
  sampled.Run();
  for (int r = 0; r < 3; ++r) EXPECT_EQ(sampled.out.row(r)[0], sampled.input.row(r)[0]);
}

TEST(StateSpaceTest, APromptIsNoLongerThanARow) {
  EXPECT_EQ(Refusal(R"({"state_space": {"prompt_length": {"uniform": {"low": 0, "high": 513}}}})"),
            "families[0].state_space.prompt_length: is up to 513, must be in [0, 512], no longer than a row");
}

}  // namespace
}  // namespace iterand
