// iterand/stream.h: the in-process stream that C++ projects use.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "iterand/stream.h"
#include "iterate/presets.h"
#include "iterate/recipe_json.h"
#include "iterate/stream.h"

namespace iterand {
namespace {

using testing::HasSubstr;

constexpr char kRecipe[] = R"({"families": [{"markov": {}}, {"automaton": {}}], "vocab_size": 1000, "length": 32,
                               "lanes": 4, "segment_sequences": 6, "relabel": "RELABEL_SEQUENCE"})";

class File {
 public:
  explicit File(const std::string& content) { std::ofstream(path_) << content; }
  ~File() { std::filesystem::remove(path_); }
  const std::string& path() const { return path_; }

 private:
  const std::string path_ = absl::StrCat(testing::TempDir(), "/local-stream-", getpid(), ".json");
};

void ExpectError(const absl::Status& status, absl::StatusCode code, const std::string& part) {
  EXPECT_EQ(status.code(), code) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(part));
}

TEST(LocalStreamTest, DefaultsAreThoseOfTheProgram) { EXPECT_EQ(StreamSpec().recipe, kDefaultPreset); }

TEST(LocalStreamTest, ReadsTheStreamOfTheRecipe) {
  const std::shared_ptr<Stream> expected = *Stream::Open(*ParseRecipeJson(kRecipe), 5);
  std::vector<std::byte> tokens(40 * expected->sequence_bytes());
  std::vector<RowProvenance> origins(40);
  ASSERT_TRUE(expected->Read({.first_index = 7, .stride = 3, .rows = 40, .provenance = origins}, tokens).ok());

  const File file(kRecipe);
  for (const std::string& recipe : {std::string(kRecipe), file.path()}) {
    absl::StatusOr<LocalStream> stream = LocalStream::Open({.recipe = recipe, .seed = 5});
    ASSERT_TRUE(stream.ok()) << stream.status();
    const StreamInfo& info = stream->info();
    EXPECT_EQ(info.fingerprint, ToHex(expected->fingerprint()));
    EXPECT_EQ(info.engine_version, kEngineVersion);
    EXPECT_EQ(info.seed, 5U);
    EXPECT_EQ(info.dtype, Dtype::kUint16);
    EXPECT_EQ(info.length, 32);
    EXPECT_EQ(info.vocab_size, 1000U);
    EXPECT_EQ(info.lanes, 4);
    EXPECT_EQ(info.segment_sequences, 6);
    EXPECT_FALSE(info.loss_mask);
    EXPECT_EQ(info.sequence_bytes(), 64U);

    std::vector<std::uint16_t> read(40 * 32);
    std::vector<Provenance> provenance(40);
    const absl::Status status = stream->Read({.first_index = 7, .stride = 3, .rows = 40},
                                             std::as_writable_bytes(std::span(read)), {}, provenance);
    ASSERT_TRUE(status.ok()) << status;
    EXPECT_EQ(std::memcmp(read.data(), tokens.data(), tokens.size()), 0);
    for (std::size_t i = 0; i < provenance.size(); ++i) {
      EXPECT_EQ(provenance[i].lane, origins[i].lane);
      EXPECT_EQ(provenance[i].segment, origins[i].segment);
      EXPECT_EQ(provenance[i].row, origins[i].row);
      EXPECT_EQ(provenance[i].family, origins[i].family == 0 ? "markov" : "automaton");
    }
  }
}

TEST(LocalStreamTest, LengthAndLossMaskReplaceTheRecipes) {
  absl::StatusOr<LocalStream> stream = LocalStream::Open({.recipe = kRecipe, .length = 24, .loss_mask = true});
  ASSERT_TRUE(stream.ok()) << stream.status();
  EXPECT_EQ(stream->info().length, 24);
  EXPECT_TRUE(stream->info().loss_mask);
  std::vector<std::byte> tokens(10 * stream->info().sequence_bytes());
  std::vector<std::uint8_t> mask(10 * 24, 7);
  ASSERT_TRUE(stream->Read({.rows = 10}, tokens, mask).ok());
  EXPECT_EQ(mask, std::vector<std::uint8_t>(10 * 24, 1));  // no begin mark: every token is to be predicted

  // The recipe that it reports makes the same stream.
  absl::StatusOr<LocalStream> again = LocalStream::Open({.recipe = stream->info().recipe_json});
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->info().fingerprint, stream->info().fingerprint);
}

