// What families say that their programs cost.
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "randnet/family.h"
#include "tests/randnet/family_checks.h"

namespace iterand {
namespace {

// Knobs that set a network's size, KNOB standing for one's value.
const char* const kSizes[] = {
    R"({"lstm": {"hidden": KNOB}})",
    R"({"mlp_window": {"hidden": KNOB, "layers": {"fixed": 3}}})",
    R"({"mlp_window": {"symbols": KNOB}})",
    R"({"state_space": {"width": KNOB, "layers": {"fixed": 2}}})",
    R"({"transformer": {"width": KNOB}})",
    R"({"transformer": {"width": KNOB, "layers": {"fixed": 0}}})",
    R"({"transformer": {"width": KNOB, "layers": {"choice": {"values": [0, 3]}}}})",
    R"({"transformer": {"mode": "SEQUENTIAL", "width": KNOB, "feed_forward": {"fixed": 2}}})",
    R"({"nca": {"hidden": KNOB}})",
    R"({"reservoir": {"width": KNOB, "emitted": {"fixed": 300}}})",
};

constexpr FamilyContext kContext = {.alphabet = 200, .length = 128};
constexpr int kFew = 16;
constexpr int kMany = 250;
constexpr char kMostlyFew[] = R"({"choice": {"values": [16, 16, 250]}})";

std::string Fixed(int value) { return absl::StrCat("{\"fixed\": ", value, "}"); }

std::unique_ptr<Family> WithKnob(const std::string& json, const std::string& knob) {
  return MakeFamily(absl::StrReplaceAll(json, {{"KNOB", knob}}), kContext);
}

TEST(CostTest, TheMeanIsOverPrograms) {
  for (const std::string json : kSizes) {
    const double low = WithKnob(json, Fixed(kFew))->flops_per_token();
    const double high = WithKnob(json, Fixed(kMany))->flops_per_token();
    EXPECT_NEAR(WithKnob(json, kMostlyFew)->flops_per_token() / ((2 * low + high) / 3), 1, 1e-9) << json;
  }
}

TEST(CostTest, TheMostIsOfTheDearestProgram) {
  for (const std::string json : kSizes) {
    const std::unique_ptr<Family> dearest = WithKnob(json, Fixed(kMany));
    EXPECT_EQ(WithKnob(json, kMostlyFew)->most_seconds(9), dearest->most_seconds(9)) << json;
    EXPECT_GT(dearest->most_seconds(9), 0.999 * dearest->flops_per_token() * 9 * kContext.length * cost::kFlop) << json;
  }
}

}  // namespace
}  // namespace iterand
