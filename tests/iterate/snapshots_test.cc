#include "iterate/snapshots.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <fstream>
#include <mutex>
#include <thread>

#include "iterate/limits.h"
#include "iterate/recipe_json.h"
#include "iterate/stream.h"

namespace iterand {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;

// Two lanes. A segment is not a multiple of what a round emits, so that rows wait between two segments.
v1::Recipe EndlessRecipe(v1::Pool::Emission emission = v1::Pool::SAMPLE) {
  v1::Recipe recipe = *ParseRecipeJson(R"({"families": [{"markov": {}}, {"pointwise": {}}], "length": 32, "lanes": 2,
      "segment_sequences": 7, "pool": {"pool_rows": 30, "program_rows": 10, "constant_rows": 2, "noise_rows": 2}})");
  recipe.mutable_pool()->set_emission(emission);
  return recipe;
}

// One row of 16 tokens per round: twenty thousand rounds take a moment.
v1::Recipe ManyRounds() {
  v1::Recipe recipe;
  recipe.add_families()->mutable_uniform();
  recipe.set_length(16);
  recipe.set_lanes(1);
  recipe.set_segment_sequences(1000);
  v1::Pool& pool = *recipe.mutable_pool();
  pool.set_pool_rows(4);
  pool.set_program_rows(1);
  pool.set_constant_rows(0);
  pool.set_noise_rows(0);
  pool.set_emit_rows(1);
  return recipe;
}

std::vector<std::byte> ReadRows(Stream& stream, std::uint64_t first, int rows) {
  std::vector<std::byte> out(static_cast<std::size_t>(rows) * stream.sequence_bytes());
  const absl::Status status = stream.Read({.first_index = first, .rows = rows}, out);
  EXPECT_TRUE(status.ok()) << status;
  return out;
}

class SnapshotsTest : public testing::Test {
 protected:
  void SetUp() override {
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    folder_ = std::make_shared<SnapshotFolder>();
    folder_->path = fs::path(testing::TempDir()) / (std::string("snapshots_") + test->name());
    fs::remove_all(folder_->path);
    folder_->interval = std::chrono::seconds(0);
    folder_->report = [this](const std::string& line) {
      const std::lock_guard<std::mutex> lock(mutex_);
      reports_.push_back(line);
    };
  }
  void TearDown() override { fs::remove_all(folder_->path); }

  std::shared_ptr<Stream> Open(const v1::Recipe& recipe, std::uint64_t seed = 3) {
    absl::StatusOr<std::shared_ptr<Stream>> stream = Stream::Open(recipe, seed, folder_);
    EXPECT_TRUE(stream.ok()) << stream.status();
    return *std::move(stream);
  }

  std::vector<fs::path> Files() const {
    std::vector<fs::path> files;
    if (!fs::exists(folder_->path)) return files;
    for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder_->path)) {
      if (entry.is_regular_file()) files.push_back(entry.path());
    }
    std::ranges::sort(files);
    return files;
  }

  std::shared_ptr<SnapshotFolder> folder_;
  std::mutex mutex_;
  std::vector<std::string> reports_;
};

TEST_F(SnapshotsTest, AnotherProcessGoesOnFromThem) {
  for (const auto emission : {v1::Pool::SAMPLE, v1::Pool::EVICT}) {
    const v1::Recipe recipe = EndlessRecipe(emission);
    const std::vector<std::byte> whole = ReadRows(**Stream::Open(recipe, 3), 0, 500);
    EXPECT_EQ(ReadRows(*Open(recipe), 0, 350), std::vector(whole.begin(), whole.begin() + 350 * 32));
    const std::vector<fs::path> files = Files();
    ASSERT_THAT(files, Not(IsEmpty()));
    for (const std::uint64_t first : {340U, 200U, 201U, 20U, 0U}) {
      EXPECT_EQ(ReadRows(*Open(recipe), first, 100),
                std::vector(whole.begin() + first * 32, whole.begin() + (first + 100) * 32))
          << first;
    }
  }
  EXPECT_THAT(reports_, IsEmpty());
}

