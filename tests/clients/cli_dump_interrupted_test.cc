// The program `iterand`: dumps that a signal or a server's end interrupts.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "clients/cli/second_signal.h"
#include "tests/clients/command_line.h"
#include "tests/clients/dump_fixture.h"

namespace iterand::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

// 3000 sequences of 64 tokens take `up-paper` several seconds on any number of cores, and are less than a chunk.
TEST_F(CliDump, AnInterruptKeepsAPartOfAChunk) {
  const std::string dump = "$ITERAND dump --recipe up-paper --length 64 --count 3000 --out " + out();
  for (const std::string signal : {"INT", "TERM"}) {
    fs::remove_all(out());
    // Signals the dump as soon as it catches signals, which it does while it makes sequences. The number of this shell
    // becomes the dump's.
    const CommandResult interrupted = RunShell(absl::StrCat(
        R"((while [ $((0x$(sed -n 's/^SigCgt:\s*//p' /proc/$$/status) & 0x4000)) = 0 ]; do sleep 0.01; done; kill -s )",
        signal, " $$) > /dev/null 2>&1 & exec ", dump));
    EXPECT_EQ(interrupted.exit_status, 130);
    EXPECT_THAT(interrupted.err, HasSubstr("stopping after this batch"));
    EXPECT_THAT(interrupted.err, HasSubstr("interrupted; "));
    EXPECT_THAT(interrupted.err, HasSubstr(" sequences are safe, and the same command continues after them"));
    const std::vector<std::string> lines = absl::StrSplit(ReadWholeFile(journal()), '\n');
    const std::string data = ReadWholeFile(partial());
    std::size_t safe = 0;
    for (std::size_t i = 1; i + 1 < lines.size(); ++i) {  // the last one is what follows the last newline
      const std::vector<std::string> words = absl::StrSplit(lines[i], ' ');
      ASSERT_EQ(words.size(), 2u);
      const std::size_t bytes = std::stoul(words[1]) * 128;
      EXPECT_EQ(words[0], Sha256Hex(data.substr(safe, bytes)));
      safe += bytes;
    }
    EXPECT_EQ(safe, data.size());
    EXPECT_LT(data.size(), 3000u * 128);
    EXPECT_FALSE(fs::exists(sidecar() + ".partial"));
  }
  const CommandResult result = RunShell(dump);
  EXPECT_EQ(result.exit_status, 0) << result.err;
  EXPECT_THAT(result.err, HasSubstr("continuing after "));
  EXPECT_EQ(ReadWholeFile(tokens()) == Widened(Raw("--recipe up-paper --length 64 --count 3000")), true);
}

// A dump that is killed as soon as its first new sequences are safe still makes progress. A chunk of `up-paper` takes
// minutes.
TEST_F(CliDump, ADumpThatIsKilledAgainAndAgainGetsOn) {
  std::uintmax_t safe_before = 0;  // sequences that the journal names
  for (int kills = 0; kills < 6; ++kills) {
    BackgroundIterand dump({"dump", "--out", out(), "--recipe", "up-paper", "--count", "100000"});
    std::uintmax_t safe = 0;
    while (safe <= safe_before) {
      ASSERT_TRUE(dump.running());
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
      if (!fs::exists(journal())) continue;
      const std::vector<std::string> lines = absl::StrSplit(ReadWholeFile(journal()), '\n');
      safe = 0;
      // The last element follows the last newline: it is empty, or a line that is being written.
      for (std::size_t i = 1; i + 1 < lines.size(); ++i) {
        const std::vector<std::string> words = absl::StrSplit(lines[i], ' ');
        ASSERT_EQ(words.size(), 2u);
        safe += std::stoul(words[1]);
      }
    }
    dump.Signal(SIGKILL);
    dump.Wait();
    constexpr std::uintmax_t kSequenceBytes = 512 * 2;
    // The file holds what is safe; the next run may cut off what follows it.
    EXPECT_GE(fs::file_size(partial()), safe * kSequenceBytes);
    // Far less than a chunk, and less than ten seconds take.
    EXPECT_LT((safe - safe_before) * kSequenceBytes, kChunkBytes / 8);
    safe_before = safe;
  }
}

