// Limits of recipes. A recipe beyond a limit is refused when it is opened, with the field, the value and the limit.
#pragma once

#include <cstddef>
#include <cstdint>

namespace iterand {

inline constexpr std::size_t kMaxRecipeJsonBytes = 1 << 20;
inline constexpr int kMaxRecipeDepth = 32;      // brackets and braces of the JSON text that are open at a time
inline constexpr int kMaxRecipeValues = 32768;  // of the JSON text: numbers, strings, lists and objects
inline constexpr int kMaxMixtureDepth = 3;
inline constexpr int kMaxMixtureFamilies = 1024;  // of all parts together
inline constexpr int kMaxMixturePoints = 16384;   // of all weights together
inline constexpr std::size_t kMaxPartNameBytes = 64;
inline constexpr std::int64_t kMinRow = 16;     // symbols of a row
inline constexpr std::int64_t kMaxRow = 65536;  // likewise

inline constexpr double kMaxSegmentBytes = 64.0 * (1 << 20);     // its tokens
inline constexpr double kMaxStreamBytes = 1024.0 * (1 << 20);    // one segment of every lane, and all of endless pools
inline constexpr double kMaxPoolBytes = 256.0 * (1 << 20);       // its rows
inline constexpr double kMaxProgramBytes = 256.0 * (1 << 20);    // one program of each family with its buffers
inline constexpr double kMaxWorkspaceBytes = 512.0 * (1 << 20);  // per thread: these and the rows in work, of all parts
inline constexpr double kMaxRoundSeconds = 20;                   // Family::most_seconds
inline constexpr double kMaxSegmentSeconds = 200;     // of a segment without filters, and of starvation_rounds
inline constexpr int kExemptStarvationRounds = 1000;  // exempt from kMaxSegmentSeconds

// An endless pool is replayed to reach an index; a jump ahead of more rounds than this is refused.
inline constexpr std::uint64_t kMaxReplayRounds = 20000;

// What a lane of an endless pool keeps: pools to replay from, and the most recent segments. kMaxStreamBytes bounds
// their memory in all lanes.
inline constexpr std::size_t kLivePools = 2;
inline constexpr std::size_t kMaxSnapshots = 32;
inline constexpr std::size_t kRecentSegments = 16;

}  // namespace iterand
