// What tests of streams share.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "iterate/presets.h"
#include "iterate/stream.h"

namespace iterand {

inline std::shared_ptr<Stream> OpenPreset(const std::string& name, std::uint64_t seed = 0, std::int64_t length = 0) {
  auto recipe = LoadPreset(name);
  EXPECT_TRUE(recipe.ok()) << recipe.status();
  if (length > 0) recipe->set_length(length);
  auto stream = Stream::Open(*recipe, seed);
  EXPECT_TRUE(stream.ok()) << stream.status();
  return *stream;
}

inline std::vector<std::byte> ReadAll(Stream& stream, std::uint64_t first, std::uint64_t stride, int rows) {
  std::vector<std::byte> out(static_cast<std::size_t>(rows) * stream.sequence_bytes());
  const absl::Status status = stream.Read({.first_index = first, .stride = stride, .rows = rows}, out);
  EXPECT_TRUE(status.ok()) << status;
  return out;
}

// Stops some time after it was made.
class Later {
 public:
  explicit Later(std::chrono::milliseconds delay)
      : thread_([this, delay] {
          std::this_thread::sleep_for(delay);
          control_.Stop();
        }) {}
  const RunControl* control() const { return &control_; }

 private:
  RunControl control_;
  std::jthread thread_;
};

// A program that never ends and reads its row, on long rows: a round of many seconds.
inline v1::Recipe LongRounds(std::int64_t rows, std::int64_t length, std::int64_t steps_per_token) {
  v1::Recipe recipe;
  v1::TapeMachine& family = *recipe.add_families()->mutable_tape_machine();
  family.add_programs(",.[+]+[]");
  family.mutable_steps_per_token()->set_fixed(steps_per_token);
  recipe.set_length(length);
  recipe.mutable_chain()->mutable_rows()->set_fixed(rows);
  return recipe;
}

}  // namespace iterand
