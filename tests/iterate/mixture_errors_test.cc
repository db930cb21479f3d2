// Errors in a mixture are reported with their path, before anything is made.
#include <gtest/gtest.h>

#include <map>
#include <string>

#include "absl/strings/str_cat.h"
#include "iterate/limits.h"
#include "iterate/plan.h"
#include "iterate/presets.h"
#include "iterate/recipe.h"
#include "iterate/recipe_json.h"

namespace iterand {
namespace {

// The message of refusing a recipe's JSON, or "" if it is accepted.
std::string Refusal(const std::string& json) {
  const absl::StatusOr<v1::Recipe> recipe = ParseRecipeJson(json);
  if (!recipe.ok()) return std::string(recipe.status().message());
  const auto plan = StreamPlan::Make(*recipe, 0);
  if (plan.ok()) return "";
  EXPECT_EQ(plan.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(plan.status().message());
}

// A mixture of noise and a part like this.
std::string WithPart(const std::string& part) {
  return absl::StrCat(R"({"mixture": [{"preset": "uniform"}, )", part, "]}");
}

std::string WithWeight(const std::string& weight) {
  return WithPart(absl::StrCat(R"({"preset": "eca", "weight": )", weight, "}"));
}

TEST(MixtureErrors, Weights) {
  EXPECT_EQ(Refusal(WithWeight("-1")), "mixture[1].weight.fixed: is -1, must be in [0, 1e+06]");
  EXPECT_EQ(Refusal(WithWeight("2e6")), "mixture[1].weight.fixed: is 2e+06, must be in [0, 1e+06]");
  EXPECT_EQ(Refusal(WithWeight(R"({"fixed": "NaN"})")), "mixture[1].weight.fixed: is nan, must be in [0, 1e+06]");
  EXPECT_EQ(Refusal(WithWeight(R"({"fixed": "Infinity"})")), "mixture[1].weight.fixed: is inf, must be in [0, 1e+06]");
  EXPECT_EQ(
      Refusal(WithWeight(R"("half")")),
      "mixture[1].weight: is \"half\", must be a number, a list of points, or an object with fields of fixed, points");
  EXPECT_EQ(Refusal(WithWeight("[0.5]")),
            "mixture[1].weight.points[0]: is 0.5, must be an object with fields of at, weight");
  EXPECT_EQ(Refusal(WithWeight(R"({"fixed": 1, "points": [{"at": 0, "weight": 1}]})")),
            "mixture[1].weight: has both fixed and points, must have one of them");
  EXPECT_EQ(Refusal(WithWeight(R"([{"at": 0, "weight": 1}, {"at": 9, "weight": -0.5}])")),
            "mixture[1].weight.points[1].weight: is -0.5, must be in [0, 1e+06]");
  EXPECT_EQ(Refusal(WithWeight(R"([{"at": -1, "weight": 1}])")),
            "mixture[1].weight.points[0].at: is -1, must be in [0, 4611686018427387904]");
  EXPECT_EQ(Refusal(WithWeight(R"([{"at": 0}])")),
            R"(mixture[1].weight.points[0]: has no weight, must have both, such as {"at": 0, "weight": 1})");
  EXPECT_EQ(Refusal(WithWeight(R"([{"weight": 1}])")),
            R"(mixture[1].weight.points[0]: has no at, must have both, such as {"at": 0, "weight": 1})");
}

TEST(MixtureErrors, PointsInOrder) {
  EXPECT_EQ(Refusal(WithWeight(R"([{"at": 100, "weight": 1}, {"at": 99, "weight": 2}])")),
            "mixture[1].weight.points[1].at: is 99, must be at least 100, that of the point before it: points must be "
            "in order");
  EXPECT_EQ(
      Refusal(WithWeight(R"([{"at": 5, "weight": 1}, {"at": 5, "weight": 2}, {"at": 5, "weight": 3}])")),
      "mixture[1].weight.points[2].at: is 5, that of the two points before it; at most two points may share an index, "
      "which makes a step");
  std::string points;
  for (int i = 0; i <= 4096; ++i) absl::StrAppend(&points, i > 0 ? "," : "", R"({"at":)", i, R"(,"weight":1})");
  EXPECT_EQ(Refusal(WithWeight(absl::StrCat("[", points, "]"))),
            "mixture[1].weight.points: has 4097 entries, must have 0 to 4096");
}

TEST(MixtureErrors, AllWeightsZero) {
  EXPECT_EQ(Refusal(R"({"mixture": [{"preset": "eca", "weight": 0}, {"preset": "markov", "weight": 0}]})"),
            "mixture: all weights are 0 at index 0, at least one must be positive at every index");
  EXPECT_EQ(Refusal(R"({"mixture": [{"preset": "eca", "weight": [{"at": 0, "weight": 1}, {"at": 100, "weight": 0}]},
                        {"preset": "markov", "weight": [{"at": 100, "weight": 0}, {"at": 200, "weight": 1}]}]})"),
            "mixture: all weights are 0 at index 100, at least one must be positive at every index");
  // A step from 0 comes after the index before it.
  EXPECT_EQ(Refusal(R"({"mixture": [{"preset": "eca", "weight": [{"at": 50, "weight": 1}, {"at": 50, "weight": 0}]},
                        {"preset": "markov", "weight": [{"at": 60, "weight": 0}, {"at": 60, "weight": 1}]}]})"),
            "mixture: all weights are 0 at index 50, at least one must be positive at every index");
  EXPECT_EQ(Refusal(R"({"mixture": [{"preset": "eca", "weight": [{"at": 50, "weight": 1}, {"at": 50, "weight": 0}]},
                        {"preset": "markov", "weight": [{"at": 50, "weight": 0}, {"at": 50, "weight": 1}]}]})"),
            "");
  EXPECT_EQ(Refusal(WithPart(R"({"recipe": {"mixture": [{"preset": "eca", "weight": 0}]}})")),
            "mixture[1].recipe.mixture: all weights are 0 at index 0, at least one must be positive at every index");
}

