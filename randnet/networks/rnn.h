// Random Elman network that writes a row token by token while it reads another (Elman 1990, "Finding structure in
// time", Cognitive Science 14; as PyTorch's torch.nn.RNN with tanh).
//
// Definition: that of randnet/networks/recurrent.h, with one gate a, and this cell, with e(u) = math::GateExp:
//     h' = (1 - e(-2a)) / (1 + e(-2a))                                  = tanh(a)
#pragma once

#include "randnet/family.h"

namespace iterand {

extern const FamilyEntry kRnnEntry;

}  // namespace iterand
