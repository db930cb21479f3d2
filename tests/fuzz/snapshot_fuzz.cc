// Snapshots of endless pools, with any bytes in them: the first byte of an input says in which file they are. A stream
// that finds one makes its rows, or reports why not. A snapshot that is incomplete or of another stream is not used:
// then the rows are those of a stream without snapshots.
#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/text_format.h>
#include <openssl/sha.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "iterand/v1/snapshot.pb.h"
#include "iterate/snapshots.h"
#include "iterate/stream.h"
#include "tests/fuzz/expect.h"

namespace iterand {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kSeed = 3;
constexpr int kLength = 16;
constexpr int kRows = 12;
constexpr std::uint64_t kSegment = 4;  // that of the snapshot

class NoErrors final : public google::protobuf::io::ErrorCollector {
 public:
  void AddError(int /*line*/, google::protobuf::io::ColumnNumber /*column*/, const std::string& /*message*/) override {}
};

v1::Recipe EndlessRecipe() {
  v1::Recipe recipe;
  recipe.add_families()->mutable_uniform();
  recipe.add_families()->mutable_constant();
  recipe.set_length(kLength);
  recipe.set_lanes(1);
  recipe.set_segment_sequences(3);
  v1::Pool& pool = *recipe.mutable_pool();
  pool.set_pool_rows(4);
  pool.set_program_rows(2);
  pool.set_constant_rows(1);
  pool.set_noise_rows(1);
  pool.set_emit_rows(1);
  return recipe;
}

// Rows after the segment of the snapshot.
absl::StatusOr<std::vector<std::byte>> Rows(Stream& stream) {
  std::vector<std::byte> rows(kRows * stream.sequence_bytes());
  stream.set_threads(1);
  absl::Status status = stream.Read({.first_index = (kSegment + 1) * 3, .rows = kRows}, rows);
  if (!status.ok()) return status;
  return rows;
}

void Run(std::uint8_t kind, const std::string& bytes) {
  static const fs::path folder = fs::temp_directory_path() / absl::StrCat("iterand-snapshot-fuzz-", getpid());
  static const std::shared_ptr<Stream> plain = *Stream::Open(EndlessRecipe(), kSeed);
  static const std::vector<std::byte> right = *Rows(*plain);
  std::string content = bytes;
  const bool sealed = (kind & 1) != 0;
  if (sealed) {
    // A snapshot of this stream, except for what the input changes; with the right hash, so that all of it is looked
    // at.
    v1::PoolSnapshot snapshot;
    NoErrors errors;
    google::protobuf::TextFormat::Parser text;
    text.RecordErrorsTo(&errors);
    if (!text.ParseFromString(bytes, &snapshot) && !snapshot.ParseFromString(bytes)) return;
    if ((kind & 2) == 0) {
      snapshot.set_fingerprint(plain->fingerprint().data(), plain->fingerprint().size());
      snapshot.set_lane(0);
      snapshot.set_segment(kSegment);
    }
    content = snapshot.SerializeAsString();
    std::string hash(SHA256_DIGEST_LENGTH, '\0');
    SHA256(reinterpret_cast<const unsigned char*>(content.data()), content.size(),
           reinterpret_cast<unsigned char*>(hash.data()));
    content.insert(0, hash);
  }
  const fs::path stream_folder = folder / ToHex(plain->fingerprint());
  fs::remove_all(folder);
  fs::create_directories(stream_folder);
  std::ofstream(stream_folder / absl::StrCat("0-", kSegment, ".snapshot"), std::ios::binary) << content;
  auto snapshots = std::make_shared<SnapshotFolder>();
  snapshots->path = folder;
  snapshots->interval = std::chrono::hours(1);
  int reports = 0;
  snapshots->report = [&reports](const std::string& line) {
    Expect(!line.empty(), "a report says why");
    ++reports;
  };
  const absl::StatusOr<std::shared_ptr<Stream>> stream = Stream::Open(EndlessRecipe(), kSeed, snapshots);
  Expect(stream.ok(), "a snapshot does not keep a stream from being opened");
  const absl::StatusOr<std::vector<std::byte>> rows = Rows(**stream);
  // A sealed snapshot may claim that a segment takes any number of rounds, so that the next is out of range.
  Expect(rows.ok() || (sealed && reports == 0 && absl::IsOutOfRange(rows.status())),
         "rows near the beginning are made");
  if (!sealed) Expect(reports == 1, "what does not match its hash is reported");
  if (reports > 0) Expect(*rows == right, "a snapshot that is not used changes nothing");
  snapshots->Clear(ToHex(plain->fingerprint()));
  Expect(!fs::exists(folder), "the folder goes with its last snapshot");
}

}  // namespace
}  // namespace iterand

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size > 0) iterand::Run(data[0], {reinterpret_cast<const char*>(data) + 1, size - 1});
  return 0;
}
