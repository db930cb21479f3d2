#include "iterate/snapshots.h"

#include <openssl/sha.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <functional>
#include <map>
#include <span>
#include <sstream>
#include <system_error>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "iterand/v1/snapshot.pb.h"

namespace iterand {
namespace {

namespace fs = std::filesystem;

constexpr char kSuffix[] = ".snapshot";
constexpr double kTimeShare = 50;  // of generation to writing
// This many of those written last stay, wherever in the lane they are. A run that has not yet reached an earlier run's
// end therefore keeps its own.
constexpr std::size_t kLatest = 8;

std::string Hash(const std::string& bytes) {
  std::string hash(SHA256_DIGEST_LENGTH, '\0');
  SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(),
         reinterpret_cast<unsigned char*>(hash.data()));
  return hash;
}

absl::Status Unusable(const fs::path& path, const std::string& why) {
  return absl::DataLossError(absl::StrCat(path.string(), ": ", why, "; is not used"));
}

// Writes the file whole or not at all. No other writer has its temporary name, not on another machine either.
absl::Status WriteFile(const fs::path& path, const std::string& bytes) {
  const auto now = std::chrono::system_clock::now().time_since_epoch().count();
  const fs::path draft = absl::StrCat(path.string(), ".", getpid(), "-", now);
  errno = 0;
  std::ofstream file(draft, std::ios::binary | std::ios::trunc);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  file.close();
  std::error_code error(errno, std::generic_category());
  if (file) {
    fs::rename(draft, path, error);
    if (!error) return absl::OkStatus();
  }
  std::error_code ignored;
  fs::remove(draft, ignored);
  return absl::InvalidArgumentError(absl::StrCat(path.string(), ": cannot be written (", error.message(), ")"));
}

// Symbols are uint16_t in the machine's order, which is little-endian on all that are supported.
void PutSymbols(std::span<const Symbol> symbols, v1::PoolSnapshot::Rows& out) {
  out.mutable_symbols()->append(reinterpret_cast<const char*>(symbols.data()), symbols.size_bytes());
}

void PutOrigins(const std::vector<RowOrigin>& origins, v1::PoolSnapshot::Rows& out) {
  for (const RowOrigin& origin : origins) {
    out.add_families(origin.family);
    out.add_depths(origin.depth);
  }
}

// Whether there are as many symbols and origins as wanted, and none that the recipe does not know.
bool Take(const v1::PoolSnapshot::Rows& rows, std::span<Symbol> symbols, std::span<RowOrigin> origins, int alphabet,
          int families) {
  if (rows.symbols().size() != symbols.size_bytes() ||
      static_cast<std::size_t>(rows.families_size()) != origins.size() ||
      static_cast<std::size_t>(rows.depths_size()) != origins.size()) {
    return false;
  }
  // An empty span has no memory, which memcpy must not be given.
  if (!symbols.empty()) std::memcpy(symbols.data(), rows.symbols().data(), symbols.size_bytes());
  for (std::size_t i = 0; i < origins.size(); ++i) {
    const std::uint32_t family = rows.families(static_cast<int>(i));
    const std::uint32_t depth = rows.depths(static_cast<int>(i));
    if (family >= static_cast<std::uint32_t>(families) || depth > 65535) return false;
    origins[i] = {static_cast<std::uint16_t>(family), static_cast<std::uint16_t>(depth)};
  }
  return std::ranges::all_of(symbols, [alphabet](Symbol symbol) { return symbol < alphabet; });
}

// Those of the ascending segments that are surplus: without one, the gap is at most half of the way to the last.
std::vector<std::uint64_t> TooMany(const std::vector<std::uint64_t>& segments) {
  std::vector<std::uint64_t> found;
  if (segments.size() < 3) return found;
  const std::uint64_t last = segments.back();
  std::uint64_t next = last;  // that stays
  for (std::size_t i = segments.size() - 1; i-- > 1;) {
    if ((next - segments[i - 1]) * 2 <= last - next) {
      found.push_back(segments[i]);
    } else {
      next = segments[i];
    }
  }
  return found;
}

}  // namespace

absl::Status SnapshotFolder::Check() const {
  std::error_code error;
  fs::create_directories(path, error);
  if (error) return absl::InvalidArgumentError(absl::StrCat(path.string(), ": ", error.message()));
  const fs::path trial = path / ".trial";
  if (absl::Status status = WriteFile(trial, "trial"); !status.ok()) return status;
  fs::remove(trial, error);
  return absl::OkStatus();
}

