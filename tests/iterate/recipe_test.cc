#include "iterate/recipe.h"

#include <gtest/gtest.h>

#include "iterate/limits.h"
#include "iterate/plan.h"
#include "iterate/presets.h"
#include "iterate/recipe_json.h"
#include "randnet/family.h"

namespace iterand {
namespace {

// The message of refusing a recipe's JSON, or "" if it is accepted.
std::string Refusal(const std::string& json) {
  auto recipe = ParseRecipeJson(json);
  if (!recipe.ok()) return std::string(recipe.status().message());
  auto plan = StreamPlan::Make(*recipe, 0);
  if (plan.ok()) return "";
  EXPECT_EQ(plan.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(plan.status().message());
}

struct BadRecipe {
  const char* json;
  const char* path;     // must be named
  const char* value;    // must be quoted
  const char* allowed;  // must be said
};

const BadRecipe kBadRecipes[] = {
    {R"({"families":{"uniform":{}}})", "families", "is an object", "a list"},
    {R"({"families":[[{"uniform":{}}]]})", "families[0]", "is a list", "an object with fields of weight"},
    {R"({"families":[null]})", "families[0]", "is null", "an object with fields of weight"},
    {R"({"families":[{"uniform":{}},{"lstm":{"hidden":6.5}}]})", "families[1].lstm.hidden", "is 6.5", "a number, or"},
    {R"({"families":[{"lstm":{"hidden":"6"}}]})", "families[0].lstm.hidden", "is \"6\"", "a number, or"},
    {R"({"families":[{"lstm":{"hidden":100000}}]})", "families[0].lstm.hidden.fixed", "100000", "1024"},
    {R"({"families":[{"uniform":{},"weight":1e400}]})", "families[0].weight", "is 1e400", "a number from"},
    {R"({"families":[{"uniform":{}}],"length":18446744073709551615})", "length", "18446744073709551615", "whole"},
    {R"({"families":[{"uniform":{}}],"mix":"every"})", "mix", "is \"every\"", "one of round, segment, lane"},
    {R"({"families":[{"uniform":{}}],"mix":1.5})", "mix", "is 1.5", "one of round"},
    {R"({"families":[{"uniform":{}}],'length':64})", "recipe", "column 30", "JSON"},
    {R"({"families":[{"uniform":{}}],"chain":{"rows":6,"rows":{"fixed":7}}})", "chain", "\"rows\" twice", "once"},
    {R"({})", "families", "0 entries", "1 to 256"},
    {R"({"families":[{}]})", "families[0]", "no family", "lstm"},
    {R"({"families":[{"lstm":{}}],"colour":3})", "colour", "colour", "field"},
    {R"({"families":[{"lstm":{"hiden":{"fixed":3}}}]})", "families[0].lstm", "hiden", "field"},
    {R"({"families":[{"lstmm":{}}]})", "families[0]", "lstmm", "must be one of weight, lstm, uniform"},
    {R"({"families":[{"lstm":{"hidden":true}}]})", "families[0].lstm.hidden", "is true",
     "a number, or an object with fields of fixed"},
    {R"({"families":[{"lstm":{"hidden":"wide"}}]})", "families[0].lstm.hidden", "wide", "uniform, log_uniform, choice"},
    {R"({"families":[{"lstm":{"hidden":{"fixed":"wide"}}}]})", "families[0].lstm.hidden.fixed", "wide", "whole number"},
    {R"({"families":[{"lstm":{},"markov":{}}]})", "families[0]", "lstm and markov", "one of them"},
    {R"({"families":[{"tasks":{"kinds":["SORT","SORTED"]}}]})", "families[0].tasks.kinds[1]", "SORTED", "sort, delete"},
    {R"({"families":["uniform"]})", "families[0]", "is \"uniform\"", "an object with fields of weight"},
    {R"({"families":[{"uniform":{}}],"length":16.5})", "length", "is 16.5", "whole number"},
    {R"({"families":[{"uniform":{}}],"length":1e30})", "length", "is 1e30", "whole number from -2^63 to 2^63 - 1"},
    {R"({"families":[{"uniform":{}}],"length":99999999999999999999})", "length", "is 99999999999999999999",
     "whole number from"},
    {R"({"families":[{"uniform":{},"weight":"1e400"}]})", "families[0].weight", "is \"1e400\"", "a number from"},
    {R"({"families":[{"uniform":{}}],"mix":99999999999})", "mix", "is 99999999999", "one of round"},
    {R"({"families":[{"uniform":{}}],"length":64,"length":32})", "recipe", "\"length\" twice", "must have it once"},
    {R"({"families":[{"lstm":{"hidden":{"fixed":8},"hidden":{"fixed":9}}}]})", "families[0].lstm", "\"hidden\" twice",
     "must have it once"},
    {R"({"families":[{"uniform":{},"uniform":{}}]})", "families[0]", "\"uniform\" twice", "must have it once"},
    {R"({"families":[{"uniform":{}}],"vocab_size":8,"vocabSize":9})", "recipe", "vocab_size and vocabSize",
     "one of them"},
    {"null", "recipe", "is null", "an object in braces"},
    {"[]", "recipe", "is a list", "an object in braces"},
    {"\"x\"", "recipe", "is \"x\"", "an object in braces"},
    {R"({"families":[{"uniform":{}}],"relabel":"RELABEL_SEQUENCES"})", "relabel", "RELABEL_SEQUENCES",
     "none, sequence, program"},
    {R"({"families":[{"uniform":{}}],"band":{"low":[1]}})", "band.low", "is a list", "must be a number"},
    {R"({"families":[{"uniform":{}}],"distinct":3})", "distinct", "is 3", "true or false"},
    {R"({"families":[{"uniform":{}}],"description":3})", "description", "is 3", "in quotes"},
    {R"({"families":[{"uniform":{}}],"chain":{},"pool":{}})", "recipe", "chain and pool", "one of them"},
    {R"({"families":[{"lstm":{"hidden":{"fixed":100000}}}]})", "families[0].lstm.hidden.fixed", "100000", "1024"},
    {R"({"families":[{"lstm":{"layers":{"fixed":0}}}]})", "families[0].lstm.layers.fixed", "is 0", "[1, 16]"},
    {R"({"families":[{"lstm":{"weight_factor":{"log_uniform":{"low":0,"high":2}}}}]})",
     "families[0].lstm.weight_factor.log_uniform.low", "is 0", "at least"},
    {R"({"families":[{"lstm":{"weight_factor":{"uniform":{"low":5,"high":2}}}}]})",
     "families[0].lstm.weight_factor.uniform", "low 5", "must not exceed"},
    {R"({"families":[{"lstm":{"temperature":{"fixed":"NaN"}}}]})", "families[0].lstm.temperature.fixed", "nan", "[0,"},
    {R"({"families":[{"uniform":{}},{"markov":{"order":{"fixed":9}}}]})", "families[1].markov.order.fixed", "is 9",
     "[1, 6]"},
    {R"({"families":[{"automaton":{"states":{"geometric":{"start":1,"proceed":2,"limit":9}}}}]})",
     "families[0].automaton.states.geometric.proceed", "is 2", "[0, 1]"},
    {R"({"families":[{"pointwise":{"symbols":{"choice":{"values":[]}}}}]})",
     "families[0].pointwise.symbols.choice.values", "0 values", "1 to 256"},
    {R"({"families":[{"uniform":{},"weight":-1}]})", "families[0].weight", "-1", "[0,"},
    {R"({"families":[{"uniform":{},"weight":0}]})", "families", "all weights are 0", "positive"},
    {R"({"families":[{"uniform":{}}],"length":8})", "length", "is 8", "[16, 65536]"},
    {R"({"families":[{"uniform":{}}],"vocab_size":1})", "vocab_size", "is 1", "[2, 4294967296]"},
    {R"({"families":[{"uniform":{}}],"vocab_size":100,"alphabet_size":200})", "alphabet_size", "is 200", "[2, 100]"},
    {R"({"families":[{"uniform":{}}],"lanes":0})", "lanes", "is 0", "[1, 4096]"},
    {R"({"families":[{"uniform":{}}],"lanes":4096,"segment_sequences":65536,"length":16})", "lanes", "4096", "at most"},
    {R"({"families":[{"uniform":{}}],"segment_sequences":65536,"length":65536})", "segment_sequences", "65536",
     "at most"},
    {R"({"families":[{"uniform":{}}],"band":{"low":0.5,"high":0.2}})", "band", "low 0.5", "low <= high"},
    {R"({"families":[{"uniform":{}}],"chain":{"rows":{"fixed":5000}}})", "chain.rows.fixed", "5000", "[1, 1024]"},
    {R"({"families":[{"uniform":{}}],"chain":{"noise_share":0.7,"constant_share":0.7}})", "chain.constant_share", "0.7",
     "at most 1"},
    {R"({"families":[{"uniform":{}}],"pool":{"pool_rows":10}})", "pool.program_rows", "is 104", "[1, 10]"},
    {R"({"families":[{"uniform":{}}],"pool":{},"distinct":true})", "distinct", "endless", "pool.endless"},
    {R"({"families":[{"uniform":{}}],"pack":17})", "pack", "is 17", "[1, 16]"},
    {R"({"families":[{"uniform":{}}],"pack":9})", "vocab_size", "is 256", "at least 512"},
    {R"({"families":[{"uniform":{}}],"pack":2,"alphabet_size":20})", "alphabet_size", "is 20", "[2, 16]"},
    {R"({"families":[{"uniform":{}}],"pack":4,"length":32768,"vocab_size":65536})", "pack", "131072 symbols", "65536"},
    {R"({"families":[{"uniform":{}}],"vocab_size":1048576,"pack":5,"relabel":"sequence"})", "relabel", "1048576 tokens",
     "65536"},
    {R"({"families":[{"uniform":{}}],"relabel":"program","pool":{}})", "relabel", "is program",
     "use sequence, or a chain"},
    {R"({"families":[{"uniform":{}}],"relabel":"program","pool":{"endless":false}})", "relabel", "is program",
     "use sequence, or a chain"},
    {R"({"families":[{"uniform":{}}],"marks":{"begin":true},"alphabet_size":256})", "alphabet_size", "is 256",
     "[2, 255]"},
    {R"({"families":[{"uniform":{}}],"marks":{"begin":true},"length":16})", "length", "15 symbols", "16 to 65536"},
    {R"({"families":[{"uniform":{}}],"marks":{"separator_every":-1}})", "marks.separator_every", "is -1", "[0, 65536]"},
    {R"({"families":[{"uniform":{}}],"loss_mask":true,"pool":{}})", "loss_mask", "is set", "chain"},
    {R"({"families":[{"uniform":{}}],"band":{"trial":{"rows":0}}})", "band.trial.rows", "is 0", "[1, 1024]"},
    {R"({"families":[{"uniform":{}}],"band":{"trial":{"symbols":8}}})", "band.trial.symbols", "is 8", "[16, 65536]"},
    {R"({"families":[{"uniform":{}}],"band":{"trial":{"margin":-1}}})", "band.trial.margin", "is -1", "[0, 10]"},
    {R"({"families":[{"uniform":{}}],"band":{"trial":{"stages":{"first":8}}}})", "band.trial.stages.first", "is 8",
     "[16, 65536]"},
    {R"({"families":[{"uniform":{}}],"band":{"trial":{"stages":{"margin":11}}}})", "band.trial.stages.margin", "is 11",
     "[0, 10]"},
    {R"({"families":[{"lstm":{"layers":{"fixed":16},"hidden":{"fixed":1024}}}],"pool":{}})", "families[0].lstm",
     "bytes", "at most"},
    {R"({"families":[{"lstm":{"layers":{"fixed":16},"hidden":{"fixed":512}}}],"pool":{}})", "families[0].lstm",
     "seconds", "at most 20"},
    // The cost of the most expensive program that may be drawn counts, not the average.
    {R"({"families":[{"mlp_window":{"layers":{"fixed":8},"hidden":{"choice":{"values":[4,4,4,4,4,4,4,1024]}}}}],
     "length":65536,"chain":{"rows":{"fixed":1024}}})",
     "families[0].mlp_window", "1024 rows x 65536", "at most 20"},
    {R"({"families":[{"tape_machine":{"programs":[",[+]+[]"],"steps_per_token":{"fixed":4096}}}],"length":65536,
     "chain":{"rows":{"fixed":1024}},"segment_sequences":1})",
     "families[0].tape_machine", "1024 rows x 65536", "at most 20"},
    {R"({"families":[{"brainphoque":{"max_steps":{"fixed":1048576}}}],"chain":{"rows":{"fixed":1024}}})",
     "families[0].brainphoque", "1024 rows x 512", "at most 20"},
    {R"({"families":[{"eca":{"states":{"fixed":40},"radius":{"fixed":3},"width":{"fixed":65536},"warm_up":
     {"fixed":4096}}}],"length":65536,"chain":{"rows":{"fixed":1024}}})",
     "families[0].eca", "1024 rows x 65536", "at most 20"},
    {R"({"families":[{"pitman_yor":{}}],"length":65536,"chain":{"rows":{"fixed":1024}}})", "families[0].pitman_yor",
     "1024 rows x 65536", "at most 20"},
    // Programs must be sampled, however short their rows are.
    {R"({"families":[{"pitman_yor":{"depth":{"fixed":16},"history":{"fixed":16384}}}],"length":16,"chain":{"rows":
     {"fixed":1}},"segment_sequences":65536})",
     "segment_sequences", "65536 rounds of 1 rows", "at most 200"},
    {R"({"families":[{"reservoir":{"width":{"fixed":900}}}],"length":16,"vocab_size":65536,"alphabet_size":65536,
     "chain":{"rows":{"uniform":{"low":1,"high":64}}},"segment_sequences":65536})",
     "segment_sequences", "65536 rounds of 1 rows", "at most 200"},
    {R"({"families":[{"automaton":{"states":{"fixed":1024}}}],"length":16,"chain":{"rows":{"fixed":1}},
     "segment_sequences":65536})",
     "segment_sequences", "with families[0].automaton", "at most 200"},
    // A segment takes whole rounds.
    {R"({"families":[{"tape_machine":{"steps_per_token":{"fixed":2000}}}],"length":2048,"pool":{"emit_rows":1,
     "endless":false},"segment_sequences":1000})",
     "segment_sequences", "1000 rounds of 104 rows", "at most 200"},
    // However small a network is, its tokens, layers and heads take time.
    {R"({"families":[{"mlp_window":{"layers":{"fixed":8},"hidden":{"fixed":1},"symbols":{"fixed":2},"order":
     {"fixed":64},"input_window":{"fixed":64}}}],"length":65536,"vocab_size":2,"pool":{"pool_rows":970,"program_rows":970,
     "emit_rows":1,"endless":false}})",
     "families[0].mlp_window", "970 rows x 65536", "at most 20"},
    {R"({"families":[{"reservoir":{"width":{"fixed":256},"connections":{"fixed":1}}}],"length":65536,"chain":{"rows":{"fixed":1024}}})",
     "families[0].reservoir", "1024 rows x 65536", "at most 20"},
    {R"({"families":[{"transformer":{"mode":"SEQUENTIAL","width":{"fixed":16},"heads":{"fixed":16}}}],"length":16384,
     "chain":{"rows":{"fixed":256}}})",
     "families[0].transformer", "256 rows x 16384", "at most 20"},
    // A band that lets nothing through.
    {R"({"families":[{"lstm":{}}],"length":4096,"lanes":1,"band":{"low":9,"high":10},"starvation_rounds":100000,
     "chain":{"rows":{"fixed":64}}})",
     "starvation_rounds", "is 100000", "at most 200, with these rounds: starvation_rounds at most"},
    {R"({"families":[{"uniform":{}}],"length":4096,"pack":16,"alphabet_size":2,"vocab_size":65536,"distinct":true,
     "lanes":1,"segment_sequences":8192})",
     "distinct", "rows", "at most 536870912"},
    {R"({"families":[{"uniform":{}}],"length":32768,"segment_sequences":1,"lanes":1,"pool":{"pool_rows":4096,
     "program_rows":4096,"constant_rows":0,"noise_rows":0,"emit_rows":4096,"endless":false}})",
     "pool", "rows that it works on", "at most 536870912"},
    {R"({"families":[{"uniform":{}}],"length":16,"segment_sequences":1,"lanes":13,"pool":{"pool_rows":65536,
     "program_rows":1,"constant_rows":0,"noise_rows":0,"emit_rows":65536}})",
     "pool.endless", "pending rows", "at most"},
    {R"({"families":[{"uniform":{}}],"length":16,"segment_sequences":65536,"lanes":400})", "lanes", "provenance",
     "at most"},
    {R"({"families":[{"uniform":{}}],"vocab_size":-9223372036854775808,"marks":{"begin":true}})", "vocab_size",
     "is -9223372036854775808", "[2, 4294967296]"},
    {R"({"families":[{"lstm":{"layers":{"fixed":16},"hidden":{"fixed":512}}},{"lstm":{"layers":{"fixed":16},"hidden":
     {"fixed":512}}}]})",
     "families[1].lstm: with the families before it", "bytes", "at most"},
    {R"({"families":[{"uniform":{}}],"pool":{"pool_rows":65536}})", "pool.endless", "with 1 lanes", "at most"},
    {R"({"families":[{"uniform":{}}],"pool":{},"lanes":32})", "pool.endless", "with 32 lanes", "fewer lanes"},
    {R"({"families":[{"lstm":{"layers":{"fixed":4},"hidden":{"fixed":128}}}],"pool":{"emit_rows":1,"endless":false},
     "segment_sequences":1000})",
     "segment_sequences", "is 1000", "seconds"},
};

