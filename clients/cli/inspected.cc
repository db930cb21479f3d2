#include "clients/cli/inspected.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <span>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "clients/cli/dump_reader.h"
#include "clients/cli/formats.h"
#include "clients/cli/progress.h"
#include "clients/cli/recipe_text.h"
#include "iterate/fingerprint.h"
#include "iterate/mixture.h"
#include "iterate/plan.h"
#include "server/answers/inspection.h"

namespace iterand::cli {
namespace {

using Json = nlohmann::ordered_json;

// Adds a sequence to the picture while it has room.
void AddToPicture(std::span<const std::uint32_t> tokens, Inspected::Row row, Inspected& inspected) {
  if (inspected.rows.size() == kPictureRows) return;
  inspected.shown = std::min(tokens.size(), kPictureTokens);
  inspected.rows.push_back(std::move(row));
  inspected.picture.insert(inspected.picture.end(), tokens.begin(), tokens.begin() + inspected.shown);
}

// Tokens as bytes of a dtype that holds them.
void Narrow(std::span<const std::uint32_t> tokens, Dtype dtype, std::string& bytes) {
  const std::size_t width = DtypeBytes(dtype);
  bytes.resize(tokens.size() * width);
  for (std::size_t i = 0; i < tokens.size(); ++i) std::memcpy(bytes.data() + i * width, &tokens[i], width);
}

// Which part of a mixture made each sequence of a dump.
class DumpParts {
 public:
  // Knows nothing of a recipe that is not a mixture, or that this program would make another stream of.
  explicit DumpParts(const TokenFile& file) {
    if (!file.described || file.recipe.mixture().empty() || file.engine_version != kEngineVersion) return;
    const absl::StatusOr<std::shared_ptr<const StreamPlan>> plan = StreamPlan::Make(file.recipe, file.seed);
    if (!plan.ok() || ToHex((*plan)->fingerprint()) != file.fingerprint) return;
    plan_ = *plan;
    draw_.emplace(*plan_);
    names_ = PartNames(file.recipe);
  }

  const std::vector<std::string>& names() const { return names_; }

  // As Inspector::Add has it.
  int PartOf(const TokenFile& file, std::uint64_t index) {
    if (!draw_) return file.recipe.mixture().empty() ? 0 : -1;
    const Position position = plan_->index_map().Locate(index);
    return draw_->PartOf(position.lane, position.segment);
  }

