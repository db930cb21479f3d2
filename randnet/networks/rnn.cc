#include "randnet/networks/rnn.h"

#include "randnet/networks/recurrent.h"

namespace iterand {
namespace {

void Resolve(v1::Family& family) { ResolveRecurrent(*family.mutable_rnn()); }

absl::StatusOr<std::unique_ptr<Family>> Make(const v1::Family& family, const FamilyContext& context,
                                             const std::string& path) {
  auto knobs = MakeRecurrentKnobs(family.rnn(), context, path);
  if (!knobs.ok()) return knobs.status();
  return MakeRecurrentFamily(Cell::kRnn, *std::move(knobs), context);
}

}  // namespace

const FamilyEntry kRnnEntry = {v1::Family::kRnn, "rnn",
                               "random Elman network that writes a row token by token while it reads another", Resolve,
                               Make};

}  // namespace iterand
