// Files with secrets.
#include "common/token_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/read_file.h"

namespace iterand {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

class TokenFile : public testing::Test {
 protected:
  ~TokenFile() override { std::remove(path_.c_str()); }

  absl::StatusOr<std::vector<std::string>> Read(const std::string& content) {
    std::ofstream(path_, std::ios::binary) << content;
    return ReadTokenFile(path_);
  }

  const std::string path_ = absl::StrCat(testing::TempDir(), "/iterand-token-", getpid());
};

TEST_F(TokenFile, OneTokenPerLine) {
  EXPECT_THAT(*Read("one"), ElementsAre("one"));
  EXPECT_THAT(*Read("  a long secret \t\r\n"), ElementsAre("a long secret"));
  EXPECT_THAT(*Read("# until May\nold\n\n   # from May on\nnew#1\n\n"), ElementsAre("old", "new#1"));
}

TEST_F(TokenFile, Refuses) {
  struct Case {
    std::string content;
    std::string message;
  };
  for (const auto& [content, message] : {
           Case{" \n\n", "holds no token"},
           Case{"# secret\n", "holds no token"},
           Case{"fine\nsecr\xc3\xa9t\n", "line 2: a token must be printable ASCII"},
           Case{std::string("secret\0x", 8), "line 1: a token must be printable ASCII"},
           Case{std::string(5000, 's'), "of at most 4096 characters"},
           Case{std::string(70000, '\n'), "may have at most 65536 bytes"},
       }) {
    const auto tokens = Read(content);
    EXPECT_EQ(tokens.status().code(), absl::StatusCode::kInvalidArgument) << tokens.status();
    EXPECT_THAT(std::string(tokens.status().message()), AllOf(HasSubstr(path_), HasSubstr(message)));
    EXPECT_THAT(std::string(tokens.status().message()), Not(HasSubstr("secr")));
  }
  EXPECT_EQ(Read("").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ReadTokenFile(path_ + ".none").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(TokenFile, WarnsOfASecretThatEverybodyMayRead) {
  std::ofstream(path_) << "secret\n";
  chmod(path_.c_str(), 0640);
  EXPECT_EQ(SecretFileWarning(path_), "");
  chmod(path_.c_str(), 0604);
  EXPECT_THAT(SecretFileWarning(path_), AllOf(HasSubstr(path_), HasSubstr("0604"), HasSubstr("chmod o-r")));
  EXPECT_EQ(SecretFileWarning("/dev/null"), "");
}

}  // namespace
}  // namespace iterand