TEST(RecipeTest, RefusalsNamePathValueAndWhatIsAllowed) {
  for (const BadRecipe& bad : kBadRecipes) {
    const std::string message = Refusal(bad.json);
    EXPECT_NE(message.find(bad.path), std::string::npos) << bad.json << "\n -> " << message;
    EXPECT_NE(message.find(bad.value), std::string::npos) << bad.json << "\n -> " << message;
    EXPECT_NE(message.find(bad.allowed), std::string::npos) << bad.json << "\n -> " << message;
  }
}

std::string Canonical(const std::string& json) {
  const auto recipe = ParseRecipeJson(json);
  EXPECT_TRUE(recipe.ok()) << json << recipe.status();
  return recipe.ok() ? CanonicalText(*recipe) : "";
}

TEST(RecipeJsonTest, ABareNumberIsAFixedKnob) {
  // Integer and real knobs, inside and outside families, negative and in every notation of a number.
  EXPECT_EQ(Canonical(R"({"families":[{"lstm":{"hidden":6,"temperature":0.5}}],"chain":{"rows":6}})"),
            Canonical(R"({"families":[{"lstm":{"hidden":{"fixed":6},"temperature":{"fixed":0.5}}}],
                          "chain":{"rows":{"fixed":6}}})"));
  EXPECT_EQ(Canonical(R"({"chain":{"rows":6.0}})"), Canonical(R"({"chain":{"rows":{"fixed":"6"}}})"));
  EXPECT_EQ(Canonical(R"({"chain":{"rows":-3}})"), Canonical(R"({"chain":{"rows":{"fixed":-3}}})"));
  EXPECT_EQ(Canonical(R"({"families":[{"lstm":{"temperature":1}}]})"),
            Canonical(R"({"families":[{"lstm":{"temperature":{"fixed":1e0}}}]})"));
  EXPECT_NE(Canonical(R"({"chain":{"rows":6}})"), Canonical(R"({"chain":{"rows":{}}})"));
  EXPECT_EQ(Canonical(R"({"chain":{"rows":null}})"), Canonical(R"({"chain":{}})"));
}