TEST(MixtureErrors, APartSaysOtherwiseThanTheWholeStream) {
  const std::string why =
      "; leave it out of the part (length, vocab_size, lanes, segment_sequences, marks and loss_mask belong to the "
      "outermost recipe)";
  const auto with = [](const std::string& field) {
    return Refusal(WithPart(absl::StrCat(R"({"recipe": {"families": [{"markov": {}}], )", field, "}}")));
  };
  EXPECT_EQ(with(R"("vocab_size": 512)"),
            "mixture[1].recipe.vocab_size: is 512, but that of the whole stream is 256" + why);
  EXPECT_EQ(with(R"("length": 1024)"), "mixture[1].recipe.length: is 1024, but that of the whole stream is 512" + why);
  EXPECT_EQ(with(R"("lanes": 8)"), "mixture[1].recipe.lanes: is 8, but that of the whole stream is 32" + why);
  EXPECT_EQ(with(R"("segment_sequences": 8)"),
            "mixture[1].recipe.segment_sequences: is 8, but that of the whole stream is 48" + why);
  EXPECT_EQ(with(R"("loss_mask": true)"),
            "mixture[1].recipe.loss_mask: is true, but that of the whole stream is false" + why);
  EXPECT_EQ(with(R"("marks": {"begin": true})"),
            "mixture[1].recipe.marks: is {begin: true}, but that of the whole stream is none" + why);
  EXPECT_EQ(with(R"("length": 512, "vocab_size": 256, "lanes": 32, "marks": {"begin": false}, "loss_mask": false)"),
            "");
  EXPECT_EQ(Refusal(WithPart(R"({"preset": "transformer"})")),
            "mixture[1].preset \"transformer\": lanes: is 16, but that of the whole stream is 32" + why);
  EXPECT_EQ(Refusal(WithPart(R"({"recipe": {"mixture": [{"preset": "eca"}, {"recipe": {"families": [{"eca": {}}],
                                "length": 64}}]}})")),
            "mixture[1].recipe.mixture[1].recipe.length: is 64, but that of the whole stream is 512" + why);
  EXPECT_EQ(Refusal(WithPart(R"({"recipe": {"length": 64, "mixture": [{"preset": "eca"}]}})")),
            "mixture[1].recipe.length: is 64, but that of the whole stream is 512" + why);
}

