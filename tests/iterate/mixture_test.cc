// Mixtures: which part makes which segment, and that a part makes the same in a mixture as alone.
#include "iterate/mixture.h"

#include <gtest/gtest.h>
#include <openssl/sha.h>

#include <cmath>
#include <cstring>
#include <map>
#include <ranges>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "iterate/plan.h"
#include "iterate/presets.h"
#include "iterate/recipe_json.h"
#include "iterate/stream.h"

namespace iterand {
namespace {

// Nested twice, with a schedule, a step, a filter, relabelling, a pool, a mask, marks and another alphabet. Stripes of
// 8 x 6 = 48 sequences.
constexpr char kNested[] = R"({
  "length": 40, "lanes": 8, "segment_sequences": 6, "vocab_size": 256, "loss_mask": false, "marks": {"begin": true},
  "mixture": [
    {"name": "noise", "preset": "uniform", "weight": [{"at": 0, "weight": 1}, {"at": 192, "weight": 0}]},
    {"name": "networks", "weight": {"points": [{"at": 0, "weight": 0}, {"at": 192, "weight": 2}]}, "recipe": {"mixture": [
      {"preset": "lstm"},
      {"name": "deep", "weight": 3, "recipe": {"mixture": [
        {"recipe": {"families": [{"gru": {"hidden": 16}}, {"eca": {}}], "mix": "round", "distinct": true}},
        {"name": "pool", "weight": 0.5, "recipe": {"families": [{"rnn": {"hidden": 16}}], "alphabet_size": 16,
          "relabel": "sequence", "pool": {"endless": false, "pool_rows": 32, "program_rows": 8, "constant_rows": 2,
          "noise_rows": 2}}}
      ]}}
    ]}},
    {"preset": "markov", "weight": [{"at": 96, "weight": 0}, {"at": 96, "weight": 1}]}
  ]})";

// The recipes of its parts.
v1::Recipe Alone(std::size_t part) {
  switch (part) {
    case 0:
      return *LoadPreset("uniform");
    case 1:
      return *LoadPreset("lstm");
    case 2:
      return *ParseRecipeJson(R"({"families": [{"gru": {"hidden": 16}}, {"eca": {}}], "mix": "round",
                                  "distinct": true})");
    case 3:
      return *ParseRecipeJson(R"({"families": [{"rnn": {"hidden": 16}}], "alphabet_size": 16, "relabel": "sequence",
          "pool": {"endless": false, "pool_rows": 32, "program_rows": 8, "constant_rows": 2, "noise_rows": 2}})");
    default:
      return *LoadPreset("markov");
  }
}

std::shared_ptr<Stream> Open(const std::string& json, std::uint64_t seed = 0) {
  const absl::StatusOr<v1::Recipe> recipe = ParseRecipeJson(json);
  EXPECT_TRUE(recipe.ok()) << recipe.status();
  absl::StatusOr<std::shared_ptr<Stream>> stream = Stream::Open(*recipe, seed);
  EXPECT_TRUE(stream.ok()) << stream.status();
  return *stream;
}

std::shared_ptr<Stream> OpenAlone(std::size_t part, std::uint64_t seed) {
  v1::Recipe recipe = Alone(part);
  recipe.set_length(40);
  recipe.set_lanes(8);
  recipe.set_segment_sequences(6);
  recipe.mutable_marks()->set_begin(true);
  return *Stream::Open(recipe, seed);
}

std::vector<std::byte> ReadAll(Stream& stream, std::uint64_t first, std::uint64_t stride, int rows) {
  std::vector<std::byte> out(static_cast<std::size_t>(rows) * stream.sequence_bytes());
  const absl::Status status = stream.Read({.first_index = first, .stride = stride, .rows = rows}, out);
  EXPECT_TRUE(status.ok()) << status;
  return out;
}

std::string Hash(const std::vector<std::byte>& bytes) {
  Fingerprint hash;
  SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(), hash.data());
  return ToHex(hash);
}

