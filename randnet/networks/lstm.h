// Random LSTM that writes a row token by token while it reads another (Bloem 2025, "Universal pre-training by iterated
// random computation", arXiv 2506.20057).
//
// Definition: that of randnet/networks/recurrent.h, with four gates in PyTorch's order i, f, g, o, and this cell, with
// e(u) = math::GateExp, one division each:
//     p = 1 + e(-i), q = 1 + e(-2g), s = 1 + e(-f), pq = p * q
//     c' = fma(c, pq, (1 - e(-2g)) * s) / (pq * s)                      = sigmoid(f) c + sigmoid(i) tanh(g)
//     h  = (1 - e(-2c')) / ((1 + e(-o)) * (1 + e(-2c')))                = sigmoid(o) tanh(c')
#pragma once

#include "randnet/family.h"

namespace iterand {

extern const FamilyEntry kLstmEntry;

}  // namespace iterand
