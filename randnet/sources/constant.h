// Constant rows: one uniformly drawn token, repeated. Every row has its own.
#pragma once

#include "randnet/family.h"

namespace iterand {

extern const FamilyEntry kConstantEntry;

}  // namespace iterand
