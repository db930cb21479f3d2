#include "randnet/networks/transformer.h"

#include <gtest/gtest.h>

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <vector>

#include "randnet/networks/transformer_kernels.h"
#include "tests/randnet/family_checks.h"
#include "tests/randnet/targets.h"

namespace iterand {
namespace {

constexpr FamilyContext kContext{.alphabet = 30, .length = 70};
const char kParallel[] =
    R"({"transformer": {"width": {"uniform": {"low": 16, "high": 50}}, "layers": {"uniform": {"low": 1, "high": 3}},
        "heads": {"uniform": {"low": 1, "high": 6}}, "feed_forward": {"uniform": {"low": 1, "high": 3}}, "head_scale": {"fixed": 20}}})";
const char kSequential[] =
    R"({"transformer": {"mode": "SEQUENTIAL", "width": {"uniform": {"low": 16, "high": 50}}, "heads": {"uniform": {"low": 1, "high": 6}},
        "window": 21, "head_scale": {"fixed": 20}, "prompt_length": {"uniform": {"low": 0, "high": 9}}}})";

TEST(TransformerTest, Rows) {
  CheckRows(kParallel, kContext);
  CheckRows(R"({"transformer": {"mask": false, "temperature": {"fixed": 0}}})", kContext);
}

TEST(TransformerTest, SequentialRows) {
  CheckRows(kSequential, kContext);
  // Heads of 1 to 48 channels: several to a panel of 16, and several panels to a head.
  CheckRows(R"({"transformer": {"mode": "SEQUENTIAL", "width": {"fixed": 48}, "window": 20,
               "heads": {"uniform": {"low": 1, "high": 48}}}})",
            kContext);
}

TEST(TransformerTest, Memory) {
  CheckMemory(kParallel, kContext);
  CheckMemory(kSequential, kContext);
}

Eigen::VectorXd Apply(const matrix::Linear& linear, const Eigen::VectorXd& in) {
  Eigen::VectorXd out(linear.outputs());
  for (int n = 0; n < linear.outputs(); ++n) {
    out[n] = linear.bias(n);
    for (int k = 0; k < linear.inputs(); ++k) out[n] += static_cast<double>(linear.weight(n, k)) * in[k];
  }
  return out;
}

Eigen::VectorXd Normalise(const Eigen::VectorXd& v) {
  const Eigen::VectorXd centred = v.array() - v.mean();
  return centred / std::sqrt(centred.squaredNorm() / static_cast<double>(v.size()) + 1e-5);
}

// Attention of one query over keys and values.
Eigen::VectorXd Attention(int heads, const Eigen::VectorXd& query, const std::vector<Eigen::VectorXd>& keys,
                          const std::vector<Eigen::VectorXd>& values) {
  const auto width = query.size() / heads;
  Eigen::VectorXd out = Eigen::VectorXd::Zero(query.size());
  for (int h = 0; h < heads; ++h) {
    Eigen::VectorXd scores(static_cast<Eigen::Index>(keys.size()));
    for (std::size_t j = 0; j < keys.size(); ++j) {
      scores[static_cast<Eigen::Index>(j)] = query.segment(h * width, width).dot(keys[j].segment(h * width, width)) /
                                             std::sqrt(static_cast<double>(width));
    }
    const Eigen::VectorXd weights = (scores.array() - scores.maxCoeff()).exp();
    for (std::size_t j = 0; j < keys.size(); ++j) {
      out.segment(h * width, width) +=
          weights[static_cast<Eigen::Index>(j)] / weights.sum() * values[j].segment(h * width, width);
    }
  }
  return out;
}

// The stack of one row in double precision; self and cross attention over the last `window` positions.
class Oracle {
 public:
  Oracle(const TransformerProgram& program, int window)
      : program_(program), window_(static_cast<std::size_t>(window)), self_(Layers()), cross_(Layers()) {}

