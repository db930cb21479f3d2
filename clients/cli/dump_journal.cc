#include "clients/cli/dump_journal.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/read_file.h"
#include "iterand/types.h"

namespace iterand::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kNoJournal[] = "it is not the journal of a dump";

// Whether `text` may be the beginning of a journal's first line that was cut off.
bool MayBeTornFirstLine(const std::string& text) {
  const std::string start = absl::StrCat(R"({"version":")", kDumpVersion, "\"");
  return absl::StartsWith(text, start) || absl::StartsWith(start, text);
}

// A value of a description as an error quotes it. At most a list of a few values is written out: deeper values may have
// any size.
std::string Brief(const Json& value) {
  constexpr std::size_t kMostValues = 4;
  constexpr std::size_t kMostBytes = 100;
  const bool deep = value.is_structured() &&
                    (value.size() > kMostValues ||
                     std::any_of(value.begin(), value.end(), [](const Json& part) { return part.is_structured(); }));
  if (deep) return absl::StrCat("an ", value.type_name());
  std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  return text.size() <= kMostBytes ? text : text.substr(0, kMostBytes) + "...";
}

// Reads a line that ends in a newline, without it. Returns false at the end of the file, with the rest in `line`, and
// for a line that no journal has: longer than a description.
bool ReadLine(std::ifstream& file, std::string& line) {
  line.clear();
  std::streambuf& bytes = *file.rdbuf();
  for (int byte = bytes.sbumpc(); byte != std::char_traits<char>::eof(); byte = bytes.sbumpc()) {
    if (byte == '\n') return true;
    if (line.size() == kMaxSidecarBytes) return false;
    line += static_cast<char>(byte);
  }
  return false;
}

// The number of sequences in a shape, or 0 if it is not [a number from 1 to 2^48, length].
std::uint64_t ShapeSequences(const Json& shape, int length) {
  if (!shape.is_array() || shape.size() != 2 || !shape[0].is_number_unsigned() || shape[1] != length) return 0;
  const auto sequences = shape[0].get<std::uint64_t>();
  return sequences <= kMaxDumpSequences ? sequences : 0;
}

}  // namespace

std::string FormatName(DumpFormat format) { return format == DumpFormat::kBin ? "bin" : "npy"; }

Json DumpIdentity::ToJson() const {
  Json json;
  json["version"] = kDumpVersion;
  json["format"] = FormatName(format);
  if (loss_mask) json["content"] = "loss_mask: 1 where a token is to be predicted, else 0";
  json["engine_version"] = engine_version;
  json["seed"] = seed;
  json["dtype"] = DtypeName(dtype);
  json["shape"] = {sequences, length};
  json["start"] = start;
  json["shard"] = {{"rank", rank}, {"world_size", world_size}};
  json["fingerprint"] = fingerprint;
  json["vocab_size"] = vocab_size;
  json["recipe"] = recipe;
  return json;
}

std::string DumpIdentity::Header() const {
  if (format == DumpFormat::kBin) return "";
  const char* type = dtype == Dtype::kUint8 ? "|u1" : dtype == Dtype::kUint16 ? "<u2" : "<u4";
  std::string text =
      absl::StrCat("{'descr': '", type, "', 'fortran_order': False, 'shape': (", sequences, ", ", length, "), }");
  constexpr std::size_t kPrefix = 10;
  text.append(63 - (kPrefix + text.size()) % 64, ' ');
  text += '\n';
  std::string header("\x93NUMPY\x01\x00", 8);
  header += static_cast<char>(text.size() & 0xff);
  header += static_cast<char>(text.size() >> 8);
  return header + text;
}

absl::Status InTheWay(const std::string& path, const std::string& why) {
  return absl::AlreadyExistsError(
      absl::StrCat(path, " is in the way: ", why, "; choose another --out or --name, or remove it"));
}

