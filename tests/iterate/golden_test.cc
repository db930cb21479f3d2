// Golden hashes: the first 64 sequences of every preset, seeds 0 and 1. A change here is a change of the product's
// output: it needs a new engine version (CONTRIBUTING.md, "Goldens"). `tools/goldens` prints the file anew.
#include <gtest/gtest.h>
#include <openssl/sha.h>

#include <algorithm>
#include <fstream>
#include <map>
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

std::string HashFirstSequences(const std::string& preset, std::uint64_t seed, std::int64_t length) {
  auto recipe = LoadPreset(preset);
  EXPECT_TRUE(recipe.ok()) << recipe.status();
  if (length > 0) recipe->set_length(length);
  auto stream = Stream::Open(*recipe, seed);
  EXPECT_TRUE(stream.ok()) << stream.status();
  std::vector<unsigned char> tokens(kRows * (*stream)->sequence_bytes());
  const absl::Status status = (*stream)->Read(0, 1, kRows, tokens.data());
  EXPECT_TRUE(status.ok()) << status;
  Fingerprint hash;
  SHA256(tokens.data(), tokens.size(), hash.data());
  return ToHex(hash);
}

TEST(GoldenTest, EngineVersionIsTheGoldens) { EXPECT_EQ(LoadGoldens().engine_version, kEngineVersion); }

TEST(GoldenTest, GoldensNameNoOtherPresets) {
  for (const auto& [key, hash] : LoadGoldens().hashes) {
    const auto presets = AllPresets();
    EXPECT_TRUE(std::any_of(presets.begin(), presets.end(), [&](const PresetEntry& p) { return p.name == key.first; }))
        << key.first;
  }
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
