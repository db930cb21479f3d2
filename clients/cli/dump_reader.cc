#include "clients/cli/dump_reader.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "clients/cli/dump_journal.h"
#include "clients/cli/formats.h"
#include "common/read_file.h"
#include "common/status_message.h"
#include "iterate/index_map.h"
#include "iterate/limits.h"
#include "iterate/recipe.h"
#include "iterate/recipe_json.h"
#include "nlohmann/json.hpp"

namespace iterand::cli {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr char kUnfinished[] = ".partial";

// The description of a dump in a file, or null if the file is none.
Json DescriptionIn(const std::string& path) {
  const absl::StatusOr<std::string> text = ReadFile(path, kMaxSidecarBytes);
  if (!text.ok()) return nullptr;
  Json json = Json::parse(*text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return nullptr;
  const auto version = json.find("version");
  const bool is_dump = version != json.end() && version->is_string() &&
                       absl::StartsWith(version->get_ref<const std::string&>(), "iterand dump ");
  return is_dump ? std::move(json) : nullptr;
}

bool IsFolder(const std::string& path) {
  std::error_code ignored;
  return fs::is_directory(path, ignored);
}

bool IsTokenFileName(const std::string& path) { return absl::EndsWith(path, ".bin") || absl::EndsWith(path, ".npy"); }

// The description of the one dump in a folder.
absl::StatusOr<std::string> DescriptionInFolder(const std::string& folder) {
  std::vector<std::string> found;
  std::vector<std::string> unfinished;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    const std::string path = entry->path().string();
    if (IsTokenFileName(std::string(absl::StripSuffix(path, kUnfinished))) && absl::EndsWith(path, kUnfinished)) {
      unfinished.push_back(path);
    }
    if (!absl::EndsWith(path, ".json")) continue;
    if (const Json json = DescriptionIn(path); !json.is_null() && !json.contains("content")) found.push_back(path);
  }
  if (error) return absl::NotFoundError(absl::StrCat(folder, ": ", error.message()));
  std::ranges::sort(found);
  if (found.size() == 1) return found.front();
  if (found.size() > 1) {
    return absl::InvalidArgumentError(
        absl::StrCat(folder, " has several dumps, name one of them: ", absl::StrJoin(found, ", ")));
  }
  if (!unfinished.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(*std::ranges::min_element(unfinished),
                                                   " is a dump in progress: the command that began it completes it"));
  }
  return absl::NotFoundError(
      absl::StrCat(folder, " has no dump: no NAME.json of `iterand dump` is in it; name a .bin or .npy file instead"));
}

// Whether the file, of `bytes` bytes, holds `count` items of `item` tokens and nothing else.
absl::Status CheckSize(const TokenFile& file, std::uint64_t bytes, std::uint64_t count, std::uint64_t item) {
  const std::uint64_t item_bytes = item * DtypeBytes(file.dtype);
  if (bytes >= file.data_offset && (bytes - file.data_offset) / item_bytes == count &&
      (bytes - file.data_offset) % item_bytes == 0) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(file.path, ": has ", bytes, " bytes, which do not match the ", count,
                                                 " x ", item, " ", DtypeName(file.dtype),
                                                 " tokens that it should hold"));
}

absl::StatusOr<Dtype> DtypeOf(const std::string& path, const std::string& name) {
  for (const Dtype dtype : {Dtype::kUint8, Dtype::kUint16, Dtype::kUint32}) {
    if (name == DtypeName(dtype)) return dtype;
  }
  return absl::InvalidArgumentError(absl::StrCat(path, ": dtype is ", name, ", must be uint8, uint16 or uint32"));
}

