// Packing, marks and masks: what a sequence is made of, whatever it is read from.
#include "iterate/layout.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <map>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "iterate/complexity.h"
#include "iterate/presets.h"
#include "iterate/recipe.h"
#include "iterate/recipe_json.h"
#include "iterate/stream.h"

namespace iterand {
namespace {

v1::Recipe RecipeOf(const std::string& json) {
  auto recipe = ParseRecipeJson(json);
  EXPECT_TRUE(recipe.ok()) << recipe.status();
  return *recipe;
}

template <typename Token>
std::vector<Token> Tokens(const v1::Recipe& recipe, int rows, std::vector<std::uint8_t>* mask = nullptr) {
  auto stream = Stream::Open(recipe, 5);
  EXPECT_TRUE(stream.ok()) << stream.status();
  const auto count = static_cast<std::size_t>(rows * (*stream)->length());
  EXPECT_EQ((*stream)->sequence_bytes(), static_cast<std::size_t>((*stream)->length()) * sizeof(Token));
  std::vector<Token> tokens(count);
  ReadOptions options{.rows = rows};
  if (mask != nullptr) {
    mask->resize(count);
    options.loss_mask = *mask;
  }
  const absl::Status status = (*stream)->Read(options, std::as_writable_bytes(std::span(tokens)));
  EXPECT_TRUE(status.ok()) << status;
  return tokens;
}

TEST(LayoutTest, NeutralSettingsLeaveTheFingerprint) {
  const v1::Recipe plain = RecipeOf(R"({"families": [{"uniform": {}}]})");
  const v1::Recipe neutral = RecipeOf(
      R"({"families": [{"uniform": {}}], "pack": 1, "loss_mask": false,
          "marks": {"begin": false, "end": false, "separator_every": 0}})");
  const v1::Recipe marked = RecipeOf(R"({"families": [{"uniform": {}}], "marks": {"end": true}})");
  EXPECT_EQ(ResolveRecipe(plain)->fingerprint(0), ResolveRecipe(neutral)->fingerprint(0));
  EXPECT_NE(ResolveRecipe(plain)->fingerprint(0), ResolveRecipe(marked)->fingerprint(0));
}

TEST(LayoutTest, PackedTokensAreDigits) {
  // Rows of 4 x 32 symbols of an alphabet of 10, and the same rows packed by four.
  const std::string base = R"({"families": [{"markov": {}}], "distinct": true, "alphabet_size": 10, )";
  const auto symbols = Tokens<std::uint8_t>(RecipeOf(base + R"("length": 128, "vocab_size": 10})"), 20);
  const auto packed = Tokens<std::uint16_t>(RecipeOf(base + R"("length": 32, "vocab_size": 10000, "pack": 4})"), 20);
  ASSERT_EQ(symbols.size(), 4 * packed.size());
  for (std::size_t i = 0; i < packed.size(); ++i) {
    const std::uint8_t* digits = symbols.data() + 4 * i;
    EXPECT_EQ(packed[i], digits[0] * 1000 + digits[1] * 100 + digits[2] * 10 + digits[3]);
  }
}

TEST(LayoutTest, RelabellingMapsPackedTokens) {
  const std::string base =
      R"({"families": [{"markov": {}}], "alphabet_size": 10, "pack": 2, "vocab_size": 1000, "length": 64)";
  const auto plain = Tokens<std::uint16_t>(RecipeOf(base + "}"), 10);
  const auto mapped = Tokens<std::uint16_t>(RecipeOf(base + R"(, "relabel": "RELABEL_SEQUENCE"})"), 10);
  std::set<std::pair<std::uint16_t, std::uint16_t>> across;
  for (int row = 0; row < 10; ++row) {
    std::map<std::uint16_t, std::uint16_t> there;
    std::map<std::uint16_t, std::uint16_t> back;
    for (int t = row * 64; t < row * 64 + 64; ++t) {
      const auto i = static_cast<std::size_t>(t);
      EXPECT_EQ(there.emplace(plain[i], mapped[i]).first->second, mapped[i]);
      EXPECT_EQ(back.emplace(mapped[i], plain[i]).first->second, plain[i]);
    }
    across.insert(there.begin(), there.end());
  }
  // One injection for all rows could give no plain token two labels.
  std::set<std::uint16_t> labelled;
  bool differs = false;
  for (const auto& [from, to] : across) differs = differs || !labelled.insert(from).second;
  EXPECT_TRUE(differs);
}

TEST(LayoutTest, MarksStandWhereTheyShould) {
  // 22 tokens between begin and end: three of content and a separator, five times, then two of content.
  const v1::Recipe recipe = RecipeOf(
      R"({"families": [{"uniform": {}}], "length": 24, "vocab_size": 103,
          "marks": {"begin": true, "end": true, "separator_every": 3}, "relabel": "RELABEL_SEQUENCE"})");
  const ResolvedRecipe resolved = *ResolveRecipe(recipe);
  EXPECT_EQ(resolved.proto().alphabet_size(), 100);
  EXPECT_EQ(resolved.layout().symbols(), 24 - 2 - 5);
  const auto tokens = Tokens<std::uint8_t>(recipe, 50);
  for (int row = 0; row < 50; ++row) {
    const std::uint8_t* at = tokens.data() + row * 24;
    for (int t = 0; t < 24; ++t) {
      const int expected = t == 0 ? 100 : t == 23 ? 101 : t % 4 == 0 ? 102 : -1;
      if (expected >= 0) {
        EXPECT_EQ(at[t], expected) << t;
      } else {
        EXPECT_LT(at[t], 100) << t;
      }
    }
  }
}

