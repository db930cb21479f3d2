// What a recipe is, in few words.
#pragma once

#include <string>

#include "iterand/v1/noise_service.pb.h"
#include "iterand/v1/recipe.pb.h"

namespace iterand::cli {

// "123 ", "45 k", "6.7 M": for people, before a unit.
std::string Magnitude(double value);

// "50 % lstm, 25 % pointwise, 25 % markov".
std::string FamilyShares(const v1::Recipe& recipe);

// A resolved recipe in one line: tokens, length, families or parts, lanes, segments.
std::string RecipeLine(const v1::Recipe& recipe);

}  // namespace iterand::cli
