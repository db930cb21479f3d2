#include "randnet/sources/dyck.h"

#include "randnet/sources/bracket_program.h"

namespace iterand {

namespace {

absl::StatusOr<std::unique_ptr<Family>> Make(const v1::Family& family, const FamilyContext& context,
                                             const std::string& /*path*/) {
  return MakeBrackets<false>(family.dyck(), context);
}

}  // namespace

const FamilyEntry kDyckEntry = {v1::Family::kDyck, "dyck", "prefix of a random word of well-nested brackets", Make};

}  // namespace iterand
