// Addresses to listen on, and files that name them.
#include "server/listen_address.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/server/fixture.h"

namespace iterand {
namespace {

using testing::AllOf;
using testing::HasSubstr;

TEST(ListenAddress, Forms) {
  for (const char* good : {"127.0.0.1:0", "localhost:65535", "[::1]:50051", "[::]:0", "unix:/nowhere/socket"}) {
    EXPECT_TRUE(CheckListen(good).ok()) << good;
  }
  for (const char* wrong : {"", ":0", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:http",
                            "::1", "::1:0", "unix:"}) {
    EXPECT_ERROR(CheckListen(wrong), absl::StatusCode::kInvalidArgument,
                 HasSubstr(absl::StrCat("cannot listen on ", wrong, ":")));
  }
  EXPECT_ERROR(CheckListen("unix:" + std::string(200, 'x')), absl::StatusCode::kInvalidArgument,
               HasSubstr("1 to 107 bytes"));
  EXPECT_ERROR(CheckListen("unix:/tmp"), absl::StatusCode::kInvalidArgument, HasSubstr("the path is a directory"));
}

TEST(ListenAddress, WhyNothingListens) {
  const auto server = StartServer();
  EXPECT_EQ(WhyNot(server->address()), "Address already in use");
  EXPECT_EQ(WhyNot("192.0.2.1:0"), "Cannot assign requested address");
  EXPECT_THAT(WhyNot("unix:/nowhere/socket"), HasSubstr("directory"));
}

TEST(ListenAddress, FilesAreWholeAndTheirOwners) {
  const std::string path = absl::StrCat(testing::TempDir(), "iterand-address-", getpid());
  ASSERT_TRUE(WriteAddressFile(path, "127.0.0.1:1").ok());
  std::ifstream file(path);
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(file), {}), "127.0.0.1:1\n");
  RemoveAddressFile(path, "127.0.0.1:2");
  EXPECT_EQ(access(path.c_str(), F_OK), 0);
  RemoveAddressFile(path, "127.0.0.1:1");
  EXPECT_NE(access(path.c_str(), F_OK), 0);

  const std::string folder = path + ".folder";
  ASSERT_EQ(mkdir(folder.c_str(), 0700), 0);
  EXPECT_ERROR(WriteAddressFile(folder, "127.0.0.1:1"), absl::StatusCode::kInvalidArgument,
               AllOf(HasSubstr(folder), HasSubstr("Is a directory")));
  EXPECT_NE(access(absl::StrCat(folder, ".", getpid()).c_str(), F_OK), 0);  // the draft
  rmdir(folder.c_str());
}

}  // namespace
}  // namespace iterand
