#include "server/http/page_api.h"

#include <algorithm>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "iterate/plan.h"
#include "iterate/presets.h"
#include "randnet/family.h"
#include "server/answers/describe.h"
#include "server/answers/inspection.h"
#include "server/answers/stream_spec.h"
#include "server/http/page_explain.h"
#include "server/http/page_rows.h"
#include "server/http/page_rules.h"

namespace iterand {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kPosts[] = {"/api/describe", "/api/preview", "/api/statistics", "/api/explain"};

Json RowJson(const Stream& stream, std::uint64_t index, const RowProvenance& from,
             const std::vector<std::string>& parts) {
  Json row = {{"index", absl::StrCat(index)}, {"lane", from.lane}, {"segment", absl::StrCat(from.segment)},
              {"round", from.round},          {"row", from.row},   {"family", stream.family_name(from)},
              {"depth", from.depth}};
  if (!parts.empty()) row["part"] = parts[from.part];
  return row;
}

// Tokens per second of one core; 0 if no segment was made yet and the recipe has no estimate.
double TokensPerSecond(const SharedStream& open) {
  const double seconds = open.SecondsPerSegment();
  if (seconds <= 0) return 0;
  return static_cast<double>(open.stream().segment_sequences()) * open.stream().length() / seconds;
}

absl::StatusOr<PageRange> RangeOf(const PageRequest& request, const Stream& stream, std::uint64_t most_rows) {
  const absl::StatusOr<std::uint64_t> count =
      request.Number("count", 1, most_rows, std::min<std::uint64_t>(64, most_rows));
  if (!count.ok()) return count.status();
  const absl::StatusOr<std::uint64_t> first =
      request.Number("first", 0, std::numeric_limits<std::uint64_t>::max() - most_rows, 0);
  if (!first.ok()) return first.status();
  const absl::StatusOr<std::uint64_t> tokens = request.Number("tokens", 1, 65536, 65536);
  if (!tokens.ok()) return tokens.status();
  const std::uint64_t shown = std::min({*tokens, static_cast<std::uint64_t>(stream.length()), kMaxPageTokens / *count});
  return PageRange{.first = *first, .count = *count, .tokens = shown};
}

}  // namespace

bool PageApi::HasGet(std::string_view path) { return path == "/api/presets" || path == "/api/live"; }
bool PageApi::HasPost(std::string_view path) { return std::ranges::count(kPosts, path) > 0; }
PageApi::Work PageApi::WorkOf(std::string_view path) {
  if (path == "/api/preview") return Work::kPreview;
  if (path == "/api/statistics") return Work::kStatistics;
  return path == "/api/explain" ? Work::kExplanation : Work::kLittle;
}

void PageApi::Answer(HttpExchange& exchange) const {
  Result result = Dispatch(exchange);
  if (!result.ok()) return exchange.Respond(ErrorResponse(result.status()));
  exchange.Respond({.body = result->dump(-1, ' ', false, Json::error_handler_t::replace)});
}

PageApi::Result PageApi::Dispatch(HttpExchange& exchange) const {
  const std::string& path = exchange.head().path;
  if (exchange.cancelled()) return absl::CancelledError("the request was given up");
  if (path == "/api/presets") return Presets();
  if (path == "/api/live") return Live();
  if (path == "/api/describe") return Describe(exchange);
  if (path == "/api/preview") return Preview(exchange);
  if (path == "/api/statistics") return Statistics(exchange);
  return Explain(exchange);
}

absl::StatusOr<std::shared_ptr<SharedStream>> PageApi::Open(const PageRequest& request, v1::Recipe* asked) const {
  const absl::StatusOr<v1::StreamSpec> spec = request.Stream();
  if (!spec.ok()) return spec.status();
  absl::StatusOr<v1::Recipe> recipe = NamedRecipe(*spec);
  if (!recipe.ok()) return recipe.status();
  absl::StatusOr<std::shared_ptr<SharedStream>> open = engine_.Open(*recipe, spec->seed());
  if (open.ok() && asked != nullptr) *asked = *std::move(recipe);
  return open;
}

