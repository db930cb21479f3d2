// Golden hashes: the first 64 sequences of every preset, seeds 0 and 1. A change here is a change of the product's
// output: it needs a new engine version (CONTRIBUTING.md, "Goldens"). `tools/goldens` prints the new file.
#include <gtest/gtest.h>
#include <openssl/sha.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <span>
#include <sstream>

#include "iterate/presets.h"
#include "iterate/stream.h"

namespace iterand {
namespace {

constexpr int kRows = 64;

struct Goldens {
  std::uint32_t engine_version = 0;
  struct Golden {
    std::string hash;         // SHA-256
    std::int64_t length = 0;  // of the sequences; 0: the preset's own
  };
  std::map<std::pair<std::string, std::uint64_t>, Golden> hashes;  // by preset and seed
};

Goldens LoadGoldens() {
  Goldens goldens;
  std::ifstream file(std::string(ITERAND_TEST_DATA) + "/goldens/goldens.txt");
  EXPECT_TRUE(file.is_open()) << "tests/goldens/goldens.txt is missing; tools/goldens makes it";
  for (std::string line; std::getline(file, line);) {
    if (line.empty() || line[0] == '#') continue;
    std::istringstream words(line);
    std::string name;
    words >> name;
    if (name == "engine_version") {
      words >> goldens.engine_version;
    } else {
      std::uint64_t seed = 0;
      Goldens::Golden golden;
      words >> seed >> golden.hash >> golden.length;
      goldens.hashes[{name, seed}] = golden;
    }
  }
  return goldens;
}

// kRows sequences from `start` on.
std::vector<unsigned char> Sequences(const v1::Recipe& recipe, std::uint64_t seed, std::uint64_t start) {
  auto stream = Stream::Open(recipe, seed);
  EXPECT_TRUE(stream.ok()) << stream.status();
  std::vector<unsigned char> tokens(kRows * (*stream)->sequence_bytes());
  const absl::Status status =
      (*stream)->Read({.first_index = start, .rows = kRows}, std::as_writable_bytes(std::span(tokens)));
  EXPECT_TRUE(status.ok()) << status;
  return tokens;
}

std::string Hash(const std::vector<unsigned char>& tokens) {
  Fingerprint hash;
  SHA256(tokens.data(), tokens.size(), hash.data());
  return ToHex(hash);
}

std::string HashFirstSequences(const std::string& preset, std::uint64_t seed, std::int64_t length) {
  auto recipe = LoadPreset(preset);
  EXPECT_TRUE(recipe.ok()) << recipe.status();
  if (length > 0) recipe->set_length(length);
  return Hash(Sequences(*recipe, seed, 0));
}

TEST(GoldenTest, EngineVersionIsTheGoldens) { EXPECT_EQ(LoadGoldens().engine_version, kEngineVersion); }

TEST(GoldenTest, GoldensNameNoOtherPresets) {
  for (const auto& [key, hash] : LoadGoldens().hashes) {
    const auto presets = AllPresets();
    EXPECT_TRUE(std::any_of(presets.begin(), presets.end(), [&](const PresetEntry& p) { return p.name == key.first; }))
        << key.first;
  }
}

// The slow pools of the paper begin with constant rows, and so do their goldens above. These are of smaller pools of
// the same programs, read where hardly a row of the beginning is left.
TEST(GoldenTest, PoolsThatHaveMixed) {
  std::ifstream file(std::string(ITERAND_TEST_DATA) + "/goldens/mixed_pools.txt");
  ASSERT_TRUE(file.is_open()) << "tests/goldens/mixed_pools.txt is missing; tools/goldens --mixed-pools makes it";
  int pools = 0;
  for (std::string line; std::getline(file, line);) {
    if (line.empty() || line[0] == '#') continue;
    std::istringstream words(line);
    std::string name;
    std::string golden;
    std::uint64_t seed = 0;
    std::uint64_t start = 0;
    std::int64_t length = 0;
    std::int64_t pool_rows = 0;
    words >> name >> seed >> golden >> length >> pool_rows >> start;
    v1::Recipe recipe = *LoadPreset(name);
    recipe.set_length(length);
    recipe.mutable_pool()->set_pool_rows(pool_rows);
    const std::vector<unsigned char> tokens = Sequences(recipe, seed, start);
    EXPECT_EQ(Hash(tokens), golden) << line;
    int constant = 0;
    for (auto row = tokens.begin(); row != tokens.end(); row += length) {
      constant += std::count(row, row + length, *row) == length ? 1 : 0;
    }
    EXPECT_LT(constant, kRows / 2) << line;
    ++pools;
  }
  EXPECT_EQ(pools, 2);
}

class PresetGoldenTest : public testing::TestWithParam<std::string> {};

TEST_P(PresetGoldenTest, FirstSequences) {
  const Goldens goldens = LoadGoldens();
  for (const std::uint64_t seed : {0U, 1U}) {
    const auto golden = goldens.hashes.find({GetParam(), seed});
    ASSERT_NE(golden, goldens.hashes.end())
        << GetParam() << " has no golden for seed " << seed << "; see tools/goldens";
    EXPECT_EQ(HashFirstSequences(GetParam(), seed, golden->second.length), golden->second.hash) << "seed " << seed;
  }
}

std::vector<std::string> PresetNames() {
  std::vector<std::string> names;
  for (const PresetEntry& preset : AllPresets()) names.emplace_back(preset.name);
  return names;
}

INSTANTIATE_TEST_SUITE_P(Presets, PresetGoldenTest, testing::ValuesIn(PresetNames()), [](const auto& test) {
  std::string name = test.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

}  // namespace
}  // namespace iterand
