#include "server/http/page_requests.h"

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/rpc/error_info.h"
#include "iterate/json_limits.h"

namespace iterand {
namespace {

constexpr std::array<std::string_view, 4> kStreamFields = {"recipe", "preset", "seed", "length"};

}  // namespace

absl::StatusOr<PageRequest> PageRequest::Parse(const std::string& body,
                                               std::initializer_list<std::string_view> fields) {
  if (absl::Status status = CheckJsonLimits(body); !status.ok()) return status;
  nlohmann::json json = nlohmann::json::parse(body, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return absl::InvalidArgumentError("the request must be an object of JSON");
  for (const auto& [name, value] : json.items()) {
    if (!std::ranges::count(kStreamFields, name) && !std::ranges::count(fields, name)) {
      return absl::InvalidArgumentError("the request has a field that this path does not accept");
    }
  }
  return PageRequest(std::move(json));
}

absl::StatusOr<v1::StreamSpec> PageRequest::Stream() const {
  v1::StreamSpec spec;
  if (json_.contains("recipe") == json_.contains("preset")) {
    return InvalidField("recipe", "the request must have either recipe or preset");
  }
  const auto& source = json_.contains("recipe") ? json_.at("recipe") : json_.at("preset");
  if (!source.is_string()) return InvalidField("recipe", "recipe and preset must be strings");
  if (json_.contains("recipe")) {
    spec.set_recipe_json(source.get<std::string>());
  } else {
    spec.set_preset(source.get<std::string>());
  }
  const absl::StatusOr<std::uint64_t> seed = Number("seed", 0, std::numeric_limits<std::uint64_t>::max(), 0);
  if (!seed.ok()) return seed.status();
  spec.set_seed(*seed);
  const absl::StatusOr<std::uint64_t> length = Number("length", 1, std::numeric_limits<std::uint32_t>::max(), 0);
  if (!length.ok()) return length.status();
  if (*length > 0) spec.set_length(static_cast<std::uint32_t>(*length));
  return spec;
}

absl::StatusOr<std::uint64_t> PageRequest::Number(std::string_view field, std::uint64_t low, std::uint64_t high,
                                                  std::uint64_t otherwise) const {
  const auto found = json_.find(field);
  if (found == json_.end()) return otherwise;
  std::uint64_t value = 0;
  const bool valid = found->is_number_unsigned()
                         ? (value = found->get<std::uint64_t>(), true)
                         : found->is_string() && absl::SimpleAtoi(found->get<std::string>(), &value);
  if (!valid || value < low || value > high) {
    return InvalidField(std::string(field),
                        absl::StrCat(std::string(field), ": must be a whole number from ", low, " to ", high));
  }
  return value;
}

}  // namespace iterand
