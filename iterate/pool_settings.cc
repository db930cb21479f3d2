#include "iterate/pool_settings.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "randnet/check.h"

namespace iterand {

void PoolSettings::ComputeDefaults(v1::Pool& config) {
  if (config.has_emit_rows()) return;
  config.set_emit_rows(config.emission() == v1::Pool::SAMPLE ? std::max<std::int64_t>(1, config.program_rows() / 2)
                                                             : 0);
}

absl::StatusOr<PoolSettings> PoolSettings::Make(const v1::Pool& config) {
  const std::int64_t pool = config.pool_rows();
  const std::string why = ", no more than pool_rows";
  if (absl::Status s = CheckRange("pool.program_rows", config.program_rows(), 1, pool, why); !s.ok()) return s;
  if (absl::Status s = CheckRange("pool.constant_rows", config.constant_rows(), 0, pool, why); !s.ok()) return s;
  if (absl::Status s = CheckRange("pool.noise_rows", config.noise_rows(), 0, pool - config.constant_rows(),
                                  ", no more than pool_rows together with constant_rows");
      !s.ok()) {
    return s;
  }
  if (!config.iterate() && config.constant_rows() + config.noise_rows() == 0) {
    return absl::InvalidArgumentError(
        "pool.noise_rows: is 0 like constant_rows, but with iterate false prompts and inputs are such rows; one must "
        "be positive");
  }
  const bool evict = config.emission() == v1::Pool::EVICT;
  if (absl::Status s =
          evict ? CheckRange("pool.emit_rows", config.emit_rows(), 0, 0, " with emission evict, which emits every row")
                : CheckRange("pool.emit_rows", config.emit_rows(), 1, pool, why);
      !s.ok()) {
    return s;
  }
  return PoolSettings{.pool_rows = static_cast<int>(pool),
                      .program_rows = static_cast<int>(config.program_rows()),
                      .constant_rows = static_cast<int>(config.constant_rows()),
                      .noise_rows = static_cast<int>(config.noise_rows()),
                      .emit_rows = static_cast<int>(config.emit_rows()),
                      .evict = evict,
                      .iterate = config.iterate(),
                      .endless = config.endless()};
}

double PoolSettings::RowsPerEmitted() const {
  return evict ? 1 : static_cast<double>(program_rows) / static_cast<double>(emit_rows);
}

int PoolSettings::MaxEmitted() const {
  // EVICT: as many as are overwritten.
  return evict ? constant_rows + noise_rows + program_rows : emit_rows;
}

std::uint64_t PoolSettings::MinRounds(std::uint64_t emitted) const {
  const auto most = static_cast<std::uint64_t>(MaxEmitted());
  return (emitted + most - 1) / most;
}

double PoolSettings::MaxRounds(double emitted) const {
  if (!evict) return std::ceil(emitted / static_cast<double>(emit_rows));
  // A generated row is emitted or still in the pool.
  const double kept = endless ? 0 : static_cast<double>(pool_rows);
  return std::ceil((emitted + kept) / static_cast<double>(program_rows));
}

}  // namespace iterand