// How many of a stripe's lanes each part gets.
std::vector<int> PartsOfStripe(const StreamPlan& plan, std::uint64_t segment) {
  PartDraw draw(plan);
  std::vector<int> counts(static_cast<std::size_t>(plan.parts()));
  for (std::uint32_t lane = 0; lane < plan.index_map().lanes(); ++lane) {
    ++counts[static_cast<std::size_t>(draw.PartOf(lane, segment))];
  }
  return counts;
}

TEST(MixtureTest, NamesAreThoseOfPartsPresetsAndNumbers) {
  const std::vector<std::string> names = {"noise", "networks/lstm", "networks/deep/part-0", "networks/deep/pool",
                                          "markov"};
  EXPECT_EQ(Open(kNested)->part_names(), names);
  EXPECT_TRUE((*Stream::Open(*LoadPreset("markov"), 0))->part_names().empty());
  const char twice[] =
      R"({"mixture": [{"preset": "markov"}, {"preset": "markov"}, {"name": "markov-1", "preset": "eca"}]})";
  const std::vector<std::string> different = {"markov", "markov-1-1", "markov-1"};
  EXPECT_EQ(Open(twice)->part_names(), different);
}

// The most important property: a part's segments equal those of its recipe alone, at the same lane and segment.
TEST(MixtureTest, SegmentsAreThoseOfThePartAlone) {
  const std::shared_ptr<Stream> mixture = Open(kNested, 5);
  std::vector<std::shared_ptr<Stream>> alone(5);
  for (std::size_t part = 0; part < 5; ++part) alone[part] = OpenAlone(part, 5);
  const auto workspace = mixture->NewWorkspace();
  std::map<int, int> compared;
  for (std::uint64_t s = 0; s < 12; ++s) {
    for (std::uint32_t lane = 0; lane < 8; ++lane) {
      Segment segment;
      ASSERT_TRUE(mixture->GenerateSegment(lane, s, *workspace, nullptr, segment).ok());
      const int part = segment.provenance.front().part;
      Stream& own = *alone[static_cast<std::size_t>(part)];
      Segment expected;
      ASSERT_TRUE(own.GenerateSegment(lane, s, *own.NewWorkspace(), nullptr, expected).ok());
      ASSERT_TRUE(segment.own == expected.own) << "part " << part << ", lane " << lane << ", segment " << s;
      for (std::size_t i = 0; i < segment.provenance.size(); ++i) {
        RowProvenance row = segment.provenance[i];
        EXPECT_EQ(row.part, part);
        row.part = 0;
        EXPECT_EQ(row, expected.provenance[i]);
        EXPECT_EQ(mixture->family_name(segment.provenance[i]), own.family_name(row));
      }
      ++compared[part];
    }
  }
  for (int part = 0; part < 5; ++part) EXPECT_GT(compared[part], 0) << part;
}

TEST(MixtureTest, SharesMultiplyAndFollowTheSchedule) {
  const std::shared_ptr<Stream> stream = Open(kNested);
  const MixturePlan& mixture = *stream->plan().mixture();
  std::vector<double> shares;
  const auto expect = [&](std::uint64_t index, const std::vector<double>& expected) {
    mixture.Shares(index, shares);
    ASSERT_EQ(shares.size(), expected.size());
    for (std::size_t i = 0; i < shares.size(); ++i) EXPECT_NEAR(shares[i], expected[i], 1e-12) << index << " " << i;
  };
  expect(0, {1, 0, 0, 0, 0});
  // noise 1/2, networks 1 (lstm 1/4, deep 3/4 of which 2/3 and 1/3), markov 0
  expect(95, {97.0 / 287, 190.0 / 287 / 4, 190.0 / 287 / 2, 190.0 / 287 / 4, 0});
  expect(96, {0.5 / 2.5, 0.25 / 2.5, 0.5 / 2.5, 0.25 / 2.5, 1 / 2.5});
  expect(UINT64_MAX, {0, 0.5 / 3, 1.0 / 3, 0.5 / 3, 1.0 / 3});
}

