// The options that name a stream and some of its sequences. Every command that reads a stream has them.
#pragma once

#include <cstdint>

#include "CLI/CLI.hpp"
#include "iterand/types.h"

namespace iterand::cli {

// The options that name a stream.
struct StreamChoice {
  StreamSpec spec;
  bool loss_mask = false;  // request loss masks, whether or not the recipe has them

  // The recipe is the option --recipe or, if `positional`, also the positional argument RECIPE, without a default.
  void AddTo(CLI::App& command, bool positional);

  // What the options name.
  StreamSpec Spec() const;
};

// The options that name some of its sequences: indices g >= start with g mod world_size = rank, in order, `count` of
// them. The option --count is each command's own.
struct RangeChoice {
  std::uint64_t start = 0;
  std::uint64_t count = 0;
  std::uint32_t rank = 0;
  std::uint32_t world_size = 1;

  void AddTo(CLI::App& command);
};

}  // namespace iterand::cli