void SnapshotFolder::Clear(const std::string& fingerprint, std::size_t keep) const {
  const fs::path folder = path / fingerprint;
  std::vector<fs::path> files;
  std::map<std::uint64_t, std::map<std::uint64_t, fs::path, std::greater<>>> lanes;  // the furthest segment first
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    const std::size_t dash = name.find('-');
    std::uint64_t lane = 0;
    std::uint64_t segment = 0;
    if (name.ends_with(kSuffix) && dash < name.size() && absl::SimpleAtoi(name.substr(0, dash), &lane) &&
        absl::SimpleAtoi(name.substr(dash + 1, name.size() - dash - sizeof(kSuffix)), &segment)) {
      lanes[lane].emplace(segment, entry->path());
    } else if (name.find(kSuffix) != std::string::npos) {
      files.push_back(entry->path());  // a draft that a kill has left
    }
  }
  for (const auto& [lane, segments] : lanes) {
    std::size_t place = 0;
    for (const auto& [segment, file] : segments) {
      if (place++ >= keep) files.push_back(file);
    }
  }
  for (const fs::path& file : files) fs::remove(file, error);
  for (const fs::path& empty : {folder, path}) {
    if (fs::is_directory(empty, error)) fs::remove(empty, error);  // and no file of that name
  }
}

void SnapshotFolder::MakeRoom(const std::string& kept) const {
  struct Snapshots {
    fs::file_time_type latest = fs::file_time_type::min();
    std::string fingerprint;
    std::uint64_t bytes = 0;
  };
  if (most_bytes == std::numeric_limits<std::uint64_t>::max()) return;
  std::vector<Snapshots> streams;
  std::uint64_t bytes = 0;
  std::error_code error;
  for (fs::directory_iterator folder(path, error), end; !error && folder != end; folder.increment(error)) {
    Snapshots found;
    found.fingerprint = folder->path().filename().string();
    std::error_code gone;  // a file, by another process
    for (fs::directory_iterator file(folder->path(), gone); !gone && file != end; file.increment(gone)) {
      std::error_code unread;
      const std::uint64_t size = file->path().extension() == kSuffix ? file->file_size(unread) : 0;
      if (size == 0 || unread) continue;
      found.bytes += size;
      found.latest = std::max(found.latest, file->last_write_time(unread));
    }
    bytes += found.bytes;
    if (found.bytes > 0 && found.fingerprint != kept) streams.push_back(std::move(found));
  }
  std::ranges::sort(streams, {}, &Snapshots::latest);
  for (auto oldest = streams.begin(); bytes > most_bytes && oldest != streams.end(); ++oldest) {
    Clear(oldest->fingerprint);
    bytes -= oldest->bytes;
  }
}

LaneSnapshots::LaneSnapshots(std::shared_ptr<const SnapshotFolder> folder, const Fingerprint& fingerprint,
                             std::uint32_t lane, int alphabet, int families)
    : folder_(std::move(folder)),
      stream_folder_(folder_->path / ToHex(fingerprint)),
      fingerprint_(fingerprint.begin(), fingerprint.end()),
      lane_(lane),
      alphabet_(alphabet),
      families_(families),
      pause_(folder_->interval / 8),
      due_(Clock::now() + std::chrono::duration_cast<Clock::duration>(pause_)) {}

fs::path LaneSnapshots::Path(std::uint64_t segment) const {
  return stream_folder_ / absl::StrCat(lane_, "-", segment, kSuffix);
}

std::vector<std::uint64_t> LaneSnapshots::List() const {
  const std::string prefix = absl::StrCat(lane_, "-");
  std::vector<std::uint64_t> segments;
  std::error_code error;
  for (fs::directory_iterator entry(stream_folder_, error), end; !error && entry != end; entry.increment(error)) {
    std::uint64_t segment = 0;
    const std::string name = entry->path().filename().string();
    if (name.size() <= prefix.size() + sizeof(kSuffix) - 1 || !name.starts_with(prefix) || !name.ends_with(kSuffix)) {
      continue;
    }
    const std::string number = name.substr(prefix.size(), name.size() - prefix.size() - (sizeof(kSuffix) - 1));
    if (absl::SimpleAtoi(number, &segment) && Path(segment) == entry->path()) segments.push_back(segment);
  }
  std::ranges::sort(segments);
  return segments;
}

bool LaneSnapshots::due() const { return Clock::now() >= due_; }

void LaneSnapshots::Keep(const LaneState& state) {
  const Clock::time_point begin = Clock::now();
  const absl::Status status = Write(state);
  if (status.ok()) {
    Thin();
    if (begin >= room_due_) {
      folder_->MakeRoom(stream_folder_.filename().string());
      room_due_ = begin + std::chrono::duration_cast<Clock::duration>(60 * folder_->interval);
    }
  } else if (!failing_) {
    folder_->report(absl::StrCat(status.message(), "; generation continues without"));
  }
  failing_ = !status.ok();
  const Clock::time_point end = Clock::now();
  pause_ = std::min(2 * pause_, folder_->interval);
  const auto wait =
      pause_.count() > 0 ? std::max<std::chrono::duration<double>>(pause_, kTimeShare * (end - begin)) : pause_;
  due_ = end + std::chrono::duration_cast<Clock::duration>(wait);
}

