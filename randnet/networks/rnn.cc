#include "randnet/networks/rnn.h"

#include "randnet/networks/recurrent.h"

namespace iterand {
namespace {

absl::StatusOr<std::unique_ptr<Family>> Make(const v1::Family& family, const FamilyContext& context,
                                             const std::string& path) {
  return MakeRecurrentFamily(Cell::kRnn, MakeRecurrentKnobs(family.rnn()), context, path);
}

}  // namespace

const FamilyEntry kRnnEntry = {v1::Family::kRnn, "rnn",
                               "random Elman network that writes a row token by token while it reads another", Make};

}  // namespace iterand
