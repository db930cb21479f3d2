#include "iterate/chain_settings.h"

#include "absl/strings/str_cat.h"
#include "randnet/check.h"

namespace iterand {

absl::StatusOr<ChainSettings> ChainSettings::Make(const v1::Chain& config) {
  if (config.noise_share() + config.constant_share() > 1) {
    return absl::InvalidArgumentError(absl::StrCat("chain.constant_share: ", config.constant_share(),
                                                   " and chain.noise_share ", config.noise_share(),
                                                   " add up to more than 1, must be at most 1 together"));
  }
  const std::uint32_t noise = ShareThreshold(config.noise_share());
  return ChainSettings{.rows = IntegerKnob(config.rows()),
                       .max_depth = IntegerKnob(config.max_depth()),
                       .initial_constant = ShareThreshold(config.initial_constant_share()),
                       .noise = noise,
                       .noise_or_constant = noise + ShareThreshold(config.constant_share())};
}

}  // namespace iterand
