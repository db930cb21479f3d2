#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <span>
#include <vector>

#include "iterate/limits.h"
#include "iterate/presets.h"
#include "iterate/stream.h"
#include "randnet/base/rng.h"

namespace iterand {
namespace {

// Every step but the first reads the step before, depths count the steps, and the row can be made alone.
void ExpectExplained(const Stream& stream, std::uint64_t index) {
  const auto explanation = stream.Explain(index);
  ASSERT_TRUE(explanation.ok()) << explanation.status();
  EXPECT_TRUE(explanation->reproduced) << index;
  const auto& steps = explanation->steps;
  ASSERT_EQ(steps.size(), explanation->provenance.depth) << index;
  if (steps.empty()) return;
  EXPECT_EQ(steps.back().family, stream.family_name(explanation->provenance));
  EXPECT_NE(steps.front().input, "the step before");
  for (std::size_t i = 1; i < steps.size(); ++i) {
    EXPECT_EQ(steps[i].input, "the step before");
    EXPECT_GT(steps[i].round, steps[i - 1].round);
  }
}

TEST(ExplainTest, ChainsOfEveryFastPreset) {
  for (const PresetEntry& preset : AllPresets()) {
    v1::Recipe recipe = *LoadPreset(preset.name);
    if (recipe.has_pool()) continue;
    auto stream = *Stream::Open(recipe, 3);
    for (const std::uint64_t index : {0U, 77U, 123456U}) {
      SCOPED_TRACE(std::string(preset.name));
      ExpectExplained(*stream, index);
    }
  }
}

// Ten random indices of `mix`: chains of different families, begun by noise, constants or formal languages.
TEST(ExplainTest, Mix) {
  auto stream = *Stream::Open(*LoadPreset("mix"), 0);
  Rng rng(1, 2);
  for (int i = 0; i < 10; ++i) {
    const std::uint64_t index = std::uint64_t{rng.Next()} << 16 | (rng.Next() & 0xFFFF);
    SCOPED_TRACE(index);
    ExpectExplained(*stream, index);
  }
}

TEST(ExplainTest, Pools) {
  for (const bool endless : {true, false}) {
    for (const auto emission : {v1::Pool::SAMPLE, v1::Pool::EVICT}) {
      v1::Recipe recipe;
      recipe.add_families()->mutable_lstm()->mutable_hidden()->set_fixed(8);
      recipe.set_length(32);
      v1::Pool& pool = *recipe.mutable_pool();
      pool.set_pool_rows(30);
      pool.set_program_rows(10);
      pool.set_constant_rows(2);
      pool.set_noise_rows(2);
      pool.set_emission(emission);
      pool.set_endless(endless);
      auto stream = *Stream::Open(recipe, 1);
      for (std::uint64_t index = 100; index < 120; ++index) ExpectExplained(*stream, index);
    }
  }
}

// With iterate false a program reads fresh rows. The explanation says what they were, as for all others.
TEST(ExplainTest, FreshInputsAreNamed) {
  for (const int constant_rows : {0, 2, 4}) {
    v1::Recipe recipe;
    recipe.add_families()->mutable_transducer()->mutable_copy()->set_fixed(1);  // writes what it reads
    recipe.set_length(32);
    v1::Pool& pool = *recipe.mutable_pool();
    pool.set_pool_rows(20);
    pool.set_program_rows(4);
    pool.set_constant_rows(constant_rows);
    pool.set_noise_rows(4 - constant_rows);
    pool.set_emit_rows(4);
    pool.set_iterate(false);
    auto stream = *Stream::Open(recipe, 0);
    std::set<std::string> inputs;
    for (std::uint64_t index = 20; index < 60; ++index) {
      ExpectExplained(*stream, index);
      const auto explanation = stream->Explain(index);
      if (explanation->steps.empty()) continue;  // a fresh row of the pool
      std::vector<std::uint8_t> row(32);
      ASSERT_TRUE(stream->Read({.first_index = index, .rows = 1}, std::as_writable_bytes(std::span(row))).ok());
      const std::string& input = explanation->steps[0].input;
      EXPECT_EQ(input == "constant", std::set(row.begin(), row.end()).size() == 1) << index;
      inputs.insert(input);
    }
    EXPECT_EQ(inputs, constant_rows == 0   ? std::set<std::string>{"noise"}
                      : constant_rows == 4 ? std::set<std::string>{"constant"}
                                           : (std::set<std::string>{"constant", "noise"}));
  }
}

// Rounds are limited only where they have to be replayed from a lane's start.
TEST(ExplainTest, LateRoundsOfALongSegment) {
  v1::Recipe recipe = *LoadPreset("uniform");
  recipe.mutable_chain()->mutable_rows()->set_fixed(1);
  recipe.set_length(16);
  recipe.set_lanes(1);
  recipe.set_segment_sequences(60'000);
  auto stream = *Stream::Open(recipe, 1);
  std::uint64_t latest = 0;
  for (std::uint64_t index = 0; index < 20 && latest <= kMaxReplayRounds; ++index) {
    const auto explanation = stream->Explain(index);
    ASSERT_TRUE(explanation.ok()) << explanation.status();
    EXPECT_TRUE(explanation->reproduced);
    latest = std::max(latest, explanation->provenance.round);
  }
  EXPECT_GT(latest, kMaxReplayRounds);
}

TEST(ExplainTest, SourcesAreOneStep) {
  v1::Recipe recipe = *LoadPreset("uniform");
  auto one = *Stream::Open(recipe, 1);
  const auto explanation = one->Explain(5);
  ASSERT_TRUE(explanation.ok());
  EXPECT_TRUE(explanation->reproduced);
  EXPECT_EQ(explanation->steps.size(), 1U);
  EXPECT_EQ(explanation->steps[0].family, "uniform");
}

// The row that a step read is the one that the step before made. The stream has that one too, since every row of a
// chain is emitted.
TEST(ExplainTest, RowsOfEveryDepth) {
  v1::Recipe recipe;
  recipe.add_families()->mutable_eca();
  recipe.set_length(64);
  recipe.set_lanes(1);
  recipe.mutable_chain()->mutable_rows()->set_fixed(4);
  recipe.mutable_chain()->mutable_max_depth()->set_fixed(4);
  recipe.mutable_chain()->set_noise_share(0);
  recipe.mutable_chain()->set_constant_share(0);
  const auto stream = *Stream::Open(recipe, 0);
  Segment segment;
  ASSERT_TRUE(stream->GenerateSegment(0, 0, *stream->NewWorkspace(), nullptr, segment).ok());
  const auto row_of = [&](std::uint64_t round, std::uint32_t row) {
    for (std::size_t place = 0; place < segment.provenance.size(); ++place) {
      const RowProvenance& from = segment.provenance[place];
      if (from.round != round || from.row != row) continue;
      const auto* const tokens = reinterpret_cast<const std::uint8_t*>(segment.row(place));
      return std::vector<std::uint16_t>(tokens, tokens + 64);
    }
    return std::vector<std::uint16_t>();
  };
  int compared = 0;
  for (std::uint64_t index = 0; index < segment.provenance.size(); ++index) {
    const auto explanation = stream->Explain(index, {.rows = true});
    ASSERT_TRUE(explanation.ok()) << explanation.status();
    EXPECT_EQ(explanation->made, row_of(explanation->provenance.round, explanation->provenance.row));
    for (std::size_t i = 0; i < explanation->steps.size(); ++i) {
      const ExplainedStep& step = explanation->steps[i];
      EXPECT_EQ(step.read.size(), 64U);
      if (i == 0) continue;
      EXPECT_EQ(step.read, row_of(explanation->steps[i - 1].round, step.row));
      ++compared;
    }
  }
  EXPECT_GT(compared, 20);
}

TEST(ExplainTest, CanBeStopped) {
  const auto stream = *Stream::Open(*LoadPreset("up-transformer"), 0);
  RunControl control;
  control.Stop();
  EXPECT_EQ(stream->Explain(0, {.control = &control}).status().code(), absl::StatusCode::kCancelled);
}

}  // namespace
}  // namespace iterand