PageApi::Result PageApi::Presets() const {
  Json json = {{"engine_version", kEngineVersion}, {"default", kDefaultPreset}};
  json["presets"] = Json::array();
  v1::DescribeResponse list;
  DescribeServer(list);
  const std::span<const PresetEntry> entries = AllPresets();
  for (std::size_t i = 0; i < entries.size(); ++i) {
    const std::string& description = list.presets(static_cast<int>(i)).description();
    json["presets"].push_back({{"name", entries[i].name}, {"description", description}, {"recipe", entries[i].json}});
  }
  json["families"] = Json::array();
  for (const v1::FamilyInfo& family : list.families()) {
    json["families"].push_back(
        {{"name", family.name()}, {"summary", family.summary()}, {"reads_input", family.reads_input()}});
  }
  return json;
}

PageApi::Result PageApi::Live() const {
  const ServerStats stats = stats_();
  const std::chrono::duration<double> uptime = std::chrono::steady_clock::now() - begin_;
  Json json = {{"seconds", uptime.count()},
               {"threads", engine_.threads()},
               {"streams_open", stats.streams_open},
               {"streams_started", stats.streams_started},
               {"sequences", stats.sequences},
               {"tokens", stats.tokens},
               {"sent_bytes", stats.batch_bytes},
               {"core_seconds", stats.generation_seconds + stats.background_seconds},
               {"wait_seconds", stats.wait_seconds},
               {"segments_queued", stats.segments_queued},
               {"segments_running", stats.segments_running},
               {"cache_hits", stats.cache_hits},
               {"cache_misses", stats.cache_misses},
               {"held_bytes", stats.held_bytes + stats.cache_bytes},
               {"connections", stats.connections.open}};
  json["rows"] = Json::array();
  for (const LiveRows::Row& row : live_.Look()) {
    Json one = {{"number", row.number},
                {"index", absl::StrCat(row.index)},
                {"stream", row.stream},
                {"family", row.family},
                {"depth", row.depth},
                {"dtype", DtypeName(row.dtype)},
                {"tokens", absl::Base64Escape(row.tokens)}};
    if (!row.part.empty()) one["part"] = row.part;
    json["rows"].push_back(std::move(one));
  }
  return json;
}

PageApi::Result PageApi::Describe(HttpExchange& exchange) const {
  const absl::StatusOr<PageRequest> request = PageRequest::Parse(exchange.body(), {"at"});
  if (!request.ok()) return request.status();
  const absl::StatusOr<std::uint64_t> at = request->Number("at", 0, std::numeric_limits<std::uint64_t>::max(), 0);
  if (!at.ok()) return at.status();
  v1::Recipe asked;
  const absl::StatusOr<std::shared_ptr<SharedStream>> open = Open(*request, &asked);
  if (!open.ok()) return open.status();
  v1::StreamInfo info;
  DescribeStream((*open)->stream(), asked, *at, info);
  Json json = {{"fingerprint", ToHex((*open)->stream().fingerprint())},
               {"engine_version", kEngineVersion},
               {"seed", absl::StrCat(info.seed())},
               {"description", info.recipe().description()},
               {"dtype", DtypeName((*open)->stream().dtype())},
               {"length", info.recipe().length()},
               {"vocab_size", info.recipe().vocab_size()},
               {"lanes", info.recipe().lanes()},
               {"segment_sequences", info.recipe().segment_sequences()},
               {"flops_per_token", info.cost().flops_per_token()},
               {"first_batch_sequences", info.cost().first_batch_sequences()},
               {"tokens_per_second", TokensPerSecond(**open)}};
  json["parts"] = Json::array();
  for (const v1::PartInfo& part : info.parts()) {
    json["parts"].push_back(
        {{"name", part.name()}, {"share", part.share()}, {"flops_per_token", part.flops_per_token()}});
  }
  json["families"] = Json::array();
  for (const v1::Family& family : info.recipe().families()) {
    if (const FamilyEntry* const entry = FindFamily(family.kind_case())) {
      json["families"].push_back({{"name", entry->name}, {"weight", family.weight()}});
    }
  }
  json["recipe"] = info.recipe_json();
  return json;
}

