#include "iterate/json_limits.h"

#include <gtest/gtest.h>

#include <ctime>
#include <string>

#include "absl/strings/str_cat.h"
#include "iterate/limits.h"
#include "iterate/plan.h"
#include "iterate/presets.h"
#include "iterate/recipe_json.h"

namespace iterand {
namespace {

std::string Times(const std::string& text, int times) {
  std::string all;
  for (int i = 0; i < times; ++i) all += text;
  return all;
}

std::string Refusal(const std::string& json) { return std::string(CheckJsonLimits(json).message()); }

constexpr char kTooDeep[] = "recipe: JSON text nests deeper than 32 brackets and braces at ";
constexpr char kTooMany[] = "recipe: JSON text has more than 32768 values, the most that a recipe may have, at ";

TEST(JsonLimits, NestingIsBoundedWhateverNests) {
  EXPECT_EQ(Refusal(Times("[", 32) + Times("]", 32)), "");
  EXPECT_EQ(Refusal(Times("[", 33)), absl::StrCat(kTooDeep, "line 1, column 33"));
  EXPECT_EQ(Refusal("\n\n" + Times(R"({"a":)", 33)), absl::StrCat(kTooDeep, "line 3, column 161"));
  EXPECT_EQ(Refusal(Times(R"([{"a":)", 17)), absl::StrCat(kTooDeep, "line 1, column 97"));
  EXPECT_EQ(Refusal(Times("[]", 5000)), "");                  // not deep
  EXPECT_EQ(Refusal(Times("]", 100) + Times("[", 132)), "");  // not JSON, which every parser sees at the first byte
}

TEST(JsonLimits, BracketsInStringsDoNotCount) {
  EXPECT_EQ(Refusal("\"" + Times("[", 100) + "\""), "");
  EXPECT_EQ(Refusal(R"(["\")" + Times("[", 100) + R"(\\"])"), "");
  EXPECT_EQ(Refusal("'" + Times("[", 100) + "'"), "");
  // A quote of the other kind does not end a string, nor does an escaped one.
  EXPECT_EQ(Refusal(R"('"')" + Times("[", 33)), absl::StrCat(kTooDeep, "line 1, column 36"));
  EXPECT_EQ(Refusal(R"("'")" + Times("[", 33)), absl::StrCat(kTooDeep, "line 1, column 36"));
  EXPECT_EQ(Refusal(R"("\\")" + Times("[", 33)), absl::StrCat(kTooDeep, "line 1, column 37"));
  EXPECT_EQ(Refusal("\"" + Times("[", 100)), "");         // never closed
  EXPECT_EQ(Refusal("\"" + Times("[", 100) + "\\"), "");  // ends in an escape
}

TEST(JsonLimits, ValuesAreBounded) {
  EXPECT_EQ(Refusal("[" + Times("1,", 32766) + "1]"), "");
  EXPECT_EQ(Refusal("[" + Times("1,", 32767) + "1]"), absl::StrCat(kTooMany, "line 1, column 65535"));
  EXPECT_EQ(Refusal(Times("{}", 32767)), "");
  EXPECT_NE(Refusal(Times("{}", 32768)), "");
  EXPECT_EQ(Refusal("\"" + Times(",", 100000) + "\""), "");
}

// Each takes milliseconds; some took seconds, or a gigabyte.
TEST(JsonLimits, ParsingIsQuickWhateverTheText) {
  const int most = static_cast<int>(kMaxRecipeJsonBytes) - 64;
  const std::string texts[] = {
      Times("[", most),
      Times("[", 20000) + Times("]", 20000),
      Times(R"({"a":)", 20000) + Times("}", 20000),
      R"({"families":)" + Times("[", 20000) + Times("]", 20000) + "}",
      R"({"families":[)" + Times("{},", 32000) + "{}]}",
      R"({"families":[{"lstm":{"layers":{"choice":{"values":[)" + Times("1,", 32000) + "1]}}}}]}",
      R"({"families":[{"tape_machine":{"programs":[)" + Times(R"("",)", 32000) + R"(""]}}]})",
      R"({"description":")" + Times("\\u0000", most / 6) + "\"}",
      R"({"length":)" + Times("1", most) + "}",
      "{\"" + Times("k", most) + "\":1}",
      "[" + Times("[],", 30000) + "]",
      Times("\n", most),
      "{" + Times("\"a\":1,", 32000) + "\"a\":1}",
  };
  for (const std::string& text : texts) {
    const std::clock_t begin = std::clock();
    const absl::StatusOr<v1::Recipe> recipe = ParseRecipeJson(text);
    const absl::Status status = recipe.ok() ? StreamPlan::Make(*recipe, 0).status() : recipe.status();
    const double seconds = static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text.substr(0, 60);
    EXPECT_LT(status.message().size(), 1000U) << text.substr(0, 60);
    EXPECT_LT(seconds, 1) << text.substr(0, 60);
  }
}

TEST(JsonLimits, Places) {
  EXPECT_EQ(TextPlace("ab\ncd", 0), "line 1, column 1");
  EXPECT_EQ(TextPlace("ab\ncd", 4), "line 2, column 2");
}

}  // namespace
}  // namespace iterand
