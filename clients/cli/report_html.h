// Reports of `iterand inspect` as pages for browsers.
#pragma once

#include <span>
#include <string>

#include "absl/status/statusor.h"
#include "clients/cli/inspected.h"

namespace iterand::cli {

// One HTML page that needs no other file and may load none. Style, pictures and charts are those of the server's page.
// Equal input gives equal bytes.
absl::StatusOr<std::string> HtmlReport(std::span<const Inspected> all);

}  // namespace iterand::cli
