// The way from noise to one sequence, for the page.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "iterate/stream.h"
#include "nlohmann/json.hpp"
#include "server/http/exchange.h"

namespace iterand {

// Explains an index on the calling thread. Errors: those of Stream::Explain; Cancelled once the exchange is,
// DeadlineExceeded after `patience`.
absl::StatusOr<nlohmann::ordered_json> ExplanationJson(const Stream& stream, const std::vector<std::string>& parts,
                                                       std::uint64_t index, std::chrono::milliseconds patience,
                                                       HttpExchange& exchange);

}  // namespace iterand