  // Logits of position t for the token `token`; z >= 0 is the token that cross attention sees.
  Eigen::VectorXd Step(int t, int token, int z) {
    const int width = program_.width();
    const Eigen::VectorXd position = Eigen::Map<const Eigen::VectorXf>(program_.position(t), width).cast<double>();
    Eigen::VectorXd x = Eigen::Map<const Eigen::VectorXf>(program_.embedding(token), width).cast<double>() + position;
    for (int l = 0; l < program_.layers(); ++l) {
      const TransformerProgram::Layer& layer = program_.layer(l);
      const Eigen::VectorXd qkv = Apply(layer.qkv, x);
      Store(self_[static_cast<std::size_t>(l)], qkv.segment(width, width), qkv.segment(2 * width, width));
      x = Normalise(x + Apply(layer.output, Attend(self_[static_cast<std::size_t>(l)], qkv.head(width))));
      if (z >= 0) {
        const Eigen::VectorXd memory =
            Eigen::Map<const Eigen::VectorXf>(program_.embedding(z), width).cast<double>() + position;
        const Eigen::VectorXd kv = Apply(layer.cross_kv, memory);
        Store(cross_[static_cast<std::size_t>(l)], kv.head(width), kv.tail(width));
        x = Normalise(
            x + Apply(layer.cross_output, Attend(cross_[static_cast<std::size_t>(l)], Apply(layer.cross_query, x))));
      }
      x = Normalise(x + Apply(layer.second, Apply(layer.first, x).cwiseMax(0.0)));
    }
    return Apply(program_.head(), x);
  }

 private:
  struct Seen {
    std::vector<Eigen::VectorXd> keys;
    std::vector<Eigen::VectorXd> values;
  };
  std::size_t Layers() const { return static_cast<std::size_t>(program_.layers()); }
  void Store(Seen& seen, const Eigen::VectorXd& key, const Eigen::VectorXd& value) const {
    seen.keys.push_back(key);
    seen.values.push_back(value);
    if (seen.keys.size() > window_) {
      seen.keys.erase(seen.keys.begin());
      seen.values.erase(seen.values.begin());
    }
  }
  Eigen::VectorXd Attend(const Seen& seen, const Eigen::VectorXd& query) const {
    return Attention(program_.heads(), query, seen.keys, seen.values);
  }

  const TransformerProgram& program_;
  std::size_t window_;
  std::vector<Seen> self_;
  std::vector<Seen> cross_;
};

// With a weight factor of 1 attention is soft and blocks do not amplify.
TEST(TransformerTest, ParallelLogitsAreThoseOfDoublePrecision) {
  const auto family = MakeFamily(
      R"({"transformer": {"width": {"fixed": 48}, "layers": {"fixed": 3}, "heads": {"fixed": 5}, "weight_factor": {"fixed": 1}, "head_scale": {"fixed": 7}}})",
      kContext);
  SampledProgram sampled(*family, kContext, 2, 2);
  auto& program = static_cast<TransformerProgram&>(*sampled.program);
  EXPECT_EQ(program.heads(), 4);
  const int outputs = kContext.alphabet + 1;
  std::vector<float> logits(static_cast<std::size_t>(2 * kContext.length * outputs));
  program.RunWithLogits(sampled.input.view(), sampled.prompt.view(), RowRng(sampled.key), sampled.out.mutable_view(),
                        logits.data());
  double worst = 0;
  int kept = 0;
  for (int r = 0; r < 2; ++r) {
    Oracle oracle(program, kContext.length);
    for (int t = 0; t < kContext.length; ++t) {
      const Eigen::VectorXd expected = oracle.Step(t, sampled.input.row(r)[t], -1);
      const float* at = logits.data() + (r * kContext.length + t) * outputs;
      for (int n = 0; n < outputs; ++n) worst = std::max(worst, std::abs(expected[n] - at[n]));
      if (at[kContext.alphabet] <= 0) {
        ++kept;
        EXPECT_EQ(sampled.out.row(r)[t], sampled.input.row(r)[t]);
      }
    }
  }
  EXPECT_LT(worst, 1e-5);
  EXPECT_GT(kept, 0);  // the head's scale makes the mask cut both ways here
  EXPECT_LT(kept, 2 * kContext.length);
}

TEST(TransformerTest, SequentialLogitsAreThoseOfDoublePrecision) {
  const auto family = MakeFamily(
      R"({"transformer": {"mode": "SEQUENTIAL", "width": {"fixed": 32}, "heads": {"fixed": 4}, "weight_factor": {"fixed": 1},
          "window": 21, "prompt_length": {"fixed": 3}}})",
      kContext);
  SampledProgram sampled(*family, kContext, 2, 3);
  auto& program = static_cast<TransformerProgram&>(*sampled.program);
  std::vector<float> logits(static_cast<std::size_t>((kContext.length - 3) * 3 * kContext.alphabet));
  program.RunWithLogits(sampled.input.view(), sampled.prompt.view(), RowRng(sampled.key), sampled.out.mutable_view(),
                        logits.data());
  double worst = 0;
  for (int r = 0; r < 3; ++r) {
    Oracle oracle(program, 21);
    for (int t = 0; t + 1 < kContext.length; ++t) {
      const Eigen::VectorXd expected = oracle.Step(t, sampled.out.row(r)[t], sampled.input.row(r)[t]);
      if (t < 2) continue;
      const float* at = logits.data() + ((t - 2) * 3 + r) * kContext.alphabet;
      for (int n = 0; n < kContext.alphabet; ++n) worst = std::max(worst, std::abs(expected[n] - at[n]));
    }
  }
  EXPECT_LT(worst, 1e-5);
}

