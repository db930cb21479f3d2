// Snapshots of endless pools in a folder, so that another process continues from them instead of replaying all rounds.
//
//   FOLDER/FINGERPRINT/LANE-SEGMENT.snapshot    the pool of a lane before that segment
//
// A file is a v1::PoolSnapshot with its SHA-256 in front. It gets its name when it is complete. A file that does not
// match its hash, its name or the stream is not used; an older one is used instead. Nothing depends on the files: a
// stream is the same with and without them. Several processes may share a folder, and files may be deleted at any time.
//
// Snapshots are denser towards the end of the lane: going back by d segments takes a replay of at most about d / 2. Of
// n snapshots about 3 log2(n) stay, and the eight that were written last.
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
  // Reports a file that cannot be written, read or used, in one line. Generation continues without it. Called by any
  // thread, one at a time per lane.
  std::function<void(const std::string&)> report = [](const std::string& /*line*/) {};
  // Least time between two snapshots of a lane. It grows where writing would take more than a fiftieth of it. A process
  // takes its first one after an eighth of it, and the pauses double from there: so a process that is killed again and
  // again still makes progress. 0: one snapshot before every segment.
  std::chrono::duration<double> interval = std::chrono::seconds(1);
  // Most bytes of all snapshots. Checked when a lane writes its first one, and then once in 60 intervals.
  std::uint64_t most_bytes = std::numeric_limits<std::uint64_t>::max();

  // Creates the folder, and a test file in it. Errors: InvalidArgument that names the folder and what is wrong.
  absl::Status Check() const;
  // Deletes the snapshots of a stream, except the `keep` furthest of each lane, and then the folders if they are empty.
  // fingerprint: as ToHex writes it.
  void Clear(const std::string& fingerprint, std::size_t keep = 0) const;
  // While all snapshots take more than most_bytes, deletes those of the stream whose latest is the oldest, but not
  // those of `kept`, a fingerprint.
  void MakeRoom(const std::string& kept) const;
};

// The snapshots of one lane. One thread at a time may use it.
class LaneSnapshots {
 public:
  // alphabet, families: symbols and numbers of families in a snapshot must be below these.
  LaneSnapshots(std::shared_ptr<const SnapshotFolder> folder, const Fingerprint& fingerprint, std::uint32_t lane,
                int alphabet, int families);

  // Whether it is time to keep another one.
  bool due() const;
  // Writes a snapshot, and deletes surplus ones.
  void Keep(const LaneState& state);
  // The nearest snapshot at or before `segment` and after `beyond`, with a pool of the shape of `like`, if there is
  // one.
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
  std::chrono::duration<double> pause_;  // before the next one
  Clock::time_point due_;
  Clock::time_point room_due_;  // when to check the folder's size next
  bool failing_ = false;        // and that was reported
};

}  // namespace iterand