TEST(MixtureTest, EachStripeHasFloorOrCeilOfLanesTimesShare) {
  const std::shared_ptr<Stream> stream = Open(kNested, 3);
  const StreamPlan& plan = stream->plan();
  std::vector<double> shares;
  std::vector<double> drawn(5);
  std::vector<double> wanted(5);
  for (std::uint64_t s = 0; s < 2000; ++s) {
    plan.mixture()->Shares(s * 48, shares);
    const std::vector<int> counts = PartsOfStripe(plan, s);
    for (std::size_t i = 0; i < shares.size(); ++i) {
      EXPECT_GE(counts[i], std::floor(8 * shares[i] - 1e-6)) << s;
      EXPECT_LE(counts[i], std::ceil(8 * shares[i] + 1e-6)) << s;
      if (shares[i] == 0) {
        EXPECT_EQ(counts[i], 0);
      }
      drawn[i] += counts[i];
      wanted[i] += 8 * shares[i];
    }
    // The parts of a nested mixture, together, too.
    const double networks = shares[1] + shares[2] + shares[3];
    EXPECT_LE(std::abs(counts[1] + counts[2] + counts[3] - 8 * networks), 1) << s;
  }
  for (std::size_t i = 0; i < 5; ++i) EXPECT_NEAR(drawn[i], wanted[i], 4 * std::sqrt(2000 * 0.25)) << i;
}

TEST(MixtureTest, WholeLanesAreExact) {
  const std::shared_ptr<Stream> stream =
      Open(R"({"mixture": [{"preset": "uniform", "weight": 0.1}, {"preset": "markov", "weight": 0.2},
               {"preset": "repeat", "weight": 0.7}, {"preset": "eca", "weight": 0}], "lanes": 10})");
  for (std::uint64_t s = 0; s < 300; ++s) {
    EXPECT_EQ(PartsOfStripe(stream->plan(), s), (std::vector<int>{1, 2, 7, 0})) << s;
  }
}

TEST(MixtureTest, EveryLaneGetsEveryPart) {
  const std::shared_ptr<Stream> stream =
      Open(R"({"mixture": [{"preset": "uniform"}, {"preset": "markov", "weight": 3}], "lanes": 4})");
  PartDraw draw(stream->plan());
  constexpr int kStripes = 4000;
  std::vector<int> first(4);
  for (std::uint64_t s = 0; s < kStripes; ++s) {
    for (std::uint32_t lane = 0; lane < 4; ++lane) first[lane] += draw.PartOf(lane, s) == 0 ? 1 : 0;
  }
  for (const int count : first) EXPECT_NEAR(count, kStripes / 4.0, 5 * std::sqrt(kStripes * 0.1875));
}

// The order in which segments are drawn does not matter: the last index, then the first.
TEST(MixtureTest, DrawsAreRandomAccess) {
  const std::shared_ptr<Stream> stream = Open(kNested, 8);
  PartDraw forwards(stream->plan());
  PartDraw backwards(stream->plan());
  const std::uint64_t last = UINT64_MAX / 48;
  std::map<std::pair<std::uint64_t, std::uint32_t>, int> parts;
  const std::vector<std::uint64_t> segments = {0, 1, 2, 5, 1000, last};
  for (const std::uint64_t s : segments) {
    for (std::uint32_t lane = 0; lane < 8; ++lane) parts[{s, lane}] = forwards.PartOf(lane, s);
  }
  for (std::uint32_t lane = 8; lane-- > 0;) {
    for (const std::uint64_t s : std::views::reverse(segments)) {
      EXPECT_EQ(backwards.PartOf(lane, s), (parts[{s, lane}]));
    }
  }
}

