// Recipes and fingerprints as users give them.
#include "common/recipe_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <string>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "common/fingerprint_text.h"

namespace iterand {
namespace {

using testing::HasSubstr;

constexpr std::size_t kMaxBytes = 100;

TEST(RecipeSource, AWordIsAPreset) {
  const absl::StatusOr<RecipeSource> source = ReadRecipeSource("up-paper", kMaxBytes);
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_FALSE(source->is_json());
  EXPECT_EQ(source->preset, "up-paper");
  // An error about a preset is not about a file.
  EXPECT_EQ(source->Annotate(absl::InvalidArgumentError("length")).message(), "length");
}

TEST(RecipeSource, ABraceBeginsJson) {
  for (const std::string text : {R"({"length": 3})", "\n {}", "{/.json"}) {
    const absl::StatusOr<RecipeSource> source = ReadRecipeSource(text, kMaxBytes);
    ASSERT_TRUE(source.ok()) << source.status();
    EXPECT_TRUE(source->is_json());
    EXPECT_EQ(source->json, text);
    EXPECT_EQ(source->path, "");
  }
}

TEST(RecipeSource, ASlashOrJsonMakesAPath) {
  const std::string path = absl::StrCat(testing::TempDir(), "/recipe-source-", getpid());
  std::ofstream(path) << R"({"length": 30})";
  const absl::StatusOr<RecipeSource> source = ReadRecipeSource(path, kMaxBytes);
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_EQ(source->json, R"({"length": 30})");
  EXPECT_EQ(source->path, path);
  EXPECT_EQ(source->Annotate(absl::InvalidArgumentError("length: is 30")).message(), path + ": length: is 30");
  EXPECT_EQ(source->Annotate(absl::UnavailableError("no server")).message(), "no server");
  absl::Status with_payload = absl::InvalidArgumentError("length: is 30");
  with_payload.SetPayload("type", absl::Cord("payload"));
  EXPECT_EQ(source->Annotate(with_payload).GetPayload("type"), absl::Cord("payload"));

  std::ofstream(path) << std::string(kMaxBytes + 1, ' ');
  const absl::Status large = ReadRecipeSource(path, kMaxBytes).status();
  EXPECT_EQ(large.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(large.message()), HasSubstr(path));
  std::remove(path.c_str());
  EXPECT_EQ(ReadRecipeSource(path, kMaxBytes).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(ReadRecipeSource("missing.json", kMaxBytes).status().code(), absl::StatusCode::kNotFound);
}

TEST(RecipeSource, NothingIsNoRecipe) {
  for (const std::string text : {"", " \n"}) {
    EXPECT_EQ(ReadRecipeSource(text, kMaxBytes).status().code(), absl::StatusCode::kInvalidArgument);
  }
}

TEST(FingerprintText, IsSixtyFourDigits) {
  const absl::StatusOr<std::string> bytes = ParseFingerprint("0Aff" + std::string(60, '0'));
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  EXPECT_EQ(*bytes, std::string("\x0a\xff", 2) + std::string(30, '\0'));
  for (const std::string& text :
       {std::string("0a"), std::string(63, '0'), std::string(65, '0'), std::string(64, 'g')}) {
    const absl::Status status = ParseFingerprint(text).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr("64 hexadecimal digits"));
  }
}

}  // namespace
}  // namespace iterand
