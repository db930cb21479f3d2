// Sequences for the page, made by the engine in turn with its other streams.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "iterate/provenance.h"
#include "server/engine/engine.h"
#include "server/http/exchange.h"

namespace iterand {

struct PageRows {
  std::string tokens;  // of each row the first ones, in the stream's dtype
  std::vector<RowProvenance> provenance;
  double seconds = 0;  // from the request to the last row
};

struct PageRange {
  std::uint64_t first = 0;
  std::size_t count = 0;
  std::size_t tokens = 0;  // of each row; at most the stream's length
};

// Waits for the rows, on the calling thread. Errors: Cancelled once the exchange is, DeadlineExceeded after `patience`,
// and those of Stream::GenerateSegment and IndexReader::Open. What no other reader needs is then given up.
absl::StatusOr<PageRows> ReadPageRows(Engine& engine, const std::shared_ptr<SharedStream>& open, const PageRange& range,
                                      std::chrono::milliseconds patience, HttpExchange& exchange);

}  // namespace iterand
