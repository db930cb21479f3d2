// "Did you mean": the names that are nearest to a word that matches none.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace iterand {

// " (did you mean A?)", with up to three names, " (did you mean A, B or C?)", or "" if no name is near. A name is near
// if few letters are wrong, missing, too many or swapped with their neighbour: one, or at most a third. Without such a
// name, those that contain the word are near. Upper and lower case count as the same letter, - and _ too. Words of more
// than 64 bytes get no suggestion, so the work is bounded. `prefix` is written before each name.
std::string DidYouMean(std::string_view word, std::span<const std::string> names, std::string_view prefix = "");

}  // namespace iterand
