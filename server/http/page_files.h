// The files of server/page/, compiled in.
#pragma once

#include <span>
#include <string_view>

namespace iterand {

struct PageFile {
  std::string_view path;  // "/live.js"; "/" is index.html
  std::string_view type;  // of its content, as HTTP has it
  std::string_view content;
};

// All files, by path.
std::span<const PageFile> PageFiles();

}  // namespace iterand
