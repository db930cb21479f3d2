// What the page sends: JSON objects with a stream and a few numbers.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "iterand/v1/noise_service.pb.h"
#include "nlohmann/json.hpp"

namespace iterand {

// An object of JSON: {"recipe": "JSON text" or "preset": "name", "seed": 0, "length": 512, ...}. Numbers may also be
// strings, since a browser's numbers have 53 bits.
class PageRequest {
 public:
  // Errors: InvalidArgument if `body` is not an object, is nested too deeply, or has fields other than those of a
  // stream and `fields`.
  static absl::StatusOr<PageRequest> Parse(const std::string& body, std::initializer_list<std::string_view> fields);

  // The stream that it names: recipe or preset, seed, and length if given. Errors: InvalidArgument.
  absl::StatusOr<v1::StreamSpec> Stream() const;

  // A whole number from `low` to `high`; `otherwise` if the field is missing. Errors: InvalidArgument.
  absl::StatusOr<std::uint64_t> Number(std::string_view field, std::uint64_t low, std::uint64_t high,
                                       std::uint64_t otherwise) const;

 private:
  explicit PageRequest(nlohmann::json json) : json_(std::move(json)) {}

  nlohmann::json json_;
};

}  // namespace iterand
