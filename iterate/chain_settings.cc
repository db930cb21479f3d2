#include "iterate/chain_settings.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "randnet/check.h"

namespace iterand {

void ChainSettings::Resolve(v1::Chain& config) {
  DefaultUniform(config.mutable_rows(), 6, 8);
  DefaultUniform(config.mutable_max_depth(), 6, 8);
  if (!config.has_noise_share()) config.set_noise_share(0.02);
  if (!config.has_constant_share()) config.set_constant_share(0.02);
  if (!config.has_initial_constant_share()) config.set_initial_constant_share(0.1);
}

absl::StatusOr<ChainSettings> ChainSettings::Make(const v1::Chain& config) {
  auto rows = IntegerKnob::Make(config.rows(), "chain.rows", 1, kMaxRows);
  if (!rows.ok()) return rows.status();
  auto depth = IntegerKnob::Make(config.max_depth(), "chain.max_depth", 1, kMaxDepth);
  if (!depth.ok()) return depth.status();
  if (absl::Status s = CheckShare("chain.noise_share", config.noise_share()); !s.ok()) return s;
  if (absl::Status s = CheckShare("chain.constant_share", config.constant_share()); !s.ok()) return s;
  if (config.noise_share() + config.constant_share() > 1) {
    return absl::InvalidArgumentError(absl::StrCat("chain.constant_share: ", config.constant_share(),
                                                   " and chain.noise_share ", config.noise_share(),
                                                   " add up to more than 1, must be at most 1 together"));
  }
  if (absl::Status s = CheckShare("chain.initial_constant_share", config.initial_constant_share()); !s.ok()) return s;
  const std::uint32_t noise = ShareThreshold(config.noise_share());
  return ChainSettings{.rows = *std::move(rows),
                       .max_depth = *std::move(depth),
                       .initial_constant = ShareThreshold(config.initial_constant_share()),
                       .noise = noise,
                       .noise_or_constant = noise + ShareThreshold(config.constant_share())};
}

}  // namespace iterand
