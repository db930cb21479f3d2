#include "tests/randnet/family_checks.h"

#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <vector>

#include "tests/randnet/targets.h"
#include "tests/support/allocations.h"

namespace iterand {
namespace {

constexpr std::uint64_t kPrograms = 6;
constexpr int kRows = 19;

std::vector<Symbol> Rows(const Block& block, int rows) {
  return {block.row(0), block.row(0) + static_cast<std::ptrdiff_t>(rows) * block.length()};
}

}  // namespace

v1::Family FamilyConfig(const std::string& json) {
  v1::Family config;
  const auto status = google::protobuf::util::JsonStringToMessage(json, &config);
  EXPECT_TRUE(status.ok()) << json << ": " << std::string(status.message());
  return config;
}

absl::StatusOr<std::unique_ptr<Family>> TryMakeFamily(const std::string& json, const FamilyContext& context) {
  v1::Family config = FamilyConfig(json);
  const FamilyEntry* entry = FindFamily(config.kind_case());
  if (entry == nullptr) return absl::InternalError("test: no family in " + json);
  entry->Resolve(config);
  return entry->Make(config, context, "families[0]." + std::string(entry->name));
}

std::unique_ptr<Family> MakeFamily(const std::string& json, const FamilyContext& context) {
  auto family = TryMakeFamily(json, context);
  EXPECT_TRUE(family.ok()) << family.status();
  return family.ok() ? *std::move(family) : nullptr;
}

Block NoiseBlock(std::uint64_t seed, int rows, int length, int alphabet) {
  Block block;
  block.Reshape(rows, length);
  Rng rng = MakeRng({.seed = seed}, Purpose::kNoise);
  for (int r = 0; r < rows; ++r) {
    for (int t = 0; t < length; ++t)
      block.row(r)[t] = static_cast<Symbol>(rng.Below(static_cast<std::uint32_t>(alphabet)));
  }
  return block;
}

SampledProgram::SampledProgram(const Family& family, const FamilyContext& context, std::uint64_t seed, int rows)
    : key{.seed = seed},
      program(family.NewProgram(rows)),
      input(NoiseBlock(seed, rows, context.length, context.alphabet)) {
  Rng rng = MakeRng(key, Purpose::kSampleProgram);
  program->Sample(rng);
  prompt = NoiseBlock(seed + 1000, rows, program->prompt_length(), context.alphabet);
  out.Reshape(rows, context.length);
}

void SampledProgram::Run() { program->Run(input.view(), prompt.view(), RowRng(key), out.mutable_view()); }

void CheckRows(const std::string& json, const FamilyContext& context) {
  const std::unique_ptr<Family> family = MakeFamily(json, context);
  ASSERT_NE(family, nullptr);
  const std::unique_ptr<Program> reused = family->NewProgram(kRows);
  for (std::uint64_t seed = 0; seed < kPrograms; ++seed) {
    SCOPED_TRACE(json + " seed " + std::to_string(seed));
    SampledProgram all(*family, context, seed, kRows);
    all.Run();
    const std::vector<Symbol> rows = Rows(all.out, kRows);
    for (const Symbol symbol : rows) ASSERT_LT(symbol, context.alphabet);
    for (int r = 0; r < kRows; ++r) {
      ASSERT_TRUE(std::equal(all.prompt.row(r), all.prompt.row(r) + all.prompt.length(), all.out.row(r)));
    }
    RunControl stop;
    stop.Stop();
    all.program->set_stop(&stop);
    all.Run();
    all.program->set_stop(nullptr);
    all.Run();
    EXPECT_EQ(Rows(all.out, kRows), rows) << "run again, after a run that was stopped";
    for (const int count : {1, 3}) {
      const BlockView input(all.input.row(0), count, context.length);
      const BlockView prompt(all.prompt.row(0), count, all.prompt.length());
      Block few;
      few.Reshape(count, context.length);
      all.program->Run(input, prompt, RowRng(all.key), few.mutable_view());
      EXPECT_EQ(Rows(few, count), Rows(all.out, count)) << count << " rows";
    }
    Rng rng = MakeRng(all.key, Purpose::kSampleProgram);
    reused->Sample(rng);
    EXPECT_EQ(reused->Describe(), all.program->Describe());
    EXPECT_EQ(reused->prompt_length(), all.program->prompt_length());
    Block again;
    again.Reshape(kRows, context.length);
    reused->Run(all.input.view(), all.prompt.view(), RowRng(all.key), again.mutable_view());
    EXPECT_EQ(Rows(again, kRows), rows) << "reused object";
    ForEachTarget([&](const char* target) {
      SampledProgram other(*family, context, seed, kRows);
      other.Run();
      EXPECT_EQ(Rows(other.out, kRows), rows) << target;
    });
    if (!family->reads_input()) {
      const Block input = NoiseBlock(seed + 2000, kRows, context.length, context.alphabet);
      all.program->Run(input.view(), all.prompt.view(), RowRng(all.key), all.out.mutable_view());
      EXPECT_EQ(Rows(all.out, kRows), rows) << "another input";
    }
  }
}

void CheckMemory(const std::string& json, const FamilyContext& context) {
  const std::unique_ptr<Family> family = MakeFamily(json, context);
  ASSERT_NE(family, nullptr);
  constexpr int kFew = 5;
  const Block input = NoiseBlock(0, kFew, context.length, context.alphabet);
  const Block prompts = NoiseBlock(7, kFew, context.length, context.alphabet);
  Block out;
  out.Reshape(kFew, context.length);
  const std::uint64_t bytes_before = AllocatedBytes();
  const std::unique_ptr<Program> program = family->NewProgram(kFew);
  const auto run = [&](std::uint64_t seed) {
    const RandomKey key{.seed = seed};
    Rng rng = MakeRng(key, Purpose::kSampleProgram);
    program->Sample(rng);
    const BlockView prompt(prompts.row(0), kFew, program->prompt_length(), context.length);
    program->Run(input.view(), prompt, RowRng(key), out.mutable_view());
  };
  run(1);
  EXPECT_LE(static_cast<double>(AllocatedBytes() - bytes_before), family->program_bytes(kFew)) << json;
  const std::uint64_t before = Allocations();
  for (std::uint64_t seed = 2; seed < 12; ++seed) run(seed);
  EXPECT_EQ(Allocations() - before, 0U) << json;
  EXPECT_GT(family->program_bytes(kFew), 0) << json;
  EXPECT_GE(family->program_bytes(2 * kFew), family->program_bytes(kFew)) << json;
  EXPECT_GT(family->most_seconds(kFew), 0) << json;
  EXPECT_GT(family->most_seconds(2 * kFew), family->most_seconds(kFew)) << json;
}

std::string Refusal(const std::string& json, const FamilyContext& context) {
  const absl::Status status = TryMakeFamily(json, context).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << json << ": " << status;
  return std::string(status.message());
}

}  // namespace iterand
