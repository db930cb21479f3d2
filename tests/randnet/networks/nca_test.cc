#include "randnet/networks/nca.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <Eigen/Dense>
#include <algorithm>
#include <set>
#include <vector>

#include "tests/randnet/family_checks.h"

namespace iterand {
namespace {

using testing::HasSubstr;

constexpr FamilyContext kPaper{.alphabet = 10002, .length = 200};
constexpr FamilyContext kBytes{.alphabet = 256, .length = 100};

TEST(NcaTest, Rows) {
  CheckRows(R"({"nca": {}})", kPaper);
  CheckRows(R"({"nca": {"colours": {"uniform": {"low": 2, "high": 10}}, "features": {"uniform": {"low": 1, "high": 9}},
               "hidden": {"uniform": {"low": 1, "high": 21}}, "bias_scale": {"fixed": 0.5}, "identity_bias": {"fixed": 0.3},
               "temperature": {"fixed": 0.2}, "width": 5, "height": 7}})",
            kBytes);
  CheckRows(R"({"nca": {"colours": {"uniform": {"low": 7, "high": 40}}, "temperature": {"fixed": 0.05}, "width": 6}})",
            kBytes);
  CheckRows(R"({"nca": {"height": 1, "width": 0, "colours": {"fixed": 256}, "frame_marks": false, "start": "INPUT"}})",
            kBytes);
  CheckRows(R"({"nca": {"height": 1, "width": 1, "colours": {"fixed": 2}, "temperature": {"fixed": 0}}})", kBytes);
}

TEST(NcaTest, Memory) {
  CheckMemory(
      R"({"nca": {"colours": {"uniform": {"low": 2, "high": 10}}, "features": {"uniform": {"low": 1, "high": 9}}}})",
      kPaper);
}

class Scratch {
 public:
  explicit Scratch(const NcaNet& net)
      : planes_(3 * static_cast<std::size_t>(NcaPlane(net))),
        chosen_(static_cast<std::size_t>(net.height * net.width + kNcaCells)),
        logits_(static_cast<std::size_t>(net.colours) * kNcaCells) {}
  NcaScratch get() { return {.planes = planes_.data(), .chosen = chosen_.data(), .logits = logits_.data()}; }

 private:
  std::vector<Symbol> planes_;
  std::vector<Symbol> chosen_;
  matrix::Floats logits_;
};

