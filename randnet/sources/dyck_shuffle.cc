#include "randnet/sources/dyck_shuffle.h"

#include "randnet/sources/bracket_program.h"

namespace iterand {

namespace {

absl::StatusOr<std::unique_ptr<Family>> Make(const v1::Family& family, const FamilyContext& context,
                                             const std::string& /*path*/) {
  return MakeBrackets<true>(family.dyck_shuffle(), context);
}

}  // namespace

const FamilyEntry kDyckShuffleEntry = {v1::Family::kDyckShuffle, "dyck_shuffle",
                                       "brackets of several kinds that may cross", Make};

}  // namespace iterand
