// What a Stream holds. For stream.cc and explain.cc alone.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "iterate/endless_lane.h"
#include "iterate/iteration.h"
#include "iterate/layout.h"
#include "iterate/pool.h"
#include "iterate/recipe.h"
#include "iterate/snapshots.h"
#include "iterate/stream.h"

namespace iterand {

class Stream::Impl {
 public:
  Impl(v1::Recipe resolved, std::uint64_t seed_value, FamilyMix family_mix,
       const std::shared_ptr<const SnapshotFolder>& snapshots)
      : recipe(std::move(resolved)),
        seed(seed_value),
        fingerprint(ComputeFingerprint(recipe, seed)),
        mix(std::move(family_mix)),
        dtype(RecipeDtype(recipe)),
        layout(recipe),
        length(layout.length()),
        lanes(static_cast<int>(recipe.lanes())),
        sequences(static_cast<int>(recipe.segment_sequences())),
        index_map(static_cast<std::uint32_t>(lanes), static_cast<std::uint32_t>(sequences)),
        held(static_cast<std::size_t>(lanes)) {
    if (recipe.has_pool() && recipe.pool().endless()) {
      const std::uint64_t rounds = Pool::FewestRounds(recipe.pool(), static_cast<std::uint64_t>(sequences));
      for (std::uint32_t lane = 0; lane < recipe.lanes(); ++lane) {
        std::optional<LaneSnapshots> stored;
        if (snapshots) {
          stored.emplace(snapshots, fingerprint, lane, static_cast<int>(recipe.alphabet_size()), mix.size());
        }
        endless.push_back(std::make_unique<EndlessLane>(seed, lane, rounds, std::move(stored)));
      }
    }
  }

  // What Read keeps of a lane: the segment that it read last.
  struct HeldSegment {
    Segment segment;
    std::uint64_t number = 0;
    bool valid = false;
    bool claimed = false;  // by a row of the present pass
  };

  const v1::Recipe recipe;
  const std::uint64_t seed;
  const Fingerprint fingerprint;
  const FamilyMix mix;
  const Dtype dtype;
  const SequenceLayout layout;
  const int length;  // tokens a sequence
  const int lanes;
  const int sequences;
  const IndexMap index_map;
  std::vector<std::unique_ptr<EndlessLane>> endless;  // one a lane, if the pool is endless

  // State of Read.
  std::mutex read_mutex;
  int threads = 0;
  std::vector<HeldSegment> held;  // by lane
  std::vector<std::unique_ptr<Workspace>> workspaces;
  std::vector<std::uint32_t> missing;  // lanes whose claimed segment must be made
  std::vector<std::uint32_t> claimed;  // lanes of the present pass
  std::vector<absl::Status> errors;    // by thread
};

}  // namespace iterand
