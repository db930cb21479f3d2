// What every family without floating-point networks promises, tested on the defaults of each. (The networks' own tests
// do it with configurations that are quick.)
#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "randnet/family.h"
#include "tests/randnet/family_checks.h"
#include "tests/randnet/program_testing.h"

namespace iterand {
namespace {

class FamiliesTest : public testing::TestWithParam<const FamilyEntry*> {
 protected:
  static std::string Json() { return absl::StrCat("{\"", std::string(GetParam()->name), "\": {}}"); }
};

TEST_P(FamiliesTest, RowsDependOnTheirOwnKeysAlone) {
  CheckRows(Json(), {.alphabet = 256, .length = 96});
  CheckRows(Json(), {.alphabet = 256, .length = 512});
}

TEST_P(FamiliesTest, TheSteadyStateAllocatesNothing) { CheckMemory(Json(), {.alphabet = 256, .length = 96}); }

TEST_P(FamiliesTest, SymbolsStayBelowTheAlphabet) {
  for (const int alphabet : {2, 3, 5, 16, 300, 65536}) {
    for (const int length : {16, 40}) {
      const FamilyContext context{.alphabet = alphabet, .length = length};
      if (const auto family = TryMakeFamily(Json(), context); !family.ok()) {
        // A family may want a larger alphabet, if it says so.
        EXPECT_NE(std::string(family.status().message()).find("alphabet"), std::string::npos) << family.status();
        EXPECT_LT(alphabet, 16);
        continue;
      }
      ProgramRunner runner(Json(), 2, context);
      runner.NoiseInput(7);
      for (std::uint64_t seed = 0; seed < 6; ++seed) {
        runner.SampleAndRun(seed);
        for (int r = 0; r < 2; ++r) {
          for (const Symbol symbol : runner.Row(r)) ASSERT_LT(symbol, alphabet);
        }
      }
    }
  }
}

TEST_P(FamiliesTest, ReadsItsInputIfItSaysSo) {
  const FamilyContext context{.alphabet = 256, .length = 96};
  ProgramRunner a(Json(), 2, context);
  ProgramRunner b(Json(), 2, context);
  a.NoiseInput(1);
  b.NoiseInput(2);
  int differ = 0;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    a.SampleAndRun(seed);
    b.SampleAndRun(seed);
    differ += a.Row(0) != b.Row(0) ? 1 : 0;
  }
  EXPECT_EQ(differ > 0, a.family().reads_input());
}

std::vector<const FamilyEntry*> Entries() {
  std::vector<const FamilyEntry*> entries;
  for (const FamilyEntry& entry : AllFamilies()) {
    v1::Family config;
    entry.resolve(config);
    const auto family = entry.make(config, {}, "");
    if (family.ok() && (*family)->flops_per_token() == 0) entries.push_back(&entry);
  }
  return entries;
}

INSTANTIATE_TEST_SUITE_P(All, FamiliesTest, testing::ValuesIn(Entries()),
                         [](const auto& test) { return std::string(test.param->name); });

// Every integer of the family's knobs at the least value that it takes, some families' smallest shapes.
class SmallestTest : public testing::TestWithParam<const FamilyEntry*> {
 protected:
  static absl::StatusOr<std::unique_ptr<Family>> Make(v1::Family config, const FamilyContext& context) {
    GetParam()->resolve(config);
    return GetParam()->make(config, context, "family");
  }

  // Null if the family takes none of its knobs' values, as of an alphabet that is too small.
  static std::unique_ptr<Family> MakeSmallest(const FamilyContext& context) {
    v1::Family config;
    GetParam()->resolve(config);
    const auto* kind = v1::Family::descriptor()->FindFieldByNumber(static_cast<int>(GetParam()->kind));
    google::protobuf::Message* knobs = config.GetReflection()->MutableMessage(&config, kind);
    for (int i = 0; i < knobs->GetDescriptor()->field_count(); ++i) {
      const google::protobuf::FieldDescriptor* field = knobs->GetDescriptor()->field(i);
      if (field->is_repeated() || field->message_type() != v1::Integer::descriptor()) continue;
      auto& knob = *dynamic_cast<v1::Integer*>(knobs->GetReflection()->MutableMessage(knobs, field));
      const v1::Integer before = knob;
      bool taken = false;
      for (int value = 0; value <= 16 && !taken; ++value) {
        knob.set_fixed(value);
        taken = Make(config, context).ok();
      }
      if (!taken) knob = before;
    }
    auto family = Make(config, context);
    return family.ok() ? *std::move(family) : nullptr;
  }
};

TEST_P(SmallestTest, SymbolsStayBelowTheAlphabet) {
  int made = 0;
  for (const int alphabet : {2, 3, 5, 64, 256, 1000}) {
    const FamilyContext context{.alphabet = alphabet, .length = 40};
    const std::unique_ptr<Family> family = MakeSmallest(context);
    if (!family) continue;
    ++made;
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
      SampledProgram sampled(*family, context, seed, 3);
      sampled.Run();
      for (int r = 0; r < 3; ++r) {
        for (int t = 0; t < 40; ++t) ASSERT_LT(sampled.out.row(r)[t], alphabet) << "seed " << seed;
      }
    }
  }
  EXPECT_GE(made, 3);
}

std::vector<const FamilyEntry*> AllEntries() {
  std::vector<const FamilyEntry*> entries;
  for (const FamilyEntry& entry : AllFamilies()) entries.push_back(&entry);
  return entries;
}

INSTANTIATE_TEST_SUITE_P(All, SmallestTest, testing::ValuesIn(AllEntries()),
                         [](const auto& test) { return std::string(test.param->name); });

}  // namespace
}  // namespace iterand
