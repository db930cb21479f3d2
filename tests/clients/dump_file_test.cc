// A dump's files: at whatever call a process is killed, the next one continues, and no finished dump is lost.

#include "clients/cli/dump_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <string>
#include <vector>

#include "tests/clients/command_line.h"
#include "tests/clients/file_faults.h"

namespace iterand::cli {
namespace {

namespace fs = std::filesystem;
using ::iterand::testing::file_faults;
using ::iterand::testing::FileFaults;
using ::iterand::testing::ReadWholeFile;
using ::iterand::testing::ScratchFolder;
using ::iterand::testing::Sha256Hex;
using ::iterand::testing::WriteWholeFile;
using ::testing::HasSubstr;

constexpr int kLength = 16;
constexpr char kName[] = "tokens";

DumpIdentity Identity(DumpFormat format, std::uint64_t sequences) {
  DumpIdentity identity;
  identity.format = format;
  identity.dtype = format == DumpFormat::kBin ? Dtype::kUint16 : Dtype::kUint8;
  identity.sequences = sequences;
  identity.length = kLength;
  identity.fingerprint = "f00d";
  return identity;
}

// The bytes of the sequences [begin, end), no two of which are the same.
std::vector<std::byte> Rows(const DumpIdentity& identity, std::uint64_t begin, std::uint64_t end) {
  std::vector<std::byte> rows;
  for (std::uint64_t row = begin; row < end; ++row) {
    for (std::size_t i = 0; i < identity.sequence_bytes(); ++i) {
      rows.push_back(static_cast<std::byte>(row * 37 + i * (row + 1)));
    }
  }
  return rows;
}

// Does what `iterand dump` does: adds what is missing, two sequences at a time, each safe before the next.
absl::Status Dump(const fs::path& folder, const DumpIdentity& identity) {
  auto file = DumpFile::Open(folder, kName, identity, [](std::uint64_t /*verified*/) {});
  if (!file.ok()) return file.status();
  for (std::uint64_t row = (*file)->sequences(); row < identity.sequences; row += 2) {
    const std::uint64_t end = std::min(row + 2, identity.sequences);
    if (absl::Status status = (*file)->Append(Rows(identity, row, end)); !status.ok()) return status;
    if (absl::Status status = (*file)->Commit(); !status.ok()) return status;
  }
  return (*file)->complete() ? absl::OkStatus() : (*file)->Finish();
}

// The same in a process of its own. Returns true if it was killed.
bool DumpAndDie(const fs::path& folder, const DumpIdentity& identity, const FileFaults& faults) {
  const pid_t child = fork();
  if (child == 0) {
    file_faults() = faults;
    _exit(Dump(folder, identity).ok() ? 0 : 1);
  }
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  const bool killed = WIFSIGNALED(status);
  EXPECT_TRUE(killed ? WTERMSIG(status) == SIGKILL : WEXITSTATUS(status) == 0) << status;
  return killed;
}

class DumpFileTest : public ::testing::TestWithParam<DumpFormat> {
 protected:
  DumpIdentity Of(std::uint64_t sequences) const { return Identity(GetParam(), sequences); }
  fs::path Folder(const std::string& name) const {
    fs::create_directories(scratch_.path() / name);
    return scratch_.path() / name;
  }
  // A folder with copies of another's files.
  fs::path Copy(const fs::path& from, const std::string& name) const {
    fs::remove_all(scratch_.path() / name);
    fs::copy(from, scratch_.path() / name);
    return scratch_.path() / name;
  }
  std::string Tokens() const { return std::string(kName) + "." + FormatName(GetParam()); }

  // The folder has a complete dump of this many sequences and nothing else.
  void ExpectComplete(const fs::path& folder, std::uint64_t sequences, const std::string& where) const {
    const std::vector<std::byte> rows = Rows(Of(sequences), 0, sequences);
    const std::string data = ReadWholeFile(folder / Tokens());
    EXPECT_EQ(data, Of(sequences).Header() + std::string(reinterpret_cast<const char*>(rows.data()), rows.size()))
        << where;
    const auto sidecar = nlohmann::json::parse(ReadWholeFile(folder / (std::string(kName) + ".json")));
    EXPECT_EQ(sidecar["sha256"], Sha256Hex(data)) << where;
    EXPECT_EQ(sidecar["shape"], nlohmann::json({sequences, kLength})) << where;
    EXPECT_EQ(sidecar["bytes"], data.size()) << where;
    EXPECT_EQ(std::distance(fs::directory_iterator(folder), fs::directory_iterator()), 2) << where;
  }

  // Named tokens with a sidecar match it; others are in a dump in progress, with the first sequences.
  void ExpectNothingLost(const fs::path& folder, std::uint64_t before, const std::string& where) const {
    const fs::path sidecar = folder / (std::string(kName) + ".json");
    if (fs::exists(folder / Tokens())) {
      const std::string data = ReadWholeFile(folder / Tokens());
      if (!fs::exists(sidecar)) return;  // the journal has all of them
      EXPECT_EQ(nlohmann::json::parse(ReadWholeFile(sidecar))["sha256"], Sha256Hex(data)) << where;
      return;
    }
    const std::string data = ReadWholeFile(folder / (Tokens() + ".partial"));
    const std::vector<std::byte> rows = Rows(Of(before), 0, before);
    EXPECT_EQ(data.substr(Of(before).Header().size(), rows.size()),
              std::string(reinterpret_cast<const char*>(rows.data()), rows.size()))
        << where;
  }