void LaneSnapshots::Thin() const {
  std::error_code gone;  // a file, by another process
  const std::vector<std::uint64_t> segments = List();
  std::vector<std::pair<fs::file_time_type, std::uint64_t>> latest;
  latest.reserve(segments.size());
  for (const std::uint64_t segment : segments) latest.emplace_back(fs::last_write_time(Path(segment), gone), segment);
  std::ranges::sort(latest, std::greater<>());
  if (latest.size() > kLatest) latest.resize(kLatest);
  for (const std::uint64_t segment : TooMany(segments)) {
    const bool stays = std::ranges::any_of(latest, [segment](const auto& file) { return file.second == segment; });
    if (!stays) fs::remove(Path(segment), gone);
  }
}

absl::Status LaneSnapshots::Write(const LaneState& state) const {
  v1::PoolSnapshot snapshot;
  snapshot.set_fingerprint(fingerprint_);
  snapshot.set_lane(lane_);
  snapshot.set_segment(state.segment);
  snapshot.set_round(state.round);
  const Block& rows = state.pool.rows;
  PutSymbols({rows.row(0), Size(rows.rows()) * Size(rows.length())}, *snapshot.mutable_pool());
  PutOrigins(state.pool.origins, *snapshot.mutable_pool());
  PutSymbols(state.pending.symbols, *snapshot.mutable_pending());
  PutOrigins(state.pending.origins, *snapshot.mutable_pending());
  for (const RowProvenance& provenance : state.pending.provenance) {
    snapshot.add_pending_rounds(provenance.round);
    snapshot.add_pending_round_rows(provenance.row);
  }
  std::error_code error;
  fs::create_directories(stream_folder_, error);
  if (error) return absl::InvalidArgumentError(absl::StrCat(stream_folder_.string(), ": ", error.message()));
  const std::string content = snapshot.SerializeAsString();
  return WriteFile(Path(state.segment), Hash(content) + content);
}

absl::StatusOr<LaneState> LaneSnapshots::Load(std::uint64_t segment, const PoolState& like) const {
  const fs::path path = Path(segment);
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  if (!file || !(text << file.rdbuf())) return Unusable(path, "cannot be read");
  std::string content = std::move(text).str();
  if (content.size() < SHA256_DIGEST_LENGTH) return Unusable(path, "is too short");
  const std::string hash = content.substr(0, SHA256_DIGEST_LENGTH);
  content.erase(0, SHA256_DIGEST_LENGTH);
  v1::PoolSnapshot snapshot;
  if (Hash(content) != hash || !snapshot.ParseFromString(content)) return Unusable(path, "does not match its hash");
  if (snapshot.fingerprint() != fingerprint_ || snapshot.lane() != lane_ || snapshot.segment() != segment) {
    return Unusable(path, "is of another stream, lane or segment");
  }
  LaneState state;
  state.segment = segment;
  state.round = snapshot.round();
  state.pool.rows.Reshape(like.rows.rows(), like.rows.length());
  state.pool.origins.resize(like.origins.size());
  const std::size_t length = Size(like.rows.length());
  const auto waiting = static_cast<std::size_t>(snapshot.pending_rounds_size());
  state.pending.symbols.resize(waiting * length);
  state.pending.origins.resize(waiting);
  if (!Take(snapshot.pool(), {state.pool.rows.row(0), Size(like.rows.rows()) * length}, state.pool.origins, alphabet_,
            families_) ||
      !Take(snapshot.pending(), state.pending.symbols, state.pending.origins, alphabet_, families_) ||
      static_cast<std::size_t>(snapshot.pending_round_rows_size()) != waiting) {
    return Unusable(path, "is of a pool of another shape");
  }
  for (std::size_t i = 0; i < waiting; ++i) {
    const RowOrigin& origin = state.pending.origins[i];
    state.pending.provenance.push_back({.lane = lane_,
                                        .row = snapshot.pending_round_rows(static_cast<int>(i)),
                                        .segment = segment,
                                        .round = snapshot.pending_rounds(static_cast<int>(i)),
                                        .family = origin.family,
                                        .depth = origin.depth});
  }
  return state;
}

std::optional<LaneState> LaneSnapshots::Nearest(std::uint64_t segment, std::uint64_t beyond,
                                                const PoolState& like) const {
  const std::vector<std::uint64_t> segments = List();
  for (auto at = std::ranges::upper_bound(segments, segment); at != segments.begin() && *std::prev(at) > beyond;) {
    --at;
    absl::StatusOr<LaneState> state = Load(*at, like);
    if (state.ok()) return *std::move(state);
    folder_->report(std::string(state.status().message()));
  }
  return std::nullopt;
}

}  // namespace iterand