TEST(LayoutTest, UnusedMarksTakeNoVocabulary) {
  const v1::Recipe recipe =
      RecipeOf(R"({"families": [{"uniform": {}}], "length": 17, "vocab_size": 4, "marks": {"end": true}})");
  const auto tokens = Tokens<std::uint8_t>(recipe, 100);
  for (int row = 0; row < 100; ++row) EXPECT_EQ(tokens[static_cast<std::size_t>(row * 17 + 16)], 3);
  EXPECT_EQ(std::count(tokens.begin(), tokens.end(), 3), 100);
}

// Tasks without relabelling: k is the separator, k + 1 the end of the output.
TEST(MaskTest, TasksMarkTheirOutputs) {
  const v1::Recipe recipe =
      RecipeOf(R"({"families": [{"tasks": {"symbols": {"fixed": 9}}}], "loss_mask": true, "length": 300})");
  std::vector<std::uint8_t> mask;
  const auto tokens = Tokens<std::uint8_t>(recipe, 64, &mask);
  std::size_t marked = 0;
  for (std::size_t row = 0; row < 64; ++row) {
    bool output = false;
    for (std::size_t t = row * 300; t < row * 300 + 300; ++t) {
      EXPECT_EQ(mask[t], output ? 1 : 0) << t;
      if (tokens[t] == 9) output = true;
      if (tokens[t] == 10) output = false;
      marked += mask[t];
    }
  }
  EXPECT_GT(marked, 64U * 300 / 5);
  EXPECT_LT(marked, 64U * 300 * 4 / 5);
}

