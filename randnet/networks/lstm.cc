#include "randnet/networks/lstm.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "randnet/networks/recurrent.h"

namespace iterand {
namespace {

constexpr double kMaxFactor = 1e12;  // in force: larger products of weights and states could overflow

absl::StatusOr<std::unique_ptr<Family>> Make(const v1::Family& family, const FamilyContext& context,
                                             const std::string& path) {
  RecurrentKnobs knobs = MakeRecurrentKnobs(family.lstm());
  knobs.once_per_layer = family.lstm().factor_mode() == v1::Lstm::ONCE_PER_LAYER;
  if (knobs.once_per_layer && std::pow(knobs.weight_factor.high(), knobs.layers.high()) > kMaxFactor) {
    return absl::InvalidArgumentError(absl::StrCat(path, ".weight_factor: its largest value ",
                                                   knobs.weight_factor.high(), " to the power of ", knobs.layers.high(),
                                                   " layers (", path, ".factor_mode is ONCE_PER_LAYER) is above ",
                                                   kMaxFactor, ", must be at most that"));
  }
  return MakeRecurrentFamily(Cell::kLstm, std::move(knobs), context, path);
}

}  // namespace

const FamilyEntry kLstmEntry = {v1::Family::kLstm, "lstm",
                                "random LSTM that writes a row token by token while it reads another", Make};

}  // namespace iterand
