// The families of a recipe, made once and shared by all threads.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "iterate/recipe.h"
#include "randnet/base/rng.h"
#include "randnet/family.h"

namespace iterand {

// Families with their weights. Immutable, so all threads may use it.
class FamilyMix {
 public:
  // Makes every family. Errors: InvalidArgument that names the field below "families", its value and what is allowed.
  static absl::StatusOr<FamilyMix> Make(const ResolvedRecipe& resolved);

  int size() const { return static_cast<int>(families_.size()); }
  const Family& family(int i) const { return *families_[static_cast<std::size_t>(i)]; }
  const std::string& name(int i) const { return names_[static_cast<std::size_t>(i)]; }
  double share(int i) const;  // weight / sum of weights
  bool any_reads_input() const { return reader_total_ > 0; }

  // The family of a segment or lane, by the recipe's mix; -1 if every round draws its own.
  int Fixed(const RandomKey& key) const;
  // Draws one family by weight: of all families, or only of those that read their input (there must be one).
  int Draw(Rng& rng, bool readers_only) const;

 private:
  // For mix LANE: gives every lane its family.
  void AssignLanes(std::uint64_t lanes);

  std::vector<std::unique_ptr<Family>> families_;
  std::vector<std::string> names_;
  // Weights as integers (units of 2^-20 of the largest), and their sums.
  std::vector<std::uint32_t> weights_;
  std::uint32_t total_ = 0;
  std::uint32_t reader_total_ = 0;
  v1::Recipe::Mix mix_ = v1::Recipe::SEGMENT;
  std::vector<std::uint16_t> lane_family_;  // mix LANE
};

}  // namespace iterand
