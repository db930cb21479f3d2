#include "randnet/sources/pcfg.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "tests/randnet/family_checks.h"

namespace iterand {
namespace {

struct GrammarSymbol {
  bool terminal;
  int value;  // number of a nonterminal, or the symbol written
};

struct Grammar {
  std::vector<std::vector<std::vector<GrammarSymbol>>> rules;  // nonterminal, rule, symbol
  int max_depth = 0;
  int separator = -1;
};

int Value(const std::string& text, const std::string& name) {
  const std::size_t at = text.find(absl::StrCat(" ", name, "="));
  int value = -1;
  if (at == std::string::npos) return value;
  const std::string rest = text.substr(at + name.size() + 2);
  EXPECT_TRUE(absl::SimpleAtoi(rest.substr(0, rest.find(' ')), &value));
  return value;
}

// Reads the grammar that Describe prints.
Grammar ReadGrammar(const std::string& text) {
  Grammar grammar;
  grammar.max_depth = Value(text, "max_depth");
  grammar.separator = Value(text, "separator");
  const std::string rules = text.substr(text.find("grammar=") + 8);
  for (const absl::string_view of_one : absl::StrSplit(rules, ';')) {
    grammar.rules.emplace_back();
    const std::string body(of_one.substr(of_one.find(':') + 1));
    for (const absl::string_view rule : absl::StrSplit(body, '|')) {
      grammar.rules.back().emplace_back();
      for (const absl::string_view symbol : absl::StrSplit(rule, ',')) {
        const bool terminal = symbol[0] != 'N';
        int value = 0;
        EXPECT_TRUE(absl::SimpleAtoi(terminal ? symbol : symbol.substr(1), &value)) << symbol;
        grammar.rules.back().back().push_back({terminal, value});
      }
    }
  }
  return grammar;
}

// All places at which a nonterminal's sentences may end if they begin at `from`, by exhaustive search with memory. A
// sentence that runs into the end of the row counts as ended there.
class Parser {
 public:
  Parser(const Grammar& grammar, const std::vector<Symbol>& row) : grammar_(grammar), row_(row) {}

  const std::set<int>& Ends(int nonterminal, int from, int depth) {
    const auto key = std::make_tuple(nonterminal, from, depth);
    if (const auto found = memory_.find(key); found != memory_.end()) return found->second;
    std::set<int> ends;
    const auto& rules = grammar_.rules[static_cast<std::size_t>(nonterminal)];
    const std::size_t usable = depth >= grammar_.max_depth ? 1 : rules.size();
    for (std::size_t r = 0; r < usable; ++r) {
      std::set<int> places = {from};
      for (const GrammarSymbol& symbol : rules[r]) {
        std::set<int> next;
        for (const int place : places) {
          if (place == static_cast<int>(row_.size())) {
            next.insert(place);
          } else if (!symbol.terminal) {
            const std::set<int>& below = Ends(symbol.value, place, depth + 1);
            next.insert(below.begin(), below.end());
          } else if (row_[static_cast<std::size_t>(place)] == symbol.value) {
            next.insert(place + 1);
          }
        }
        places = std::move(next);
      }
      ends.insert(places.begin(), places.end());
    }
    return memory_[key] = ends;
  }

  // Whether the whole row is a sequence of sentences, the last one perhaps cut.
  bool Parses() {
    std::set<int> places = {0};
    std::set<int> done;
    while (!places.empty()) {
      const int place = *places.begin();
      places.erase(places.begin());
      if (!done.insert(place).second) continue;
      if (place == static_cast<int>(row_.size())) return true;
      for (int end : Ends(0, place, 0)) {
        if (grammar_.separator >= 0 && end < static_cast<int>(row_.size())) {
          if (row_[static_cast<std::size_t>(end)] != grammar_.separator) continue;
          ++end;
        }
        places.insert(end);
      }
    }
    return false;
  }

