#include "randnet/machines/brainphoque.h"

#include <gtest/gtest.h>

#include <bit>
#include <cstdio>
#include <map>
#include <memory>
#include <set>

#include "absl/strings/str_cat.h"
#include "randnet/base/pcg.h"
#include "randnet/machines/stepped_program.h"
#include "tests/randnet/family_checks.h"
#include "tests/support/tape.h"

namespace iterand {
namespace {

// The definition of randnet/machines/brainphoque.h, plainly: a tree of places, executed one step at a time.
struct Place {
  char op;
  std::uint64_t state;
  Place* loop;  // whose body it is in
  Place* before;
  std::unique_ptr<Place> behind;  // of a loop: what follows it
  std::unique_ptr<Place> body;    // of a loop
};

struct Reference {
  std::size_t cells = 10;
  std::uint32_t symbols = 128;
  std::uint64_t max_steps = 1000;
  std::size_t max_instructions = 100;
  std::size_t length = 512;
  std::uint32_t instructions = 8;  // 7 without `,`
  bool order_2 = false;

  // Results of Run. Without initializers gcc warns where they are left out.
  // NOLINTBEGIN(readability-redundant-member-init)
  std::vector<Symbol> output{};
  std::uint64_t steps = 0;
  std::vector<const Place*> text{};  // in the order of drawing
  std::unique_ptr<Place> root{};
  // NOLINTEND(readability-redundant-member-init)

  std::unique_ptr<Place> Draw(std::uint64_t state, Place* before, Place* loop) {
    const auto word =
        std::rotr(static_cast<std::uint32_t>(((state >> 18) ^ state) >> 27), static_cast<int>(state >> 59));
    int op = static_cast<int>(static_cast<std::uint64_t>(word) * instructions >> 32);
    if (order_2) {
      const std::string names = kBrainphoqueInstructions;
      const std::size_t second = before == nullptr ? 8 : names.find(before->op);
      const std::size_t first = before == nullptr || before->before == nullptr ? 8 : names.find(before->before->op);
      int ticket = static_cast<int>(word >> 24);
      for (op = 0;; ++op) {
        ticket -= kBrainphoqueOrder2[(first * 9 + second) * 8 + static_cast<std::size_t>(op)];
        if (ticket < 0) break;
      }
      if (op == 7 && instructions == 7) op = 6;
    }
    auto place = std::make_unique<Place>(Place{kBrainphoqueInstructions[op], state, loop, before, nullptr, nullptr});
    text.push_back(place.get());
    return place;
  }

  void Run(std::uint64_t root_state, const std::vector<Symbol>& input) {
    output.clear();
    text.clear();
    steps = 0;
    root = Draw(root_state, nullptr, nullptr);
    PlainTape tape(cells, symbols, input);
    for (Place* place = root.get(); steps < max_steps && output.size() < length;) {
      ++steps;
      std::unique_ptr<Place>* following = &place->behind;
      std::uint64_t constant = 0x9E3779B97F4A7C15U;
      Place* loop = place->loop;
      if (place->op == ']' && place->loop != nullptr) {
        place = place->loop;
        continue;
      }
      if (place->op == '[' && tape.cell() != 0) {
        following = &place->body;
        constant = 0x94D049BB133111EBU;
        loop = place;
      } else if (place->op == '[') {
        constant = 0xBF58476D1CE4E5B9U;
      } else {
        tape.Execute(place->op, output);
      }
      if (*following == nullptr) {
        if (text.size() == max_instructions) return;
        *following = Draw(place->state * kPcgMultiplier + constant, place, loop);
      }
      place = following->get();
    }
  }
};

std::uint64_t RootState(Rng& rng) {
  const std::uint64_t high = rng.Next();
  return high << 32 | rng.Next();
}

// Runs a configuration and compares every row, the text and the steps with the reference.
void Compare(const std::string& fields, Reference reference, const FamilyContext& context, int attempts = 1) {
  ProgramRunner runner(absl::StrCat(R"({"brainphoque": {"attempts": {"fixed": )", attempts, "}", fields, "}}"), 9,
                       context);
  reference.length = static_cast<std::size_t>(context.length);
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    runner.NoiseInput(seed);
    runner.SampleAndRun(seed);
    std::uint64_t steps = 0;
    for (int r = 0; r < 9; ++r) {
      Rng rng = MakeRng({.seed = seed}, Purpose::kRunRow, static_cast<std::uint64_t>(r));
      for (int attempt = 0; attempt < attempts && (attempt == 0 || reference.output.empty()); ++attempt) {
        reference.Run(RootState(rng), runner.InputRow(r));
        steps += reference.steps;
      }
      std::vector<Symbol> expected(reference.length);
      for (std::size_t t = 0; t < expected.size() && !reference.output.empty(); ++t) {
        expected[t] = reference.output[t % reference.output.size()];
      }
      ASSERT_EQ(runner.Row(r), expected) << "seed " << seed << ", row " << r;
      if (r == 0) {
        std::string text;
        for (const Place* place : reference.text) {
          const bool later =
              place->op == '[' && (place->body == nullptr || reference.text[text.size() + 1] != place->body.get());
          text.push_back(later ? '{' : place->op);
        }
        ASSERT_EQ(BrainphoqueText(runner.program()), text);
      }
    }
    EXPECT_EQ(dynamic_cast<SteppedProgram&>(runner.program()).steps(), steps);
  }
}

TEST(BrainphoqueTest, EqualsTheReference) {
  Compare("", {}, {});
  Compare(R"(, "max_steps": {"fixed": 100})", {.max_steps = 100}, {});
  Compare(R"(, "max_steps": {"fixed": 20000}, "max_instructions": {"fixed": 1000})",
          {.max_steps = 20000, .max_instructions = 1000}, {.alphabet = 256, .length = 100});
  Compare(R"(, "cells": {"fixed": 1}, "symbols": {"fixed": 2})", {.cells = 1, .symbols = 2}, {});
  Compare(R"(, "cells": {"fixed": 3}, "reads": false)", {.cells = 3, .instructions = 7}, {});
  Compare(R"(, "symbols": {"fixed": 65536})", {.symbols = 300}, {.alphabet = 300, .length = 64});
  Compare(R"(, "max_instructions": {"fixed": 1}, "max_steps": {"fixed": 1})", {.max_steps = 1, .max_instructions = 1},
          {});
  Compare(R"(, "prior": "ORDER_2")", {.order_2 = true}, {});
  Compare(R"(, "prior": "ORDER_2", "reads": false)", {.instructions = 7, .order_2 = true}, {});
}

TEST(BrainphoqueTest, TriesAgainWhereNothingIsWritten) {
  Compare(R"(, "max_instructions": {"fixed": 5})", {.max_instructions = 5}, {}, 3);
}

TEST(BrainphoqueTest, SharedProgramsDifferByTheirInputAlone) {
  ProgramRunner runner(R"({"brainphoque": {"shared": true}})", 8);
  runner.NoiseInput(1);
  std::copy_n(runner.input().row(3), runner.input().length(), runner.input().row(7));
  int differ = 0;
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    runner.SampleAndRun(seed);
    ASSERT_EQ(runner.Row(3), runner.Row(7));
    differ += runner.Row(3) != runner.Row(4) ? 1 : 0;
  }
  EXPECT_GT(differ, 10);
}