TEST(MixtureErrors, WhatBelongsToAPartBesideAMixture) {
  const auto beside = [](const std::string& field) {
    return Refusal(absl::StrCat(R"({"mixture": [{"preset": "eca"}], )", field, "}"));
  };
  const auto error = [](const std::string& field) {
    return absl::StrCat(
        field,
        ": is given beside mixture, but belongs to the recipe of a part, such as "
        "mixture[0].recipe.",
        field, "; fields of the whole stream are length, vocab_size, lanes, segment_sequences, marks and loss_mask");
  };
  EXPECT_EQ(beside(R"("families": [{"eca": {}}])"), error("families"));
  EXPECT_EQ(beside(R"("mix": "round")"), error("mix"));
  EXPECT_EQ(beside(R"("chain": {})"), error("chain"));
  EXPECT_EQ(beside(R"("pool": {})"), error("pool"));
  EXPECT_EQ(beside(R"("relabel": "none")"), error("relabel"));
  EXPECT_EQ(beside(R"("band": {})"), error("band"));
  EXPECT_EQ(beside(R"("distinct": false)"), error("distinct"));
  EXPECT_EQ(beside(R"("alphabet_size": 16)"), error("alphabet_size"));
  EXPECT_EQ(beside(R"("pack": 2)"), error("pack"));
  EXPECT_EQ(beside(R"("starvation_rounds": 10)"), error("starvation_rounds"));
  EXPECT_EQ(beside(R"("length": 64, "vocab_size": 100, "lanes": 3, "segment_sequences": 5, "marks": {"end": true},
                      "loss_mask": true, "description": "all of the whole stream")"),
            "");
  EXPECT_EQ(Refusal(WithPart(R"({"recipe": {"mixture": [{"preset": "eca"}], "distinct": true}})")),
            "mixture[1].recipe." + error("distinct"));
}

TEST(MixtureErrors, Sources) {
  EXPECT_EQ(Refusal(WithPart("{}")),
            R"(mixture[1]: has neither preset nor recipe, must have one of them, such as "preset": "markov")");
  EXPECT_EQ(Refusal(WithPart(R"({"preset": "eca", "recipe": {}})")),
            "mixture[1]: has both preset and recipe, must have one of them");
  EXPECT_EQ(Refusal(WithPart(R"({"recipe": {}})")), "mixture[1].recipe.families: has 0 entries, must have 1 to 256");
  EXPECT_EQ(Refusal(WithPart(R"({"preset": "marko"})")).substr(0, 68),
            R"(mixture[1].preset: no preset is named "marko" (did you mean markov?))");
  EXPECT_EQ(Refusal(WithPart(R"({"recipe": {"families": [{"lstm": {"hidden": 5000}}]}})")),
            "mixture[1].recipe.families[0].lstm.hidden.fixed: is 5000, must be in [4, 1024]");
  EXPECT_EQ(Refusal(R"({"mixture": []})"), "families: has 0 entries, must have 1 to 256");
}

TEST(MixtureErrors, EndlessPools) {
  const std::string why =
      "pool.endless: is true, but an endless pool is one process per lane, of which a part would have stretches with "
      "gaps; use a recipe with pool.endless false, whose segments each begin with a fresh pool, or a chain";
  EXPECT_EQ(Refusal(WithPart(R"({"preset": "up-paper"})")), "mixture[1].preset \"up-paper\": " + why);
  EXPECT_EQ(Refusal(WithPart(R"({"recipe": {"families": [{"rnn": {}}], "pool": {}}})")), "mixture[1].recipe." + why);
}

TEST(MixtureErrors, Names) {
  const auto named = [](const std::string& name) {
    return Refusal(WithPart(absl::StrCat(R"({"preset": "eca", "name": ")", name, "\"}")));
  };
  EXPECT_EQ(named("a/b"), "mixture[1].name: has 3 bytes, must have 1 to 64, without / and control characters");
  EXPECT_EQ(named(""), "mixture[1].name: has 0 bytes, must have 1 to 64, without / and control characters");
  EXPECT_EQ(named("a\\nb"), "mixture[1].name: has 3 bytes, must have 1 to 64, without / and control characters");
  EXPECT_EQ(named(std::string(65, 'a')),
            "mixture[1].name: has 65 bytes, must have 1 to 64, without / and control characters");
  EXPECT_EQ(Refusal(R"({"mixture": [{"name": "a", "preset": "eca"}, {"name": "a", "preset": "markov"}]})"),
            "mixture[1].name: is also the name of another part, must be unique in its mixture");
}

