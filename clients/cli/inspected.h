// What `iterand inspect` knows of one stream or token file.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "clients/cli/sequence_source.h"
#include "iterate/inspection.h"
#include "nlohmann/json.hpp"

namespace iterand::cli {

// Sequences and tokens of the picture, at most: those that the editor of the server's page shows.
inline constexpr std::size_t kPictureRows = 64;
inline constexpr std::size_t kPictureTokens = 512;

struct Inspected {
  std::string name;         // as the command line has it; "recipe" for JSON text
  std::string description;  // of the recipe; may be empty
  std::string line;         // what it is, in one line
  std::int64_t vocab_size = 0;
  std::uint64_t first_index = 0;
  Inspection inspection;

  // Of streams and of dumps with a description; else empty and 0.
  std::string fingerprint;
  std::uint64_t seed = 0;
  std::uint32_t engine_version = 0;

  // The beginnings of the first sequences, row by row.
  struct Row {
    std::uint64_t index = 0;
    std::optional<Provenance> made;  // of a dump, only the part is known
  };
  std::vector<Row> rows;
  std::vector<std::uint32_t> picture;  // rows x shown
  std::size_t shown = 0;               // tokens per row
};

// Inspects `range` of a stream, with a progress bar on a terminal. Errors: as
// SequenceSource.
absl::StatusOr<Inspected> InspectStream(const StreamChoice& stream, const RangeChoice& range,
                                        const ServerChoice& server, int threads);

// Inspects the first `count` sequences of a dump or token file whose index is at least `start`, or as many as it has.
// `length` is as for FindTokenFile. Errors: as FindTokenFile; OutOfRange if all indices are below `start`.
absl::StatusOr<Inspected> InspectDump(const std::string& name, std::optional<std::uint32_t> length, std::uint64_t start,
                                      std::uint64_t count);

// With `picture`, the tokens of the picture in base64 and where its rows came from; for the page of a report.
nlohmann::ordered_json InspectedJson(const Inspected& inspected, bool picture);

}  // namespace iterand::cli
