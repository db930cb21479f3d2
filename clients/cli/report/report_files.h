// The files of this folder, compiled in.
#pragma once

#include <span>

#include "server/http/page_files.h"

namespace iterand::cli {

std::span<const PageFile> ReportFiles();

}  // namespace iterand::cli
