// Random GRU that writes a row token by token while it reads another (Cho et al. 2014, "Learning phrase representations
// using RNN encoder-decoder", arXiv 1406.1078, in the form of PyTorch's torch.nn.GRU and cuDNN: the reset gate acts on
// the product with h, its bias included).
//
// Definition: that of randnet/networks/recurrent.h, with three gates in PyTorch's order r, z, n. Gate n has two sums:
// n_x over the inputs from the first bias, and n_h over its own h from the second. The cell, with e(u) = math::GateExp
// and one division each:
//     a  = n_x + n_h / (1 + e(-r))                                      = n_x + sigmoid(r) n_h
//     q  = 1 + e(-2a)
//     h' = fma(h, q, e(-z) * (1 - e(-2a))) / ((1 + e(-z)) * q)          = sigmoid(z) h + (1 - sigmoid(z)) tanh(a)
#pragma once

#include "randnet/family.h"

namespace iterand {

extern const FamilyEntry kGruEntry;

}  // namespace iterand
