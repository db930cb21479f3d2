#include "randnet/knob.h"

#include <algorithm>
#include <cmath>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "randnet/base/math.h"
#include "randnet/check.h"

namespace iterand {
namespace {

// [low, high] must be in [min, max]. Number is the type of the bounds.
template <typename Number, typename Interval>
absl::Status CheckInterval(const Interval& interval, const std::string& path, Number min, Number max) {
  if (!interval.has_low() || !interval.has_high()) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": needs both low and high"));
  }
  if (!(interval.low() <= interval.high())) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": low ", interval.low(), " is above high ", interval.high(), "; low must not exceed high"));
  }
  if (absl::Status s = CheckRange<Number>(path + ".low", interval.low(), min, max); !s.ok()) return s;
  return CheckRange<Number>(path + ".high", interval.high(), min, max);
}

absl::Status CheckChoice(const v1::Integer::Choice& choice, const std::string& path, std::int64_t min,
                         std::int64_t max) {
  if (choice.values().empty() || choice.values_size() > 256) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ".values: has ", choice.values_size(), " values, must have 1 to 256"));
  }
  for (int i = 0; i < choice.values_size(); ++i) {
    absl::Status status = CheckRange(absl::StrCat(path, ".values[", i, "]"), choice.values(i), min, max);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status CheckGeometric(const v1::Integer::Geometric& geometric, const std::string& path, std::int64_t min,
                            std::int64_t max) {
  if (!geometric.has_start() || !geometric.has_proceed() || !geometric.has_limit()) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": needs start, proceed and limit"));
  }
  if (absl::Status s = CheckRange(path + ".start", geometric.start(), min, max); !s.ok()) return s;
  if (absl::Status s = CheckShare(path + ".proceed", geometric.proceed()); !s.ok()) return s;
  if (absl::Status s = CheckRange(path + ".limit", geometric.limit(), geometric.start(), max); !s.ok()) return s;
  if (geometric.limit() - geometric.start() > 65536) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ".limit: is ", geometric.limit(), ", must be at most 65536 from start ", geometric.start()));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status RealKnob::Check(const v1::Real& config, const std::string& path, double min, double max) {
  switch (config.kind_case()) {
    case v1::Real::kFixed:
      return CheckRange(path + ".fixed", config.fixed(), min, max);
    case v1::Real::kUniform:
      return CheckInterval(config.uniform(), path + ".uniform", min, max);
    case v1::Real::kLogUniform:
      // A float32 logarithm needs a normal positive float.
      if (config.log_uniform().has_low() && !(config.log_uniform().low() >= 1e-30)) {
        return absl::InvalidArgumentError(
            absl::StrFormat("%s.log_uniform.low: is %.17g, must be at least 1e-30 for a logarithmic interval", path,
                            config.log_uniform().low()));
      }
      return CheckInterval(config.log_uniform(), path + ".log_uniform", min, max);
    case v1::Real::KIND_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError(absl::StrCat(path, ": needs one of fixed, uniform, log_uniform"));
}

RealKnob::RealKnob(const v1::Real& checked) : kind_(checked.kind_case()) {
  switch (kind_) {
    case v1::Real::kUniform:
      low_ = checked.uniform().low();
      high_ = checked.uniform().high();
      break;
    case v1::Real::kLogUniform:
      low_ = checked.log_uniform().low();
      high_ = checked.log_uniform().high();
      log_low_ = math::Log(static_cast<float>(low_));
      log_high_ = math::Log(static_cast<float>(high_));
      break;
    default:
      low_ = high_ = checked.fixed();
  }
}

float RealKnob::Draw(Rng& rng) const {
  const auto low = static_cast<float>(low_);
  const auto high = static_cast<float>(high_);
  switch (kind_) {
    case v1::Real::kUniform:
      return std::min(std::fma(high - low, rng.Uniform(), low), high);
    case v1::Real::kLogUniform:
      return std::clamp(math::Exp(std::fma(log_high_ - log_low_, rng.Uniform(), log_low_)), low, high);
    default:
      return low;
  }
}

absl::Status IntegerKnob::Check(const v1::Integer& config, const std::string& path, std::int64_t min,
                                std::int64_t max) {
  switch (config.kind_case()) {
    case v1::Integer::kFixed:
      return CheckRange(path + ".fixed", config.fixed(), min, max);
    case v1::Integer::kUniform:
      return CheckInterval(config.uniform(), path + ".uniform", min, max);
    case v1::Integer::kLogUniform:
      if (absl::Status s = CheckInterval(config.log_uniform(), path + ".log_uniform", min, max); !s.ok()) return s;
      if (config.log_uniform().low() < 1) {
        return absl::InvalidArgumentError(absl::StrCat(path, ".log_uniform.low: is ", config.log_uniform().low(),
                                                       ", must be at least 1 for a logarithmic interval"));
      }
      return absl::OkStatus();
    case v1::Integer::kChoice:
      return CheckChoice(config.choice(), path + ".choice", min, max);
    case v1::Integer::kGeometric:
      return CheckGeometric(config.geometric(), path + ".geometric", min, max);
    case v1::Integer::KIND_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError(
      absl::StrCat(path, ": needs one of fixed, uniform, log_uniform, choice, geometric"));
}

IntegerKnob::IntegerKnob(const v1::Integer& checked) : kind_(checked.kind_case()) {
  switch (kind_) {
    case v1::Integer::kUniform:
      SetInterval(checked.uniform().low(), checked.uniform().high());
      break;
    case v1::Integer::kLogUniform:
      SetInterval(checked.log_uniform().low(), checked.log_uniform().high());
      log_low_ = math::Log(static_cast<float>(low_));
      log_high_ = math::Log(static_cast<float>(high_) + 1.0F);
      break;
    case v1::Integer::kChoice: {
      const auto& values = checked.choice().values();
      for (const std::int64_t value : values) choice_.push_back(static_cast<int>(value));
      const auto [least, most] = std::minmax_element(values.begin(), values.end());
      SetInterval(*least, *most);
      break;
    }
    case v1::Integer::kGeometric:
      SetInterval(checked.geometric().start(), checked.geometric().limit());
      proceed_ = ShareThreshold(checked.geometric().proceed());
      break;
    default:
      SetInterval(checked.fixed(), checked.fixed());
  }
}

void IntegerKnob::SetInterval(std::int64_t low, std::int64_t high) {
  low_ = static_cast<int>(low);
  high_ = static_cast<int>(high);
}

int IntegerKnob::Draw(Rng& rng) const {
  switch (kind_) {
    case v1::Integer::kUniform:
      return static_cast<int>(
          low_ + static_cast<std::int64_t>(rng.Below(static_cast<std::uint32_t>(std::int64_t{high_} - low_) + 1)));
    case v1::Integer::kLogUniform: {
      const double value = math::Exp(std::fma(log_high_ - log_low_, rng.Uniform(), log_low_));
      return static_cast<int>(std::clamp<double>(value, low_, high_));
    }
    case v1::Integer::kChoice:
      return choice_[rng.Below(static_cast<std::uint32_t>(choice_.size()))];
    case v1::Integer::kGeometric: {
      int value = low_;
      while (value < high_ && (rng.Next() >> 8) < proceed_) ++value;
      return value;
    }
    default:
      return low_;
  }
}

double IntegerKnob::Expect(const std::function<double(int)>& f) const {
  double sum = 0;
  switch (kind_) {
    case v1::Integer::kUniform:
      for (int value = low_; value <= high_; ++value) sum += f(value);
      return sum / (high_ - low_ + 1.0);
    case v1::Integer::kLogUniform:
      for (int value = low_; value <= high_; ++value) sum += f(value) * std::log((value + 1.0) / value);
      return sum / std::log((high_ + 1.0) / low_);
    case v1::Integer::kChoice:
      for (const int value : choice_) sum += f(value);
      return sum / static_cast<double>(choice_.size());
    case v1::Integer::kGeometric: {
      const double proceed = static_cast<double>(proceed_) * 0x1.0p-24;
      double reach = 1;  // probability to come as far as `value`
      for (int value = low_; value < high_; ++value) {
        sum += reach * (1 - proceed) * f(value);
        reach *= proceed;
      }
      return sum + reach * f(high_);
    }
    default:
      return f(low_);
  }
}

double IntegerKnob::mean() const {
  return Expect([](int value) { return value; });
}

}  // namespace iterand
