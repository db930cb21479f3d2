// Knobs: numbers of a recipe that are fixed or drawn once a program.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "iterand/v1/recipe.pb.h"
#include "randnet/base/rng.h"

namespace iterand {

// A real knob, checked and ready to draw.
class RealKnob {
 public:
  // Every value that can be drawn must lie within [min, max]; else InvalidArgument naming `path`.
  static absl::StatusOr<RealKnob> Make(const v1::Real& config, const std::string& path, double min, double max);

  float Draw(Rng& rng) const;
  double low() const { return low_; }
  double high() const { return high_; }

 private:
  RealKnob(v1::Real::KindCase kind, double low, double high);

  v1::Real::KindCase kind_;
  double low_;
  double high_;
  float log_low_ = 0;  // natural logarithms, by randnet/base/math.h
  float log_high_ = 0;
};

// An integer knob, checked and ready to draw.
class IntegerKnob {
 public:
  static absl::StatusOr<IntegerKnob> Make(const v1::Integer& config, const std::string& path, std::int64_t min,
                                          std::int64_t max);

  int Draw(Rng& rng) const;
  int low() const { return low_; }
  int high() const { return high_; }
  // Expected value of a function of what is drawn; for cost estimates.
  double Expect(const std::function<double(int)>& f) const;
  double mean() const;

 private:
  IntegerKnob() = default;

  v1::Integer::KindCase kind_ = v1::Integer::KIND_NOT_SET;
  int low_ = 0;
  int high_ = 0;
  float log_low_ = 0;
  float log_high_ = 0;
  std::uint32_t proceed_ = 0;  // geometric: probability to go on, times 2^24
  std::vector<int> choice_;
};

// Shorthands for defaults in a family's resolve function: set the field only if nothing is set.
void DefaultFixed(v1::Real* knob, double value);
void DefaultUniform(v1::Real* knob, double low, double high);
void DefaultLogUniform(v1::Real* knob, double low, double high);
void DefaultFixed(v1::Integer* knob, std::int64_t value);
void DefaultUniform(v1::Integer* knob, std::int64_t low, std::int64_t high);
void DefaultLogUniform(v1::Integer* knob, std::int64_t low, std::int64_t high);
void DefaultChoice(v1::Integer* knob, std::initializer_list<std::int64_t> values);
void DefaultGeometric(v1::Integer* knob, std::int64_t start, double proceed, std::int64_t limit);

}  // namespace iterand
