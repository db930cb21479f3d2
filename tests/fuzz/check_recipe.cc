#include "tests/fuzz/check_recipe.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "iterate/limits.h"
#include "iterate/mixture.h"
#include "iterate/plan.h"
#include "iterate/recipe.h"
#include "iterate/recipe_json.h"
#include "iterate/stream.h"
#include "tests/fuzz/expect.h"

namespace iterand {
namespace {

constexpr std::int64_t kLength = 48;
// Work that one run of the fuzzer may take; recipes that cost more are only opened.
constexpr double kFlopsPerToken = 3e5;

// Makes the rounds of a recipe, or of the parts of a mixture, so small that they are cheap.
void ShrinkRounds(v1::Recipe& recipe) {
  for (v1::Part& part : *recipe.mutable_mixture()) ShrinkRounds(*part.mutable_recipe());
  if (!recipe.mixture().empty()) return;
  recipe.set_starvation_rounds(std::clamp<std::int64_t>(recipe.starvation_rounds(), 1, 3));
  if (recipe.has_chain()) {
    recipe.mutable_chain()->mutable_rows()->set_fixed(2);
    recipe.mutable_chain()->mutable_max_depth()->set_fixed(2);
  }
  if (recipe.has_pool()) {
    v1::Pool& pool = *recipe.mutable_pool();
    pool.set_pool_rows(std::clamp<std::int64_t>(pool.pool_rows(), 1, 16));
    pool.set_program_rows(std::clamp<std::int64_t>(pool.program_rows(), 1, 4));
    pool.set_constant_rows(std::clamp<std::int64_t>(pool.constant_rows(), 0, 2));
    pool.set_noise_rows(std::clamp<std::int64_t>(pool.noise_rows(), 0, 2));
    pool.set_emit_rows(std::clamp<std::int64_t>(pool.emit_rows(), 1, 4));
  }
  for (v1::Family& family : *recipe.mutable_families()) {
    // These have limits of their own, which nothing above bounds.
    if (family.has_brainphoque()) {
      family.mutable_brainphoque()->mutable_max_steps()->set_fixed(500);
      family.mutable_brainphoque()->mutable_attempts()->set_fixed(2);
    }
    if (family.has_tape_machine()) family.mutable_tape_machine()->mutable_steps_per_token()->set_fixed(8);
    if (family.has_nca()) family.mutable_nca()->mutable_warm_up()->set_fixed(1);
    if (family.has_eca()) family.mutable_eca()->mutable_warm_up()->set_fixed(3);
    if (family.has_automaton()) family.mutable_automaton()->mutable_states()->set_fixed(20);
    if (family.has_pitman_yor()) family.mutable_pitman_yor()->mutable_history()->set_fixed(40);
  }
}

// The same recipe, so small that a segment of it is cheap.
v1::Recipe Small(v1::Recipe recipe) {
  recipe.set_length(std::clamp<std::int64_t>(recipe.length(), 16, kLength));
  recipe.set_lanes(1);
  recipe.set_segment_sequences(std::clamp<std::int64_t>(recipe.segment_sequences(), 1, 4));
  ShrinkRounds(recipe);
  return recipe;
}

// Shares are positive, add up to 1, and belong to the parts that are drawn.
void CheckShares(const StreamPlan& plan) {
  if (plan.mixture() == nullptr) return;
  Expect(plan.parts() >= 1 && plan.parts() <= MaxParts(), "a bounded number of parts");
  Expect(PartNames(plan.recipe()).size() == static_cast<std::size_t>(plan.parts()), "a name for each part");
  PartDraw draw(plan);
  const std::uint64_t stripe = plan.index_map().lanes() * std::uint64_t{plan.index_map().segment_sequences()};
  std::vector<double> shares;
  for (const std::uint64_t segment : {std::uint64_t{0}, std::uint64_t{1}, UINT64_MAX / stripe}) {
    plan.mixture()->Shares(segment * stripe, shares);
    double sum = 0;
    for (const double share : shares) {
      Expect(share >= 0 && share <= 1, "a share from 0 to 1");
      sum += share;
    }
    Expect(std::abs(sum - 1) < 1e-9, "shares that add up to 1");
    const int part = draw.PartOf(0, segment);
    Expect(part >= 0 && part < plan.parts() && shares[static_cast<std::size_t>(part)] > 0, "a part with a share");
  }
}

}  // namespace

void ExpectRefusal(const absl::Status& status) {
  Expect(absl::IsInvalidArgument(status), "a bad recipe is an InvalidArgument");
  Expect(!status.message().empty(), "a refusal says why");
}

void CheckRecipe(const v1::Recipe& recipe) {
  const absl::StatusOr<std::shared_ptr<const StreamPlan>> plan = StreamPlan::Make(recipe, 1);
  if (!plan.ok()) return ExpectRefusal(plan.status());
  CheckShares(**plan);
  const v1::Recipe& resolved = (*plan)->recipe();
  const std::string text = CanonicalText(resolved);
  const absl::StatusOr<ResolvedRecipe> again = ResolveRecipe(resolved);
  Expect(again.ok() && CanonicalText(again->proto()) == text, "a resolved recipe is its own resolution");
  const absl::StatusOr<v1::Recipe> reread = ParseRecipeJson(RecipeToJson(resolved));
  Expect(reread.ok() && CanonicalText(*reread) == text, "a recipe's JSON is the recipe");
  {
    const std::shared_ptr<Stream> whole = Stream::FromPlan(*plan);
    const StreamCost cost = whole->Cost();
    Expect(static_cast<double>(cost.workspace_bytes) <= kMaxWorkspaceBytes, "a workspace within its limit");
    Expect(static_cast<double>(cost.segment_bytes) <= 2 * kMaxSegmentBytes, "a segment and its masks within its limit");
    Expect(std::isfinite(cost.flops_per_token) && cost.flops_per_token >= 0, "a cost that is a number");
  }
  const absl::StatusOr<std::shared_ptr<Stream>> stream = Stream::Open(Small(resolved), 1);
  if (!stream.ok()) return ExpectRefusal(stream.status());  // smaller is not always allowed: a prompt may be too long
  for (int part = 0; part < (*stream)->plan().parts(); ++part) {
    if ((*stream)->plan().part(part).cost().flops_per_token > kFlopsPerToken) return;
  }
  const std::unique_ptr<Workspace> workspace = (*stream)->NewWorkspace();
  Segment first;
  Segment second;
  const absl::Status status = (*stream)->GenerateSegment(0, 0, *workspace, nullptr, first);
  const absl::Status repeated = (*stream)->GenerateSegment(0, 0, *workspace, nullptr, second);
  Expect(status == repeated, "a segment ends the same way again");
  if (!status.ok()) {
    Expect(absl::IsFailedPrecondition(status), "only filters end a stream");
    return;
  }
  Expect(first.own == second.own, "a segment is the same again");
}

}  // namespace iterand