PageApi::Result PageApi::Preview(HttpExchange& exchange) const {
  const absl::StatusOr<PageRequest> request = PageRequest::Parse(exchange.body(), {"first", "count", "tokens"});
  if (!request.ok()) return request.status();
  v1::Recipe asked;
  const absl::StatusOr<std::shared_ptr<SharedStream>> open = Open(*request, &asked);
  if (!open.ok()) return open.status();
  const Stream& stream = (*open)->stream();
  const absl::StatusOr<PageRange> range = RangeOf(*request, stream, kMaxPageRows);
  if (!range.ok()) return range.status();
  const absl::StatusOr<PageRows> rows = ReadPageRows(engine_, *open, *range, kPagePatience, exchange);
  if (!rows.ok()) return rows.status();
  Json json = {{"fingerprint", ToHex(stream.fingerprint())},
               {"dtype", DtypeName(stream.dtype())},
               {"length", stream.length()},
               {"vocab_size", stream.recipe().vocab_size()},
               {"shown", range->tokens},
               {"seconds", rows->seconds},
               {"tokens_per_second", TokensPerSecond(**open)},
               {"tokens", absl::Base64Escape(rows->tokens)}};
  const std::vector<std::string> parts = AskedPartNames(stream, asked);
  json["rows"] = Json::array();
  for (std::size_t i = 0; i < range->count; ++i) {
    json["rows"].push_back(RowJson(stream, range->first + i, rows->provenance[i], parts));
  }
  return json;
}

PageApi::Result PageApi::Statistics(HttpExchange& exchange) const {
  const absl::StatusOr<PageRequest> request = PageRequest::Parse(exchange.body(), {"first", "count"});
  if (!request.ok()) return request.status();
  v1::Recipe asked;
  const absl::StatusOr<std::shared_ptr<SharedStream>> open = Open(*request, &asked);
  if (!open.ok()) return open.status();
  const Stream& stream = (*open)->stream();
  absl::StatusOr<PageRange> range = RangeOf(*request, stream, kMaxStatisticsRows);
  if (!range.ok()) return range.status();
  // Whole sequences, fewer of long ones.
  range->tokens = static_cast<std::size_t>(stream.length());
  range->count = std::clamp<std::size_t>(kMaxPageTokens / range->tokens, 1, range->count);
  const absl::StatusOr<PageRows> rows = ReadPageRows(engine_, *open, *range, kPagePatience, exchange);
  if (!rows.ok()) return rows.status();
  Inspector inspector(stream.recipe(), AskedPartNames(stream, asked));
  for (std::size_t i = 0; i < range->count; ++i) {
    if (exchange.cancelled()) return absl::CancelledError("the request was given up");
    const char* const row = rows->tokens.data() + i * stream.sequence_bytes();
    inspector.Add(reinterpret_cast<const std::byte*>(row), rows->provenance[i].part);
  }
  return InspectionJson(inspector.Result());
}

PageApi::Result PageApi::Explain(HttpExchange& exchange) const {
  const absl::StatusOr<PageRequest> request = PageRequest::Parse(exchange.body(), {"index"});
  if (!request.ok()) return request.status();
  const absl::StatusOr<std::uint64_t> index = request->Number("index", 0, std::numeric_limits<std::uint64_t>::max(), 0);
  if (!index.ok()) return index.status();
  v1::Recipe asked;
  const absl::StatusOr<std::shared_ptr<SharedStream>> open = Open(*request, &asked);
  if (!open.ok()) return open.status();
  const StreamCost& cost = (*open)->stream().Cost();
  if (static_cast<double>(cost.workspace_bytes + cost.segment_bytes) > kMaxExplainBytes) {
    return absl::ResourceExhaustedError(
        "the page explains no stream whose workspace and segment take over 64 MB; use iterand explain");
  }
  return ExplanationJson((*open)->stream(), AskedPartNames((*open)->stream(), asked), *index, kPagePatience, exchange);
}

}  // namespace iterand
