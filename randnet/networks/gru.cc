#include "randnet/networks/gru.h"

#include "randnet/networks/recurrent.h"

namespace iterand {
namespace {

void Resolve(v1::Family& family) { ResolveRecurrent(*family.mutable_gru()); }

absl::StatusOr<std::unique_ptr<Family>> Make(const v1::Family& family, const FamilyContext& context,
                                             const std::string& path) {
  auto knobs = MakeRecurrentKnobs(family.gru(), context, path);
  if (!knobs.ok()) return knobs.status();
  return MakeRecurrentFamily(Cell::kGru, *std::move(knobs), context);
}

}  // namespace

const FamilyEntry kGruEntry = {v1::Family::kGru, "gru",
                               "random GRU that writes a row token by token while it reads another", Resolve, Make};

}  // namespace iterand
