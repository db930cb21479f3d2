// Statistics of sequences as the page's paths and `iterand inspect --json` write them.
#pragma once

#include "iterate/inspection.h"
#include "nlohmann/json.hpp"

namespace iterand {

nlohmann::ordered_json InspectionJson(const Inspection& inspection);

}  // namespace iterand
