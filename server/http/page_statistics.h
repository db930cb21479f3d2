// Statistics of some sequences, for the page.
#pragma once

#include "absl/status/statusor.h"
#include "iterand/v1/recipe.pb.h"
#include "iterate/stream.h"
#include "nlohmann/json.hpp"
#include "server/http/exchange.h"
#include "server/http/page_rows.h"

namespace iterand {

// Of whole sequences, computed on the calling thread. `asked` names the parts. Errors: Cancelled once the exchange is.
absl::StatusOr<nlohmann::ordered_json> StatisticsJson(const Stream& stream, const v1::Recipe& asked,
                                                      const PageRows& rows, const HttpExchange& exchange);

}  // namespace iterand
