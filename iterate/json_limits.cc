#include "iterate/json_limits.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "iterate/limits.h"

namespace iterand {

absl::Status CheckJsonLimits(std::string_view json) {
  int depth = 0;
  int values = 1;  // each bracket begins at most one, and each comma separates two
  for (std::size_t i = 0; i < json.size(); ++i) {
    switch (const char c = json[i]; c) {
      case '"':
      case '\'':  // protobuf takes these for quotes, too
        for (++i; i < json.size() && json[i] != c; ++i) {
          if (json[i] == '\\') ++i;
        }
        break;
      case '[':
      case '{':
        ++values;
        if (++depth > kMaxRecipeDepth) {
          return absl::InvalidArgumentError(absl::StrCat("recipe: JSON text nests deeper than ", kMaxRecipeDepth,
                                                         " brackets and braces at ", TextPlace(json, i)));
        }
        break;
      case ']':
      case '}':
        --depth;
        break;
      case ',':
        ++values;
        break;
      default:
        break;
    }
    if (values > kMaxRecipeValues) {
      return absl::InvalidArgumentError(absl::StrCat("recipe: JSON text has more than ", kMaxRecipeValues,
                                                     " values, the most that a recipe may have, at ",
                                                     TextPlace(json, i)));
    }
  }
  return absl::OkStatus();
}

std::string TextPlace(std::string_view text, std::size_t offset) {
  const std::string_view before = text.substr(0, offset);
  const std::size_t newline = before.rfind('\n');
  const std::size_t column = before.size() - (newline == std::string_view::npos ? 0 : newline + 1) + 1;
  return absl::StrCat("line ", std::count(before.begin(), before.end(), '\n') + 1, ", column ", column);
}

}  // namespace iterand
