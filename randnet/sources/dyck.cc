#include "randnet/sources/dyck.h"

#include "randnet/sources/bracket_program.h"

namespace iterand {

const FamilyEntry kDyckEntry = {v1::Family::kDyck, "dyck", "prefix of a random word of well-nested brackets",
                                [](v1::Family& family) { ResolveBrackets(*family.mutable_dyck()); },
                                [](const v1::Family& family, const FamilyContext& context, const std::string& path) {
                                  return MakeBrackets<false>(family.dyck(), context, path);
                                }};

}  // namespace iterand