  // Begins with a dump of `before` sequences, or none if 0. One of `after` is killed at every call in turn, and with
  // `twice` so is the one that continues it.
  void KillEverywhere(std::uint64_t before, std::uint64_t after, const FileFaults& how, bool twice) {
    const fs::path pristine = Folder("pristine");
    ASSERT_TRUE(before == 0 || Dump(pristine, Of(before)).ok());
    int deaths = 0;
    for (int call = 1;; ++call) {
      const std::string where = "killed at call " + std::to_string(call);
      FileFaults faults = how;
      faults.kill_at = call;
      const fs::path killed = Copy(pristine, "killed");
      if (!DumpAndDie(killed, Of(after), faults)) {
        ExpectComplete(killed, after, where);
        break;
      }
      ++deaths;
      // What is left is a finished dump, or a dump in progress with all of its sequences.
      if (before > 0) ExpectNothingLost(killed, before, where);
      // The command that was killed, and one with still more sequences.
      for (const std::uint64_t sequences : {after, after + 3}) {
        const fs::path again = Copy(killed, "again");
        const absl::Status status = Dump(again, Of(sequences));
        EXPECT_TRUE(status.ok()) << where << ": " << status;
        ExpectComplete(again, sequences, where);
      }
      // The command that made the finished dump restores it, unless more sequences are safe already.
      if (before > 0) {
        const fs::path back = Copy(killed, "back");
        const absl::Status status = Dump(back, Of(before));
        if (status.ok()) {
          ExpectComplete(back, before, where);
        } else {
          EXPECT_EQ(status.code(), absl::StatusCode::kAlreadyExists) << where;
          EXPECT_THAT(status.message(), HasSubstr("can be extended, but not cut")) << where;
          EXPECT_TRUE(Dump(back, Of(after)).ok()) << where;
          ExpectComplete(back, after, where);
        }
      }
      for (int second = 1; twice; ++second) {
        faults.kill_at = second;
        const fs::path again = Copy(killed, "again");
        const bool died = DumpAndDie(again, Of(after), faults);
        EXPECT_TRUE(Dump(again, Of(after)).ok()) << where << " and " << second;
        ExpectComplete(again, after, where);
        if (!died || HasFailure()) break;
      }
      if (HasFailure()) return;
    }
    EXPECT_GT(deaths, 15);
  }

  ScratchFolder scratch_;
};

TEST_P(DumpFileTest, AKillAtAnyCallLosesNothing) { KillEverywhere(0, 5, {}, /*twice=*/true); }

TEST_P(DumpFileTest, AnExtensionMayBeKilledAtAnyCall) { KillEverywhere(3, 6, {}, /*twice=*/true); }

TEST_P(DumpFileTest, AWriteMayBeTorn) {
  FileFaults faults;
  faults.torn = true;
  KillEverywhere(3, 8, faults, /*twice=*/false);
}

TEST_P(DumpFileTest, WhatIsNotSafeMayBeLost) {
  FileFaults faults;
  faults.lose_unsafe = true;
  KillEverywhere(3, 8, faults, /*twice=*/false);
}

TEST_P(DumpFileTest, AnExtensionThatBringsNothingChangesNothing) {
  const fs::path folder = Folder("dump");
  ASSERT_TRUE(Dump(folder, Of(3)).ok());
  {
    auto file = DumpFile::Open(folder, kName, Of(9), [](std::uint64_t /*verified*/) {});
    ASSERT_TRUE(file.ok()) << file.status();
    EXPECT_EQ((*file)->sequences(), 3U);
    EXPECT_FALSE((*file)->complete());
  }
  ExpectComplete(folder, 3, "");
}

TEST_P(DumpFileTest, ADumpIsNeverCut) {
  const fs::path folder = Folder("dump");
  ASSERT_TRUE(Dump(folder, Of(5)).ok());
  const absl::Status status = Dump(folder, Of(4));
  EXPECT_EQ(status.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(status.message(), HasSubstr("has 5 sequences of this dump already, and 4 are asked for"));
  ExpectComplete(folder, 5, "");
}

TEST_P(DumpFileTest, ADamagedDumpIsNotExtended) {
  const fs::path folder = Folder("dump");
  ASSERT_TRUE(Dump(folder, Of(5)).ok());
  std::string data = ReadWholeFile(folder / Tokens());
  data.back() ^= 1;
  for (const std::string& damaged : {data, data.substr(0, data.size() - 1), data + "x", std::string()}) {
    WriteWholeFile(folder / Tokens(), damaged);
    EXPECT_EQ(Dump(folder, Of(6)).code(), absl::StatusCode::kDataLoss);
    EXPECT_EQ(ReadWholeFile(folder / Tokens()), damaged);
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, DumpFileTest, ::testing::Values(DumpFormat::kBin, DumpFormat::kNpy),
                         [](const auto& format) { return FormatName(format.param); });

}  // namespace
}  // namespace iterand::cli