TEST(RecipeJsonTest, EnumsNeedNoPrefixAndHaveAnyCase) {
  const std::string full = Canonical(R"({"relabel":"RELABEL_SEQUENCE","mix":"ROUND"})");
  for (const char* relabel : {"sequence", "SEQUENCE", "Sequence", "relabel_sequence", "Relabel_Sequence"}) {
    for (const char* mix : {"round", "ROUND", "mix_round"}) {
      const bool known = std::string(mix) != "mix_round";  // there is no MIX_ROUND
      const auto recipe = ParseRecipeJson(std::string(R"({"relabel":")") + relabel + R"(","mix":")" + mix + "\"}");
      EXPECT_EQ(recipe.ok(), known) << recipe.status();
      if (known) {
        EXPECT_EQ(CanonicalText(*recipe), full) << relabel;
      }
    }
  }
  EXPECT_EQ(Canonical(R"({"families":[{"tasks":{"kinds":["sort","Sort","SORT"]}}]})"),
            Canonical(R"({"families":[{"tasks":{"kinds":["SORT","SORT","SORT"]}}]})"));
}

TEST(RecipeJsonTest, PrintsNumbersKnobsAndEnumsAsPeopleWriteThem) {
  const v1::Recipe recipe = *ParseRecipeJson(
      R"({"families":[{"lstm":{"hidden":{"choice":{"values":["8",16]}},"temperature":{"fixed":0.1}},"weight":2}],
          "relabel":"RELABEL_SEQUENCE","length":"512","chain":{"rows":{"fixed":"6"},"max_depth":{"uniform":{"low":1,
          "high":2}}},"description":"a \"text\" with \u00e9","vocab_size":9007199254740992,"lanes":9007199254740993})");
  EXPECT_EQ(RecipeToJson(recipe), R"({
  "description": "a \"text\" with é",
  "families": [
    {
      "weight": 2,
      "lstm": {
        "hidden": {
          "choice": {
            "values": [
              8,
              16
            ]
          }
        },
        "temperature": 0.1
      }
    }
  ],
  "chain": {
    "rows": 6,
    "max_depth": {
      "uniform": {
        "low": 1,
        "high": 2
      }
    }
  },
  "relabel": "sequence",
  "length": 512,
  "vocab_size": 9007199254740992,
  "lanes": "9007199254740993"
}
)");
  EXPECT_EQ(CanonicalText(*ParseRecipeJson(RecipeToJson(recipe))), CanonicalText(recipe));
}