TEST_F(SnapshotsTest, WhatIsTooFarToReplayIsReached) {
  const v1::Recipe recipe = ManyRounds();
  constexpr std::uint64_t kFar = kMaxReplayRounds + 3500;
  std::vector<std::byte> row(16);
  EXPECT_EQ(Open(recipe)->Read({.first_index = kFar, .rows = 1}, row).code(), absl::StatusCode::kOutOfRange);
  const std::vector<std::byte> whole = ReadRows(*Open(recipe), 0, static_cast<int>(kFar) + 100);
  const std::shared_ptr<Stream> resumed = Open(recipe);
  EXPECT_EQ(ReadRows(*resumed, kFar, 100), std::vector(whole.end() - 100 * 16, whole.end()));
  // The same in steps, as the server does it, while another reader of the lane is at its beginning: from segment 10 on.
  fs::remove_all(folder_->path);
  ReadRows(*Open(recipe), 0, 10'000);
  folder_->interval = std::chrono::hours(1);
  const std::shared_ptr<Stream> stepped = Open(recipe);
  const std::unique_ptr<Workspace> workspace = stepped->NewWorkspace();
  Segment segment;
  SegmentJob job = stepped->Begin(0, kFar / 1000, segment);
  int steps = 1;
  for (; !job.Run(*workspace, std::chrono::milliseconds(1)); ++steps) {
    ASSERT_FALSE(job.keeps_workspace());
    ASSERT_GT(job.replay_left(), 0U);
    ASSERT_LT(steps, 30);
    Segment other;
    ASSERT_TRUE(stepped->GenerateSegment(0, 1, *workspace, nullptr, other).ok());
    ASSERT_TRUE(stepped->GenerateSegment(0, 2, *workspace, nullptr, other).ok());
  }
  ASSERT_TRUE(job.status().ok());
  EXPECT_EQ(steps, 14);
  EXPECT_TRUE(std::equal(segment.row(500), segment.row(500) + 16, whole.begin() + kFar * 16));
}

TEST_F(SnapshotsTest, TheFewerTheFurtherBack) {
  v1::Recipe recipe = ManyRounds();
  recipe.set_segment_sequences(10);
  ReadRows(*Open(recipe), 0, 3000);
  std::vector<std::uint64_t> segments;
  for (const fs::path& file : Files()) segments.push_back(std::stoull(file.filename().string().substr(2)));
  std::ranges::sort(segments);
  ASSERT_THAT(segments, Not(IsEmpty()));
  EXPECT_EQ(segments.back(), 300U);
  EXPECT_LE(segments.size(), 3 * std::log2(300) + 8);
  EXPECT_GE(segments.size(), 15U);
  for (std::size_t i = 1; i < segments.size(); ++i) {
    const std::uint64_t back = 300 - segments[i - 1];  // of a reader right before the next one
    EXPECT_LE(segments[i] - segments[i - 1], back / 2 + 1) << segments[i];
  }
}

// The first run went three times as far, and snapshots are far apart where the second one is.
TEST_F(SnapshotsTest, ARunBehindAnEarlierOnesEndHasItsOwn) {
  v1::Recipe recipe = ManyRounds();
  recipe.set_segment_sequences(10);
  ReadRows(*Open(recipe), 0, 3000);
  const fs::path folder = Files().front().parent_path();
  EXPECT_FALSE(fs::exists(folder / "0-99.snapshot") || fs::exists(folder / "0-100.snapshot"));
  ReadRows(*Open(recipe), 0, 1000);
  EXPECT_TRUE(fs::exists(folder / "0-99.snapshot") && fs::exists(folder / "0-100.snapshot"));
}

TEST_F(SnapshotsTest, DamagedFilesAreNotUsed) {
  const v1::Recipe recipe = EndlessRecipe();
  const std::vector<std::byte> whole = ReadRows(*Open(recipe), 0, 700);
  for (const fs::path& file : Files()) {
    if (file.filename().string()[0] == '0') {
      std::fstream(file, std::ios::binary | std::ios::in | std::ios::out).seekp(500).put('?').put('!');
    } else {
      fs::resize_file(file, 10);
    }
  }
  folder_->interval = std::chrono::hours(1);
  EXPECT_EQ(ReadRows(*Open(recipe), 600, 100), std::vector(whole.begin() + 600 * 32, whole.end()));
  EXPECT_THAT(reports_, testing::Contains(HasSubstr("does not match its hash; is not used")));
  EXPECT_THAT(reports_, testing::Contains(HasSubstr("is too short; is not used")));
}

// A file that was copied from elsewhere, under the name of one of this stream's.
TEST_F(SnapshotsTest, FilesOfOtherStreamsAreNotUsed) {
  const v1::Recipe recipe = EndlessRecipe();
  ReadRows(*Open(recipe, 1), 0, 700);
  const std::vector<fs::path> others = Files();
  const std::vector<std::byte> whole = ReadRows(**Stream::Open(recipe, 2), 0, 700);
  const std::shared_ptr<Stream> stream = Open(recipe, 2);
  for (const fs::path& file : others) {
    const fs::path copy = folder_->path / ToHex(stream->fingerprint()) / file.filename();
    fs::create_directories(copy.parent_path());
    fs::copy_file(file, copy);
  }
  folder_->interval = std::chrono::hours(1);
  EXPECT_EQ(ReadRows(*stream, 600, 100), std::vector(whole.begin() + 600 * 32, whole.end()));
  EXPECT_THAT(reports_, testing::Each(HasSubstr("is of another stream, lane or segment; is not used")));
  EXPECT_THAT(reports_, Not(IsEmpty()));
}

TEST_F(SnapshotsTest, GenerationGoesOnWhereNothingCanBeWritten) {
  const v1::Recipe recipe = EndlessRecipe();
  std::ofstream(folder_->path) << "a file\n";
  EXPECT_THAT(std::string(folder_->Check().message()), HasSubstr(folder_->path.string()));
  EXPECT_EQ(ReadRows(*Open(recipe), 0, 700), ReadRows(**Stream::Open(recipe, 3), 0, 700));
  EXPECT_THAT(reports_, SizeIs(2));  // once per lane
  EXPECT_THAT(reports_, testing::Each(HasSubstr("generation continues without")));
}

TEST_F(SnapshotsTest, ClearLeavesWhatIsNotTheStreams) {
  const v1::Recipe recipe = EndlessRecipe();
  ReadRows(*Open(recipe, 1), 0, 100);
  const std::vector<fs::path> others = Files();
  const std::shared_ptr<Stream> stream = Open(recipe, 2);
  ReadRows(*stream, 0, 100);
  std::ofstream(folder_->path / ToHex(stream->fingerprint()) / "0-5.snapshot.1234") << "a draft";
  EXPECT_GT(Files().size(), others.size());
  folder_->Clear(ToHex(stream->fingerprint()));
  EXPECT_EQ(Files(), others);
  EXPECT_FALSE(fs::exists(folder_->path / ToHex(stream->fingerprint())));
  folder_->Clear(ToHex(Open(recipe, 1)->fingerprint()));
  EXPECT_FALSE(fs::exists(folder_->path));
  std::ofstream(folder_->path) << "a file of that name";
  folder_->Clear(ToHex(stream->fingerprint()));
  EXPECT_TRUE(fs::exists(folder_->path));
}

TEST_F(SnapshotsTest, TheOldestStreamsMakeRoom) {
  const v1::Recipe recipe = EndlessRecipe();
  const auto there = [&](std::uint64_t seed) {
    return fs::exists(folder_->path / ToHex((*Stream::Open(recipe, seed))->fingerprint()));
  };
  // Times of files have the resolution of the kernel's tick, up to 10 ms.
  const auto next_tick = [] { std::this_thread::sleep_for(std::chrono::milliseconds(30)); };
  for (const std::uint64_t seed : {1, 2}) {
    ReadRows(*Open(recipe, seed), 0, 100);
    next_tick();
  }
  std::ofstream(folder_->path / "notes.txt") << std::string(1 << 20, 'x');  // not ours to count or delete
  std::uint64_t bytes = 0;
  for (const fs::path& file : Files()) bytes += file.extension() == ".snapshot" ? fs::file_size(file) : 0;
  folder_->most_bytes = bytes + bytes / 4;  // two streams and a half
  ReadRows(*Open(recipe, 1), 100, 7);       // now the second is the oldest
  next_tick();
  ReadRows(*Open(recipe, 3), 0, 100);
  EXPECT_TRUE(there(1));
  EXPECT_FALSE(there(2));
  EXPECT_TRUE(there(3));
  folder_->most_bytes = 1;
  ReadRows(*Open(recipe, 3), 100, 100);  // which continues from its own
  EXPECT_FALSE(there(1));
  EXPECT_TRUE(there(3));
  EXPECT_TRUE(fs::exists(folder_->path / "notes.txt"));
}

TEST_F(SnapshotsTest, OtherStreamsHaveNoUseForTheFolder) {
  v1::Recipe recipe = EndlessRecipe();
  recipe.mutable_pool()->set_endless(false);
  ReadRows(*Open(recipe), 0, 700);
  EXPECT_THAT(Files(), IsEmpty());
  folder_->interval = std::chrono::hours(1);
  ReadRows(*Open(EndlessRecipe()), 0, 700);
  EXPECT_THAT(Files(), IsEmpty());
  EXPECT_TRUE(folder_->Check().ok());
  EXPECT_THAT(Files(), IsEmpty());
}

}  // namespace
}  // namespace iterand
