// Files that a dump writes: locks and names when another process comes in between, and file systems that lack them.

#include "clients/cli/open_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <filesystem>
#include <string>

#include "tests/clients/command_line.h"
#include "tests/clients/file_faults.h"

namespace iterand::cli {
namespace {

namespace fs = std::filesystem;
using ::iterand::testing::file_faults;
using ::iterand::testing::ReadWholeFile;
using ::iterand::testing::ScratchFolder;
using ::iterand::testing::WriteWholeFile;
using ::testing::HasSubstr;

class OpenFileTest : public ::testing::Test {
 protected:
  ~OpenFileTest() override { file_faults() = {}; }
  std::string File(const std::string& name) const { return scratch_.File(name); }

  ScratchFolder scratch_;
};

TEST_F(OpenFileTest, AFileIsLockedByOneAtATime) {
  auto first = OpenFile::OpenLocked(File("lock"));
  ASSERT_TRUE(first.ok()) << first.status();
  const auto second = OpenFile::OpenLocked(File("lock"));
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(second.status().message(), HasSubstr("another process is writing this dump"));
  first->reset();
  EXPECT_TRUE(OpenFile::OpenLocked(File("lock")).ok());
}

// The process that holds the lock may end after a second one has opened the file, and before that one locks it.
TEST_F(OpenFileTest, AFileThatWasRenamedOrRemovedIsNotTheOneToLock) {
  file_faults().before_lock = [&] { fs::rename(File("lock"), File("done")); };
  const auto after_rename = OpenFile::OpenLocked(File("lock"));
  ASSERT_TRUE(after_rename.ok()) << after_rename.status();
  EXPECT_TRUE((*after_rename)->Write("late").ok());
  EXPECT_EQ(ReadWholeFile(File("done")), "");
  EXPECT_EQ(ReadWholeFile(File("lock")), "late");

  file_faults().before_lock = [&] { fs::remove(File("other")); };
  const auto after_removal = OpenFile::OpenLocked(File("other"));
  ASSERT_TRUE(after_removal.ok()) << after_removal.status();
  EXPECT_TRUE((*after_removal)->Write("late").ok());
  EXPECT_EQ(ReadWholeFile(File("other")), "late");
}

TEST_F(OpenFileTest, AFileSystemWithoutLocksIsCalledThat) {
  for (const int error : {ENOLCK, ENOSYS}) {
    file_faults().lock_error = error;
    const auto lock = OpenFile::OpenLocked(File("lock"));
    EXPECT_EQ(lock.status().code(), absl::StatusCode::kInternal);
    EXPECT_THAT(lock.status().message(), HasSubstr(error == ENOLCK ? "No locks available" : "not implemented"));
    EXPECT_THAT(lock.status().message(), HasSubstr("--out"));
    EXPECT_FALSE(fs::exists(File("lock")));
  }
}

TEST_F(OpenFileTest, ANameThatIsTakenStays) {
  for (const int error : {0, EINVAL, ENOSYS}) {  // EINVAL: a file system that cannot do it in one step
    file_faults().exchange_error = error;
    WriteWholeFile(File("from"), "ours");
    WriteWholeFile(File("to"), "precious");
    const absl::Status taken = RenameToFreeName(File("from"), File("to"));
    EXPECT_EQ(taken.code(), absl::StatusCode::kAlreadyExists) << error;
    EXPECT_THAT(taken.message(), HasSubstr(File("to") + " is in the way"));
    EXPECT_EQ(ReadWholeFile(File("to")), "precious");
    fs::remove(File("to"));
    EXPECT_TRUE(RenameToFreeName(File("from"), File("to")).ok()) << error;
    EXPECT_EQ(ReadWholeFile(File("to")), "ours");
    EXPECT_FALSE(fs::exists(File("from")));
  }
}

}  // namespace
}  // namespace iterand::cli