TEST(MixtureTest, AnotherWeightOrPartChangesNoSegmentThatStaysWithItsPart) {
  const std::string parts = R"({"preset": "uniform", "weight": 1}, {"preset": "repeat", "weight": 2})";
  const std::string rest = R"(], "length": 32, "lanes": 8, "segment_sequences": 4})";
  const std::shared_ptr<Stream> before = Open(absl::StrCat(R"({"mixture": [)", parts, rest), 1);
  const std::shared_ptr<Stream> after =
      Open(absl::StrCat(R"({"mixture": [)", parts, R"(, {"preset": "markov", "weight": 5})", rest), 1);
  EXPECT_NE(before->fingerprint(), after->fingerprint());
  int same = 0;
  for (std::uint64_t s = 0; s < 20; ++s) {
    for (std::uint32_t lane = 0; lane < 8; ++lane) {
      Segment one;
      Segment other;
      ASSERT_TRUE(before->GenerateSegment(lane, s, *before->NewWorkspace(), nullptr, one).ok());
      ASSERT_TRUE(after->GenerateSegment(lane, s, *after->NewWorkspace(), nullptr, other).ok());
      if (one.provenance.front().part != other.provenance.front().part) continue;
      EXPECT_TRUE(one.own == other.own);
      ++same;
    }
  }
  EXPECT_GT(same, 20);
}

// A curriculum that continues: a recipe extended by one more point has the same segments before it.
TEST(MixtureTest, AScheduleExtendedKeepsWhatWasBefore) {
  const auto recipe = [](const std::string& more) {
    return absl::StrCat(R"({"mixture": [{"preset": "uniform"}, {"preset": "repeat", "weight": [{"at": 0, "weight": 0.5},
        {"at": 256, "weight": 0.5}, {"at": 256, "weight": 2})",
                        more, R"(]}],
        "length": 32, "lanes": 8, "segment_sequences": 4})");
  };
  const std::shared_ptr<Stream> before = Open(recipe(""));
  const std::shared_ptr<Stream> after = Open(recipe(R"(, {"at": 512, "weight": 2}, {"at": 512, "weight": 0})"));
  EXPECT_EQ(ReadAll(*before, 0, 1, 512), ReadAll(*after, 0, 1, 512));
  EXPECT_NE(ReadAll(*before, 512, 1, 512), ReadAll(*after, 512, 1, 512));
}

TEST(MixtureTest, ThreadsShardsAndSeeksMakeOneStream) {
  constexpr int kRows = 480;
  const std::shared_ptr<Stream> one = Open(kNested, 2);
  one->set_threads(1);
  const std::vector<std::byte> whole = ReadAll(*one, 0, 1, kRows);
  // Pins the draw and the keys: this hash changes only with the engine version.
  EXPECT_EQ(Hash(whole), "5a3341c04910640c55708b6eb7bc3fbab63997f212f999ffe347296cbd2f04d7");
  const std::shared_ptr<Stream> two = Open(kNested, 2);
  two->set_threads(2);
  EXPECT_EQ(Hash(ReadAll(*two, 0, 1, kRows)), Hash(whole));
  const std::size_t bytes = one->sequence_bytes();
  for (const std::uint64_t world : {2U, 8U}) {
    std::vector<std::byte> joined(whole.size());
    for (std::uint64_t rank = 0; rank < world; ++rank) {
      const std::vector<std::byte> rows = ReadAll(*Open(kNested, 2), rank, world, kRows / static_cast<int>(world));
      for (std::size_t i = 0; i * bytes < rows.size(); ++i) {
        std::memcpy(joined.data() + (i * world + rank) * bytes, rows.data() + i * bytes, bytes);
      }
    }
    EXPECT_EQ(Hash(joined), Hash(whole)) << world;
  }
  std::vector<std::byte> pieces;  // backwards
  for (int first = kRows - 10; first >= 0; first -= 10) {
    const std::vector<std::byte> piece = ReadAll(*two, static_cast<std::uint64_t>(first), 1, 10);
    pieces.insert(pieces.begin(), piece.begin(), piece.end());
  }
  EXPECT_EQ(Hash(pieces), Hash(whole));
  EXPECT_NE(Hash(ReadAll(*Open(kNested, 3), 0, 1, kRows)), Hash(whole));
}

