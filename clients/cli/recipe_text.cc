#include "clients/cli/recipe_text.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "common/printable.h"
#include "iterate/dtype.h"
#include "iterate/mixture.h"
#include "randnet/family.h"

namespace iterand::cli {

std::string Magnitude(double value) {
  for (const auto& [scale, unit] :
       {std::pair{1e12, " T"}, std::pair{1e9, " G"}, std::pair{1e6, " M"}, std::pair{1e3, " k"}}) {
    if (value >= scale) return absl::StrFormat("%.3g%s", value / scale, unit);
  }
  return absl::StrFormat("%.3g ", value);
}

std::string FamilyShares(const v1::Recipe& recipe) {
  double sum = 0;
  for (const v1::Family& family : recipe.families()) sum += family.weight();
  std::vector<std::string> shares;
  for (const v1::Family& family : recipe.families()) {
    const FamilyEntry* entry = FindFamily(family.kind_case());
    shares.push_back(absl::StrFormat("%.3g %% %s", sum > 0 ? 100 * family.weight() / sum : 0,
                                     entry != nullptr ? entry->name : "of a family unknown to this program"));
  }
  return absl::StrJoin(shares, ", ");
}

std::string RecipeLine(const v1::Recipe& recipe) {
  std::string made_by = FamilyShares(recipe);
  if (const std::vector<std::string> parts = PartNames(recipe); !parts.empty()) {
    made_by =
        absl::StrCat(parts.size(), parts.size() == 1 ? " part: " : " parts: ", Printable(absl::StrJoin(parts, ", ")));
  }
  return absl::StrCat(DtypeName(SmallestDtype(recipe.vocab_size())), " tokens below ", recipe.vocab_size(), ", ",
                      recipe.length(), " per sequence; ", made_by, "; ", recipe.lanes(),
                      recipe.lanes() == 1 ? " lane" : " lanes", " of ", recipe.segment_sequences(),
                      " sequences per segment");
}

}  // namespace iterand::cli