absl::StatusOr<std::uint64_t> DescribedSequences(const std::string& path, const Json& found,
                                                 const DumpIdentity& wanted) {
  std::uint64_t sequences = 0;
  const Json expected = wanted.ToJson();
  for (const auto& [key, value] : expected.items()) {
    if (key == "recipe") continue;  // the fingerprint is of all of it that the tokens depend on
    const auto entry = found.find(key);
    if (entry != found.end()) {
      if (key == "shape") sequences = ShapeSequences(*entry, wanted.length);
      if (key == "shape" ? sequences > 0 : *entry == value) continue;
    }
    const std::string was = entry == found.end() ? "nothing" : Brief(*entry);
    return absl::AlreadyExistsError(absl::StrCat(path, " belongs to another dump (", key, " is ", was, " there and ",
                                                 Brief(value), " here); choose another --out or --name, or remove it"));
  }
  return sequences;
}

absl::StatusOr<Sidecar> ReadSidecar(const std::string& path, const DumpIdentity& wanted) {
  const absl::StatusOr<std::string> text = ReadFile(path, kMaxSidecarBytes);
  if (!text.ok()) return text.status();
  const Json json = Json::parse(*text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return InTheWay(path, "it is not the description of a dump");
  const absl::StatusOr<std::uint64_t> sequences = DescribedSequences(path, json, wanted);
  if (!sequences.ok()) return sequences.status();
  Sidecar sidecar{.sequences = *sequences, .sha256 = ""};
  if (const auto hash = json.find("sha256"); hash != json.end() && hash->is_string()) sidecar.sha256 = *hash;
  return sidecar;
}

std::string ToLine(const ChunkLine& chunk) { return absl::StrCat(chunk.sha256, " ", chunk.sequences, "\n"); }

JournalReader::JournalReader(const std::string& path, const DumpIdentity& wanted)
    : path_(path), wanted_(&wanted), file_(path, std::ios::binary) {}

absl::StatusOr<JournalReader> JournalReader::Open(const std::string& path, const DumpIdentity& wanted) {
  JournalReader reader(path, wanted);
  std::string line;
  // A torn first line has no newline, and no tokens depend on it.
  if (!ReadLine(reader.file_, line)) {
    if (!MayBeTornFirstLine(line)) return InTheWay(path, kNoJournal);
    reader.at_end_ = true;
    return reader;
  }
  const Json found = Json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!found.is_object()) return InTheWay(path, kNoJournal);
  const absl::StatusOr<std::uint64_t> target = DescribedSequences(path, found, wanted);
  if (!target.ok()) return target.status();
  reader.target_ = *target;
  reader.size_ = line.size() + 1;
  return reader;
}

std::optional<ChunkLine> JournalReader::Next(std::uint64_t before, std::uint64_t most) {
  pending_ = 0;
  std::string line;
  while (ReadLine(file_, line)) {
    if (absl::StartsWith(line, "{")) {
      const Json found = Json::parse(line, nullptr, /*allow_exceptions=*/false);
      if (!found.is_object()) return std::nullopt;
      const absl::StatusOr<std::uint64_t> target = DescribedSequences(path_, found, *wanted_);
      if (!target.ok() || *target < before) return std::nullopt;
      target_ = *target;
      size_ += line.size() + 1;
      continue;
    }
    most = std::min(most, target_ - before);
    if (most == 0) return std::nullopt;
    const std::vector<std::string> words = absl::StrSplit(line, ' ');
    ChunkLine chunk{.sha256 = words[0], .sequences = 0};
    // A line of an earlier version has no number: its chunk is as large as it can be.
    if (words.size() == 1) chunk.sequences = most;
    if (words.size() > 1 && !absl::SimpleAtoi(words[1], &chunk.sequences)) return std::nullopt;
    if (words.size() > 2 || chunk.sequences == 0 || chunk.sequences > most) return std::nullopt;
    pending_ = line.size() + 1;
    return chunk;
  }
  at_end_ = true;
  return std::nullopt;
}

}  // namespace iterand::cli