TEST(MixtureTest, MasksBelongToTheWholeStream) {
  const std::shared_ptr<Stream> stream =
      Open(R"({"mixture": [{"preset": "uniform"}, {"preset": "tasks", "weight": 3}], "loss_mask": true, "length": 64,
               "lanes": 4, "segment_sequences": 8})");
  std::vector<std::byte> tokens(32 * 64);
  std::vector<std::uint8_t> mask(32 * 64);
  std::vector<RowProvenance> rows(32);
  ASSERT_TRUE(stream->Read({.rows = 32, .provenance = rows, .loss_mask = mask}, tokens).ok());
  int noise = 0;
  for (std::size_t r = 0; r < 32; ++r) {
    int ones = 0;
    for (std::size_t t = 0; t < 64; ++t) ones += mask[r * 64 + t];
    if (rows[r].part == 0) {
      EXPECT_EQ(ones, 64);
      ++noise;
    } else {
      EXPECT_LT(ones, 64);
    }
  }
  EXPECT_EQ(noise, 8);
}

TEST(MixtureTest, TheFingerprintSeesPartsAndWeightsAndNotNames) {
  const auto fingerprint = [](const std::string& json) {
    return ResolveRecipe(*ParseRecipeJson(json))->fingerprint(0);
  };
  const Fingerprint base = fingerprint(R"({"mixture": [{"preset": "markov"}, {"preset": "repeat", "weight": 2}]})");
  const auto same = [&](const std::string& json) { EXPECT_EQ(fingerprint(json), base) << json; };
  const auto other = [&](const std::string& json) { EXPECT_NE(fingerprint(json), base) << json; };
  same(
      R"({"description": "x", "mixture": [{"name": "a", "preset": "markov"}, {"name": "b", "preset": "repeat", "weight": 2}]})");
  same(
      R"({"mixture": [{"preset": "markov", "weight": [{"at": 7, "weight": 1}]}, {"preset": "repeat", "weight": {"fixed": 2}}]})");
  same(absl::StrCat(R"({"mixture": [{"recipe": )", RecipeToJson(*LoadPreset("markov")),
                    R"(}, {"preset": "repeat", "weight": 2}], "length": 512})"));
  same(R"({"mixture": [{"recipe": {"families": [{"markov": {}}], "length": 512, "lanes": 32, "relabel": "sequence",
           "chain": {"rows": 8, "max_depth": 1}}}, {"preset": "repeat", "weight": 2}]})");
  other(R"({"mixture": [{"preset": "repeat", "weight": 2}, {"preset": "markov"}]})");
  other(R"({"mixture": [{"preset": "markov"}, {"preset": "repeat", "weight": 2.5}]})");
  other(R"({"mixture": [{"preset": "markov"}, {"preset": "repeat", "weight": 2}, {"preset": "eca", "weight": 0}]})");
  other(
      R"({"mixture": [{"preset": "markov"}, {"preset": "repeat", "weight": [{"at": 0, "weight": 2}, {"at": 9, "weight": 1}]}]})");
  other(R"({"mixture": [{"preset": "markov"}, {"preset": "repeat", "weight": 2}], "length": 256})");
}

TEST(MixtureTest, ResolvedRecipesResolveToThemselves) {
  const v1::Recipe once = ResolveRecipe(*ParseRecipeJson(kNested))->proto();
  EXPECT_FALSE(once.mixture(0).has_preset());
  EXPECT_EQ(once.mixture(0).recipe().families_size(), 1);
  EXPECT_FALSE(once.mixture(0).recipe().has_length());  // it belongs to the whole stream, which may take another
  const v1::Recipe twice = ResolveRecipe(once)->proto();
  EXPECT_EQ(RecipeToJson(twice), RecipeToJson(once));
  const v1::Recipe back = ResolveRecipe(*ParseRecipeJson(RecipeToJson(once)))->proto();
  EXPECT_EQ(RecipeToJson(back), RecipeToJson(once));
  EXPECT_EQ(CanonicalText(back), CanonicalText(once));
}

