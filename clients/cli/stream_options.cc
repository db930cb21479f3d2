#include "clients/cli/stream_options.h"

#include <limits>
#include <string>

#include "clients/cli/arguments.h"
#include "iterate/presets.h"

namespace iterand::cli {
namespace {

constexpr std::uint64_t kMaxUint32 = std::numeric_limits<std::uint32_t>::max();
constexpr std::uint64_t kMaxUint64 = std::numeric_limits<std::uint64_t>::max();

}  // namespace

void StreamChoice::AddTo(CLI::App& command, bool positional) {
  if (positional) {
    // Both forms, since the other commands take the option.
    spec.recipe.clear();
    CLI::Option* const argument =
        command.add_option("RECIPE", spec.recipe, "Preset, JSON file or JSON text")->type_name("");
    command.add_option("--recipe", spec.recipe, "The same")->type_name("RECIPE")->excludes(argument);
  } else {
    spec.recipe = std::string(kDefaultPreset);
    command.add_option("--recipe", spec.recipe, "Preset, JSON file or JSON text")
        ->type_name("RECIPE")
        ->capture_default_str();
  }
  command.add_option("--seed", spec.seed, "Seed of the stream, 0 to 2^64 - 1")
      ->type_name("S")
      ->check(WholeNumber(0, kMaxUint64))
      ->capture_default_str();
  command.add_option("--length", spec.length, "Tokens per sequence, instead of the recipe's")
      ->type_name("T")
      ->check(WholeNumber(0, kMaxUint32));
}

StreamSpec StreamChoice::Spec() const {
  StreamSpec named = spec;
  if (loss_mask) named.loss_mask = true;
  return named;
}

void RangeChoice::AddTo(CLI::App& command) {
  command.add_option("--start", start, "First index")
      ->type_name("G")
      ->check(WholeNumber(0, kMaxUint64))
      ->capture_default_str();
  command.add_option("--rank", rank, "Only the indices g with g mod W = R, for the reader R of W; 0 to W - 1")
      ->type_name("R")
      ->check(WholeNumber(0, kMaxUint32))
      ->capture_default_str();
  command.add_option("--world-size", world_size, "Readers W that share the indices; must divide the recipe's lanes")
      ->type_name("W")
      ->check(WholeNumber(1, kMaxUint32))
      ->capture_default_str();
}

}  // namespace iterand::cli
