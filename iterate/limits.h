// What a recipe may ask for. A recipe beyond a limit is refused when it is opened, with the field, the value and the
// limit.
#pragma once

#include <cstddef>
#include <cstdint>

namespace iterand {

inline constexpr std::size_t kMaxRecipeJsonBytes = 1 << 20;
inline constexpr int kMaxFamilies = 256;
inline constexpr std::int64_t kMinLength = 16;
inline constexpr std::int64_t kMaxLength = 65536;
inline constexpr std::int64_t kMaxLanes = 4096;
inline constexpr std::int64_t kMaxSegmentSequences = 65536;
inline constexpr std::int64_t kMaxStarvationRounds = 100000;

inline constexpr double kMaxSegmentBytes = 64.0 * (1 << 20);
inline constexpr double kMaxStreamBytes = 1024.0 * (1 << 20);  // one segment of every lane
inline constexpr double kMaxPoolBytes = 256.0 * (1 << 20);
inline constexpr double kMaxProgramBytes = 256.0 * (1 << 20);  // one program of each family with its buffers, a thread
inline constexpr double kMaxRoundFlops = 2e12;                 // expected; some 20 s of one core
inline constexpr double kMaxSegmentFlops = 2e13;               // expected, without filters; some minutes of one core

// An endless pool is replayed to reach an index; a jump ahead of more rounds than this is refused.
inline constexpr std::uint64_t kMaxReplayRounds = 20000;

// What a lane of an endless pool keeps: pools to replay from, and the segments made last. kMaxStreamBytes bounds what
// that takes in all lanes.
inline constexpr std::size_t kMaxSnapshots = 32;
inline constexpr std::size_t kRecentSegments = 16;

}  // namespace iterand
