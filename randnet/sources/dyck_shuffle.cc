#include "randnet/sources/dyck_shuffle.h"

#include "randnet/sources/bracket_program.h"

namespace iterand {

const FamilyEntry kDyckShuffleEntry = {
    v1::Family::kDyckShuffle, "dyck_shuffle", "brackets of several kinds that may cross",
    [](v1::Family& family) { ResolveBrackets(*family.mutable_dyck_shuffle()); },
    [](const v1::Family& family, const FamilyContext& context, const std::string& path) {
      return MakeBrackets<true>(family.dyck_shuffle(), context, path);
    }};

}  // namespace iterand
