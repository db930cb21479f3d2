#include <gtest/gtest.h>

#include <vector>

#include "randnet/base/noise.h"
#include "tests/randnet/family_checks.h"

namespace iterand {
namespace {

// The definition, one symbol at a time. `bits` are those of the alphabet, 0 if it is not a power of two.
std::vector<Symbol> Reference(Rng rng, int alphabet, int bits, int length) {
  std::vector<Symbol> row;
  const int field_bits = bits == 0 ? 32 : bits <= 8 ? 8 : 16;
  std::uint32_t word = 0;
  for (int t = 0; t < length; ++t) {
    const int field = t % (32 / field_bits);
    if (field == 0) word = rng.Next();
    const std::uint64_t value = (std::uint64_t{word} >> (field * field_bits)) % (std::uint64_t{1} << field_bits);
    row.push_back(static_cast<Symbol>(value * static_cast<std::uint64_t>(alphabet) >> field_bits));
  }
  return row;
}

TEST(UniformTest, NoiseIsTheUpperPartOfAProduct) {
  for (const int alphabet : {1, 2, 3, 4, 255, 256, 65535, 65536}) {
    std::vector<Symbol> row(1000);
    Rng rng = RowRng({.seed = 5}).ForRow(0);
    FillNoise(rng, alphabet, row);
    EXPECT_EQ(row, Reference(RowRng({.seed = 5}).ForRow(0), alphabet, 0, 1000)) << alphabet << " symbols";
  }
}

TEST(UniformTest, RowsAreTheFieldsOfWords) {
  struct Case {
    int alphabet;
    int bits;
  };
  for (const auto& [alphabet, bits] : {Case{2, 1}, {16, 4}, {256, 8}, {512, 9}, {65536, 16}, {3, 0}, {100, 0}}) {
    for (const int length : {17, 512, 515, 2051}) {
      ProgramRunner runner(R"({"uniform": {}})", 3, {.alphabet = alphabet, .length = length});
      EXPECT_FALSE(runner.family().reads_input());
      runner.SampleAndRun(5);
      for (int r = 0; r < runner.rows(); ++r) {
        EXPECT_EQ(runner.Row(r), Reference(RowRng({.seed = 5}).ForRow(r), alphabet, bits, length))
            << alphabet << " symbols, length " << length << ", row " << r;
      }
    }
  }
}

TEST(UniformTest, SymbolsAreEquallyFrequent) {
  constexpr int kAlphabet = 16;
  ProgramRunner runner(R"({"uniform": {}})", 20, {.alphabet = kAlphabet, .length = 4000});
  runner.SampleAndRun(1);
  std::vector<int> counts(kAlphabet);
  for (int r = 0; r < runner.rows(); ++r) {
    for (const Symbol symbol : runner.Row(r)) ++counts.at(symbol);
  }
  // 80 000 symbols: 5 000 of each, with a standard deviation of 68.
  for (const int count : counts) EXPECT_NEAR(count, 5000, 5 * 68);
}

}  // namespace
}  // namespace iterand
