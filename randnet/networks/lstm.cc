#include "randnet/networks/lstm.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "randnet/networks/recurrent.h"

namespace iterand {
namespace {

constexpr double kMaxFactor = 1e12;  // in force: larger products of weights and states could overflow

void Resolve(v1::Family& family) {
  v1::Lstm& config = *family.mutable_lstm();
  ResolveRecurrent(config);
  if (!config.has_factor_mode() || config.factor_mode() == v1::Lstm::FACTOR_MODE_UNSPECIFIED) {
    config.set_factor_mode(v1::Lstm::ONCE);
  }
}

absl::StatusOr<std::unique_ptr<Family>> Make(const v1::Family& family, const FamilyContext& context,
                                             const std::string& path) {
  const v1::Lstm& config = family.lstm();
  auto knobs = MakeRecurrentKnobs(config, context, path);
  if (!knobs.ok()) return knobs.status();
  switch (config.factor_mode()) {
    case v1::Lstm::ONCE:
      break;
    case v1::Lstm::ONCE_PER_LAYER:
      knobs->once_per_layer = true;
      if (std::pow(knobs->weight_factor.high(), knobs->layers.high()) > kMaxFactor) {
        return absl::InvalidArgumentError(absl::StrCat(
            path, ".weight_factor: its largest value ", knobs->weight_factor.high(), " to the power of ",
            knobs->layers.high(), " layers (", path, ".factor_mode is ONCE_PER_LAYER) exceeds ", kMaxFactor));
      }
      break;
    default:
      return absl::InvalidArgumentError(absl::StrCat(path, ".factor_mode: is ", static_cast<int>(config.factor_mode()),
                                                     ", must be ONCE or ONCE_PER_LAYER"));
  }
  return MakeRecurrentFamily(Cell::kLstm, *std::move(knobs), context);
}

}  // namespace

const FamilyEntry kLstmEntry = {v1::Family::kLstm, "lstm",
                                "random LSTM that writes a row token by token while it reads another", Resolve, Make};

}  // namespace iterand
