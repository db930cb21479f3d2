// Reports of `iterand inspect` for terminals.
#pragma once

#include <span>
#include <string>

#include "clients/cli/inspected.h"
#include "clients/cli/terminal.h"

namespace iterand::cli {

// Statistics, with the beginnings of some sequences: as coloured cells, or as characters (GlyphOf) on a terminal
// without colours. One stream has all its statistics; several have one line each.
std::string TextReport(std::span<const Inspected> all, const Terminal& terminal);

}  // namespace iterand::cli