TEST(MixtureErrors, TooManyParts) {
  const auto parts = [](int count) {
    std::string list;
    for (int i = 0; i < count; ++i) absl::StrAppend(&list, i > 0 ? "," : "", R"({"preset":"uniform"})");
    return absl::StrCat(R"({"mixture":[)", list, "]}");
  };
  EXPECT_EQ(Refusal(parts(10000)), "mixture: has 10000 parts, may have at most 64, those of nested mixtures included");
  EXPECT_EQ(Refusal(parts(65)), "mixture: has 65 parts, may have at most 64, those of nested mixtures included");
  EXPECT_EQ(Refusal(parts(64)), "");
  EXPECT_EQ(
      Refusal(absl::StrCat(R"({"mixture": [{"recipe": )", parts(40), R"(}, {"recipe": )", parts(25), "}]}")),
      "mixture[1].recipe.mixture[24].preset \"uniform\": mixture: has 65 parts, may have at most 64, those of nested "
      "mixtures included");
}

TEST(MixtureErrors, NestedTooDeep) {
  std::string recipe = R"({"families": [{"uniform": {}}]})";
  for (int depth = 1; depth <= kMaxMixtureDepth; ++depth) {
    recipe = absl::StrCat(R"({"mixture": [{"recipe": )", recipe, "}]}");
    EXPECT_EQ(Refusal(recipe), "") << depth;
  }
  EXPECT_EQ(Refusal(absl::StrCat(R"({"mixture": [{"recipe": )", recipe, "}]}")),
            "mixture[0].recipe.mixture[0].recipe.mixture[0].recipe.mixture: is in 3 mixtures, may be in at most 2");
}

TEST(MixtureErrors, PresetsThatContainEachOther) {
  const std::map<std::string, std::string, std::less<>> presets = {
      {"a", R"({"mixture": [{"preset": "b"}]})"},
      {"b", R"({"mixture": [{"preset": "plain"}, {"preset": "a"}]})"},
      {"plain", R"({"families": [{"uniform": {}}]})"},
  };
  const auto load = [&](std::string_view name) { return ParseRecipeJson(presets.find(name)->second); };
  EXPECT_EQ(
      ResolveRecipe(*ParseRecipeJson(R"({"mixture": [{"preset": "plain"}, {"preset": "a"}]})"), load)
          .status()
          .message(),
      "mixture[1].preset \"a\": mixture[0].preset \"b\": mixture[1].preset: presets contain each other: a > b > a");
  EXPECT_TRUE(ResolveRecipe(*ParseRecipeJson(R"({"mixture": [{"preset": "plain"}]})"), load).ok());
}

TEST(MixtureErrors, MemoryAndFamiliesCountOverAllParts) {
  const std::string large =
      R"({"recipe": {"families": [{"lstm": {"hidden": 1024, "layers": 4}}], "chain": {"rows": 64}}})";
  std::string parts = large;
  std::string message;
  int count = 1;
  for (; count < 64 && message.empty(); ++count) {
    absl::StrAppend(&parts, ",", large);
    message = Refusal(absl::StrCat(R"({"length": 64, "mixture": [)", parts, "]}"));
  }
  EXPECT_LT(count, 64);
  const std::string begin = absl::StrCat("mixture[", count - 1, "]: with the parts before it, a thread needs ");
  EXPECT_EQ(message.substr(0, begin.size()), begin) << message;
  EXPECT_NE(message.find("it may need at most 536870912 for all parts together"), std::string::npos) << message;

  std::string families = R"({"uniform": {}})";
  for (int i = 1; i < 256; ++i) families += R"(,{"uniform": {}})";
  const std::string part = absl::StrCat(R"({"recipe": {"families": [)", families, "]}}");
  EXPECT_EQ(
      Refusal(absl::StrCat(R"({"mixture": [)", part, ",", part, ",", part, ",", part, R"(, {"preset": "eca"}]})")),
      "mixture[4].preset \"eca\": families: with those of the parts before it there are 1025, a mixture may have at "
      "most 1024");
}

// A recipe with small JSON but expensive parts is refused like one with expensive families.
TEST(MixtureErrors, TimeIsThatOfEachPart) {
  const std::string message = Refusal(
      WithPart(R"({"recipe": {"families": [{"lstm": {"hidden": 1024, "layers": 8}}], "chain": {"rows": 1024}}})"));
  EXPECT_EQ(message.substr(0, 34), "mixture[1].recipe.families[0].lstm") << message;
}

}  // namespace
}  // namespace iterand
