#include "iterate/schedule.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace iterand {

void Schedule::ComputeDefaults(v1::Weight& weight) {
  if (!weight.has_fixed() && weight.points().empty()) weight.set_fixed(1);
  const bool one_point = weight.points_size() == 1 && weight.points(0).has_weight() && weight.points(0).has_at();
  if (!weight.has_fixed() && one_point) {
    const double only = weight.points(0).weight();
    weight.clear_points();
    weight.set_fixed(only);
  }
}

absl::StatusOr<Schedule> Schedule::Make(const v1::Weight& weight, const std::string& path) {
  Schedule schedule;
  if (weight.has_fixed() && !weight.points().empty()) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": has both fixed and points, must have one of them"));
  }
  if (weight.has_fixed()) {
    schedule.points_.push_back({.at = 0, .weight = weight.fixed()});
    return schedule;
  }
  for (int i = 0; i < weight.points_size(); ++i) {
    const v1::Weight::Point& point = weight.points(i);
    const std::string at = absl::StrCat(path, ".points[", i, "]");
    if (!point.has_at() || !point.has_weight()) {
      return absl::InvalidArgumentError(absl::StrCat(at, ": has no ", point.has_at() ? "weight" : "at",
                                                     R"(, must have both, such as {"at": 0, "weight": 1})"));
    }
    if (i > 0 && point.at() < weight.points(i - 1).at()) {
      return absl::InvalidArgumentError(absl::StrCat(at, ".at: is ", point.at(), ", must be at least ",
                                                     weight.points(i - 1).at(),
                                                     ", that of the point before it: points must be in order"));
    }
    if (i > 1 && point.at() == weight.points(i - 2).at()) {
      return absl::InvalidArgumentError(absl::StrCat(at, ".at: is ", point.at(),
                                                     ", that of the two points before it; at most two points may share "
                                                     "an index, which makes a step"));
    }
    schedule.points_.push_back({.at = static_cast<std::uint64_t>(point.at()), .weight = point.weight()});
  }
  return schedule;
}

double Schedule::Between(std::uint64_t index, std::size_t next) const {
  if (next == 0) return points_.front().weight;
  const Point& from = points_[next - 1];
  if (next == points_.size()) return from.weight;
  const Point& to = points_[next];
  const double share = static_cast<double>(index - from.at) / static_cast<double>(to.at - from.at);
  return from.weight + (to.weight - from.weight) * share;
}

double Schedule::At(std::uint64_t index) const {
  const auto next = std::upper_bound(points_.begin(), points_.end(), index,
                                     [](std::uint64_t at, const Point& point) { return at < point.at; });
  return Between(index, static_cast<std::size_t>(next - points_.begin()));
}

void Schedule::AddAt(std::span<const std::uint64_t> indices, std::span<double> sums) const {
  std::size_t next = 0;
  for (std::size_t i = 0; i < indices.size(); ++i) {
    while (next < points_.size() && points_[next].at <= indices[i]) ++next;
    sums[i] += Between(indices[i], next);
  }
}

void Schedule::AppendTurns(std::vector<std::uint64_t>& indices) const {
  for (const Point& point : points_) {
    indices.push_back(point.at);
    if (point.at > 0) indices.push_back(point.at - 1);
  }
}

}  // namespace iterand