TEST(MixtureTest, WeightsInJsonAreNumbersPointsOrLists) {
  const auto weight = [](const std::string& json) {
    return ParseRecipeJson(absl::StrCat(R"({"mixture": [{"preset": "eca", "weight": )", json, "}]}"))
        ->mixture(0)
        .weight();
  };
  EXPECT_EQ(weight("0.25").fixed(), 0.25);
  EXPECT_EQ(weight(R"({"fixed": 2})").fixed(), 2);
  for (const char* list : {R"([{"at": 3, "weight": 1}, {"at": 4, "weight": 0.5}])",
                           R"({"points": [{"at": 3, "weight": 1}, {"at": 4, "weight": 0.5}]})"}) {
    ASSERT_EQ(weight(list).points_size(), 2) << list;
    EXPECT_EQ(weight(list).points(1).at(), 4);
    EXPECT_EQ(weight(list).points(1).weight(), 0.5);
  }
  // What follows such a list is still read.
  const v1::Recipe two = *ParseRecipeJson(
      R"({"mixture": [{"weight": [{"at": 1, "weight": 2}], "preset": "eca"}, {"preset": "markov"}], "length": 64})");
  EXPECT_EQ(two.mixture(0).preset(), "eca");
  EXPECT_EQ(two.mixture(1).preset(), "markov");
  EXPECT_EQ(two.length(), 64);
}

TEST(MixtureTest, ExplainNamesThePartAndMakesTheRowAgain) {
  const std::shared_ptr<Stream> stream = Open(kNested, 5);
  std::map<int, int> parts;
  for (std::uint64_t index = 300; index < 348; ++index) {
    const absl::StatusOr<Explanation> explanation = stream->Explain(index);
    ASSERT_TRUE(explanation.ok()) << explanation.status();
    EXPECT_TRUE(explanation->reproduced) << index;
    if (explanation->provenance.depth > 0) {
      EXPECT_EQ(explanation->steps.back().family, stream->family_name(explanation->provenance));
    }
    ++parts[explanation->provenance.part];
  }
  EXPECT_EQ(parts.size(), 4U);  // all but noise
}

TEST(MixtureTest, CostIsThatOfTheShares) {
  const std::shared_ptr<Stream> stream = Open(kNested);
  const MixturePlan& mixture = *stream->plan().mixture();
  EXPECT_EQ(stream->Cost().flops_per_token, 0);  // noise
  EXPECT_NEAR(MixtureFlops(mixture, 10000),
              mixture.part(1).cost().flops_per_token / 6 + mixture.part(2).cost().flops_per_token / 3 +
                  mixture.part(3).cost().flops_per_token / 6,
              1e-6);
  std::uint64_t bytes = 0;
  for (int i = 0; i < mixture.size(); ++i) bytes += mixture.part(i).cost().workspace_bytes;
  EXPECT_EQ(stream->Cost().workspace_bytes, bytes);
}

TEST(MixtureTest, StarvingPartIsNamed) {
  const std::shared_ptr<Stream> stream = Open(R"({"length": 64, "mixture": [{"preset": "uniform"}, {"name": "outer",
      "recipe": {"mixture": [{"name": "narrow", "recipe": {"families": [{"uniform": {}}], "band": {"high": 0.1},
      "starvation_rounds": 20}}]}}]})");
  std::vector<std::byte> tokens(64 * stream->sequence_bytes());
  const absl::Status status = stream->Read({.rows = 64}, tokens);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(status.message().find("filters of mixture[1].recipe.mixture[0]: no row survived band in 20 rounds"),
            std::string::npos)
      << status;
}

}  // namespace
}  // namespace iterand