// Throws Json::exception for a field that is missing or of another type.
absl::Status ReadFields(const std::string& path, const Json& json, TokenFile& file) {
  if (json.at("version") != kDumpVersion) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": version is ", json.at("version").get<std::string>(),
                                                   ", and this program reads ", kDumpVersion));
  }
  if (json.contains("content")) {
    return absl::InvalidArgumentError(absl::StrCat(path, " describes loss masks, not tokens"));
  }
  const absl::StatusOr<Dtype> dtype = DtypeOf(path, json.at("dtype").get<std::string>());
  if (!dtype.ok()) return dtype.status();
  file.dtype = *dtype;
  file.data_offset = json.at("data_offset").get<std::uint64_t>();
  file.sequences = json.at("shape").at(0).get<std::uint64_t>();
  const auto length = json.at("shape").at(1).get<std::int64_t>();
  const auto& shard = json.at("shard");
  file.stride = shard.at("world_size").get<std::uint32_t>();
  const auto start = json.at("start").get<std::uint64_t>();
  const auto rank = shard.at("rank").get<std::uint32_t>();
  const std::optional<std::uint64_t> first =
      rank < file.stride ? FirstOfShard(start, rank, static_cast<std::uint32_t>(file.stride)) : std::nullopt;
  if (!first || file.sequences == 0 || file.sequences > kMaxDumpSequences ||
      !IndicesExist(*first, file.stride, file.sequences)) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": start, shard and shape name no sequences"));
  }
  file.first_index = *first;
  file.engine_version = json.at("engine_version").get<std::uint32_t>();
  file.seed = json.at("seed").get<std::uint64_t>();
  file.fingerprint = json.at("fingerprint").get<std::string>();
  const absl::StatusOr<v1::Recipe> recipe = ParseRecipeJson(json.at("recipe").dump());
  if (!recipe.ok()) return WithMessage(recipe.status(), absl::StrCat(path, ": recipe: ", recipe.status().message()));
  const absl::StatusOr<ResolvedRecipe> resolved = ResolveRecipe(*recipe);
  if (!resolved.ok()) {
    return WithMessage(resolved.status(), absl::StrCat(path, ": recipe: ", resolved.status().message()));
  }
  file.recipe = resolved->proto();
  if (file.recipe.length() != length || file.recipe.vocab_size() != json.at("vocab_size").get<std::int64_t>()) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": shape or vocab_size is not that of its recipe"));
  }
  file.length = static_cast<int>(length);
  return absl::OkStatus();
}

absl::StatusOr<TokenFile> Described(const std::string& description, const Json& json) {
  TokenFile file;
  file.described = true;
  try {
    if (absl::Status status = ReadFields(description, json, file); !status.ok()) return status;
    const std::string name = fs::path(json.at("file").get<std::string>()).filename().string();
    file.path = (fs::path(description).parent_path() / name).string();
  } catch (const Json::exception& error) {
    return absl::InvalidArgumentError(
        absl::StrCat(description, ": is not a whole description of a dump: ", error.what()));
  }
  return file;
}

// The header of a NumPy array, versions 1 to 3: a Python dict as text.
absl::StatusOr<std::string> ArrayHeader(const std::string& path, std::uint64_t& data_offset) {
  constexpr std::size_t kPrefix = 8;
  std::ifstream stream(path, std::ios::binary);
  std::string prefix(kPrefix + 4, '\0');
  stream.read(prefix.data(), static_cast<std::streamsize>(prefix.size()));
  if (!stream || !absl::StartsWith(prefix, "\x93NUMPY")) {
    return absl::InvalidArgumentError(absl::StrCat(path, " is not a NumPy array"));
  }
  const auto byte = [&](std::size_t i) { return std::uint32_t{static_cast<std::uint8_t>(prefix[i])}; };
  const bool short_header = byte(6) == 1;
  const std::uint32_t size =
      short_header ? byte(8) | byte(9) << 8 : byte(8) | byte(9) << 8 | byte(10) << 16 | byte(11) << 24;
  constexpr std::uint32_t kMostText = 1 << 16;  // of what NumPy writes
  data_offset = kPrefix + (short_header ? 2 : 4) + std::uint64_t{size};
  std::string text(std::min(size, kMostText), '\0');
  stream.seekg(static_cast<std::streamoff>(data_offset - size));
  stream.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (!stream) return absl::InvalidArgumentError(absl::StrCat(path, " ends within its header"));
  return text;
}

// What follows 'key': in the header, up to `end`.
std::string HeaderValue(const std::string& header, const std::string& key, char end) {
  const std::size_t at = header.find(absl::StrCat("'", key, "':"));
  if (at == std::string::npos) return "";
  const std::size_t begin = at + key.size() + 3;
  return std::string(absl::StripAsciiWhitespace(header.substr(begin, header.find(end, begin) - begin)));
}

// Dtype and shape of an array; the length of a sequence is left 0 for one of one dimension.
absl::Status ReadArray(std::uint64_t bytes, TokenFile& file, std::uint64_t& tokens) {
  const absl::StatusOr<std::string> header = ArrayHeader(file.path, file.data_offset);
  if (!header.ok()) return header.status();
  const std::string type = HeaderValue(*header, "descr", ',');
  const std::string shape = HeaderValue(*header, "shape", ')');
  if (type == "'|u1'") {
    file.dtype = Dtype::kUint8;
  } else if (type == "'<u2'" || type == "'<u4'") {
    file.dtype = type == "'<u2'" ? Dtype::kUint16 : Dtype::kUint32;
  } else {
    return absl::InvalidArgumentError(
        absl::StrCat(file.path, ": is an array of ", type, ", must be of '|u1', '<u2' or '<u4'"));
  }
  std::vector<std::uint64_t> sizes;
  for (const absl::string_view size : absl::StrSplit(absl::StripPrefix(shape, "("), ',', absl::SkipWhitespace())) {
    if (!absl::SimpleAtoi(size, &sizes.emplace_back())) sizes.clear();
  }
  if (sizes.empty() || sizes.size() > 2 || HeaderValue(*header, "fortran_order", ',') != "False") {
    return absl::InvalidArgumentError(
        absl::StrCat(file.path, ": is an array of shape ", shape, "), must have one or two dimensions in C order"));
  }
  tokens = sizes[0];
  if (sizes.size() == 1) return CheckSize(file, bytes, tokens, 1);
  if (sizes[1] == 0 || sizes[1] > kMaxRow) {
    return absl::InvalidArgumentError(
        absl::StrCat(file.path, ": has ", sizes[1], " tokens per row, may have 1 to ", kMaxRow));
  }
  file.length = static_cast<int>(sizes[1]);
  file.sequences = sizes[0];
  return CheckSize(file, bytes, sizes[0], sizes[1]);
}

