// Limits on JSON text, checked before any parser sees it.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace iterand {

// Checks that `json` opens at most kMaxRecipeDepth brackets and braces at a time and holds at most kMaxRecipeValues
// values (iterate/limits.h). Parsers need time and memory that grow faster than the text beyond these. One pass over
// the text, no memory. Text that is not JSON may pass.
// Errors: InvalidArgument with the line and the column where the limit is exceeded.
absl::Status CheckJsonLimits(std::string_view json);

// The place of byte `offset`: "line 3, column 14". Columns count bytes, from 1.
std::string TextPlace(std::string_view text, std::size_t offset);

}  // namespace iterand
