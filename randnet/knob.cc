#include "randnet/knob.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "randnet/base/math.h"
#include "randnet/check.h"

namespace iterand {
namespace {

std::string Number(double value) { return absl::StrFormat("%.17g", value); }

template <typename Interval>
absl::Status CheckOrder(const std::string& path, const Interval& interval) {
  if (!interval.has_low() || !interval.has_high()) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": needs both low and high"));
  }
  if (!(interval.low() <= interval.high())) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": low ", interval.low(), " is above high ", interval.high(), "; low must not exceed high"));
  }
  return absl::OkStatus();
}

}  // namespace

RealKnob::RealKnob(v1::Real::KindCase kind, double low, double high) : kind_(kind), low_(low), high_(high) {
  if (kind == v1::Real::kLogUniform) {
    log_low_ = math::Log(static_cast<float>(low));
    log_high_ = math::Log(static_cast<float>(high));
  }
}

absl::StatusOr<RealKnob> RealKnob::Make(const v1::Real& config, const std::string& path, double min, double max) {
  const auto make_interval = [&](const v1::Real::Interval& interval,
                                 const std::string& where) -> absl::StatusOr<RealKnob> {
    if (absl::Status status = CheckOrder(where, interval); !status.ok()) return status;
    if (absl::Status status = CheckRange(where + ".low", interval.low(), min, max); !status.ok()) return status;
    if (absl::Status status = CheckRange(where + ".high", interval.high(), min, max); !status.ok()) return status;
    return RealKnob(config.kind_case(), interval.low(), interval.high());
  };
  switch (config.kind_case()) {
    case v1::Real::kFixed:
      if (absl::Status status = CheckRange(path + ".fixed", config.fixed(), min, max); !status.ok()) return status;
      return RealKnob(v1::Real::kFixed, config.fixed(), config.fixed());
    case v1::Real::kUniform:
      return make_interval(config.uniform(), path + ".uniform");
    case v1::Real::kLogUniform:
      // A float32 logarithm needs a normal positive float.
      if (config.log_uniform().has_low() && !(config.log_uniform().low() >= 1e-30)) {
        return absl::InvalidArgumentError(absl::StrCat(path, ".log_uniform.low: is ",
                                                       Number(config.log_uniform().low()),
                                                       ", must be at least 1e-30 for a logarithmic interval"));
      }
      return make_interval(config.log_uniform(), path + ".log_uniform");
    case v1::Real::KIND_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError(absl::StrCat(path, ": needs one of fixed, uniform, log_uniform"));
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

absl::StatusOr<IntegerKnob> IntegerKnob::Make(const v1::Integer& config, const std::string& path, std::int64_t min,
                                              std::int64_t max) {
  IntegerKnob knob;
  knob.kind_ = config.kind_case();
  const auto set_interval = [&](const v1::Integer::Interval& interval, const std::string& where) {
    if (absl::Status status = CheckOrder(where, interval); !status.ok()) return status;
    if (absl::Status status = CheckRange(where + ".low", interval.low(), min, max); !status.ok()) return status;
    if (absl::Status status = CheckRange(where + ".high", interval.high(), min, max); !status.ok()) return status;
    knob.low_ = static_cast<int>(interval.low());
    knob.high_ = static_cast<int>(interval.high());
    return absl::OkStatus();
  };
  switch (config.kind_case()) {
    case v1::Integer::kFixed:
      if (absl::Status status = CheckRange(path + ".fixed", config.fixed(), min, max); !status.ok()) return status;
      knob.low_ = knob.high_ = static_cast<int>(config.fixed());
      return knob;
    case v1::Integer::kUniform:
      if (absl::Status status = set_interval(config.uniform(), path + ".uniform"); !status.ok()) return status;
      return knob;
    case v1::Integer::kLogUniform:
      if (absl::Status status = set_interval(config.log_uniform(), path + ".log_uniform"); !status.ok()) return status;
      if (knob.low_ < 1) {
        return absl::InvalidArgumentError(
            absl::StrCat(path, ".log_uniform.low: is ", knob.low_, ", must be at least 1 for a logarithmic interval"));
      }
      knob.log_low_ = math::Log(static_cast<float>(knob.low_));
      knob.log_high_ = math::Log(static_cast<float>(knob.high_) + 1.0F);
      return knob;
    case v1::Integer::kChoice: {
      const auto& values = config.choice().values();
      if (values.empty() || values.size() > 256) {
        return absl::InvalidArgumentError(
            absl::StrCat(path, ".choice.values: has ", values.size(), " values, must have 1 to 256"));
      }
      for (int i = 0; i < values.size(); ++i) {
        if (absl::Status status = CheckRange(absl::StrCat(path, ".choice.values[", i, "]"), values[i], min, max);
            !status.ok()) {
          return status;
        }
        knob.choice_.push_back(static_cast<int>(values[i]));
      }
      knob.low_ = *std::min_element(knob.choice_.begin(), knob.choice_.end());
      knob.high_ = *std::max_element(knob.choice_.begin(), knob.choice_.end());
      return knob;
    }
    case v1::Integer::kGeometric: {
      const auto& geometric = config.geometric();
      const std::string where = path + ".geometric";
      if (!geometric.has_start() || !geometric.has_proceed() || !geometric.has_limit()) {
        return absl::InvalidArgumentError(absl::StrCat(where, ": needs start, proceed and limit"));
      }
      if (absl::Status status = CheckRange(where + ".start", geometric.start(), min, max); !status.ok()) return status;
      if (absl::Status status = CheckRange(where + ".proceed", geometric.proceed(), 0, 1); !status.ok()) return status;
      if (absl::Status status = CheckRange(where + ".limit", geometric.limit(), geometric.start(), max); !status.ok()) {
        return status;
      }
      if (geometric.limit() - geometric.start() > 65536) {
        return absl::InvalidArgumentError(absl::StrCat(where, ".limit: is ", geometric.limit(),
                                                       ", must lie within 65536 of start ", geometric.start()));
      }
      knob.low_ = static_cast<int>(geometric.start());
      knob.high_ = static_cast<int>(geometric.limit());
      knob.proceed_ = static_cast<std::uint32_t>(geometric.proceed() * 0x1.0p24);
      return knob;
    }
    case v1::Integer::KIND_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError(
      absl::StrCat(path, ": needs one of fixed, uniform, log_uniform, choice, geometric"));
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

void DefaultFixed(v1::Real* knob, double value) {
  if (knob->kind_case() == v1::Real::KIND_NOT_SET) knob->set_fixed(value);
}

void DefaultUniform(v1::Real* knob, double low, double high) {
  if (knob->kind_case() != v1::Real::KIND_NOT_SET) return;
  knob->mutable_uniform()->set_low(low);
  knob->mutable_uniform()->set_high(high);
}

void DefaultLogUniform(v1::Real* knob, double low, double high) {
  if (knob->kind_case() != v1::Real::KIND_NOT_SET) return;
  knob->mutable_log_uniform()->set_low(low);
  knob->mutable_log_uniform()->set_high(high);
}

void DefaultFixed(v1::Integer* knob, std::int64_t value) {
  if (knob->kind_case() == v1::Integer::KIND_NOT_SET) knob->set_fixed(value);
}

void DefaultUniform(v1::Integer* knob, std::int64_t low, std::int64_t high) {
  if (knob->kind_case() != v1::Integer::KIND_NOT_SET) return;
  knob->mutable_uniform()->set_low(low);
  knob->mutable_uniform()->set_high(high);
}

void DefaultLogUniform(v1::Integer* knob, std::int64_t low, std::int64_t high) {
  if (knob->kind_case() != v1::Integer::KIND_NOT_SET) return;
  knob->mutable_log_uniform()->set_low(low);
  knob->mutable_log_uniform()->set_high(high);
}

void DefaultChoice(v1::Integer* knob, std::initializer_list<std::int64_t> values) {
  if (knob->kind_case() != v1::Integer::KIND_NOT_SET) return;
  for (const std::int64_t value : values) knob->mutable_choice()->add_values(value);
}

void DefaultGeometric(v1::Integer* knob, std::int64_t start, double proceed, std::int64_t limit) {
  if (knob->kind_case() != v1::Integer::KIND_NOT_SET) return;
  knob->mutable_geometric()->set_start(start);
  knob->mutable_geometric()->set_proceed(proceed);
  knob->mutable_geometric()->set_limit(limit);
}

}  // namespace iterand
