#include <google/protobuf/descriptor.h>

#include <array>

#include "randnet/family.h"
#include "randnet/machines/automaton.h"
#include "randnet/machines/brainphoque.h"
#include "randnet/machines/eca.h"
#include "randnet/machines/tape_machine.h"
#include "randnet/machines/transducer.h"
#include "randnet/networks/gru.h"
#include "randnet/networks/lstm.h"
#include "randnet/networks/mlp_window.h"
#include "randnet/networks/nca.h"
#include "randnet/networks/reservoir.h"
#include "randnet/networks/rnn.h"
#include "randnet/networks/state_space.h"
#include "randnet/networks/transformer.h"
#include "randnet/settings.h"
#include "randnet/sources/constant.h"
#include "randnet/sources/dyck.h"
#include "randnet/sources/dyck_shuffle.h"
#include "randnet/sources/markov.h"
#include "randnet/sources/pcfg.h"
#include "randnet/sources/pitman_yor.h"
#include "randnet/sources/pointwise.h"
#include "randnet/sources/repeat.h"
#include "randnet/sources/tasks.h"
#include "randnet/sources/uniform.h"

namespace iterand {

void FamilyEntry::Resolve(v1::Family& config) const {
  const auto* field = v1::Family::descriptor()->FindFieldByNumber(kind);
  WriteDefaults(*config.GetReflection()->MutableMessage(&config, field));
  if (compute_defaults != nullptr) compute_defaults(config);
}

absl::StatusOr<std::unique_ptr<Family>> FamilyEntry::Make(const v1::Family& config, const FamilyContext& context,
                                                          const std::string& path) const {
  const auto* field = v1::Family::descriptor()->FindFieldByNumber(kind);
  if (absl::Status s = CheckFields(config.GetReflection()->GetMessage(config, field), path); !s.ok()) return s;
  return maker(config, context, path);
}

std::span<const FamilyEntry> AllFamilies() {
  static const std::array kFamilies = {
      // In the order of families.proto.
      kLstmEntry,        kUniformEntry, kConstantEntry,  kPointwiseEntry,   kMarkovEntry,      kAutomatonEntry,
      kGruEntry,         kRnnEntry,     kReservoirEntry, kNcaEntry,         kMlpWindowEntry,   kStateSpaceEntry,
      kTransformerEntry, kEcaEntry,     kDyckEntry,      kDyckShuffleEntry, kBrainphoqueEntry, kTapeMachineEntry,
      kTransducerEntry,  kPcfgEntry,    kTasksEntry,     kRepeatEntry,      kPitmanYorEntry,
  };
  return kFamilies;
}

const FamilyEntry* FindFamily(v1::Family::KindCase kind) {
  for (const FamilyEntry& entry : AllFamilies()) {
    if (entry.kind == kind) return &entry;
  }
  return nullptr;
}

}  // namespace iterand
