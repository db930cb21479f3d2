// Knobs: numbers of a recipe that are fixed or drawn once per program.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "iterand/v1/knobs.pb.h"
#include "randnet/base/rng.h"

namespace iterand {

// A real knob, ready to draw.
class RealKnob {
 public:
  // Every value that can be drawn must be in [min, max]; else InvalidArgument naming `path`.
  static absl::Status Check(const v1::Real& config, const std::string& path, double min, double max);
  // REQUIRES: Check returned OK for `checked`.
  explicit RealKnob(const v1::Real& checked);

  float Draw(Rng& rng) const;
  double low() const { return low_; }
  double high() const { return high_; }

 private:
  v1::Real::KindCase kind_;
  double low_ = 0;
  double high_ = 0;
  float log_low_ = 0;  // natural logarithms, by randnet/base/math.h
  float log_high_ = 0;
};

// An integer knob, ready to draw.
class IntegerKnob {
 public:
  // As RealKnob's; [min, max] must be in the values of an int.
  static absl::Status Check(const v1::Integer& config, const std::string& path, std::int64_t min, std::int64_t max);
  // REQUIRES: Check returned OK for `checked`.
  explicit IntegerKnob(const v1::Integer& checked);

  int Draw(Rng& rng) const;
  int low() const { return low_; }
  int high() const { return high_; }
  // Expected value of a function of what is drawn; for cost estimates.
  double Expect(const std::function<double(int)>& f) const;
  double mean() const;

 private:
  void SetInterval(std::int64_t low, std::int64_t high);

  v1::Integer::KindCase kind_;
  int low_ = 0;
  int high_ = 0;
  float log_low_ = 0;
  float log_high_ = 0;
  std::uint32_t proceed_ = 0;  // geometric: probability of one more, times 2^24
  std::vector<int> choice_;
};

}  // namespace iterand