 private:
  const Grammar& grammar_;
  const std::vector<Symbol>& row_;
  std::map<std::tuple<int, int, int>, std::set<int>> memory_;
};

TEST(PcfgTest, RowsParse) {
  for (const char* separator : {"true", "false"}) {
    for (const double ambiguity : {0.0, 0.5, 1.0}) {
      ProgramRunner runner(
          absl::StrCat(
              R"({"pcfg": {"separator": )", separator, R"(, "ambiguity": {"fixed": )", ambiguity,
              R"(}, "nonterminals": {"uniform": {"low": 1, "high": 8}}, "max_depth": {"uniform": {"low": 0, "high": 6}}}})"),
          7, {.alphabet = 256, .length = 60});
      for (std::uint64_t seed = 0; seed < 30; ++seed) {
        runner.SampleAndRun(seed);
        const Grammar grammar = ReadGrammar(runner.program().Describe());
        for (int r = 0; r < 7; ++r) {
          const std::vector<Symbol> row = runner.Row(r);
          ASSERT_TRUE(Parser(grammar, row).Parses()) << runner.program().Describe() << "\n"
                                                     << testing::PrintToString(row);
        }
        // The parser does not accept everything.
        std::vector<Symbol> broken = runner.Row(0);
        for (const int symbol : {254, 255}) {
          broken[30] = static_cast<Symbol>(symbol);
          bool known = symbol == grammar.separator;
          for (const auto& rules : grammar.rules) {
            for (const auto& rule : rules) {
              for (const GrammarSymbol& s : rule) known |= s.terminal && s.value == symbol;
            }
          }
          if (!known) {
            EXPECT_FALSE(Parser(grammar, broken).Parses());
          }
        }
      }
    }
  }
}

TEST(PcfgTest, GrammarsAreAsDescribed) {
  int free_firsts = 0;
  for (const double ambiguity : {0.0, 1.0}) {
    ProgramRunner runner(
        absl::StrCat(R"({"pcfg": {"ambiguity": {"fixed": )", ambiguity, R"(}, "branching": {"fixed": 4}}})"), 1);
    std::set<std::size_t> lengths;
    for (std::uint64_t seed = 0; seed < 50; ++seed) {
      runner.SampleAndRun(seed);
      const Grammar grammar = ReadGrammar(runner.program().Describe());
      EXPECT_EQ(static_cast<int>(grammar.rules.size()),
                Value(absl::StrCat(" ", runner.program().Describe()), "nonterminals"));
      for (const auto& rules : grammar.rules) {
        EXPECT_EQ(static_cast<int>(rules.size()), Value(runner.program().Describe(), "rules"));
        std::set<int> firsts;
        for (const auto& rule : rules) {
          lengths.insert(rule.size());
          if (ambiguity == 0) {
            ASSERT_TRUE(rule[0].terminal);
            ASSERT_TRUE(firsts.insert(rule[0].value).second);
          } else {
            free_firsts += rule[0].terminal ? 0 : 1;
          }
        }
        for (const GrammarSymbol& symbol : rules[0]) ASSERT_TRUE(symbol.terminal);
      }
    }
    EXPECT_EQ(lengths, (std::set<std::size_t>{1, 2, 3, 4}));
  }
  EXPECT_GT(free_firsts, 100);
}

TEST(PcfgTest, RulesFollowTheirProbabilities) {
  // One nonterminal with two rules of one terminal each and a huge concentration: a fair coin. Without a separator.
  ProgramRunner runner(
      R"({"pcfg": {"nonterminals": {"fixed": 1}, "rules": {"fixed": 2}, "branching": {"fixed": 1}, "terminals": {"fixed": 2},
                       "ambiguity": {"fixed": 0}, "concentration": {"fixed": 10000}, "separator": false}})",
      1, {.alphabet = 2, .length = 20000});
  runner.SampleAndRun(1);
  int ones = 0;
  for (const Symbol symbol : runner.Row(0)) ones += symbol;
  EXPECT_NEAR(ones, 10000, 450);
}

}  // namespace
}  // namespace iterand
