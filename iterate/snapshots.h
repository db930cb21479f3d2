// Snapshots of endless pools in a folder, so that another process goes on from them instead of replaying all rounds
// from the first on.
//
//   FOLDER/FINGERPRINT/LANE-SEGMENT.snapshot    the pool of a lane before that segment
//
// A file is the SHA-256 of what follows it, and a v1::PoolSnapshot. It gets its name when it is whole, and what does
// not match its hash, its name or the stream is not used: then an older one is. Nothing depends on the files: a stream
// is the same with and without them, several processes may share a folder, and whoever needs the room may delete them.
//
// A lane keeps the more the nearer they are to its end: to go back by d segments takes a replay of d / 2 at most or so,
// and of n snapshots some 3 log2(n) stay, and the eight that were written last.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "iterate/fingerprint.h"
#include "iterate/pool.h"
#include "iterate/provenance.h"

namespace iterand {

// A lane of an endless pool between two segments.
struct LaneState {
  // Rows that were emitted and are not yet part of a segment.
  struct Pending {
    std::vector<Symbol> symbols;
    std::vector<RowOrigin> origins;
    std::vector<RowProvenance> provenance;
  };
  std::uint64_t segment = 0;  // the next segment
  std::uint64_t round = 0;    // the next round
  PoolState pool;
  Pending pending;

  bool IsBeyond(const LaneState& other) const {
    return std::pair(segment, round) > std::pair(other.segment, other.round);
  }
};

// Where snapshots are kept.
struct SnapshotFolder {
  std::filesystem::path path;
  // Told of a file that cannot be written, read or used, in one line. Generation goes on without it. Called by any
  // thread, one at a time a lane.
  std::function<void(const std::string&)> report = [](const std::string& /*line*/) {};
  // Time between two snapshots of a lane, or more, so that writing takes no more than a fiftieth of it. 0: one before
  // every segment.
  std::chrono::duration<double> interval = std::chrono::seconds(1);
  // What snapshots may take. Looked after when a lane writes its first, and then once in 60 intervals.
  std::uint64_t most_bytes = std::numeric_limits<std::uint64_t>::max();

  // Makes the folder, and a file in it on trial. Errors: InvalidArgument that names the folder and what is wrong.
  absl::Status Check() const;
  // Deletes all snapshots of a stream, and the folders if nothing else is in them. fingerprint: as ToHex writes it.
  void Clear(const std::string& fingerprint) const;
  // While all snapshots take more than most_bytes, deletes those of the stream whose latest is the oldest, but not
  // those of `kept`, a fingerprint.
  void MakeRoom(const std::string& kept) const;
};

// The snapshots of one lane. One thread at a time may use it.
class LaneSnapshots {
 public:
  // alphabet, families: symbols and places of families lie below.
  LaneSnapshots(std::shared_ptr<const SnapshotFolder> folder, const Fingerprint& fingerprint, std::uint32_t lane,
                int alphabet, int families);

  // Whether it is time to keep another one.
  bool due() const;
  // Writes a snapshot, and deletes those that are too many.
  void Keep(const LaneState& state);
  // The nearest one before or at `segment` and behind `beyond`, with a pool of the shape of `like`, if there is one.
  std::optional<LaneState> Nearest(std::uint64_t segment, std::uint64_t beyond, const PoolState& like) const;

 private:
  using Clock = std::chrono::steady_clock;

  std::filesystem::path Path(std::uint64_t segment) const;
  std::vector<std::uint64_t> List() const;  // segments, ascending
  void Thin() const;
  absl::Status Write(const LaneState& state) const;
  absl::StatusOr<LaneState> Load(std::uint64_t segment, const PoolState& like) const;

  std::shared_ptr<const SnapshotFolder> folder_;
  std::filesystem::path stream_folder_;
  std::string fingerprint_;  // bytes
  std::uint32_t lane_;
  int alphabet_;
  int families_;
  Clock::time_point due_;
  Clock::time_point room_due_;  // when to look after the folder's size
  bool failing_ = false;        // and that was reported
};

}  // namespace iterand
