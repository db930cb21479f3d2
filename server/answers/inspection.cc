#include "server/answers/inspection.h"

#include <cstddef>
#include <utility>

namespace iterand {
namespace {

using Json = nlohmann::ordered_json;

Json BandsJson(const Inspection& inspection) {
  Json bands = Json::array();
  for (const InspectedBand& band : inspection.bands) {
    Json one = {{"low", band.low}, {"high", band.high}};
    if (!band.part.empty()) one["part"] = band.part;
    bands.push_back(std::move(one));
  }
  return bands;
}

Json PartsJson(const Inspection& inspection) {
  Json parts = Json::array();
  for (std::size_t i = 0; i < inspection.parts.size(); ++i) {
    const std::vector<PartStatistics>& known = inspection.statistics.parts;
    const PartStatistics part = i < known.size() ? known[i] : PartStatistics();
    parts.push_back({{"name", inspection.parts[i]},
                     {"sequences", part.sequences},
                     {"structured_share", part.structured_share},
                     {"mean_entropy", part.mean_entropy}});
  }
  return parts;
}

}  // namespace

Json InspectionJson(const Inspection& inspection) {
  const StreamStatistics& summary = inspection.statistics;
  const StructureProfile& profile = inspection.structure;
  Json json = {{"sequences", summary.sequences},
               {"length", inspection.length},
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
               {"bands", BandsJson(inspection)}};
  if (inspection.band_share) json["band_share"] = *inspection.band_share;
  json["parts"] = PartsJson(inspection);
  return json;
}

}  // namespace iterand
