#include "randnet/networks/recurrent.h"

#include <gtest/gtest.h>

#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "tests/randnet/family_checks.h"
#include "tests/randnet/networks/recurrent_reference.h"
#include "tests/randnet/targets.h"

namespace iterand {
namespace {

template <class Message>
void SetCommon(const RecurrentParameters& p, Message& message) {
  message.mutable_layers()->set_fixed(p.layers);
  message.mutable_hidden()->set_fixed(p.hidden);
  message.mutable_embedding()->set_fixed(p.embedding);
  message.mutable_embedding_scale()->set_fixed(p.embedding_scale);
  message.mutable_weight_factor()->set_fixed(p.weight_factor);
  message.mutable_temperature()->set_fixed(p.temperature);
}

v1::Family Config(const RecurrentParameters& p) {
  v1::Family config;
  switch (p.cell) {
    case Cell::kLstm:
      SetCommon(p, *config.mutable_lstm());
      config.mutable_lstm()->set_factor_mode(p.once_per_layer ? v1::Lstm::ONCE_PER_LAYER : v1::Lstm::ONCE);
      break;
    case Cell::kGru:
      SetCommon(p, *config.mutable_gru());
      break;
    case Cell::kRnn:
      SetCommon(p, *config.mutable_rnn());
      break;
  }
  return config;
}

template <class Message>
void SetVaried(Message& message) {
  message.mutable_layers()->mutable_uniform()->set_low(1);
  message.mutable_layers()->mutable_uniform()->set_high(3);
  message.mutable_hidden()->mutable_uniform()->set_low(4);
  message.mutable_hidden()->mutable_uniform()->set_high(40);
  message.mutable_embedding()->mutable_uniform()->set_low(0);
  message.mutable_embedding()->mutable_uniform()->set_high(20);
  message.mutable_weight_factor()->mutable_log_uniform()->set_low(1);
  message.mutable_weight_factor()->mutable_log_uniform()->set_high(30);
}

// Programs of many shapes.
v1::Family VariedConfig(Cell cell) {
  v1::Family config;
  if (cell == Cell::kLstm) SetVaried(*config.mutable_lstm());
  if (cell == Cell::kGru) SetVaried(*config.mutable_gru());
  if (cell == Cell::kRnn) SetVaried(*config.mutable_rnn());
  return config;
}

absl::StatusOr<std::unique_ptr<Family>> TryMake(v1::Family config, int alphabet, int length) {
  const FamilyEntry& entry = *FindFamily(config.kind_case());
  entry.Resolve(config);
  return entry.Make(config, {.alphabet = alphabet, .length = length}, "families[0]." + std::string(entry.name));
}

struct Made {
  std::unique_ptr<Family> family;
  std::unique_ptr<Program> program;
  RecurrentProgram& network() const { return dynamic_cast<RecurrentProgram&>(*program); }
};

Made MakeNetwork(const v1::Family& config, int alphabet, int length, int max_rows) {
  Made made;
  auto family = TryMake(config, alphabet, length);
  EXPECT_TRUE(family.ok()) << family.status();
  made.family = *std::move(family);
  made.program = made.family->NewProgram(max_rows);
  return made;
}

std::vector<Symbol> Symbols(const Block& block) {
  return {block.row(0), block.row(0) + static_cast<std::ptrdiff_t>(block.rows()) * block.length()};
}

Rng SampleRng(std::uint64_t round) { return MakeRng({.seed = 11, .round = round}, Purpose::kSampleProgram); }

Block RunRows(Program& program, const Block& input, const Block& prompt) {
  Block out;
  out.Reshape(input.rows(), input.length());
  program.Run(input.view(), prompt.view(), RowRng({.seed = 5}), out.mutable_view());
  return out;
}

// Shapes with every kind of padding, tile and factor.
const RecurrentParameters kShapes[] = {
    {.layers = 2, .hidden = 32, .embedding_scale = 0.1F, .weight_factor = 6},
    {.layers = 1, .hidden = 4, .embedding = 3, .weight_factor = 5, .alphabet = 2},
    {.layers = 3, .hidden = 20, .embedding = 7, .weight_factor = 4, .alphabet = 37},
    {.layers = 2, .hidden = 16, .embedding = 40, .weight_factor = 2, .once_per_layer = true, .alphabet = 100},
    {.layers = 4, .hidden = 48, .embedding_scale = 1e-8F, .weight_factor = 1.7F, .once_per_layer = true},
    {.layers = 2, .hidden = 33, .weight_factor = 3, .temperature = 0.7F, .alphabet = 19},
    {.layers = 1, .hidden = 32, .weight_factor = 1000, .temperature = 1, .alphabet = 300},
    {.layers = 2, .hidden = 32, .weight_factor = 8, .temperature = 1e-3F},
};

class RecurrentTest : public testing::TestWithParam<Cell> {
 protected:
  // The parameters for the cell under test; only the LSTM has a factor mode.
  static RecurrentParameters WithCell(RecurrentParameters parameters) {
    parameters.cell = GetParam();
    parameters.once_per_layer = parameters.once_per_layer && parameters.cell == Cell::kLstm;
    return parameters;
  }
};

TEST_P(RecurrentTest, EqualsTheScalarDefinitionOnEveryTarget) {
  constexpr int kRows = 9;
  constexpr int kLength = 40;
  for (const RecurrentParameters& each : kShapes) {
    const RecurrentParameters shape = WithCell(each);
    SCOPED_TRACE(testing::Message() << shape.layers << " x " << shape.hidden << ", alphabet " << shape.alphabet);
    const Block input = NoiseBlock(1, kRows, kLength, shape.alphabet);
    const Block prompt = NoiseBlock(2, kRows, 8, shape.alphabet);
    Rng rng = SampleRng(0);
    ScalarRecurrent reference(shape, rng);
    std::vector<Symbol> expected;
    for (int r = 0; r < kRows; ++r) {
      std::vector<Symbol> row(kLength);
      std::copy_n(prompt.row(r), 8, row.begin());
      reference.Run(input.row(r), 8, kLength, RowRng({.seed = 5}).ForRow(r), row.data());
      expected.insert(expected.end(), row.begin(), row.end());
    }
    ForEachTarget([&](const char* target) {
      SCOPED_TRACE(target);
      const Made made = MakeNetwork(Config(shape), shape.alphabet, kLength, kRows);
      Rng sample = SampleRng(0);
      made.program->Sample(sample);
      EXPECT_EQ(sample.Next(), Rng(rng).Next()) << "draws differ in number";
      EXPECT_EQ(made.program->prompt_length(), 8);
      EXPECT_EQ(Symbols(RunRows(*made.program, input, prompt)), expected);
    });
  }
}

TEST_P(RecurrentTest, AgreesWithEigenInDoublePrecision) {
  constexpr int kLength = 72;
  for (const RecurrentParameters& each :
       {RecurrentParameters{.layers = 2, .hidden = 32},
        RecurrentParameters{.layers = 4, .hidden = 128, .embedding = 128, .weight_factor = 1.2F},
        RecurrentParameters{.layers = 1, .hidden = 50, .embedding = 20, .alphabet = 90}}) {
    const RecurrentParameters shape = WithCell(each);
    SCOPED_TRACE(shape.hidden);
    const Made made = MakeNetwork(Config(shape), shape.alphabet, kLength, 3);
    Rng sample = SampleRng(1);
    made.program->Sample(sample);
    const Block input = NoiseBlock(3, 3, kLength, shape.alphabet);
    const Block prompt = NoiseBlock(4, 3, 8, shape.alphabet);
    Block out;
    out.Reshape(3, kLength);
    std::vector<float> logits(static_cast<std::size_t>((kLength - 8) * 3 * shape.alphabet));
    made.network().RunWithLogits(input.view(), prompt.view(), RowRng({}), out.mutable_view(), logits.data());
    for (int r = 0; r < 3; ++r) {
      EigenRecurrent oracle(made.network());
      for (int t = 0; t + 1 < kLength; ++t) {
        const Eigen::VectorXd expected = oracle.Step(out.row(r)[t], input.row(r)[t]);
        if (t + 1 < 8) continue;
        const float* actual = logits.data() + ((t + 1 - 8) * 3 + r) * shape.alphabet;
        const double size = expected.cwiseAbs().maxCoeff();
        for (int n = 0; n < shape.alphabet; ++n)
          ASSERT_NEAR(actual[n], expected(n), 1e-4 * size) << "t " << t << " n " << n;
        Eigen::Index best = 0;
        expected.maxCoeff(&best);
        ASSERT_EQ(out.row(r)[t + 1], best) << "row " << r << " t " << t;
      }
    }
  }
}

TEST_P(RecurrentTest, RowsDoNotDependOnTheRowsBesideThem) {
  for (const RecurrentParameters& each :
       {RecurrentParameters{.layers = 2, .hidden = 32, .weight_factor = 6},
        RecurrentParameters{.layers = 2, .hidden = 128, .weight_factor = 6},
        RecurrentParameters{.layers = 1, .hidden = 40, .weight_factor = 6, .temperature = 0.5F}}) {
    const RecurrentParameters shape = WithCell(each);
    const Block input = NoiseBlock(5, 64, 60, 256);
    const Block prompt = NoiseBlock(6, 64, 8, 256);
    const auto run = [&](int rows, int max_rows) {
      const Made made = MakeNetwork(Config(shape), 256, 60, max_rows);
      Rng sample = SampleRng(2);
      made.program->Sample(sample);
      Block out;
      out.Reshape(rows, 60);
      made.program->Run({input.row(0), rows, 60}, {prompt.row(0), rows, 8}, RowRng({.seed = 5}), out.mutable_view());
      return Symbols(out);
    };
    const std::vector<Symbol> all = run(64, 64);
    for (int rows = 1; rows <= 31; rows += rows < 14 ? 1 : 17) {
      EXPECT_EQ(run(rows, rows), std::vector<Symbol>(all.begin(), all.begin() + rows * 60)) << rows;
    }
    EXPECT_EQ(run(64, 10), all) << "more rows than the program was made for";
  }
}

TEST_P(RecurrentTest, SampleLeavesNothingOfTheProgramBefore) {
  const v1::Family config = VariedConfig(GetParam());
  const Block input = NoiseBlock(7, 5, 30, 50);
  const Block prompt = NoiseBlock(8, 5, 8, 50);
  const Made reused = MakeNetwork(config, 50, 30, 5);
  for (std::uint64_t round = 0; round < 20; ++round) {
    const Made fresh = MakeNetwork(config, 50, 30, 5);
    Rng a = SampleRng(round);
    Rng b = SampleRng(round);
    reused.program->Sample(a);
    fresh.program->Sample(b);
    EXPECT_EQ(reused.program->Describe(), fresh.program->Describe());
    EXPECT_EQ(Symbols(RunRows(*reused.program, input, prompt)), Symbols(RunRows(*fresh.program, input, prompt)));
  }
}

TEST(RecurrentProgramTest, EmptyPromptStartsFromTheInput) {
  v1::Family config = Config({.layers = 1, .hidden = 16, .weight_factor = 4, .alphabet = 30});
  config.mutable_lstm()->mutable_prompt_length()->set_fixed(0);
  const Made made = MakeNetwork(config, 30, 20, 2);
  Rng sample = SampleRng(3);
  made.program->Sample(sample);
  EXPECT_EQ(made.program->prompt_length(), 0);
  const Block input = NoiseBlock(9, 2, 20, 30);
  Block prompt;
  prompt.Reshape(2, 1);
  for (int r = 0; r < 2; ++r) prompt.row(r)[0] = input.row(r)[0];
  Block none;
  none.Reshape(2, 0);
  EXPECT_EQ(Symbols(RunRows(*made.program, input, none)), Symbols(RunRows(*made.program, input, prompt)));
}

TEST(RecurrentProgramTest, PromptAsLongAsTheRowIsTheRow) {
  const Made made = MakeNetwork(Config({.layers = 1, .hidden = 16}), 256, 16, 2);
  Rng sample = SampleRng(4);
  made.program->Sample(sample);
  const Block prompt = NoiseBlock(10, 2, 16, 256);
  EXPECT_EQ(Symbols(RunRows(*made.program, NoiseBlock(11, 2, 16, 256), prompt)), Symbols(prompt));
}

TEST(RecurrentProgramTest, TemperatureDrawsFromTheSoftmax) {
  // One step from a fixed state: the share of each symbol over many rows is its probability.
  constexpr int kRows = 20000;
  const RecurrentParameters shape{.layers = 1, .hidden = 8, .weight_factor = 1, .temperature = 0.25F, .alphabet = 21};
  const Made made = MakeNetwork(Config(shape), 21, 16, kRows);
  Rng sample = SampleRng(5);
  made.program->Sample(sample);
  Block input;
  input.Reshape(kRows, 9);
  Block prompt;
  prompt.Reshape(kRows, 8);
  for (int r = 0; r < kRows; ++r) {
    std::fill_n(input.row(r), 9, Symbol{3});
    std::fill_n(prompt.row(r), 8, Symbol{7});
  }
  Block out;
  out.Reshape(kRows, 9);
  std::vector<float> logits(static_cast<std::size_t>(kRows) * 21);
  made.network().RunWithLogits(input.view(), prompt.view(), RowRng({.seed = 5}), out.mutable_view(), logits.data());
  std::vector<double> probability(21);
  for (std::size_t n = 0; n < 21; ++n) probability[n] = std::exp(logits[n] / 0.25);
  const double total = std::accumulate(probability.begin(), probability.end(), 0.0);
  std::vector<int> count(21);
  for (int r = 0; r < kRows; ++r) ++count[out.row(r)[8]];
  for (std::size_t n = 0; n < 21; ++n) {
    const double p = probability[n] / total;
    EXPECT_NEAR(count[n], kRows * p, 5 * std::sqrt(kRows * p) + 1) << n;
  }
}

TEST_P(RecurrentTest, ExtremeFactorsStayFinite) {
  for (const float factor : {0.0F, 1e6F}) {
    const RecurrentParameters shape =
        WithCell({.layers = 2, .hidden = 16, .embedding_scale = 1e6F, .weight_factor = factor, .once_per_layer = true});
    const Made made = MakeNetwork(Config(shape), 256, 64, 4);
    Rng sample = SampleRng(6);
    made.program->Sample(sample);
    const Block input = NoiseBlock(12, 4, 64, 256);
    const Block prompt = NoiseBlock(13, 4, 8, 256);
    Block out;
    out.Reshape(4, 64);
    std::vector<float> logits(56 * 4 * 256);
    made.network().RunWithLogits(input.view(), prompt.view(), RowRng({}), out.mutable_view(), logits.data());
    for (const float logit : logits) ASSERT_TRUE(std::isfinite(logit));
  }
}

TEST(RecurrentProgramTest, RefusesWhatIsOutOfRange) {
  const auto error = [](const v1::Family& config, int length = 512) {
    const auto family = TryMake(config, 256, length);
    EXPECT_EQ(family.status().code(), absl::StatusCode::kInvalidArgument) << family.status();
    return std::string(family.status().message());
  };
  v1::Family config = Config({});
  config.mutable_lstm()->mutable_layers()->set_fixed(17);
  EXPECT_NE(error(config).find("families[0].lstm.layers"), std::string::npos);
  config = Config({.hidden = 3});
  EXPECT_NE(error(config).find("families[0].lstm.hidden"), std::string::npos);
  config = Config({.embedding = 2000});
  EXPECT_NE(error(config).find("families[0].lstm.embedding"), std::string::npos);
  config = Config({.embedding_scale = -1});
  EXPECT_NE(error(config).find("families[0].lstm.embedding_scale"), std::string::npos);
  config = Config({.weight_factor = 2e6F});
  EXPECT_NE(error(config).find("families[0].lstm.weight_factor"), std::string::npos);
  config = Config({.layers = 16, .weight_factor = 10, .once_per_layer = true});
  EXPECT_NE(error(config).find("families[0].lstm.weight_factor"), std::string::npos);
  config = Config({.temperature = -0.5F});
  EXPECT_NE(error(config).find("families[0].lstm.temperature"), std::string::npos);
  config = Config({});
  config.mutable_lstm()->mutable_prompt_length()->set_fixed(17);
  EXPECT_NE(error(config, 16).find("families[0].lstm.prompt_length"), std::string::npos);
  config = Config({});
  config.mutable_lstm()->set_factor_mode(static_cast<v1::Lstm::FactorMode>(9));
  EXPECT_NE(error(config).find("families[0].lstm.factor_mode"), std::string::npos);
  EXPECT_NE(error(Config({.cell = Cell::kGru, .hidden = 3})).find("families[0].gru.hidden"), std::string::npos);
  EXPECT_NE(error(Config({.cell = Cell::kRnn, .layers = 17})).find("families[0].rnn.layers"), std::string::npos);
}

TEST(RecurrentProgramTest, StatesItsCost) {
  const Made paper = MakeNetwork(Config({.layers = 4, .hidden = 128}), 256, 512, 8);
  EXPECT_TRUE(paper.family->reads_input());
  // Three full layers, the first without its inputs, the output layer.
  EXPECT_EQ(paper.family->flops_per_token(), 2.0 * (3 * 256 * 512 + 128 * 512 + 128 * 256));
  // At least the weights and the tables.
  EXPECT_GT(paper.family->program_bytes(8), 4.0 * (4 * 256 * 512 + 2 * 256 * 512));
  EXPECT_LT(paper.family->program_bytes(8), 16e6);
  // Three gates, or one, instead of four.
  for (const auto& [cell, gates] : {std::pair{Cell::kGru, 3}, std::pair{Cell::kRnn, 1}}) {
    const Made other = MakeNetwork(Config({.cell = cell, .layers = 4, .hidden = 128}), 256, 512, 8);
    EXPECT_EQ(other.family->flops_per_token(), 2.0 * (7 * 128 * 128 * gates + 128 * 256));
  }
}

TEST_P(RecurrentTest, TheSteadyStateAllocatesNothing) {
  const std::string name(FindFamily(Config({.cell = GetParam()}).kind_case())->name);
  CheckMemory(R"({")" + name + R"(": {"hidden": {"uniform": {"low": 4, "high": 40}}}})",
              {.alphabet = 100, .length = 40});
}

INSTANTIATE_TEST_SUITE_P(Cells, RecurrentTest, testing::Values(Cell::kLstm, Cell::kGru, Cell::kRnn),
                         [](const auto& test) {
                           return std::string(FindFamily(Config({.cell = test.param}).kind_case())->name);
                         });

}  // namespace
}  // namespace iterand
