#include "common/read_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>

namespace iterand {
namespace {

using ::testing::HasSubstr;

class ReadFileTest : public ::testing::Test {
 protected:
  ~ReadFileTest() override { std::filesystem::remove(path_); }

  void Write(const std::string& content) const { std::ofstream(path_, std::ios::binary) << content; }

  // Tests run side by side, each in a process.
  const std::string path_ = ::testing::TempDir() + "/read_file_test_" + std::to_string(getpid());
};

TEST_F(ReadFileTest, AnEmptyFileIsEmptyContent) {
  Write("");
  EXPECT_EQ(*ReadFile(path_, 10), "");
  EXPECT_EQ(*ReadFile(path_, 0), "");
  EXPECT_EQ(*ReadFile("/dev/null", 10), "");
}

TEST_F(ReadFileTest, AFileMayHaveAsManyBytesAsAllowed) {
  constexpr std::size_t kPiece = std::size_t{64} << 10;  // in which files are read
  for (const std::size_t size : {std::size_t{1}, kPiece - 1, kPiece, kPiece + 1, 3 * kPiece + 7}) {
    std::string content(size, 'x');
    content.back() = '\0';
    Write(content);
    EXPECT_EQ(*ReadFile(path_, size), content);
    EXPECT_EQ(*ReadFile(path_, 10 * kPiece), content);
    const absl::Status status = ReadFile(path_, size - 1).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(status.message(), HasSubstr("is too large, may have at most " + std::to_string(size - 1) + " bytes"));
  }
  EXPECT_EQ(ReadFile("/dev/zero", 3 * kPiece).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(ReadFileTest, WhatCannotBeReadIsNotFound) {
  for (const auto& [path, part] :
       {std::pair("/nowhere/at/all", "/nowhere/at/all: cannot be read (No such file"),
        std::pair("", "'': cannot be read (No such file"), std::pair("/", "/: cannot be read (Is a directory)")}) {
    const absl::Status status = ReadFile(path, 10).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
    EXPECT_THAT(status.message(), HasSubstr(part));
  }
}

}  // namespace
}  // namespace iterand