// One step against a dense convolution in double precision over one-hot codes.
void CheckStep(const std::string& json, const FamilyContext& context) {
  const auto family = MakeFamily(json, context);
  for (std::uint64_t seed = 0; seed < 4; ++seed) {
    SampledProgram sampled(*family, context, seed, 1);
    const NcaNet& net = static_cast<NcaProgram&>(*sampled.program).net();
    std::vector<Symbol> grid(net.grid_cells());
    std::vector<Symbol> next(net.grid_cells());
    Rng rng = MakeRng(sampled.key, Purpose::kRunRow);
    for (int y = 0; y < net.height; ++y) {
      for (int x = 0; x < net.width; ++x) {
        grid[static_cast<std::size_t>(net.origin() + y * net.stride() + x)] =
            static_cast<Symbol>(rng.Below(static_cast<std::uint32_t>(net.colours)));
      }
    }
    NcaWrap(net, grid.data());
    const auto colour = [&](const std::vector<Symbol>& of, int y, int x) {
      y = (y + net.height) % net.height;
      x = (x + net.width) % net.width;
      return static_cast<int>(of[static_cast<std::size_t>(net.origin() + y * net.stride() + x)]);
    };
    Scratch scratch(net);
    std::vector<float> logits(static_cast<std::size_t>(net.height * net.width * net.colours));
    NcaStep(net, grid.data(), next.data(), scratch.get(), rng, logits.data());

    using RowMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    const int inputs = net.positions() * net.colours;
    const Eigen::MatrixXd convolution = Eigen::Map<const RowMajor>(net.neighbour_weights, inputs, net.padded_features())
                                            .leftCols(net.features)
                                            .transpose()
                                            .cast<double>();
    const Eigen::VectorXd feature_bias =
        Eigen::Map<const Eigen::VectorXf>(net.feature_bias, net.features).cast<double>();
    const Eigen::MatrixXd hidden =
        Eigen::Map<const RowMajor>(net.hidden_weights, net.hidden, net.features).cast<double>();
    const Eigen::VectorXd hidden_bias = Eigen::Map<const Eigen::VectorXf>(net.hidden_bias, net.hidden).cast<double>();
    const Eigen::MatrixXd output =
        Eigen::Map<const RowMajor>(net.output_weights, net.colours, net.hidden).cast<double>();
    const Eigen::VectorXd output_bias = Eigen::Map<const Eigen::VectorXf>(net.output_bias, net.colours).cast<double>();
    const float* at = logits.data();
    for (int y = 0; y < net.height; ++y) {
      for (int x = 0; x < net.width; ++x) {
        Eigen::VectorXd code = Eigen::VectorXd::Zero(inputs);
        for (int p = 0; p < net.positions(); ++p) {
          const int dy = net.height == 1 ? 0 : p / 3 - 1;
          code[p * net.colours + colour(grid, y + dy, x + p % 3 - 1)] = 1;
        }
        Eigen::VectorXd expected =
            output * (hidden * (convolution * code + feature_bias) + hidden_bias).cwiseMax(0.0) + output_bias;
        expected[colour(grid, y, x)] += net.identity_bias;
        for (int c = 0; c < net.colours; ++c) ASSERT_NEAR(*at++, expected[c], 1e-5) << y << " " << x << " " << c;
        // Where one colour is clearly the largest it is the next one.
        int best = 0;
        const double largest = expected.maxCoeff(&best);
        expected[best] = -1e9;
        if (largest - expected.maxCoeff() > 20.1 * net.temperature + 1e-5) {
          ASSERT_EQ(colour(next, y, x), best) << y << " " << x;
        }
      }
    }
  }
}

TEST(NcaTest, StepIsThatOfADenseConvolution) {
  CheckStep(R"({"nca": {}})", kPaper);
  // One vector of colours, two vectors, and more than there are tables for.
  CheckStep(R"({"nca": {"colours": {"fixed": 8}, "width": 33}})", kBytes);
  CheckStep(R"({"nca": {"colours": {"fixed": 30}, "width": 5}})", kBytes);
  CheckStep(R"({"nca": {"height": 1, "width": 18, "colours": {"fixed": 33}, "frame_marks": false}})", kBytes);
  CheckStep(
      R"({"nca": {"features": {"fixed": 7}, "hidden": {"fixed": 19}, "bias_scale": {"fixed": 1}, "width": 7, "height": 3,
               "identity_bias": {"fixed": -0.7}, "temperature": {"fixed": 0}}})",
      kBytes);
  CheckStep(R"({"nca": {"height": 1, "width": 37, "colours": {"fixed": 200}, "frame_marks": false}})", kBytes);
}

// Decodes the frames of a row with marks and replays the rule on them.
TEST(NcaTest, FramesAreSuccessiveGridsInPatches) {
  const auto family = MakeFamily(R"({"nca": {"temperature": {"fixed": 0}, "warm_up": {"fixed": 3}}})", kPaper);
  SampledProgram sampled(*family, kPaper, 4, 2);
  sampled.Run();
  const NcaNet& net = static_cast<NcaProgram&>(*sampled.program).net();
  constexpr int kFrame = 38;
  std::vector<Symbol> grid(net.grid_cells());
  std::vector<Symbol> next(net.grid_cells());
  Scratch scratch(net);
  Rng rng = MakeRng(sampled.key, Purpose::kRunRow);
  for (int r = 0; r < 2; ++r) {
    for (int frame = 0; frame < kPaper.length / kFrame; ++frame) {
      const Symbol* const tokens = sampled.out.row(r) + frame * kFrame;
      EXPECT_EQ(tokens[0], 10000);
      EXPECT_EQ(tokens[kFrame - 1], 10001);
      std::vector<Symbol> decoded(net.grid_cells());
      for (int p = 0; p < 36; ++p) {
        ASSERT_LT(tokens[1 + p], 10000);
        int value = tokens[1 + p];
        for (int cell = 3; cell >= 0; --cell, value /= 10) {
          const int y = p / 6 * 2 + cell / 2;
          const int x = p % 6 * 2 + cell % 2;
          decoded[static_cast<std::size_t>(net.origin() + y * net.stride() + x)] = static_cast<Symbol>(value % 10);
        }
      }
      NcaWrap(net, decoded.data());
      if (frame > 0) {
        NcaStep(net, grid.data(), next.data(), scratch.get(), rng);
        EXPECT_EQ(next, decoded) << "row " << r << " frame " << frame;
      }
      grid = decoded;
    }
  }
}