TEST(MaskTest, FollowsPackingAndMarks) {
  const std::string base = R"({"families": [{"tasks": {"symbols": {"fixed": 5}}}], "loss_mask": true,
                               "alphabet_size": 8, )";
  std::vector<std::uint8_t> plain;
  std::vector<std::uint8_t> laid_out;
  (void)Tokens<std::uint8_t>(RecipeOf(base + R"("vocab_size": 8, "length": 48})"), 30, &plain);
  // begin, 6 packed tokens, separator, 6, separator, 6, separator, 6, end: 24 tokens of two symbols.
  (void)Tokens<std::uint8_t>(RecipeOf(base + R"("vocab_size": 67, "length": 29, "pack": 2,
                                                "marks": {"begin": true, "end": true, "separator_every": 6}})"),
                             30, &laid_out);
  for (std::size_t row = 0; row < 30; ++row) {
    const std::uint8_t* symbols = plain.data() + row * 48;
    const std::uint8_t* tokens = laid_out.data() + row * 29;
    EXPECT_EQ(tokens[0], 0);
    for (std::size_t t = 1, i = 0; t < 29; ++t) {
      if (t == 28 || t % 7 == 0) {
        EXPECT_EQ(tokens[t], tokens[t - 1]) << t;  // a mark goes with the token before it
      } else {
        EXPECT_EQ(tokens[t], symbols[2 * i] & symbols[2 * i + 1]) << t;
        ++i;
      }
    }
  }
}

// What is marked is a prefix of the row, and the rest repeats it; without the option all is marked.
TEST(MaskTest, PaddingIsMaskedWhereTheRecipeSaysSo) {
  for (const std::string family : {"brainphoque", "tape_machine"}) {
    for (const bool mask_padding : {true, false}) {
      const v1::Recipe recipe = RecipeOf(absl::StrCat(R"({"families": [{")", family, R"(": {"mask_padding": )",
                                                      mask_padding ? "true" : "false", R"(}}], "loss_mask": true})"));
      std::vector<std::uint8_t> mask;
      const auto tokens = Tokens<std::uint8_t>(recipe, 200, &mask);
      int partly = 0;
      int silent = 0;
      for (std::size_t row = 0; row < 200 * 512; row += 512) {
        const auto begin = mask.begin() + static_cast<std::ptrdiff_t>(row);
        const auto written = static_cast<std::size_t>(std::count(begin, begin + 512, 1));
        ASSERT_TRUE(std::is_sorted(begin, begin + 512, std::greater<>()));
        for (std::size_t t = written; t < 512; ++t) {
          ASSERT_EQ(tokens[row + t], written == 0 ? 0 : tokens[row + t % written]) << family << " " << t;
        }
        partly += written > 0 && written < 512 ? 1 : 0;
        silent += written == 0 ? 1 : 0;
      }
      EXPECT_EQ(partly > 20, mask_padding) << family << " " << partly;
      // A brainphoque program that writes nothing is thrown away, three times.
      EXPECT_EQ(silent > 5, mask_padding && family == "tape_machine") << family << " " << silent;
    }
  }
}

// What is to be predicted may begin after the end of a row. Then nothing is.
TEST(MaskTest, MayBeEmpty) {
  for (const char* family :
       {R"({"repeat": {"period": {"fixed": 65536}}})", R"({"tasks": {"items": {"fixed": 4096}}})"}) {
    const v1::Recipe recipe =
        RecipeOf(absl::StrCat(R"({"families": [)", family, R"(], "length": 64, "loss_mask": true})"));
    std::vector<std::uint8_t> mask;
    Tokens<std::uint8_t>(recipe, 48, &mask);
    int empty = 0;
    for (auto row = mask.begin(); row != mask.end(); row += 64) empty += std::count(row, row + 64, 1) == 0 ? 1 : 0;
    EXPECT_GT(empty, 40) << family;
  }
}

TEST(MaskTest, OtherFamiliesMarkEverything) {
  v1::Recipe recipe = *LoadPreset("statistics");
  recipe.set_loss_mask(true);
  std::vector<std::uint8_t> mask;
  const auto tokens = Tokens<std::uint8_t>(recipe, 40, &mask);
  EXPECT_TRUE(std::all_of(mask.begin(), mask.end(), [](std::uint8_t m) { return m == 1; }));
  // Asking for masks changes no token.
  recipe.set_loss_mask(false);
  EXPECT_EQ(tokens, Tokens<std::uint8_t>(recipe, 40));
}

