// Engine::Open finds a stream that is open already, and does not build it again.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <thread>
#include <vector>

#include "common/thread_clock.h"
#include "iterate/presets.h"
#include "server/engine/engine.h"

namespace iterand {
namespace {

TEST(EngineOpen, WhatIsOpenIsNotBuiltAgain) {
  // Expensive to build, since every lane is given a family, and cheap to find.
  v1::Recipe recipe;
  for (int i = 0; i < 16; ++i) recipe.add_families()->mutable_uniform();
  recipe.set_mix(v1::Recipe::LANE);
  recipe.set_lanes(4096);
  recipe.set_length(16);
  recipe.set_segment_sequences(1);
  Engine engine({.threads = 1});
  double first = 1e9;
  double again = 1e9;
  for (std::uint64_t seed = 0; seed < 5; ++seed) {
    double start = ThreadSeconds();
    const auto opened = engine.Open(recipe, seed);
    first = std::min(first, ThreadSeconds() - start);
    ASSERT_TRUE(opened.ok()) << opened.status();
    start = ThreadSeconds();
    const auto found = engine.Open(recipe, seed);
    again = std::min(again, ThreadSeconds() - start);
    ASSERT_TRUE(found.ok()) << found.status();
    EXPECT_EQ(&(*found)->stream(), &(*opened)->stream());
  }
  EXPECT_LT(again, first / 2) << "seconds of opening again and of opening first";
}

TEST(EngineOpen, ThreadsThatOpenAtOnceShareOneStream) {
  Engine engine({.threads = 1});
  const v1::Recipe recipe = *LoadPreset("mix");
  std::vector<std::shared_ptr<SharedStream>> opened(8);
  std::vector<std::thread> threads;
  threads.reserve(opened.size());
  for (auto& stream : opened) threads.emplace_back([&] { stream = *engine.Open(recipe, 1); });
  for (std::thread& thread : threads) thread.join();
  for (const auto& stream : opened) EXPECT_EQ(&stream->stream(), &opened[0]->stream());
}

TEST(EngineOpen, ErrorsAreThoseOfTheRecipe) {
  Engine engine({.threads = 1});
  v1::Recipe recipe = *LoadPreset("uniform");
  recipe.set_length(1);
  EXPECT_EQ(engine.Open(recipe, 0).status().code(), absl::StatusCode::kInvalidArgument);  // found by resolving
  recipe = *LoadPreset("lstm");
  recipe.mutable_families(0)->mutable_lstm()->mutable_hidden()->set_fixed(1'000'000);
  EXPECT_EQ(engine.Open(recipe, 0).status().code(), absl::StatusCode::kInvalidArgument);  // found by building
}

}  // namespace
}  // namespace iterand