// Killed at random, also while it checks the sequences it has and while it is finished and extended.
TEST_F(CliDump, RandomKillsLoseNothing) {
  const std::string recipe = "--recipe markov --length 64 --loss-mask ";
  std::uint32_t random = 1;
  int kills = 0;
  for (const int sequences : {20000, 60000}) {
    for (int tries = 0;; ++tries) {
      ASSERT_LT(tries, 200);
      BackgroundIterand dump({"dump", "--out", out(), "--recipe", "markov", "--length", "64", "--loss-mask",
                              "--threads", "1", "--count", std::to_string(sequences)});
      random = random * 1664525 + 1013904223;
      // Later kills come later, so that the test ends however busy the machine is.
      const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds((random >> 16) % (30 + 5 * tries));
      while (dump.running() && std::chrono::steady_clock::now() < end) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
      if (dump.running()) dump.Signal(SIGKILL);
      const int status = dump.Wait();
      if (status == 0) break;
      ASSERT_EQ(status, 128 + SIGKILL);
      ++kills;
    }
    ASSERT_EQ(Dump(recipe + "--name once --count " + std::to_string(sequences)).exit_status, 0);
    for (const std::string suffix : {".bin", ".loss_mask.bin"}) {
      EXPECT_EQ(ReadWholeFile(out() + "/tokens" + suffix) == ReadWholeFile(out() + "/once" + suffix), true);
    }
  }
  EXPECT_GT(kills, 1);
}

// A chunk of `up-paper` takes a minute and more.
TEST_F(CliDump, SlowSequencesAreSafeAfterSomeSeconds) {
  BackgroundIterand dump({"dump", "--out", out(), "--recipe", "up-paper", "--count", "100000"});
  std::vector<std::string> lines;
  while (lines.size() < 3) {
    ASSERT_TRUE(dump.running());
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    if (fs::exists(journal())) lines = absl::StrSplit(ReadWholeFile(journal()), '\n');
  }
  dump.Signal(SIGKILL);
  dump.Wait();
  const std::vector<std::string> words = absl::StrSplit(lines[1], ' ');
  ASSERT_EQ(words.size(), 2u);
  const std::size_t sequences = std::stoul(words[1]);
  EXPECT_LT(sequences, 8192u);
  EXPECT_EQ(words[0], Sha256Hex(ReadWholeFile(partial()).substr(0, sequences * 1024)));
}

// A round emits one sequence, and no more than 20 000 rounds are replayed.
TEST_F(CliDump, AnEndlessPoolGoesOnFromItsSnapshot) {
  const std::string recipe = scratch_.File("recipe.json");
  WriteWholeFile(recipe, R"({"families": [{"lstm": {"hidden": {"fixed": 8}, "layers": {"fixed": 1}}}], "length": 64,
                            "lanes": 1, "segmentSequences": 100, "pool": {"poolRows": 4, "programRows": 1,
                            "constantRows": 1, "noiseRows": 1, "emitRows": 1}})");
  const std::string arguments = "--count 50000 --recipe " + recipe;
  const fs::path snapshots = out() + "/tokens.snapshots";
  BackgroundIterand dump({"dump", "--out", out(), "--recipe", recipe, "--count", "50000"});
  int furthest = 0;
  while (furthest < 220) {  // segments of 100 rounds
    ASSERT_TRUE(dump.running());
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    std::error_code changing;
    for (fs::recursive_directory_iterator file(snapshots, changing), end; !changing && file != end;
         file.increment(changing)) {
      const std::string name = file->path().filename().string();
      if (name.starts_with("0-") && name.ends_with(".snapshot"))
        furthest = std::max(furthest, std::stoi(name.substr(2)));
    }
  }
  dump.Signal(SIGINT);
  EXPECT_EQ(dump.Wait(), 130);

  const fs::path aside = snapshots.string() + ".aside";
  fs::rename(snapshots, aside);
  const CommandResult refused = Dump(arguments);
  EXPECT_EQ(refused.exit_status, 2);
  EXPECT_THAT(refused.err, HasSubstr("at most 20000 are replayed"));
  fs::remove_all(snapshots);
  fs::rename(aside, snapshots);
  const CommandResult result = Dump(arguments);
  EXPECT_EQ(result.exit_status, 0) << result.err;
  EXPECT_THAT(result.err, HasSubstr("continuing after "));
  EXPECT_EQ(ReadWholeFile(tokens()) == Widened(Raw("--recipe " + recipe + " --count 50000")), true);

  // The pool stays, so that extending the dump needs no replay.
  const CommandResult extended = Dump("--count 51000 --recipe " + recipe);
  EXPECT_EQ(extended.exit_status, 0) << extended.err;
  EXPECT_EQ(ReadWholeFile(tokens()) == Widened(Raw("--recipe " + recipe + " --count 51000")), true);
  const auto files = [&] {
    return std::count_if(fs::recursive_directory_iterator(snapshots), fs::recursive_directory_iterator(),
                         [](const fs::directory_entry& entry) { return entry.is_regular_file(); });
  };
  EXPECT_LE(files(), 2);
  const std::string whole = ReadWholeFile(tokens());
  fs::remove_all(snapshots);
  const CommandResult far = Dump("--count 52000 --recipe " + recipe);
  EXPECT_EQ(far.exit_status, 2);
  EXPECT_THAT(far.err, HasSubstr("at most 20000 are replayed"));
  EXPECT_EQ(ReadWholeFile(tokens()) == whole, true);
  EXPECT_EQ(Dump("--count 51000 --recipe " + recipe).exit_status, 0);
}