TEST(NcaTest, FirstGridCanBeTheInput) {
  const auto family = MakeFamily(
      R"({"nca": {"height": 1, "width": 40, "colours": {"fixed": 256}, "frame_marks": false, "warm_up": {"fixed": 0}, "start": "INPUT"}})",
      kBytes);
  EXPECT_TRUE(family->reads_input());
  SampledProgram sampled(*family, kBytes, 1, 3);
  sampled.Run();
  for (int r = 0; r < 3; ++r) {
    EXPECT_TRUE(std::equal(sampled.input.row(r), sampled.input.row(r) + 40, sampled.out.row(r)));
  }
  EXPECT_FALSE(MakeFamily(R"({"nca": {}})", kPaper)->reads_input());
}

TEST(NcaTest, PatchesAreTheLargestThatFit) {
  const auto symbols = [](int alphabet) {
    const FamilyContext context{.alphabet = alphabet, .length = 300};
    const auto family = MakeFamily(R"({"nca": {}})", context);
    SampledProgram sampled(*family, context, 0, 4);
    sampled.Run();
    return sampled.program->Describe();
  };
  EXPECT_NE(symbols(10002).find("patch=2x2"), std::string::npos);
  EXPECT_NE(symbols(10001).find("patch=1x2"), std::string::npos);
  EXPECT_NE(symbols(102).find("patch=1x2"), std::string::npos);
  EXPECT_NE(symbols(101).find("patch=1x1"), std::string::npos);
  EXPECT_NE(symbols(12).find("patch=1x1"), std::string::npos);
}

// At a high temperature all colours are about equally likely.
TEST(NcaTest, TemperatureDrawsFromTheSoftmax) {
  const FamilyContext context{.alphabet = 16, .length = 4096};
  const auto family = MakeFamily(R"({"nca": {"temperature": {"fixed": 1e5}, "frame_marks": false}})", context);
  SampledProgram sampled(*family, context, 0, 2);
  sampled.Run();
  int counts[10] = {};
  for (int t = 144; t < context.length; ++t) ++counts[sampled.out.row(0)[t]];
  for (const int count : counts) EXPECT_NEAR(count, (context.length - 144) / 10.0, 90);
}

TEST(NcaTest, RefusesGridsPatchesAndColoursThatDoNotFit) {
  EXPECT_THAT(Refusal(R"({"nca": {"height": 1024, "width": 1024}})", kPaper),
              HasSubstr("families[0].nca.width: is 1024, which makes a grid of 1048576 cells"));
  EXPECT_THAT(Refusal(R"({"nca": {"colours": {"fixed": 255}}})", kBytes), HasSubstr("families[0].nca.colours: 255"));
  EXPECT_THAT(
      Refusal(
          R"({"nca": {"colours": {"fixed": 4000}, "patch_height": 16, "patch_width": 16, "height": 16, "width": 16}})",
          kPaper),
      HasSubstr("families[0].nca.colours: 4000"));
  EXPECT_THAT(Refusal(R"({"nca": {"patch_height": 2}})", kPaper), HasSubstr("families[0].nca.patch_width: is 0"));
  EXPECT_THAT(Refusal(R"({"nca": {"patch_height": 5, "patch_width": 1}})", kPaper),
              HasSubstr("families[0].nca.patch_height: is 5, must divide the height 12"));
  EXPECT_THAT(Refusal(R"({"nca": {"patch_height": 1, "patch_width": 5}})", kPaper),
              HasSubstr("families[0].nca.patch_width: is 5, must divide the width 12"));
}

}  // namespace
}  // namespace iterand
