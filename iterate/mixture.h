// A mixture: a stream whose segments are made by several recipes, the parts.
//
// A stripe is segment number s of all lanes. The parts of a stripe are drawn together, from
//   p_0, p_1, ...  the shares of the parts at the stripe's first index, s x segment_sequences x lanes. A part's share
//                  is its weight divided by the sum of the weights beside it, times the share of the mixture that it
//                  is in
//   one generator  key (seed, lane 0, segment s, round 0), purpose kMixture
//
//   B_k = floor(lanes x 2^32 x (p_0 + ... + p_k) + 1/2), the last one lanes x 2^32     in double, in the order of parts
//   u   = Next(); then order = 0 ... lanes - 1, shuffled
//   lane order[j] gets the first part k with j x 2^32 + u < B_k
//
// This is systematic sampling: of L lanes, a part of share p gets floor(L p) or ceil(L p), and so do the parts of a
// nested mixture together. Shares count to 2^-32 of a lane. Random access needs the stripe's number alone.
//
// What a part makes of a segment has the keys of the part's own recipe, opened alone with the same seed, lanes and so
// on: (seed, lane, segment). So a new part or another weight changes which segments a part gets, and never what it
// makes of them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "iterate/recipe.h"
#include "iterate/schedule.h"

namespace iterand {

class StreamPlan;

// The most parts of a mixture, those of nested mixtures included: the range of Recipe.mixture in the schema.
int MaxParts();

// The parts of a recipe with a mixture, those of nested mixtures in their places: depth first. Immutable.
class MixturePlan {
 public:
  // Makes a plan of every part, and checks what one thread needs for all of them. Errors: InvalidArgument with the
  // path of the part and of the field in it, its value and what is allowed.
  static absl::StatusOr<std::unique_ptr<const MixturePlan>> Make(const ResolvedRecipe& resolved, std::uint64_t seed);

  int size() const { return static_cast<int>(parts_.size()); }
  const StreamPlan& part(int i) const { return *shared_part(i); }
  const std::shared_ptr<const StreamPlan>& shared_part(int i) const { return parts_[static_cast<std::size_t>(i)].plan; }
  // Where the part is in the recipe, such as "mixture[0].recipe.mixture[2]".
  const std::string& path(int i) const { return parts_[static_cast<std::size_t>(i)].path; }

  // What one thread needs for all parts, at most.
  std::uint64_t workspace_bytes() const { return workspace_bytes_; }

  // Fills `shares` with the shares of all parts at an index. They add up to 1.
  void Shares(std::uint64_t index, std::vector<double>& shares) const;

 private:
  struct Part {
    std::string path;
    std::shared_ptr<const StreamPlan> plan;
  };
  // A part or a nested mixture.
  struct Node {
    Schedule weight;
    std::vector<Node> nested;  // empty: a part
  };
  // Where a mixture is.
  struct Place {
    std::string path;     // in the resolved recipe
    std::string written;  // in the recipe that was given, for errors
  };
  MixturePlan() = default;
  absl::Status Add(const ResolvedRecipe& resolved, const Place& place, std::uint64_t seed, std::vector<Node>& nodes);
  static void AppendShares(const std::vector<Node>& nodes, std::uint64_t index, double scale,
                           std::vector<double>& shares);

  std::vector<Part> parts_;
  std::vector<Node> nodes_;
  std::uint64_t workspace_bytes_ = 0;
};

// One thread's draws of parts. Keeps the last stripe, so that its other lanes cost nothing. Not thread-safe.
class PartDraw {
 public:
  // The plan must outlive this object.
  explicit PartDraw(const StreamPlan& plan);

  // The part that makes a segment; 0 if the recipe is not a mixture.
  int PartOf(std::uint32_t lane, std::uint64_t segment);

 private:
  void DrawStripe(std::uint64_t segment);

  const StreamPlan& plan_;
  bool drawn_ = false;
  std::uint64_t segment_ = 0;        // of the stripe
  std::vector<std::uint8_t> parts_;  // by lane
  std::vector<std::uint32_t> order_;
  std::vector<double> shares_;
};

// Names of a recipe's parts, in the order of MixturePlan: "OUTER/INNER" of a part in a nested mixture. Empty if the
// recipe, which must be a resolved one, is not a mixture.
std::vector<std::string> PartNames(const v1::Recipe& resolved);

}  // namespace iterand