TEST_F(CliDump, SurvivesAKill) {
  const std::string arguments = "--recipe uniform --count 60000";
  for (const int signal : {SIGKILL, SIGINT}) {
    fs::remove_all(out());
    BackgroundIterand dump({"dump", "--out", out(), "--recipe", "uniform", "--count", "60000"});
    // Until the journal vouches for two chunks of 65 bytes' lines after its first line.
    for (;;) {
      ASSERT_TRUE(dump.running()) << "the dump ended before it could be killed";
      if (fs::exists(journal())) {
        const std::string lines = ReadWholeFile(journal());
        if (std::count(lines.begin(), lines.end(), '\n') >= 3) break;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    dump.Signal(signal);
    EXPECT_EQ(dump.Wait(), signal == SIGKILL ? 128 + SIGKILL : 130);
    EXPECT_FALSE(fs::exists(tokens()));
    const CommandResult result = Dump(arguments);
    EXPECT_EQ(result.exit_status, 0) << result.err;
    EXPECT_THAT(result.err, HasSubstr("continuing after"));
    const std::string raw = Raw("--recipe uniform --count 60000");
    EXPECT_EQ(ReadWholeFile(tokens()) == Widened(raw), true);
  }
}

TEST_F(CliDump, AServerThatGoesLeavesAPartToGoOnFrom) {
  RunningServer server;
  const std::string command = "dump --out " + out() + " --recipe uniform --count 500000 --server ";
  std::thread stop([&] {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while ((!fs::exists(partial()) || fs::file_size(partial()) == 0) && std::chrono::steady_clock::now() < deadline) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    server.process().Signal(SIGKILL);
  });
  const CommandResult result = RunIterand(command + server.address());
  stop.join();
  EXPECT_EQ(result.exit_status, 1);
  EXPECT_THAT(result.err, HasSubstr("server " + server.address()));
  EXPECT_THAT(result.err, HasSubstr("sequences are safe, and the same command continues after them"));
}

TEST_F(CliDump, ASecondInterruptEndsADumpThatWaits) {
  RunningServer server;
  BackgroundIterand dump(
      {"dump", "--out", out(), "--recipe", "uniform", "--count", "500000", "--server", server.address()});
  std::string lines;
  while (std::count(lines.begin(), lines.end(), '\n') < 2) {
    ASSERT_TRUE(dump.running());
    if (fs::exists(journal())) lines = ReadWholeFile(journal());
  }
  server.process().Signal(SIGSTOP);
  for (std::uintmax_t before = 0, now = fs::file_size(partial()); before != now; now = fs::file_size(partial())) {
    before = now;
    std::this_thread::sleep_for(std::chrono::milliseconds(500));  // until nothing comes any more
  }
  for (int twice = 0; twice < 2; ++twice) {
    dump.Signal(SIGINT);  // as `timeout` sends it: to the command, then to its group
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  std::this_thread::sleep_for(2 * kOneSignal);
  EXPECT_TRUE(dump.running());  // it waits for the batch that it asked for
  dump.Signal(SIGINT);
  EXPECT_EQ(dump.Wait(), 130);
  server.process().Signal(SIGCONT);
  EXPECT_EQ(fs::exists(journal()) && fs::exists(partial()), true);
}

}  // namespace
}  // namespace iterand::testing