TEST(BrainphoqueTest, InstructionsAreUniform) {
  std::map<std::pair<char, char>, int> pairs;
  Rng rng(1, 2);
  Reference reference;
  const std::vector<Symbol> input(512, 1);
  int total = 0;
  for (int i = 0; i < 2000; ++i) {
    reference.Run(RootState(rng), input);
    for (const Place* place : reference.text) {
      if (place->before == nullptr) continue;
      ++pairs[{place->before->op, place->op}];
      ++total;
    }
  }
  std::map<char, int> first;
  for (const auto& [pair, count] : pairs) first[pair.first] += count;
  for (const auto& [pair, count] : pairs) {
    const double expected = first[pair.first] / 8.0;
    EXPECT_NEAR(count, expected, 5 * std::sqrt(expected)) << pair.first << pair.second << " of " << total;
  }
}

// Counts the table of ORDER_2 as randnet/machines/brainphoque.h says, and prints it if it differs.
TEST(BrainphoqueTest, Order2TableIsWhatIsCounted) {
  std::vector<std::uint64_t> counts(81 * 8, 1);  // one more of each, so that nothing is impossible
  const std::string names = kBrainphoqueInstructions;
  Rng rng = MakeRng({.seed = 2024}, Purpose::kSampleProgram);
  Reference reference;
  std::vector<Symbol> input(512);
  int kept = 0;
  for (int program = 0; program < 100000; ++program) {
    const std::uint64_t state = RootState(rng);
    Rng tape(state, 1);
    for (Symbol& symbol : input) symbol = static_cast<Symbol>(tape.Next() >> 25);
    reference.Run(state, input);
    if (reference.output.size() < 64) continue;
    if (std::set<Symbol>(reference.output.begin(), reference.output.end()).size() < 8) continue;
    ++kept;
    for (const Place* place : reference.text) {
      const Place* second = place->before;
      const Place* first = second == nullptr ? nullptr : second->before;
      const std::size_t context =
          (first == nullptr ? 8 : names.find(first->op)) * 9 + (second == nullptr ? 8 : names.find(second->op));
      ++counts[context * 8 + names.find(place->op)];
    }
  }
  EXPECT_GT(kept, 1000);
  bool equal = true;
  std::string printed;
  for (std::size_t context = 0; context < 81; ++context) {
    const std::uint64_t* count = counts.data() + context * 8;
    std::uint64_t total = 0;
    for (std::size_t op = 0; op < 8; ++op) total += count[op];
    int weights[8];
    int rest = 256;
    for (std::size_t op = 0; op < 8; ++op) {
      weights[op] = static_cast<int>(std::max<std::uint64_t>(1, count[op] * 256 / total));
      rest -= weights[op];
    }
    // The largest takes what rounding left over, or took too much.
    weights[std::max_element(count, count + 8) - count] += rest;
    absl::StrAppend(&printed, "    ");
    for (std::size_t op = 0; op < 8; ++op) {
      absl::StrAppend(&printed, weights[op], op < 7 ? ", " : ",\n");
      equal &= weights[op] == kBrainphoqueOrder2[context * 8 + op];
    }
  }
  EXPECT_TRUE(equal) << kept << " programs counted; the table should be\n" << printed;
}

TEST(BrainphoqueTest, BoundsTheStepsOfAllAttempts) {
  EXPECT_EQ(Refusal(R"({"brainphoque": {"max_steps": {"fixed": 1048576}, "attempts": {"fixed": 64}}})"),
            "families[0].brainphoque.max_steps: times families[0].brainphoque.attempts is 67108864, must be at most "
            "4194304");
}

}  // namespace
}  // namespace iterand
