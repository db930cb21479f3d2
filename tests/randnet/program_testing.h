// What tests of the program families share: one sampled program with its blocks, and refusals. See also
// family_checks.h.
#pragma once

#include <google/protobuf/util/json_util.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "randnet/family.h"

namespace iterand {

// The family of a configuration such as R"({"eca": {"states": {"fixed": 2}}})", with defaults filled in.
inline absl::StatusOr<std::unique_ptr<Family>> TryMakeFamily(const std::string& json,
                                                             const FamilyContext& context = {}) {
  v1::Family config;
  const auto status = google::protobuf::util::JsonStringToMessage(json, &config);
  if (!status.ok()) return absl::InvalidArgumentError("test: bad JSON " + json);
  const FamilyEntry* entry = FindFamily(config.kind_case());
  if (entry == nullptr) return absl::InvalidArgumentError("test: no family in " + json);
  entry->resolve(config);
  return entry->make(config, context, "families[0]." + std::string(entry->name));
}

// One sampled program with blocks to run it on.
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

  // Fills the input with uniform symbols, one keyed stream a row.
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

// The message with which a configuration is refused; the test fails if it is not.
inline std::string Refusal(const std::string& json, const FamilyContext& context = {}) {
  auto family = TryMakeFamily(json, context);
  EXPECT_FALSE(family.ok()) << json;
  return family.ok() ? "" : std::string(family.status().message());
}

}  // namespace iterand
