#include "server/http/page_statistics.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "iterate/plan.h"
#include "iterate/statistics.h"
#include "iterate/structure.h"
#include "server/answers/describe.h"

namespace iterand {
namespace {

using Json = nlohmann::ordered_json;

std::vector<std::uint32_t> Widened(const char* row, Dtype dtype, int length) {
  std::vector<std::uint32_t> tokens(static_cast<std::size_t>(length), 0);
  const std::size_t width = DtypeBytes(dtype);
  for (std::size_t t = 0; t < tokens.size(); ++t) std::memcpy(&tokens[t], row + t * width, width);
  return tokens;
}

// What the complexity of a part's sequences is measured against.
int AlphabetOf(const StreamPlan& part) {
  if (part.recipe().pack() > 1) return static_cast<int>(std::min<std::int64_t>(part.recipe().vocab_size(), 65536));
  return part.alphabet();
}

Json BandsJson(const StreamPlan& plan, const std::vector<std::string>& names) {
  Json bands = Json::array();
  for (int i = 0; i < plan.parts(); ++i) {
    if (!plan.part(i).recipe().has_band()) continue;
    const v1::Band& band = plan.part(i).recipe().band();
    Json one = {{"low", band.low()}, {"high", band.high()}};
    if (!names.empty()) one["part"] = names[static_cast<std::size_t>(i)];
    bands.push_back(std::move(one));
  }
  return bands;
}

Json PartsJson(const StreamStatistics& statistics, const std::vector<std::string>& names) {
  Json parts = Json::array();
  for (std::size_t i = 0; i < names.size(); ++i) {
    const PartStatistics part = i < statistics.parts.size() ? statistics.parts[i] : PartStatistics();
    parts.push_back({{"name", names[i]},
                     {"sequences", part.sequences},
                     {"structured_share", part.structured_share},
                     {"mean_entropy", part.mean_entropy}});
  }
  return parts;
}

}  // namespace

absl::StatusOr<Json> StatisticsJson(const Stream& stream, const v1::Recipe& asked, const PageRows& rows,
                                    const HttpExchange& exchange) {
  const auto vocab = static_cast<std::uint64_t>(stream.recipe().vocab_size());
  const std::vector<std::string> names = AskedPartNames(stream, asked);
  StatisticsCollector collector(stream.dtype(), stream.length(), vocab);
  StructureCollector structure(stream.length(), vocab);
  for (std::size_t i = 0; i < rows.provenance.size(); ++i) {
    if (exchange.cancelled()) return absl::CancelledError("the request was given up");
    const char* const row = rows.tokens.data() + i * stream.sequence_bytes();
    const std::uint16_t part = rows.provenance[i].part;
    const std::uint8_t parts[] = {static_cast<std::uint8_t>(part)};
    collector.Add(row, 1, names.empty() ? std::span<const std::uint8_t>() : parts);
    structure.Add(Widened(row, stream.dtype(), stream.length()), AlphabetOf(stream.plan().part(part)));
  }
  const StreamStatistics summary = collector.Summary();
  const StructureProfile profile = structure.Profile();
  return Json{{"sequences", summary.sequences},
              {"length", stream.length()},
              {"constant_share", summary.constant_share},
              {"high_entropy_share", summary.high_entropy_share},
              {"structured_share", summary.structured_share},
              {"duplicate_share", summary.duplicate_share},
              {"median_distinct_tokens", summary.median_distinct_tokens},
              {"entropy_quantiles", summary.entropy_quantiles},
              {"markov_bits", summary.markov_bits},
              {"code_bits", profile.code_bits},
              {"distances", profile.distances},
              {"mutual_information", profile.mutual_information},
              {"repeat_share", profile.repeat_share},
              {"periodic_share", profile.periodic_share},
              {"median_period", profile.median_period},
              {"complexity", profile.complexity},
              {"bands", BandsJson(stream.plan(), names)},
              {"parts", PartsJson(summary, names)}};
}

}  // namespace iterand
