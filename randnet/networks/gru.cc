#include "randnet/networks/gru.h"

#include "randnet/networks/recurrent.h"

namespace iterand {
namespace {

absl::StatusOr<std::unique_ptr<Family>> Make(const v1::Family& family, const FamilyContext& context,
                                             const std::string& path) {
  return MakeRecurrentFamily(Cell::kGru, MakeRecurrentKnobs(family.gru()), context, path);
}

}  // namespace

const FamilyEntry kGruEntry = {v1::Family::kGru, "gru",
                               "random GRU that writes a row token by token while it reads another", Make};

}  // namespace iterand
