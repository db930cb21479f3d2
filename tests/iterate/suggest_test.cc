#include "iterate/suggest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "iterate/presets.h"
#include "iterate/recipe_json.h"

namespace iterand {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

const std::vector<std::string> kNames = {"up", "up-paper", "markov", "pointwise", "RELABEL_SEQUENCE"};

TEST(DidYouMean, FindsWhatIsNear) {
  EXPECT_EQ(DidYouMean("markvo", kNames), " (did you mean markov?)");   // swapped
  EXPECT_EQ(DidYouMean("marko", kNames), " (did you mean markov?)");    // missing
  EXPECT_EQ(DidYouMean("markovv", kNames), " (did you mean markov?)");  // too many
  EXPECT_EQ(DidYouMean("narkow", kNames), " (did you mean markov?)");   // wrong
  EXPECT_EQ(DidYouMean("Markov", kNames), " (did you mean markov?)");   // another case
  EXPECT_EQ(DidYouMean("up_paper", kNames), " (did you mean up-paper?)");
  EXPECT_EQ(DidYouMean("relabel_sequenze", kNames), " (did you mean RELABEL_SEQUENCE?)");
  EXPECT_EQ(DidYouMean("paper", kNames), " (did you mean up-paper?)");  // a part of it
  EXPECT_EQ(DidYouMean("cuont", std::vector<std::string>{"count"}, "--"), " (did you mean --count?)");
}

TEST(DidYouMean, SaysNothingWhereNothingIsNear) {
  for (const std::string word : {"", "x", "transformer", "qqqqqq", "a", "wi"}) EXPECT_EQ(DidYouMean(word, kNames), "");
  EXPECT_EQ(DidYouMean(std::string(1 << 20, 'a'), kNames), "");
  EXPECT_EQ(DidYouMean("markov", {}), "");
}

TEST(DidYouMean, NamesThreeAtMost) {
  const std::vector<std::string> names = {"aaaa", "aaab", "aaac", "aaad"};
  EXPECT_EQ(DidYouMean("aaae", names), " (did you mean aaaa, aaab or aaac?)");
  EXPECT_EQ(DidYouMean("aaaab", names), " (did you mean aaaa or aaab?)");
}

TEST(DidYouMean, IsPartOfTheErrorsOfPresetsAndRecipes) {
  EXPECT_THAT(LoadPreset("markvo").status().message(),
              HasSubstr("no preset is named \"markvo\" (did you mean markov?), must be one of "));
  EXPECT_THAT(LoadPreset("qqqqqq").status().message(), Not(HasSubstr("did you mean")));
  EXPECT_THAT(ParseRecipeJson(R"({"familes": []})").status().message(),
              HasSubstr("recipe: has no field \"familes\" (did you mean families?), must be one of "));
  EXPECT_THAT(ParseRecipeJson(R"({"families": [{"lstn": {}}]})").status().message(),
              HasSubstr("families[0]: has no field \"lstn\" (did you mean lstm?), must be one of "));
  EXPECT_THAT(ParseRecipeJson(R"({"relabel": "RELABEL_SEQUENZE"})").status().message(),
              HasSubstr("relabel: is \"RELABEL_SEQUENZE\" (did you mean sequence?), must be one of "));
  EXPECT_THAT(ParseRecipeJson(R"({"relabel": "seqence"})").status().message(), HasSubstr("(did you mean sequence?)"));
}

TEST(RecipeJson, AnEmptyTextIsCalledEmpty) {
  for (const std::string text : {"", " \n\t", "\xEF\xBB\xBF"}) {
    const absl::Status status = ParseRecipeJson(text).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(status.message(), HasSubstr("recipe: JSON text is empty, must be an object in braces"));
  }
}

}  // namespace
}  // namespace iterand