TEST(RecipeJsonTest, EveryDoubleSurvives) {
  for (const double value : {0.1, 1.0 / 3, 1e-300, 5e-324, 1.7976931348623157e308, -0.0, 123456789.125, 1e16, 1e22}) {
    v1::Recipe recipe;
    recipe.add_families()->set_weight(value);
    recipe.mutable_families(0)->mutable_lstm()->mutable_temperature()->set_fixed(value);
    const auto back = ParseRecipeJson(RecipeToJson(recipe));
    ASSERT_TRUE(back.ok()) << back.status();
    EXPECT_EQ(CanonicalText(*back), CanonicalText(recipe)) << value;
  }
}

TEST(RecipeJsonTest, DeepAndLongTextsAreRefusedAtOnce) {
  for (const std::string& piece : {std::string("["), std::string("{\"families\":["), std::string("{\"chain\":")}) {
    std::string text;
    while (text.size() + piece.size() < kMaxRecipeJsonBytes) text += piece;
    const std::string refusal = Refusal(text);
    EXPECT_FALSE(refusal.empty());
    EXPECT_LT(refusal.size(), 2000U);
  }
  std::string many = "{\"families\":[{}";
  for (int i = 0; i < 300'000; ++i) many += ",{}";
  EXPECT_NE(Refusal(many + "]}").find("has more than 32768 values"), std::string::npos);
}

TEST(RecipeTest, AMarkovProgramHasNoMoreSymbolsThanTheAlphabet) {
  EXPECT_EQ(
      Refusal(R"({"families":[{"markov":{"symbols":{"fixed":1024},"contexts":{"fixed":65536}}}],"vocab_size":16})"),
      "");
}

TEST(RecipeTest, WhateverHasAWeightIsDrawn) {
  const auto recipe = ParseRecipeJson(
      R"({"families":[{"uniform":{},"weight":1e6},{"repeat":{},"weight":0.4},{"dyck":{},"weight":0}]})");
  const auto plan = StreamPlan::Make(*recipe, 0);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_GT((*plan)->mix().share(1), 0);
  EXPECT_LT((*plan)->mix().share(1), 2e-6);
  EXPECT_EQ((*plan)->mix().share(2), 0);
}

TEST(RecipeTest, BrokenJsonIsRefused) {
  EXPECT_NE(Refusal("{\"families\": [").find("JSON"), std::string::npos);
  EXPECT_NE(Refusal("[]").find("JSON"), std::string::npos);
  EXPECT_NE(Refusal(std::string(2 << 20, ' ')).find("may have at most"), std::string::npos);
}

TEST(RecipeTest, AByteOrderMarkIsSkipped) {
  EXPECT_EQ(Refusal("\xEF\xBB\xBF{\"families\": [{\"uniform\": {}}]}"), "");
  EXPECT_NE(Refusal("\xEF\xBB\xBF{\"families\": [}").find("line 1, column 15: "), std::string::npos);
}

TEST(RecipeTest, UnknownFieldOnTheWireIsRefused) {
  v1::Recipe recipe = *LoadPreset("uniform");
  recipe.mutable_families(0)->GetReflection()->MutableUnknownFields(recipe.mutable_families(0))->AddVarint(777, 1);
  const auto resolved = ResolveRecipe(recipe);
  EXPECT_NE(std::string(resolved.status().message()).find("families[0]: has unknown field number 777"),
            std::string::npos)
      << resolved.status();
}

TEST(RecipeTest, UnknownEnumValueIsRefused) {
  v1::Recipe recipe = *LoadPreset("uniform");
  recipe.set_mix(static_cast<v1::Recipe::Mix>(9));
  EXPECT_NE(std::string(ResolveRecipe(recipe).status().message()).find("mix: is 9, must be one of round"),
            std::string::npos);
}

TEST(RecipeTest, EveryPresetIsValidAndDescribed) {
  EXPECT_GE(AllPresets().size(), 8U);
  for (const PresetEntry& preset : AllPresets()) {
    auto recipe = LoadPreset(preset.name);
    ASSERT_TRUE(recipe.ok()) << preset.name << recipe.status();
    EXPECT_FALSE(recipe->description().empty()) << preset.name;
    const auto plan = StreamPlan::Make(*recipe, 0);
    EXPECT_TRUE(plan.ok()) << preset.name << plan.status();
  }
}

TEST(RecipeTest, EveryFamilyHasAPresetOfItsName) {
  for (const FamilyEntry& entry : AllFamilies()) {
    if (entry.name == "constant") continue;  // a constant stream teaches nothing
    EXPECT_TRUE(LoadPreset(entry.name).ok()) << entry.name;
  }
}

TEST(RecipeTest, UnknownPresetListsTheNames) {
  const auto recipe = LoadPreset("upp");
  EXPECT_EQ(recipe.status().code(), absl::StatusCode::kNotFound);
  EXPECT_NE(std::string(recipe.status().message()).find("up-paper"), std::string::npos);
}

TEST(RecipeTest, ResolvingIsIdempotentAndExplicitDefaultsChangeNothing) {
  for (const PresetEntry& preset : AllPresets()) {
    const v1::Recipe recipe = *LoadPreset(preset.name);
    const v1::Recipe once = ResolveRecipe(recipe)->proto();
    const v1::Recipe twice = ResolveRecipe(once)->proto();
    EXPECT_EQ(CanonicalText(once), CanonicalText(twice)) << preset.name;
    // Through JSON and back.
    const v1::Recipe back = ResolveRecipe(*ParseRecipeJson(RecipeToJson(once)))->proto();
    EXPECT_EQ(CanonicalText(once), CanonicalText(back)) << preset.name;
    EXPECT_EQ(ComputeFingerprint(once, 3), ComputeFingerprint(back, 3));
  }
}

TEST(RecipeTest, FingerprintSeesEveryFieldButTheDescription) {
  const v1::Recipe base = ResolveRecipe(*LoadPreset("mix"))->proto();
  const Fingerprint fingerprint = ComputeFingerprint(base, 0);
  EXPECT_NE(ComputeFingerprint(base, 1), fingerprint);
  v1::Recipe other = base;
  other.set_description("something else");
  EXPECT_EQ(ComputeFingerprint(other, 0), fingerprint);
  other.set_length(256);
  EXPECT_NE(ComputeFingerprint(other, 0), fingerprint);
  other = base;
  other.mutable_families(0)->mutable_lstm()->mutable_weight_factor()->mutable_log_uniform()->set_high(30.000000001);
  EXPECT_NE(ComputeFingerprint(other, 0), fingerprint);
  other = base;
  other.set_distinct(false);
  EXPECT_NE(ComputeFingerprint(other, 0), fingerprint);
}

}  // namespace
}  // namespace iterand
