// All that reports show of some sequences of a stream: the server's page, and `iterand inspect`. For reports and tests;
// nothing here is on the generating path.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "iterand/types.h"
#include "iterand/v1/recipe.pb.h"
#include "iterate/statistics.h"
#include "iterate/structure.h"

namespace iterand {

// The band that a part's recipe keeps the complexity of its sequences in.
struct InspectedBand {
  std::string part;  // empty if the recipe is not a mixture
  double low = 0;
  double high = 0;
};

struct Inspection {
  int length = 0;  // tokens per sequence
  StreamStatistics statistics;
  StructureProfile structure;
  std::vector<InspectedBand> bands;  // of the recipe or of its parts, in their order; empty if none has one
  // Of the sequences of recipes or parts with a band: the share whose complexity is in it. A band is applied to the
  // rows that programs make. Marks, packing and relabelling come later and can move a sequence over its edge. Nothing
  // if there are no such sequences.
  std::optional<double> band_share;
  std::vector<std::string> parts;  // names, by number; empty if the recipe is not a mixture
};

// Not thread-safe.
class Inspector {
 public:
  // `resolved` is a recipe with every default. `parts` has the names of its parts (iterate/mixture.h), or nothing.
  Inspector(const v1::Recipe& resolved, std::vector<std::string> parts);

  // Adds a sequence in the stream's dtype. Of a mixture, `part` is the number of the part that made it, or -1 if that
  // is not known: its complexity is then measured against the largest alphabet of all parts, and it has no band.
  void Add(const std::byte* sequence, int part);

  Inspection Result() const;

 private:
  struct Part {
    int alphabet = 0;
    std::optional<InspectedBand> band;
  };

  const int length_;
  const Dtype dtype_;
  const std::vector<std::string> names_;
  std::vector<Part> parts_;
  int largest_alphabet_ = 0;
  StatisticsCollector statistics_;
  StructureCollector structure_;
  std::vector<std::uint32_t> tokens_;  // of the sequence at hand
  std::uint64_t banded_ = 0;
  std::uint64_t in_band_ = 0;
};

}  // namespace iterand