 private:
  std::shared_ptr<const StreamPlan> plan_;
  std::optional<PartDraw> draw_;
  std::vector<std::string> names_;
};

// One more than the largest token of some sequences, at least 2.
absl::StatusOr<std::int64_t> VocabularyOf(const TokenFile& file, std::uint64_t first, std::uint64_t count) {
  TokenFileReader reader(file, first);
  std::vector<std::uint32_t> tokens(static_cast<std::size_t>(file.length));
  std::uint32_t largest = 1;
  for (std::uint64_t i = 0; i < count; ++i) {
    if (absl::Status status = reader.Next(tokens); !status.ok()) return status;
    largest = std::max(largest, *std::ranges::max_element(tokens));
  }
  return std::int64_t{largest} + 1;
}

}  // namespace

absl::StatusOr<Inspected> InspectStream(const StreamChoice& stream, const RangeChoice& range,
                                        const ServerChoice& server, int threads) {
  const absl::StatusOr<std::unique_ptr<SequenceSource>> source =
      SequenceSource::Open(stream, range, server, {.threads = threads, .provenance = true});
  if (!source.ok()) return source.status();
  const StreamFacts& facts = (*source)->facts();
  const v1::Recipe& recipe = facts.info.recipe();
  Inspected inspected;
  const std::string& name = stream.spec.recipe;
  inspected.name = absl::StartsWith(absl::StripLeadingAsciiWhitespace(name), "{") ? "recipe" : name;
  inspected.description = recipe.description();
  inspected.line = RecipeLine(recipe);
  inspected.vocab_size = recipe.vocab_size();
  inspected.first_index = range.start;
  inspected.fingerprint = absl::BytesToHexString(facts.info.fingerprint());
  inspected.seed = facts.info.seed();
  inspected.engine_version = facts.engine_version;

  std::vector<std::string> parts;
  for (const v1::PartInfo& part : facts.info.parts()) parts.push_back(part.name());
  Inspector inspector(recipe, parts);
  Progress progress(0, range.count, facts.length());
  RowBatch batch;
  std::vector<std::uint32_t> tokens;
  std::uint64_t done = 0;
  while ((*source)->Next(batch)) {
    for (int row = 0; row < batch.rows; ++row) {
      const auto bytes = batch.tokens.subspan(row * facts.sequence_bytes(), facts.sequence_bytes());
      inspector.Add(bytes.data(), batch.parts.empty() ? 0 : batch.parts[row]);
      if (inspected.rows.size() == kPictureRows) continue;
      WidenTokens(bytes, facts.dtype, tokens);
      AddToPicture(tokens, {.index = batch.first_index + row * batch.stride, .made = batch.provenance[row]}, inspected);
    }
    done += batch.rows;
    progress.Update(done);
  }
  if (!(*source)->status().ok()) return (*source)->status();
  inspected.inspection = inspector.Result();
  return inspected;
}

absl::StatusOr<Inspected> InspectDump(const std::string& name, std::optional<std::uint32_t> length, std::uint64_t start,
                                      std::uint64_t count) {
  absl::StatusOr<TokenFile> found = FindTokenFile(name, length);
  if (!found.ok()) return found.status();
  TokenFile& file = *found;
  const std::uint64_t first =
      start <= file.first_index ? 0 : (start - file.first_index - 1) / file.stride + 1;  // of the file
  if (first >= file.sequences) {
    return absl::OutOfRangeError(absl::StrCat("--start is ", start, ", and ", file.path, " ends with the index ",
                                              file.first_index + (file.sequences - 1) * file.stride));
  }
  count = std::min(count, file.sequences - first);
  Inspected inspected;
  inspected.name = name;
  inspected.first_index = file.first_index + first * file.stride;
  if (file.described) {
    inspected.description = file.recipe.description();
    inspected.line = RecipeLine(file.recipe);
    inspected.fingerprint = file.fingerprint;
    inspected.seed = file.seed;
    inspected.engine_version = file.engine_version;
  } else {
    const absl::StatusOr<std::int64_t> vocabulary = VocabularyOf(file, first, count);
    if (!vocabulary.ok()) return vocabulary.status();
    file.recipe.set_length(file.length);
    file.recipe.set_vocab_size(*vocabulary);
    file.recipe.set_alphabet_size(std::min<std::int64_t>(*vocabulary, 65536));
    inspected.line = absl::StrCat(DtypeName(file.dtype), " tokens without a description, ", file.length,
                                  " per sequence; those inspected are below ", *vocabulary);
  }
  inspected.vocab_size = file.recipe.vocab_size();

  DumpParts parts(file);
  Inspector inspector(file.recipe, parts.names());
  TokenFileReader reader(file, first);
  std::vector<std::uint32_t> tokens(static_cast<std::size_t>(file.length));
  std::string bytes;
  for (std::uint64_t i = 0; i < count; ++i) {
    if (absl::Status status = reader.Next(tokens); !status.ok()) return status;
    if (std::ranges::any_of(tokens,
                            [&](std::uint32_t token) { return std::cmp_greater_equal(token, inspected.vocab_size); })) {
      return absl::DataLossError(absl::StrCat(file.path, ": sequence ", first + i, " has a token that is not below ",
                                              inspected.vocab_size, ", the vocabulary of its description"));
    }
    // As the stream has them, since the shares of zlib are of bytes.
    Narrow(tokens, SmallestDtype(inspected.vocab_size), bytes);
    const std::uint64_t index = inspected.first_index + i * file.stride;
    const int part = parts.PartOf(file, index);
    inspector.Add(reinterpret_cast<const std::byte*>(bytes.data()), part);
    Inspected::Row row{.index = index, .made = {}};
    if (part >= 0 && !parts.names().empty()) {
      row.made.emplace();
      row.made->part = parts.names()[static_cast<std::size_t>(part)];
    }
    AddToPicture(tokens, std::move(row), inspected);
  }
  inspected.inspection = inspector.Result();
  return inspected;
}

Json InspectedJson(const Inspected& inspected, bool picture) {
  Json json = {{"name", inspected.name}, {"description", inspected.description}, {"line", inspected.line}};
  if (!inspected.fingerprint.empty()) {
    json["fingerprint"] = inspected.fingerprint;
    json["engine_version"] = inspected.engine_version;
    json["seed"] = inspected.seed;
  }
  json["vocab_size"] = inspected.vocab_size;
  json["first_index"] = inspected.first_index;
  json["statistics"] = InspectionJson(inspected.inspection);
  if (!picture) return json;
  // Indices as text, since JavaScript's numbers are exact up to 2^53 only.
  json["first_index"] = absl::StrCat(inspected.first_index);
  if (json.contains("seed")) json["seed"] = absl::StrCat(inspected.seed);
  const Dtype dtype = SmallestDtype(inspected.vocab_size);
  std::string bytes;
  Narrow(inspected.picture, dtype, bytes);
  json["dtype"] = DtypeName(dtype);
  json["shown"] = inspected.shown;
  json["tokens"] = absl::Base64Escape(bytes);
  json["rows"] = Json::array();
  for (const Inspected::Row& row : inspected.rows) {
    Json one = {{"index", absl::StrCat(row.index)}};
    if (row.made && !row.made->family.empty()) {
      one["family"] = row.made->family;
      one["depth"] = row.made->depth;
    }
    if (row.made && !row.made->part.empty()) one["part"] = row.made->part;
    json["rows"].push_back(std::move(one));
  }
  return json;
}

}  // namespace iterand::cli
