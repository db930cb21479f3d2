// What every family without floating-point networks promises, tested on the defaults of each. (The networks have their
// own tests, with configurations that are quick.)
#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "randnet/family.h"
#include "randnet/settings.h"
#include "tests/randnet/family_checks.h"

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
        // A family may need a larger alphabet, if it says so.
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
    entry.Resolve(config);
    const auto family = entry.Make(config, {}, "");
    if (family.ok() && (*family)->flops_per_token() == 0) entries.push_back(&entry);
  }
  return entries;
}

INSTANTIATE_TEST_SUITE_P(All, FamiliesTest, testing::ValuesIn(Entries()),
                         [](const auto& test) { return std::string(test.param->name); });

// Shapes at the ends of the schema's ranges.
class ShapesTest : public testing::TestWithParam<const FamilyEntry*> {
 protected:
  static absl::StatusOr<std::unique_ptr<Family>> Make(v1::Family config, const FamilyContext& context) {
    GetParam()->Resolve(config);
    return GetParam()->Make(config, context, "family");
  }

  // The message of the family's knobs, with every default.
  static google::protobuf::Message& Knobs(v1::Family& config) {
    GetParam()->Resolve(config);
    const auto* kind = v1::Family::descriptor()->FindFieldByNumber(static_cast<int>(GetParam()->kind));
    return *config.GetReflection()->MutableMessage(&config, kind);
  }

  // Calls visit(knob, setting) for every integer knob.
  template <typename Visit>
  static void ForEachInteger(google::protobuf::Message& knobs, const Visit& visit) {
    for (int i = 0; i < knobs.GetDescriptor()->field_count(); ++i) {
      const google::protobuf::FieldDescriptor* field = knobs.GetDescriptor()->field(i);
      if (field->is_repeated() || field->message_type() != v1::Integer::descriptor()) continue;
      visit(dynamic_cast<v1::Integer&>(*knobs.GetReflection()->MutableMessage(&knobs, field)),
            field->options().GetExtension(v1::setting));
    }
  }

  // Every integer knob at its least value. Null if the family accepts none, for example because the alphabet is too
  // small.
  static std::unique_ptr<Family> MakeSmallest(const FamilyContext& context) {
    v1::Family config;
    ForEachInteger(Knobs(config), [&](v1::Integer& knob, const v1::Setting& setting) {
      const v1::Integer before = knob;
      const auto min = static_cast<std::int64_t>(setting.min());
      bool taken = false;
      for (std::int64_t value = min; value <= min + 16 && !taken; ++value) {
        knob.set_fixed(value);
        taken = Make(config, context).ok();
      }
      if (!taken) knob = before;
    });
    auto family = Make(config, context);
    return family.ok() ? *std::move(family) : nullptr;
  }

  static void ExpectSymbolsBelowTheAlphabet(const Family& family, const FamilyContext& context, std::uint64_t seeds) {
    for (std::uint64_t seed = 0; seed < seeds; ++seed) {
      SampledProgram sampled(family, context, seed, 3);
      sampled.Run();
      for (int r = 0; r < 3; ++r) {
        for (int t = 0; t < context.length; ++t) ASSERT_LT(sampled.out.row(r)[t], context.alphabet) << "seed " << seed;
      }
    }
  }
};

void ExpectRangesAreChecked(const FamilyEntry& entry, v1::Family& config, google::protobuf::Message& message,
                            const std::string& path) {
  const auto* reflection = message.GetReflection();
  for (int i = 0; i < message.GetDescriptor()->field_count(); ++i) {
    const google::protobuf::FieldDescriptor* field = message.GetDescriptor()->field(i);
    const v1::Setting& setting = field->options().GetExtension(v1::setting);
    const std::string below = path + "." + field->name();
    if (field->is_repeated()) continue;
    const bool integer = field->message_type() == v1::Integer::descriptor();
    const bool real = field->message_type() == v1::Real::descriptor();
    if (field->message_type() != nullptr && !integer && !real) {
      google::protobuf::Message& nested = *reflection->MutableMessage(&message, field);
      WriteDefaults(nested);
      ExpectRangesAreChecked(entry, config, nested, below);
      continue;
    }
    for (const double value : {setting.min() - 1, setting.max() + 1}) {
      std::unique_ptr<google::protobuf::Message> before(message.New());
      before->CopyFrom(message);
      if (integer) {
        dynamic_cast<v1::Integer&>(*reflection->MutableMessage(&message, field))
            .set_fixed(static_cast<std::int64_t>(value));
      } else if (real) {
        dynamic_cast<v1::Real&>(*reflection->MutableMessage(&message, field)).set_fixed(value);
      } else if (field->cpp_type() == google::protobuf::FieldDescriptor::CPPTYPE_INT64) {
        reflection->SetInt64(&message, field, static_cast<std::int64_t>(value));
      } else if (field->cpp_type() == google::protobuf::FieldDescriptor::CPPTYPE_DOUBLE) {
        reflection->SetDouble(&message, field, value);
      } else {
        break;  // bools and enums have no range
      }
      const absl::Status status = entry.Make(config, {}, "family").status();
      EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << below;
      EXPECT_EQ(std::string(status.message()).find(below), 0U) << status;
      EXPECT_NE(std::string(status.message()).find("must be in"), std::string::npos) << status;
      message.CopyFrom(*before);
    }
  }
}

TEST_P(ShapesTest, ValuesOutsideTheRangesAreRefused) {
  v1::Family config;
  google::protobuf::Message& knobs = Knobs(config);
  ExpectRangesAreChecked(*GetParam(), config, knobs, "family");
}

TEST_P(ShapesTest, TheSmallestKeepsSymbolsBelowTheAlphabet) {
  int made = 0;
  for (const int alphabet : {2, 3, 5, 64, 256, 1000}) {
    const FamilyContext context{.alphabet = alphabet, .length = 40};
    const std::unique_ptr<Family> family = MakeSmallest(context);
    if (!family) continue;
    ++made;
    ExpectSymbolsBelowTheAlphabet(*family, context, 20);
  }
  EXPECT_GE(made, 3);
}

// Arrays of kernels must have room for the schema's maxima: one knob at a time is at its largest.
TEST_P(ShapesTest, TheLargestKeepsSymbolsBelowTheAlphabet) {
  const FamilyContext context{.alphabet = 4096, .length = 24};
  v1::Family config;
  ForEachInteger(Knobs(config), [&](v1::Integer& knob, const v1::Setting& setting) {
    const v1::Integer before = knob;
    knob.set_fixed(static_cast<std::int64_t>(setting.max()));
    // A family may refuse what depends on other fields.
    if (const auto family = Make(config, context); family.ok()) ExpectSymbolsBelowTheAlphabet(**family, context, 1);
    knob = before;
  });
}

std::vector<const FamilyEntry*> AllEntries() {
  std::vector<const FamilyEntry*> entries;
  for (const FamilyEntry& entry : AllFamilies()) entries.push_back(&entry);
  return entries;
}

INSTANTIATE_TEST_SUITE_P(All, ShapesTest, testing::ValuesIn(AllEntries()),
                         [](const auto& test) { return std::string(test.param->name); });

}  // namespace
}  // namespace iterand