// A file without a description.
absl::StatusOr<TokenFile> Undescribed(const std::string& path, std::uint64_t bytes,
                                      std::optional<std::uint32_t> length) {
  TokenFile file;
  file.path = path;
  std::uint64_t tokens = bytes / DtypeBytes(file.dtype);
  if (absl::EndsWith(path, ".npy")) {
    if (absl::Status status = ReadArray(bytes, file, tokens); !status.ok()) return status;
  }
  if (file.length > 0) return file;
  if (!length) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": has no description beside it, so --length must say how many tokens a sequence has"));
  }
  if (*length < kMinRow || *length > kMaxRow) {
    return absl::InvalidArgumentError(absl::StrCat("--length is ", *length, ", must be ", kMinRow, " to ", kMaxRow));
  }
  file.length = static_cast<int>(*length);
  file.sequences = tokens / *length;
  if (file.sequences == 0) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": has ", tokens, " tokens, fewer than --length ", *length));
  }
  return file;
}

}  // namespace

bool NamesDump(const std::string& argument) {
  if (IsFolder(argument) || IsTokenFileName(argument)) return true;
  return absl::EndsWith(argument, ".json") && !DescriptionIn(argument).is_null();
}

absl::StatusOr<TokenFile> FindTokenFile(const std::string& argument, std::optional<std::uint32_t> length) {
  std::string description = argument;
  if (IsFolder(argument)) {
    const absl::StatusOr<std::string> found = DescriptionInFolder(argument);
    if (!found.ok()) return found.status();
    description = *found;
  } else if (IsTokenFileName(argument)) {
    description = fs::path(argument).replace_extension(".json").string();
  }
  const Json json = DescriptionIn(description);
  std::string path = argument;
  TokenFile file;
  if (!json.is_null()) {
    absl::StatusOr<TokenFile> described = Described(description, json);
    if (!described.ok()) return described.status();
    file = *std::move(described);
    // NAME.bin and NAME.npy may be side by side, and only one of them is described.
    if (!IsTokenFileName(argument) || fs::path(argument).filename() == fs::path(file.path).filename()) path = file.path;
  }
  std::error_code error;
  const std::uint64_t bytes = fs::file_size(path, error);
  if (error) return absl::NotFoundError(absl::StrCat(path, ": ", error.message()));
  if (path != file.path) {
    absl::StatusOr<TokenFile> undescribed = Undescribed(path, bytes, length);
    if (!undescribed.ok()) return undescribed.status();
    file = *std::move(undescribed);
  } else if (absl::Status status = CheckSize(file, bytes, file.sequences, static_cast<std::uint64_t>(file.length));
             !status.ok()) {
    return status;
  }
  if (length && std::cmp_not_equal(*length, file.length)) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": has ", file.length, " tokens per sequence, and --length is ", *length));
  }
  if (file.sequences == 0) return absl::InvalidArgumentError(absl::StrCat(path, ": has no sequence"));
  return file;
}

TokenFileReader::TokenFileReader(const TokenFile& file, std::uint64_t first)
    : file_(file),
      stream_(file.path, std::ios::binary),
      bytes_(static_cast<std::size_t>(file.length) * DtypeBytes(file.dtype)) {
  stream_.seekg(static_cast<std::streamoff>(file.data_offset + first * bytes_.size()));
}

absl::Status TokenFileReader::Next(std::span<std::uint32_t> tokens) {
  stream_.read(reinterpret_cast<char*>(bytes_.data()), static_cast<std::streamsize>(bytes_.size()));
  if (!stream_) return absl::DataLossError(absl::StrCat(file_.path, ": cannot be read to the end of its sequences"));
  WidenTokens(bytes_, file_.dtype, wide_);
  std::ranges::copy(wide_, tokens.begin());
  return absl::OkStatus();
}

}  // namespace iterand::cli
