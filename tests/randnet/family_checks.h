// What tests of families share: families from JSON, programs with what they need to run, and checks of what every
// family must satisfy.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "randnet/family.h"

namespace iterand {

// A family's message from JSON, such as {"lstm": {"layers": {"fixed": 1}}}.
v1::Family FamilyConfig(const std::string& json);

// The family of a configuration with its defaults. Its path is "families[0].NAME".
absl::StatusOr<std::unique_ptr<Family>> TryMakeFamily(const std::string& json, const FamilyContext& context = {});

// The same; the test fails if it is refused.
std::unique_ptr<Family> MakeFamily(const std::string& json, const FamilyContext& context);

// Rows x length symbols below the alphabet from a seed.
Block NoiseBlock(std::uint64_t seed, int rows, int length, int alphabet);

// A sampled program and what it needs to run.
struct SampledProgram {
  SampledProgram(const Family& family, const FamilyContext& context, std::uint64_t seed, int rows);
  void Run();

  RandomKey key;
  std::unique_ptr<Program> program;
  Block input;
  Block prompt;
  Block out;
};

// A program object with blocks, to sample and run programs one after another.
class ProgramRunner {
 public:
  ProgramRunner(const std::string& json, int rows, const FamilyContext& context = {}) : context_(context) {
    auto family = TryMakeFamily(json, context);
    EXPECT_TRUE(family.ok()) << family.status();
    if (!family.ok()) return;
    family_ = *std::move(family);
    program_ = family_->NewProgram(rows);
    input_.Reshape(rows, context.length);
    output_.Reshape(rows, context.length);
  }

  Program& program() { return *program_; }
  const Family& family() const { return *family_; }
  Block& input() { return input_; }
  const Block& output() const { return output_; }
  int rows() const { return input_.rows(); }

  // Fills the input with uniform symbols, one keyed stream per row.
  void NoiseInput(std::uint64_t seed) {
    for (int r = 0; r < input_.rows(); ++r) {
      Rng rng = MakeRng({.seed = seed}, Purpose::kNoise, static_cast<std::uint64_t>(r));
      for (int t = 0; t < context_.length; ++t) {
        input_.row(r)[t] = static_cast<Symbol>(rng.Below(static_cast<std::uint32_t>(context_.alphabet)));
      }
    }
  }

  // Samples the program of a key and runs it on the input.
  const Block& SampleAndRun(std::uint64_t seed) {
    const RandomKey key{.seed = seed};
    Rng rng = MakeRng(key, Purpose::kSampleProgram);
    program_->Sample(rng);
    return Run(seed);
  }

  const Block& Run(std::uint64_t seed) {
    Block prompt;
    prompt.Reshape(input_.rows(), program_->prompt_length());
    for (int r = 0; r < prompt.rows(); ++r) std::copy_n(input_.row(r), prompt.length(), prompt.row(r));
    program_->Run(input_.view(), prompt.view(), RowRng({.seed = seed}), output_.mutable_view());
    return output_;
  }

  std::vector<Symbol> Row(int r) const { return {output_.row(r), output_.row(r) + output_.length()}; }
  std::vector<Symbol> InputRow(int r) const { return {input_.row(r), input_.row(r) + input_.length()}; }

 private:
  FamilyContext context_;
  std::unique_ptr<Family> family_;
  std::unique_ptr<Program> program_;
  Block input_;
  Block output_;
};

// Of several programs: symbols are below the alphabet; row r of 3 rows and of 1 row equals row r of 19; running again,
// also after a run that was stopped, and sampling the program again in an object that has held others, gives the same
// rows; every vector target gives the same rows; the prompt is the beginning; a family that does not read its input
// gives the same rows for another input.
void CheckRows(const std::string& json, const FamilyContext& context);

// Once a program has run, sampling and running more allocates nothing, and what was allocated until then is within
// program_bytes (except what Highway allocates, which is not counted).
void CheckMemory(const std::string& json, const FamilyContext& context);

// The message with which a configuration is refused, with InvalidArgument; the test fails if it is not.
std::string Refusal(const std::string& json, const FamilyContext& context = {});

}  // namespace iterand