TEST(LayoutTest, ExplainSeesThroughPackingAndMarks) {
  v1::Recipe recipe = *LoadPreset("transducer");
  recipe.set_vocab_size(5000);
  recipe.set_alphabet_size(64);
  recipe.set_pack(2);
  recipe.mutable_marks()->set_begin(true);
  recipe.mutable_marks()->set_separator_every(31);
  auto stream = *Stream::Open(recipe, 2);
  for (const std::uint64_t index : {0U, 5U, 4711U}) {
    const auto explanation = stream->Explain(index);
    ASSERT_TRUE(explanation.ok()) << explanation.status();
    EXPECT_TRUE(explanation->reproduced) << index;
  }
}

// Symbols that programs write for the first segments of lane 0.
std::uint64_t GeneratedSymbols(const Stream& stream, std::uint64_t segments) {
  auto workspace = stream.NewWorkspace();
  Segment segment;
  std::uint64_t symbols = 0;
  for (std::uint64_t s = 0; s < segments; ++s) {
    EXPECT_TRUE(stream.GenerateSegment(0, s, *workspace, nullptr, segment).ok());
    symbols += segment.generated_symbols;
  }
  return symbols;
}

// A trial only gives programs up: kept rows lie within the band, and fewer symbols are generated for them.
TEST(TrialTest, GivesHopelessProgramsUp) {
  v1::Recipe recipe = *LoadPreset("lstm");
  recipe.set_relabel(v1::Recipe::RELABEL_NONE);  // tokens are the symbols that the band measures
  ComplexityMeter meter(256, 512);
  recipe.mutable_band()->set_low(0.15);
  recipe.mutable_band()->set_high(0.35);
  std::uint64_t generated[2] = {};
  for (const bool trial : {false, true}) {
    if (trial) recipe.mutable_band()->mutable_trial();
    auto stream = *Stream::Open(recipe, 0);
    generated[trial ? 1 : 0] = GeneratedSymbols(*stream, 6);
    std::vector<std::uint8_t> tokens(std::size_t{100} * 512);
    const auto lanes = static_cast<std::uint64_t>(stream->lanes());
    ASSERT_TRUE(
        stream->Read({.stride = lanes, .rows = 100}, std::as_writable_bytes(std::span(tokens))).ok());  // all of lane 0
    for (auto row = tokens.begin(); row != tokens.end(); row += 512) {
      const std::vector<Symbol> symbols(row, row + 512);
      const double complexity = static_cast<double>(meter.Measure(symbols.data())) / static_cast<double>(meter.plain());
      EXPECT_TRUE(complexity >= 0.15 && complexity <= 0.35) << complexity;
    }
    const auto explanation = stream->Explain(3);
    ASSERT_TRUE(explanation.ok()) << explanation.status();
    EXPECT_TRUE(explanation->reproduced);
    EXPECT_EQ(explanation->steps.size(), explanation->provenance.depth);
  }
  EXPECT_LT(generated[1], generated[0] * 3 / 4);
}

// A row that soon becomes periodic has a beginning that is more complex than the whole. `extrapolate` predicts that.
TEST(TrialTest, ExtrapolatingFindsLowBandsSooner) {
  v1::Recipe recipe = *LoadPreset("nca");
  recipe.mutable_band()->set_low(0.05);
  recipe.mutable_band()->set_high(0.25);
  std::uint64_t generated[2] = {};
  for (const bool extrapolate : {false, true}) {
    recipe.mutable_band()->mutable_trial()->set_extrapolate(extrapolate);
    recipe.mutable_band()->mutable_trial()->set_margin(0.05);
    auto stream = *Stream::Open(recipe, 0);
    EXPECT_EQ(stream->recipe().band().trial().has_extrapolate(),
              extrapolate);  // not asked for: the same stream as ever
    generated[extrapolate ? 1 : 0] = GeneratedSymbols(*stream, 4);
  }
  EXPECT_LT(generated[1], generated[0]);
}