TEST(LocalStreamTest, RefusesOtherStreams) {
  const std::string fingerprint = LocalStream::Open({.recipe = kRecipe})->info().fingerprint;
  EXPECT_TRUE(LocalStream::Open({.recipe = kRecipe, .expected_fingerprint = fingerprint}).ok());
  ExpectError(LocalStream::Open({.recipe = kRecipe, .seed = 1, .expected_fingerprint = fingerprint}).status(),
              absl::StatusCode::kFailedPrecondition, "expected_fingerprint: is " + fingerprint);
  ExpectError(LocalStream::Open({.recipe = kRecipe, .expected_fingerprint = "abc"}).status(),
              absl::StatusCode::kInvalidArgument, "64 hexadecimal digits");
}

TEST(LocalStreamTest, FaultyRecipesAreNamed) {
  ExpectError(LocalStream::Open({.recipe = "markvo"}).status(), absl::StatusCode::kNotFound, "did you mean markov?");
  ExpectError(LocalStream::Open({.recipe = "/no/such.json"}).status(), absl::StatusCode::kNotFound, "/no/such.json");
  ExpectError(LocalStream::Open({.recipe = "{"}).status(), absl::StatusCode::kInvalidArgument, "line 1");
  const File broken(R"({"families": [{"lstm": {"hidden": {"fixed": 1000000}}}]})");
  ExpectError(LocalStream::Open({.recipe = broken.path()}).status(), absl::StatusCode::kInvalidArgument,
              broken.path() + ": families[0].lstm.hidden");
  ExpectError(LocalStream::Open({.recipe = kRecipe}, {.threads = -1}).status(), absl::StatusCode::kInvalidArgument,
              "threads: is -1");
}

TEST(LocalStreamTest, RefusesReadsThatDoNotFit) {
  absl::StatusOr<LocalStream> stream = LocalStream::Open({.recipe = kRecipe});
  ASSERT_TRUE(stream.ok()) << stream.status();
  std::vector<std::byte> tokens(2 * stream->info().sequence_bytes());
  std::vector<std::uint8_t> mask(64);
  std::vector<Provenance> one(1);
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  ExpectError(stream->Read({.rows = 3}, tokens), kInvalid, "tokens");
  ExpectError(stream->Read({.rows = 0}, tokens), kInvalid, "rows: is 0");
  ExpectError(stream->Read({.stride = 0, .rows = 2}, tokens), kInvalid, "stride");
  ExpectError(stream->Read({.rows = 2}, tokens, mask), kInvalid, "loss_mask");
  ExpectError(stream->Read({.rows = 2}, tokens, {}, one), kInvalid, "provenance");
  ExpectError(stream->Read({.first_index = ~std::uint64_t{0}, .rows = 2}, tokens), absl::StatusCode::kOutOfRange,
              "2^64");
}

TEST(LocalStreamTest, AnEndlessPoolIsSavedInItsFolder) {
  constexpr char kEndless[] = R"({"families": [{"lstm": {"hidden": {"fixed": 16}}}], "length": 32, "lanes": 1,
      "segment_sequences": 16, "pool": {"pool_rows": 64, "program_rows": 16, "constant_rows": 2, "noise_rows": 2,
      "endless": true}})";
  const std::string folder = absl::StrCat(testing::TempDir(), "/local-stream-snapshots-", getpid());
  std::vector<std::byte> tokens(32);
  {
    absl::StatusOr<LocalStream> stream = LocalStream::Open({.recipe = kEndless}, {.snapshot_dir = folder});
    ASSERT_TRUE(stream.ok()) << stream.status();
    // A process saves its first snapshot after an eighth of a second.
    for (std::uint64_t index = 0; std::filesystem::is_empty(folder) && index < 1'000'000; index += 16) {
      ASSERT_TRUE(stream->Read({.first_index = index}, tokens).ok());
    }
  }
  EXPECT_FALSE(std::filesystem::is_empty(folder));
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace iterand
