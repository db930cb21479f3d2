#include <array>

#include "randnet/automaton.h"
#include "randnet/brainphoque.h"
#include "randnet/constant.h"
#include "randnet/dyck.h"
#include "randnet/dyck_shuffle.h"
#include "randnet/eca.h"
#include "randnet/family.h"
#include "randnet/gru.h"
#include "randnet/lstm.h"
#include "randnet/markov.h"
#include "randnet/mlp_window.h"
#include "randnet/nca.h"
#include "randnet/pcfg.h"
#include "randnet/pitman_yor.h"
#include "randnet/pointwise.h"
#include "randnet/repeat.h"
#include "randnet/reservoir.h"
#include "randnet/rnn.h"
#include "randnet/state_space.h"
#include "randnet/tape_machine.h"
#include "randnet/tasks.h"
#include "randnet/transducer.h"
#include "randnet/transformer.h"
#include "randnet/uniform.h"

namespace iterand {

std::span<const FamilyEntry> AllFamilies() {
  static const std::array kFamilies = {
      // One line a family, in the order of recipe.proto.
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
