// The program `iterand`: dump. The files' layout is described in clients/cli/dump_file.h.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "nlohmann/json.hpp"
#include "tests/clients/command_line.h"
#include "tests/clients/dump_fixture.h"

namespace iterand::testing {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;
using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST_F(CliDump, BinIsUint16TokensWithADescription) {
  const CommandResult result = Dump("--recipe up --length 64 --seed 4 --count 40 --start 3");
  ASSERT_EQ(result.exit_status, 0) << result.err;
  EXPECT_EQ(result.err, "");
  const std::string data = ReadWholeFile(tokens());
  EXPECT_EQ(data, Widened(Raw("--recipe up --length 64 --seed 4 --count 40 --start 3")));
  EXPECT_THAT(result.out, HasSubstr(Sha256Hex(data)));

  const ordered_json description = ordered_json::parse(ReadWholeFile(sidecar()));
  const ordered_json described = ordered_json::parse(RunIterand("describe up --length 64 --seed 4 --json").out);
  EXPECT_EQ(description["sha256"], Sha256Hex(data));
  EXPECT_EQ(description["dtype"], "uint16");
  EXPECT_EQ(description["shape"], ordered_json::array({40, 64}));
  EXPECT_EQ(description["bytes"], data.size());
  EXPECT_EQ(description["seed"], 4);
  EXPECT_EQ(description["start"], 3);
  EXPECT_EQ(description["fingerprint"], described["fingerprint"]);
  EXPECT_EQ(description["engine_version"], described["engine_version"]);
  EXPECT_EQ(description["recipe"], described["recipe"]);
  // Nothing else stays.
  EXPECT_EQ(std::distance(fs::directory_iterator(out()), fs::directory_iterator()), 2);
}

TEST_F(CliDump, NpyIsAnArrayOfTheStreamsDtype) {
  ASSERT_EQ(Dump("--recipe markov --count 10 --length 48 --format npy").exit_status, 0);
  const std::string data = ReadWholeFile(out() + "/tokens.npy");
  ASSERT_GT(data.size(), 128u);
  EXPECT_EQ(data.substr(0, 8), std::string("\x93NUMPY\x01\x00", 8));
  const std::size_t text = static_cast<unsigned char>(data[8]) + 256u * static_cast<unsigned char>(data[9]);
  EXPECT_EQ((10 + text) % 64, 0u);
  const std::string header = data.substr(10, text);
  EXPECT_THAT(header, StartsWith("{'descr': '|u1', 'fortran_order': False, 'shape': (10, 48), }"));
  EXPECT_EQ(header.back(), '\n');
  EXPECT_EQ(data.substr(10 + text), Raw("--recipe markov --count 10 --length 48"));
}

TEST_F(CliDump, BinRefusesTokensThatDoNotFit) {
  const std::string recipe = scratch_.File("wide.json");
  WriteWholeFile(recipe, R"({"families": [{"markov": {}}], "relabel": "RELABEL_SEQUENCE", "vocabSize": "65537"})");
  const CommandResult bin = Dump("--count 2 --recipe " + recipe);
  EXPECT_EQ(bin.exit_status, 2);
  EXPECT_THAT(bin.err, HasSubstr("npy"));
  EXPECT_FALSE(fs::exists(out()));
  EXPECT_EQ(Dump("--count 2 --format npy --recipe " + recipe).exit_status, 0);
  WriteWholeFile(recipe, R"({"families": [{"markov": {}}], "relabel": "RELABEL_SEQUENCE", "vocabSize": "65536"})");
  EXPECT_EQ(Dump("--count 2 --name fits --recipe " + recipe).exit_status, 0);
  EXPECT_EQ(ReadWholeFile(out() + "/fits.bin"), Raw("--count 2 --recipe " + recipe));
}

TEST_F(CliDump, ACompleteDumpIsCheckedAndLeftAlone) {
  ASSERT_EQ(Dump("--recipe uniform --count 100").exit_status, 0);
  const auto written = fs::last_write_time(tokens());
  const CommandResult again = Dump("--recipe uniform --count 100");
  EXPECT_EQ(again.exit_status, 0) << again.err;
  EXPECT_THAT(again.err, HasSubstr("nothing to do"));
  EXPECT_EQ(fs::last_write_time(tokens()), written);

  std::string data = ReadWholeFile(tokens());
  data[1000] ^= 1;
  WriteWholeFile(tokens(), data);
  const CommandResult damaged = Dump("--recipe uniform --count 100");
  EXPECT_EQ(damaged.exit_status, 1);
  EXPECT_THAT(damaged.err, HasSubstr("checksum"));

  fs::remove(tokens());
  const CommandResult gone = Dump("--recipe uniform --count 100");
  EXPECT_EQ(gone.exit_status, 1);
  EXPECT_THAT(gone.err, HasSubstr("tokens.bin is gone"));
}

TEST_F(CliDump, AnotherStreamsDumpIsNotOverwritten) {
  ASSERT_EQ(Dump("--recipe uniform --count 100").exit_status, 0);
  const std::string before = ReadWholeFile(tokens());
  for (const std::string arguments :
       {"--recipe uniform --count 100 --seed 1", "--recipe uniform --count 200 --length 64",
        "--recipe uniform --count 100 --start 1", "--recipe pointwise --count 100",
        "--recipe uniform --count 100 --format npy", "--recipe uniform --count 100 --rank 0 --world-size 2"}) {
    const CommandResult other = Dump(arguments);
    EXPECT_EQ(other.exit_status, 2) << arguments;
    EXPECT_THAT(other.err, HasSubstr("another dump")) << arguments;
    EXPECT_THAT(other.err, HasSubstr("--name")) << arguments;
  }
  EXPECT_EQ(ReadWholeFile(tokens()), before);
  EXPECT_EQ(Dump("--recipe uniform --count 100 --seed 1 --name other").exit_status, 0);
}

TEST_F(CliDump, ACompleteDumpIsExtended) {
  for (const std::string format : {"bin", "npy"}) {
    const std::string arguments =
        "--recipe tasks --length 64 --seed 3 --rank 1 --world-size 2 --start 5 --loss-mask --format " + format;
    ASSERT_EQ(Dump(arguments + " --count 700 --name once").exit_status, 0);
    for (const int sequences : {100, 101, 700}) {
      const CommandResult result = Dump(arguments + " --count " + std::to_string(sequences));
      ASSERT_EQ(result.exit_status, 0) << result.err;
      EXPECT_THAT(result.err, HasSubstr(sequences > 100 ? "continuing after 10" : ""));
    }
    for (const std::string name : {"tokens", "tokens.loss_mask"}) {
      std::string once = name;
      once.replace(0, 6, "once");
      EXPECT_EQ(ReadWholeFile(absl::StrCat(out(), "/", name, ".", format)),
                ReadWholeFile(absl::StrCat(out(), "/", once, ".", format)));
      ordered_json description = ordered_json::parse(ReadWholeFile(out() + "/" + name + ".json"));
      ordered_json wanted = ordered_json::parse(ReadWholeFile(out() + "/" + once + ".json"));
      description.erase("file");
      wanted.erase("file");
      EXPECT_EQ(description, wanted);
    }
    const CommandResult fewer = Dump(arguments + " --count 699");
    EXPECT_EQ(fewer.exit_status, 2);
    EXPECT_THAT(fewer.err, HasSubstr("has 700 sequences of this dump already, and 699 are asked for"));
    EXPECT_EQ(std::distance(fs::directory_iterator(out()), fs::directory_iterator()), 8);
    fs::remove_all(out());
  }
}

TEST_F(CliDump, ForeignFilesAreNotOverwritten) {
  fs::create_directory(out());
  WriteWholeFile(tokens(), "precious");
  EXPECT_EQ(Dump("--recipe uniform --count 1").exit_status, 2);
  EXPECT_EQ(ReadWholeFile(tokens()), "precious");
  WriteWholeFile(out() + "/notes.json", "precious");
  EXPECT_EQ(Dump("--recipe uniform --count 1 --name notes").exit_status, 2);
  EXPECT_EQ(ReadWholeFile(out() + "/notes.json"), "precious");
}

// 20 000 sequences of 1 KiB are two chunks of 8 192 and a rest.
constexpr char kThreeChunks[] = "--recipe uniform --count 20000";

TEST_F(CliDump, GoesOnAfterTheLastGoodChunk) {
  ASSERT_EQ(Dump(kThreeChunks).exit_status, 0);
  const std::string whole = ReadWholeFile(tokens());
  const std::string description = ReadWholeFile(sidecar());

  MakePartial(/*chunks=*/2, /*bytes=*/2 * kChunkBytes + 12345);  // tokens without a line in the journal
  CommandResult result = Dump(kThreeChunks);
  EXPECT_EQ(result.exit_status, 0) << result.err;
  EXPECT_THAT(result.err, HasSubstr("after 16384 sequences"));
  EXPECT_EQ(ReadWholeFile(tokens()), whole);
  EXPECT_EQ(ReadWholeFile(sidecar()), description);

  MakePartial(/*chunks=*/2, /*bytes=*/2 * kChunkBytes - 1);  // the disk lost what the journal vouches for
  result = Dump(kThreeChunks);
  EXPECT_THAT(result.err, HasSubstr("after 8192 sequences"));
  EXPECT_EQ(ReadWholeFile(tokens()), whole);

  MakePartial(/*chunks=*/3, /*bytes=*/whole.size());  // killed between the last chunk and the new name
  result = Dump(kThreeChunks);
  EXPECT_EQ(result.exit_status, 0) << result.err;
  EXPECT_THAT(result.err, HasSubstr("after 20000 sequences"));
  EXPECT_EQ(ReadWholeFile(tokens()), whole);
  EXPECT_EQ(ReadWholeFile(sidecar()), description);
}

TEST_F(CliDump, TheJournalIsRightAfterATornChunk) {
  const std::string arguments = "--recipe uniform --count 60000";
  ASSERT_EQ(Dump(arguments).exit_status, 0);
  MakePartial(/*chunks=*/2, /*bytes=*/2 * kChunkBytes - 1);
  BackgroundIterand dump({"dump", "--out", out(), "--recipe", "uniform", "--count", "60000"});
  std::vector<std::string> lines;
  while (lines.size() < 4) {  // the first, and those of three chunks
    ASSERT_TRUE(dump.running()) << "the dump ended before it could be killed";
    lines = absl::StrSplit(ReadWholeFile(journal()), '\n');
    lines.pop_back();  // what follows the last newline
  }
  dump.Signal(SIGKILL);
  dump.Wait();
  const std::string data = ReadWholeFile(partial());
  EXPECT_EQ(lines[1], Sha256Hex(data.substr(0, kChunkBytes)));  // of an earlier version
  std::size_t safe = kChunkBytes;
  for (const std::string& line : {lines[2], lines[3]}) {
    const std::vector<std::string> words = absl::StrSplit(line, ' ');
    ASSERT_EQ(words.size(), 2u);
    const std::size_t bytes = std::stoul(words[1]) * 1024;
    EXPECT_EQ(words[0], Sha256Hex(data.substr(safe, bytes)));
    safe += bytes;
  }
}

TEST_F(CliDump, DamagedPartsAreMadeAgain) {
  ASSERT_EQ(Dump(kThreeChunks).exit_status, 0);
  const std::string whole = ReadWholeFile(tokens());
  for (const std::size_t damaged_chunk : {std::size_t{0}, std::size_t{1}}) {
    MakePartial(/*chunks=*/3, /*bytes=*/whole.size());
    std::string data = ReadWholeFile(partial());
    data[damaged_chunk * kChunkBytes + 77] ^= 1;
    WriteWholeFile(partial(), data);
    const CommandResult result = Dump(kThreeChunks);
    EXPECT_EQ(result.exit_status, 0) << result.err;
    EXPECT_EQ(ReadWholeFile(tokens()) == whole, true) << damaged_chunk;
  }
}

TEST_F(CliDump, ATornJournalIsNoObstacle) {
  ASSERT_EQ(Dump(kThreeChunks).exit_status, 0);
  const std::string whole = ReadWholeFile(tokens());
  MakePartial(/*chunks=*/2, /*bytes=*/2 * kChunkBytes);
  const std::string lines = ReadWholeFile(journal());
  WriteWholeFile(journal(), lines.substr(0, lines.size() - 30));
  CommandResult result = Dump(kThreeChunks);
  EXPECT_THAT(result.err, HasSubstr("after 8192 sequences"));
  EXPECT_EQ(ReadWholeFile(tokens()) == whole, true);

  MakePartial(/*chunks=*/1, /*bytes=*/kChunkBytes);
  WriteWholeFile(journal(), lines.substr(0, 100));  // torn in its first line
  result = Dump(kThreeChunks);
  EXPECT_EQ(result.exit_status, 0) << result.err;
  EXPECT_EQ(ReadWholeFile(tokens()) == whole, true);
}

TEST_F(CliDump, APartialDumpOfAnotherStreamIsNotTouched) {
  ASSERT_EQ(Dump(kThreeChunks).exit_status, 0);
  MakePartial(/*chunks=*/1, /*bytes=*/kChunkBytes);
  const std::string before = ReadWholeFile(partial());
  EXPECT_EQ(Dump(std::string(kThreeChunks) + " --seed 1").exit_status, 2);
  EXPECT_EQ(ReadWholeFile(partial()) == before, true);
}

TEST_F(CliDump, ADumpOfAnotherFormatThatIsDoneMeanwhileIsNotOverwritten) {
  ASSERT_EQ(Dump(kThreeChunks).exit_status, 0);
  MakePartial(1, kChunkBytes);
  ASSERT_EQ(Dump("--recipe uniform --count 10 --format npy").exit_status, 0);
  const std::string description = ReadWholeFile(sidecar());
  const CommandResult late = Dump(kThreeChunks);
  EXPECT_EQ(late.exit_status, 2);
  EXPECT_THAT(late.err, HasSubstr("another dump"));
  EXPECT_EQ(ReadWholeFile(sidecar()), description);
}

// A journal without NAME.EXT.partial belongs to a dump that was killed after it had its name, or to another dump.
TEST_F(CliDump, OnlyANamedFileThatMatchesItsJournalIsTakenOver) {
  ASSERT_EQ(Dump(kThreeChunks).exit_status, 0);
  const std::string whole = ReadWholeFile(tokens());
  MakePartial(/*chunks=*/3, /*bytes=*/whole.size());
  const std::string lines = ReadWholeFile(journal());
  for (const std::string& foreign :
       {std::string(std::size_t{5} << 20, 'x'), whole.substr(0, 2 * kChunkBytes), whole + "more", std::string()}) {
    fs::remove(partial());
    WriteWholeFile(tokens(), foreign);
    const CommandResult result = Dump(kThreeChunks);
    EXPECT_EQ(result.exit_status, 2);
    EXPECT_THAT(result.err, HasSubstr("tokens.bin is in the way"));
    EXPECT_EQ(ReadWholeFile(tokens()) == foreign, true);
    EXPECT_EQ(ReadWholeFile(journal()) == lines, true);
  }
  WriteWholeFile(partial(), whole);
  WriteWholeFile(tokens(), whole);
  EXPECT_THAT(Dump(kThreeChunks).err, HasSubstr("tokens.bin is in the way: this dump is in progress in"));
  fs::remove(partial());
  const auto written = fs::last_write_time(tokens());
  const CommandResult result = Dump(kThreeChunks);
  EXPECT_EQ(result.exit_status, 0) << result.err;
  EXPECT_EQ(fs::last_write_time(tokens()), written);
  EXPECT_EQ(ReadWholeFile(tokens()) == whole, true);
  EXPECT_FALSE(fs::exists(journal()));
}

TEST_F(CliDump, AFileThatComesInTheWayIsNotOverwritten) {
  BackgroundIterand dump({"dump", "--out", out(), "--recipe", "uniform", "--count", "60000"});
  while (!fs::exists(journal())) ASSERT_TRUE(dump.running());
  WriteWholeFile(tokens(), "precious");
  EXPECT_EQ(dump.Wait(), 2);
  EXPECT_EQ(ReadWholeFile(tokens()), "precious");
  fs::remove(tokens());
  const CommandResult result = Dump("--recipe uniform --count 60000");
  EXPECT_EQ(result.exit_status, 0) << result.err;
  EXPECT_THAT(result.err, HasSubstr("continuing after 60000 sequences"));
  EXPECT_EQ(ReadWholeFile(tokens()) == Widened(Raw("--recipe uniform --count 60000")), true);
}

TEST_F(CliDump, ForeignJournalsAreNotOverwritten) {
  fs::create_directory(out());
  for (const std::string content : {"precious", "precious\n", "[]\n"}) {
    WriteWholeFile(journal(), content);
    const CommandResult result = Dump("--recipe uniform --count 1");
    EXPECT_EQ(result.exit_status, 2);
    EXPECT_THAT(result.err, HasSubstr("tokens.bin.journal is in the way"));
    EXPECT_EQ(ReadWholeFile(journal()), content);
  }
  fs::remove(journal());
  WriteWholeFile(sidecar() + ".partial", "precious");
  EXPECT_THAT(Dump("--recipe uniform --count 1").err, HasSubstr("tokens.json.partial is in the way"));
  EXPECT_EQ(ReadWholeFile(sidecar() + ".partial"), "precious");
}

TEST_F(CliDump, ANameIsWrittenByOneProcessInWhateverFormat) {
  BackgroundIterand dump({"dump", "--out", out(), "--recipe", "up-paper", "--count", "10000"});
  while (!fs::exists(sidecar() + ".partial")) ASSERT_TRUE(dump.running());
  const CommandResult other = Dump("--recipe uniform --count 1 --format npy");
  EXPECT_EQ(other.exit_status, 1);
  EXPECT_THAT(other.err, HasSubstr("another process is writing this dump"));
}

TEST_F(CliDump, ARecipesMaskIsWritten) {
  const std::string recipe = scratch_.File("masked.json");
  WriteWholeFile(recipe, R"({"families": [{"tasks": {}}], "lossMask": true})");
  ASSERT_EQ(Dump("--count 50 --recipe " + recipe).exit_status, 0);
  WriteWholeFile(recipe, R"({"families": [{"tasks": {}}]})");
  ASSERT_EQ(Dump("--count 50 --loss-mask --name asked --recipe " + recipe).exit_status, 0);
  const std::string mask = ReadWholeFile(out() + "/tokens.loss_mask.bin");
  EXPECT_EQ(mask.size(), 50u * 512);
  EXPECT_EQ(mask, ReadWholeFile(out() + "/asked.loss_mask.bin"));
  EXPECT_EQ(ReadWholeFile(tokens()), ReadWholeFile(out() + "/asked.bin"));
}

TEST_F(CliDump, ANewDescriptionIsTheSameDump) {
  const std::string recipe = scratch_.File("own.json");
  WriteWholeFile(recipe, R"({"families": [{"uniform": {}}], "description": "first words"})");
  const std::string arguments = "--count 20000 --recipe " + recipe;
  ASSERT_EQ(Dump(arguments).exit_status, 0);
  MakePartial(/*chunks=*/1, /*bytes=*/kChunkBytes);
  WriteWholeFile(recipe, R"({"families": [{"uniform": {}}], "description": "better words"})");
  const CommandResult result = Dump(arguments);
  EXPECT_EQ(result.exit_status, 0) << result.err;
  EXPECT_THAT(result.err, HasSubstr("after 8192 sequences"));
}

// The dump's files must not get descriptors that were closed, and a full disk must not lose what is safe.
TEST_F(CliDump, NoMessageGoesIntoTheFiles) {
  ASSERT_EQ(Dump(kThreeChunks).exit_status, 0);
  const std::string whole = ReadWholeFile(tokens());
  MakePartial(/*chunks=*/1, /*bytes=*/kChunkBytes);
  const std::string lines = ReadWholeFile(journal());
  const std::string dump = "ulimit -f 17000; $ITERAND dump --out " + out() + " " + kThreeChunks;
  for (const std::string closed : {" 2>&-", " <&- 2>&-", " <&- >&- 2>&-"}) {
    EXPECT_EQ(RunShell(dump + closed).exit_status, 1);
    EXPECT_THAT(ReadWholeFile(journal()), StartsWith(lines));
    EXPECT_EQ(ReadWholeFile(journal()).find("iterand:"), std::string::npos);
    EXPECT_EQ(ReadWholeFile(partial()).find("iterand:"), std::string::npos);
  }
  const CommandResult full = RunShell(dump);
  EXPECT_EQ(full.exit_status, 1);
  EXPECT_THAT(full.err, HasSubstr("tokens.bin.partial: File too large; "));
  EXPECT_THAT(full.err, HasSubstr(" sequences are safe, and the same command continues after them"));
  EXPECT_EQ(Dump(kThreeChunks).exit_status, 0);
  EXPECT_EQ(ReadWholeFile(tokens()) == whole, true);
}

TEST_F(CliDump, ARequestThatCannotBeMetLeavesNothingBehind) {
  const std::string recipe = scratch_.File("starved.json");
  // Noise is never this simple.
  WriteWholeFile(recipe, R"({"families": [{"uniform": {}}], "band": {"low": 0, "high": 0.001}})");
  struct Case {
    std::string arguments;
    int exit_status;
    const char* part;
  };
  const std::string long_name(233, 'n');
  for (const Case& bad :
       {Case{"--count 5 --recipe " + recipe, 1, "starv"},
        Case{"--count 5 --recipe up-paper --start 1000000000000", 2, "endless pool"},
        Case{"--count 281474976710656 --recipe uniform", 1, "of free space, and this dump needs 262144.0 TiB"},
        Case{"--count 2 --start 18446744073709551615", 2, "--count 2"},
        Case{"--count 5 --rank 0 --world-size 3", 2, "shard.world_size is 3"},
        Case{"--count 5 --rank 3 --world-size 2", 2, "--rank is 3"},
        Case{"--count 5 --name \"$(printf 'a\\377')\"", 2, "UTF-8"},
        Case{"--count 5 --name " + long_name, 2, "at most 232"}}) {
    const CommandResult result = RunIterand("dump --out " + out() + "/inner " + bad.arguments);
    EXPECT_EQ(result.exit_status, bad.exit_status) << result.err;
    EXPECT_THAT(result.err, HasSubstr(bad.part));
    EXPECT_FALSE(fs::exists(out())) << bad.arguments;
  }
  EXPECT_EQ(Dump("--count 5 --loss-mask --recipe uniform --name " + long_name.substr(1)).exit_status, 0);
}

TEST_F(CliDump, AFolderInTheWayIsNamed) {
  fs::create_directories(sidecar());
  const CommandResult result = Dump("--recipe uniform --count 5");
  EXPECT_EQ(result.exit_status, 2);
  EXPECT_THAT(result.err, HasSubstr("tokens.json: cannot be read (Is a directory)"));
}

TEST_F(CliDump, ServedAndInProcessAreEqual) {
  const RunningServer server;
  ASSERT_EQ(Dump("--recipe up --length 64 --count 200 --rank 1 --world-size 2").exit_status, 0);
  ASSERT_EQ(
      Dump("--recipe up --length 64 --count 200 --rank 1 --world-size 2 --name served --server " + server.address())
          .exit_status,
      0);
  EXPECT_EQ(ReadWholeFile(out() + "/served.bin"), ReadWholeFile(tokens()));
}

}  // namespace
}  // namespace iterand::testing
