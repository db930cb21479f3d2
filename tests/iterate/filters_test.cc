// Complexity, relabelling, mixing and the filters.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <set>
#include <span>
#include <vector>

#include "iterate/complexity.h"
#include "iterate/presets.h"
#include "iterate/recipe_json.h"
#include "iterate/relabel.h"
#include "iterate/stream.h"
#include "randnet/base/noise.h"

namespace iterand {
namespace {

TEST(ComplexityTest, FixedLog2IsTheLogarithm) {
  for (const std::uint64_t value :
       {1ULL, 2ULL, 3ULL, 7ULL, 100ULL, 511ULL, 65535ULL, 65536ULL, 123456789ULL, 1ULL << 40}) {
    EXPECT_NEAR(FixedLog2(value) / 65536.0, std::log2(static_cast<double>(value)), 2.0 / 65536) << value;
  }
}

TEST(ComplexityTest, OrdersRowsByStructure) {
  ComplexityMeter meter(256, 512);
  const auto complexity = [&](const std::vector<Symbol>& row) {
    return static_cast<double>(meter.Measure(row.data())) / static_cast<double>(meter.plain());
  };
  std::vector<Symbol> constant(512, 17);
  std::vector<Symbol> noise(512);
  Rng rng(1, 2);
  FillNoise(rng, 256, noise);
  std::vector<Symbol> period(512);  // 10 random symbols, repeated
  for (std::size_t t = 0; t < 512; ++t) period[t] = noise[t % 10];
  std::vector<Symbol> four(512);  // independent, 4 symbols: 2 bits per token
  for (std::size_t t = 0; t < 512; ++t) four[t] = noise[t] % 4;
  EXPECT_LT(complexity(constant), 0.02);
  EXPECT_LT(complexity(period), 0.05);
  EXPECT_GT(complexity(four), 0.2);
  EXPECT_LT(complexity(four), 0.4);
  EXPECT_GT(complexity(noise), 0.88);
  EXPECT_LT(complexity(noise), 1.01);
}

TEST(ComplexityTest, RelabellingChangesNextToNothing) {
  Rng rng(3, 4);
  std::vector<Symbol> row(512);
  FillNoise(rng, 12, row);
  std::vector<Symbol> permutation(256);
  std::iota(permutation.begin(), permutation.end(), Symbol{0});
  Shuffle<Symbol>(rng, permutation);
  std::vector<Symbol> relabelled(512);
  for (std::size_t t = 0; t < 512; ++t) relabelled[t] = permutation[row[t]];
  ComplexityMeter meter(256, 512);
  // The hash of three symbols may collide differently and so look at other candidates; no more than that.
  EXPECT_NEAR(static_cast<double>(meter.Measure(row.data())), static_cast<double>(meter.Measure(relabelled.data())),
              0.01 * static_cast<double>(meter.plain()));
}

TEST(BandTest, KeepsOnlyRowsWithinTheBand) {
  v1::Recipe recipe = *LoadPreset("pointwise");
  recipe.set_relabel(v1::Recipe::RELABEL_NONE);
  recipe.mutable_band()->set_low(0.2);
  recipe.mutable_band()->set_high(0.4);
  auto stream = *Stream::Open(recipe, 0);
  const int rows = 300;
  std::vector<std::uint8_t> tokens(rows * 512);
  ASSERT_TRUE(stream->Read({.rows = rows}, std::as_writable_bytes(std::span(tokens))).ok());
  ComplexityMeter meter(256, 512);
  for (int r = 0; r < rows; ++r) {
    const std::vector<Symbol> row(tokens.begin() + r * 512, tokens.begin() + (r + 1) * 512);
    const double complexity = static_cast<double>(meter.Measure(row.data())) / static_cast<double>(meter.plain());
    EXPECT_GE(complexity, 0.2);
    EXPECT_LE(complexity, 0.4);
  }
}

TEST(DistinctTest, DropsEqualRowsOfASegment) {
  v1::Recipe recipe;
  recipe.add_families()->mutable_constant();
  recipe.set_segment_sequences(200);
  recipe.set_lanes(1);
  recipe.set_distinct(true);
  auto stream = *Stream::Open(recipe, 0);
  std::vector<std::uint8_t> tokens(200 * 512);
  ASSERT_TRUE(stream->Read({.rows = 200}, std::as_writable_bytes(std::span(tokens))).ok());
  std::set<std::uint8_t> seen;
  for (int r = 0; r < 200; ++r) EXPECT_TRUE(seen.insert(tokens[static_cast<std::size_t>(r) * 512]).second);
}

TEST(InjectionTest, IsInjectiveUniformAndReproducible) {
  for (const std::uint64_t vocabulary : {8ULL, 1000ULL, 1ULL << 20, (1ULL << 20) + 5, 1ULL << 32}) {
    Injection injection(8, vocabulary);
    std::vector<int> first_token(8);
    for (std::uint64_t trial = 0; trial < 4000; ++trial) {
      injection.Reset(Rng(trial, 1));
      const std::vector<Symbol> symbols = {7, 6, 7, 7, 5, 4, 3, 6, 2, 1, 0};
      std::vector<std::uint32_t> tokens(symbols.size());
      injection.Map<std::uint32_t>(symbols, tokens.data());
      ASSERT_EQ(std::set(tokens.begin(), tokens.end()).size(), 8U);
      ASSERT_LT(*std::max_element(tokens.begin(), tokens.end()), vocabulary);
      ASSERT_EQ(tokens[2], tokens[0]);
      ASSERT_EQ(tokens[7], tokens[1]);
      if (vocabulary == 8) ++first_token[tokens[6]];
    }
    if (vocabulary == 8) {
      for (const int count : first_token) EXPECT_NEAR(count, 500, 100);
    }
  }
}

// A second implementation of the definition, symbol by symbol: of a vocabulary that is shuffled, and of one whose
// tokens are redrawn.
TEST(InjectionTest, IsTheDefinition) {
  for (const std::uint64_t vocabulary : {300ULL, 50000ULL, (1ULL << 20) + 5, 1ULL << 32}) {
    Injection injection(300, vocabulary);
    for (std::uint64_t trial = 0; trial < 50; ++trial) {
      Rng rng(trial, 2);
      injection.Reset(rng);
      std::map<std::uint64_t, std::uint64_t> moved;  // place of the shuffled vocabulary -> token, if not its own
      const auto at = [&](std::uint64_t place) { return moved.contains(place) ? moved[place] : place; };
      std::map<Symbol, std::uint64_t> token;
      std::set<std::uint64_t> taken;
      Rng choose(trial, 3);
      for (int row = 0; row < 3; ++row) {
        std::vector<Symbol> symbols(200);
        for (Symbol& symbol : symbols) symbol = static_cast<Symbol>(choose.Below(trial % 2 == 0 ? 300 : 10));
        std::vector<std::uint32_t> mapped(symbols.size());
        injection.Map(symbols, mapped.data());
        for (std::size_t t = 0; t < symbols.size(); ++t) {
          if (!token.contains(symbols[t])) {
            if (vocabulary <= 1U << 20) {
              const std::uint64_t i = token.size();
              const std::uint64_t j = i + rng.Below(static_cast<std::uint32_t>(vocabulary - i));
              const std::uint64_t drawn = at(j);
              moved[j] = at(i);
              token[symbols[t]] = drawn;
            } else {
              std::uint64_t drawn = 0;
              do {
                drawn = vocabulary == 1ULL << 32 ? rng.Next() : rng.Below(static_cast<std::uint32_t>(vocabulary));
              } while (!taken.insert(drawn).second);
              token[symbols[t]] = drawn;
            }
          }
          ASSERT_EQ(mapped[t], token[symbols[t]]) << vocabulary << " trial " << trial << " row " << row << " at " << t;
        }
      }
    }
  }
}

// A second implementation of the definition: one injection per round, drawn symbol by symbol over the rows that
// survive, in their order.
TEST(RelabelTest, RowsOfARoundShareAnInjection) {
  constexpr int kRows = 240;  // five segments of 48, whose last rounds are cut
  v1::Recipe recipe;
  recipe.add_families()->mutable_markov();
  recipe.set_length(64);
  recipe.set_lanes(1);
  recipe.set_vocab_size(1000);
  recipe.set_alphabet_size(256);
  recipe.mutable_chain()->mutable_rows()->set_fixed(7);
  recipe.mutable_band()->set_low(0.2);
  const auto read = [&](v1::Recipe::Relabel relabel, std::vector<RowProvenance>& provenance) {
    recipe.set_relabel(relabel);
    auto stream = *Stream::Open(recipe, 4);
    std::vector<std::uint16_t> tokens(static_cast<std::size_t>(kRows) * 64);
    EXPECT_TRUE(
        stream->Read({.rows = kRows, .provenance = provenance}, std::as_writable_bytes(std::span(tokens))).ok());
    return tokens;
  };
  std::vector<RowProvenance> provenance(kRows);
  std::vector<RowProvenance> relabelled_provenance(kRows);
  const std::vector<std::uint16_t> plain = read(v1::Recipe::RELABEL_NONE, provenance);
  const std::vector<std::uint16_t> relabelled = read(v1::Recipe::RELABEL_PROGRAM, relabelled_provenance);
  ASSERT_EQ(relabelled_provenance, provenance);

  std::map<std::pair<std::uint64_t, std::uint64_t>, std::map<std::uint32_t, std::size_t>> rounds;
  for (std::size_t i = 0; i < kRows; ++i) rounds[{provenance[i].segment, provenance[i].round}][provenance[i].row] = i;
  std::size_t shared = 0;  // rounds of several rows
  Injection injection(256, 1000);
  for (const auto& [place, rows] : rounds) {
    const auto& [segment, round] = place;
    injection.Reset(MakeRng({.seed = 4, .segment = segment, .round = round}, Purpose::kRelabel));
    for (const auto& [row, i] : rows) {
      const std::vector<Symbol> symbols(plain.begin() + static_cast<std::ptrdiff_t>(i * 64),
                                        plain.begin() + static_cast<std::ptrdiff_t>((i + 1) * 64));
      std::vector<std::uint16_t> tokens(64);
      injection.Map(symbols, tokens.data());
      ASSERT_TRUE(std::equal(tokens.begin(), tokens.end(), relabelled.begin() + static_cast<std::ptrdiff_t>(i * 64)))
          << "segment " << segment << " round " << round << " row " << row;
    }
    shared += rows.size() > 1 ? 1 : 0;
  }
  EXPECT_GT(shared, 20U);
}

v1::Recipe MixRecipe(v1::Recipe::Mix mix) {
  v1::Recipe recipe;
  recipe.add_families()->mutable_uniform();
  recipe.mutable_families(0)->set_weight(2);
  recipe.add_families()->mutable_markov();
  recipe.add_families()->mutable_constant();
  recipe.set_mix(mix);
  return recipe;
}

std::map<int, int> FamilyCounts(Stream& stream, int rows, std::uint64_t first = 0, std::uint64_t stride = 1) {
  std::vector<RowProvenance> provenance(static_cast<std::size_t>(rows));
  std::vector<std::byte> tokens(static_cast<std::size_t>(rows) * stream.sequence_bytes());
  EXPECT_TRUE(
      stream.Read({.first_index = first, .stride = stride, .rows = rows, .provenance = provenance}, tokens).ok());
  std::map<int, int> counts;
  for (const RowProvenance& row : provenance) ++counts[row.family];
  return counts;
}

TEST(MixTest, SharesFollowTheWeights) {
  for (const auto mix : {v1::Recipe::ROUND, v1::Recipe::SEGMENT, v1::Recipe::LANE}) {
    auto stream = *Stream::Open(MixRecipe(mix), 0);
    // 32 lanes x 48 sequences x 8 segments.
    const auto counts = FamilyCounts(*stream, 32 * 48 * 8);
    const double total = 32 * 48 * 8;
    const double tolerance = mix == v1::Recipe::LANE ? 1e-9 : 0.1;
    EXPECT_NEAR(counts.at(0) / total, 0.5, tolerance) << mix;
    EXPECT_NEAR(counts.at(1) / total, 0.25, tolerance) << mix;
    EXPECT_NEAR(counts.at(2) / total, 0.25, tolerance) << mix;
  }
}

TEST(MixTest, ReadersFollowSourcesRoundByRound) {
  v1::Recipe recipe = MixRecipe(v1::Recipe::ROUND);
  recipe.add_families()->mutable_lstm()->mutable_hidden()->set_fixed(8);
  recipe.set_length(32);
  auto stream = *Stream::Open(recipe, 0);
  std::vector<RowProvenance> provenance(2000);
  std::vector<std::byte> tokens(2000 * stream->sequence_bytes());
  ASSERT_TRUE(stream->Read({.rows = 2000, .provenance = provenance}, tokens).ok());
  for (const RowProvenance& row : provenance) {
    // Only the LSTM reads its input; everything else starts a chain.
    if (row.family != 3) {
      EXPECT_EQ(row.depth, 1);
    }
  }
}

}  // namespace
}  // namespace iterand
