// A weight as a function of the index: a number, or points between which it changes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "iterand/v1/recipe.pb.h"

namespace iterand {

// Immutable.
//
// Between two points the weight is linear in the index. Before the first point and from the last one on it is constant.
// Two points at one index make a step: at that index the second one counts.
class Schedule {
 public:
  // Both take a message whose fields are within the ranges of the schema.
  //
  // Writes the default, 1, into the weight of a part, and a schedule of one point as a number.
  static void ComputeDefaults(v1::Weight& weight);
  // Of a message with its default written out. Errors: InvalidArgument that names the field below `path` (such as
  // "mixture[0].weight"), its value and what is allowed.
  static absl::StatusOr<Schedule> Make(const v1::Weight& weight, const std::string& path);

  double At(std::uint64_t index) const;

  // Adds the weights at ascending indices to `sums`, in time linear in indices and points.
  void AddAt(std::span<const std::uint64_t> indices, std::span<double> sums) const;

  // Adds the indices at which the least weight between two points can be: those of the points and those before them.
  void AppendTurns(std::vector<std::uint64_t>& indices) const;

  int points() const { return static_cast<int>(points_.size()); }

 private:
  // The weight at an index whose next point, the first after it, is points_[next].
  double Between(std::uint64_t index, std::size_t next) const;

  struct Point {
    std::uint64_t at;
    double weight;
  };
  std::vector<Point> points_;  // at least one, in the order of indices
};

}  // namespace iterand