// Stages: a program that is given up costs only its beginning, and what is kept can still be made again alone.
TEST(TrialTest, StagesGiveProgramsUpWhileTheyRun) {
  for (const char* preset : {"lstm", "state_space", "reservoir", "up-statistics"}) {
    SCOPED_TRACE(preset);
    v1::Recipe recipe = *LoadPreset(preset);
    recipe.set_segment_sequences(16);
    recipe.mutable_band()->set_low(0.05);
    recipe.mutable_band()->set_high(0.25);
    std::uint64_t generated[2] = {};
    for (const bool stages : {false, true}) {
      if (stages) recipe.mutable_band()->mutable_trial()->mutable_stages();
      auto stream = *Stream::Open(recipe, 0);
      generated[stages ? 1 : 0] = GeneratedSymbols(*stream, 6);
      const auto explanation = stream->Explain(3);
      ASSERT_TRUE(explanation.ok()) << explanation.status();
      EXPECT_TRUE(explanation->reproduced);
    }
    EXPECT_LT(generated[1], generated[0] * 3 / 4);
  }
}

// What passes all stages is what the program makes anyway. That also holds where rows are not written side by side (a
// reservoir writes 16 of them), so that nothing is looked at during the run.
TEST(TrialTest, StagesChangeNothingOfWhatTheyKeep) {
  for (const int rows : {16, 17}) {
    v1::Recipe recipe = *LoadPreset("reservoir");
    recipe.set_length(128);
    recipe.set_segment_sequences(2 * rows);
    recipe.mutable_chain()->mutable_rows()->set_fixed(rows);
    std::vector<std::uint8_t> tokens[2];
    for (const bool stages : {false, true}) {
      if (stages) recipe.mutable_band()->mutable_trial()->mutable_stages()->set_margin(10);
      auto stream = *Stream::Open(recipe, 0);
      tokens[stages ? 1 : 0].resize(static_cast<std::size_t>(2 * rows) * 128);
      const auto lanes = static_cast<std::uint64_t>(stream->lanes());
      ASSERT_TRUE(
          stream->Read({.stride = lanes, .rows = 2 * rows}, std::as_writable_bytes(std::span(tokens[stages ? 1 : 0])))
              .ok());
    }
    EXPECT_EQ(tokens[0], tokens[1]) << rows;
  }
}

// Trials run programs on less than whole rows: every family can, and what is kept can still be made again alone.
TEST(TrialTest, EveryPresetCanBeTried) {
  for (const PresetEntry& preset : AllPresets()) {
    SCOPED_TRACE(std::string(preset.name));
    v1::Recipe recipe = *LoadPreset(preset.name);
    if (recipe.has_pool() || !recipe.mixture().empty()) continue;  // the bands of a mixture are those of its parts
    recipe.set_segment_sequences(8);
    recipe.set_length(256);
    recipe.mutable_band()->set_high(2);
    recipe.mutable_band()->mutable_trial()->set_rows(3);
    recipe.mutable_band()->mutable_trial()->set_symbols(48);
    auto stream = *Stream::Open(recipe, 1);
    const auto explanation = stream->Explain(5);
    ASSERT_TRUE(explanation.ok()) << explanation.status();
    EXPECT_TRUE(explanation->reproduced);
  }
}

TEST(TrialTest, AChainThatNothingComesOfStarves) {
  v1::Recipe recipe = RecipeOf(R"({"families": [{"uniform": {}}], "band": {"high": 0.2, "trial": {}},
                                   "starvation_rounds": 50})");
  auto stream = *Stream::Open(recipe, 0);
  std::vector<std::uint8_t> row(512);
  EXPECT_EQ(stream->Read({.rows = 1}, std::as_writable_bytes(std::span(row))).code(),
            absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace iterand