// Position t of the output depends on the input up to t alone.
TEST(TransformerTest, IsCausal) {
  const auto family = MakeFamily(R"({"transformer": {"mask": false}})", kContext);
  SampledProgram sampled(*family, kContext, 3, 2);
  std::copy_n(sampled.input.row(0), kContext.length, sampled.input.row(1));
  sampled.input.row(1)[50] = static_cast<Symbol>((sampled.input.row(0)[50] + 1) % kContext.alphabet);
  auto& program = static_cast<TransformerProgram&>(*sampled.program);
  std::vector<float> logits(static_cast<std::size_t>(2 * kContext.length * kContext.alphabet));
  program.RunWithLogits(sampled.input.view(), sampled.prompt.view(), RowRng(sampled.key), sampled.out.mutable_view(),
                        logits.data());
  const auto row = static_cast<std::ptrdiff_t>(kContext.length * kContext.alphabet);
  const float* const first = logits.data();
  const float* const second = first + row;
  const std::ptrdiff_t before = 50 * kContext.alphabet;
  EXPECT_TRUE(std::equal(first, first + before, second));
  EXPECT_FALSE(std::equal(first + before, first + before + kContext.alphabet, second + before));
}

TEST(TransformerTest, DepthIsThePapers) {
  const FamilyContext context{.alphabet = 8, .length = 16};
  const std::pair<int, int> kDepths[] = {{128, 1}, {192, 4}, {384, 16}, {512, 22}};
  for (const auto& [width, layers] : kDepths) {
    const auto family =
        MakeFamily(R"({"transformer": {"layers": {"fixed": 0}, "heads": {"fixed": 32}, "width": {"fixed": )" +
                       std::to_string(width) + "}}}",
                   context);
    SampledProgram sampled(*family, context, 0, 1);
    EXPECT_EQ(static_cast<TransformerProgram&>(*sampled.program).layers(), layers) << width;
  }
}

TEST(TransformerTest, SumsHaveOneOrderOnEveryTarget) {
  constexpr int kWidth = 48;
  matrix::Floats values(kWidth);
  matrix::Floats added(kWidth);
  Rng rng = MakeRng({.seed = 1}, Purpose::kNoise);
  rng.FillNormal(3, values);
  rng.FillNormal(3, added);
  const matrix::Floats start = values;
  // The definition, scalar.
  const auto total = [](const float* terms, bool square) {
    float sums[16] = {};
    for (int n = 0; n < kWidth; ++n)
      sums[n % 16] = square ? std::fma(terms[n], terms[n], sums[n % 16]) : sums[n % 16] + terms[n];
    float sum = sums[0];
    for (int j = 1; j < 16; ++j) sum += sums[j];
    return sum;
  };
  float expected[kWidth];
  for (int n = 0; n < kWidth; ++n)
    expected[n] = start[static_cast<std::size_t>(n)] + added[static_cast<std::size_t>(n)];
  const float mean = total(expected, false) / kWidth;
  for (float& x : expected) x -= mean;
  const float inverse = 1.0F / std::sqrt(total(expected, true) / kWidth + 1e-5F);
  for (float& x : expected) x *= inverse;
  ForEachTarget([&](const char* target) {
    std::copy(start.begin(), start.end(), values.begin());
    AddAndNormalise(added.data(), kWidth, 1, kWidth, values.data(), kWidth);
    for (int n = 0; n < kWidth; ++n) EXPECT_EQ(values[static_cast<std::size_t>(n)], expected[n]) << target << " " << n;
  });
}

TEST(TransformerTest, APromptIsNoLongerThanARow) {
  EXPECT_EQ(Refusal(R"({"transformer": {"prompt_length": {"fixed": 600}}})"),
            "families[0].transformer.prompt_length: is up to 600, must be in [0, 512], no longer than a row");
}

}  // namespace
}  // namespace iterand
