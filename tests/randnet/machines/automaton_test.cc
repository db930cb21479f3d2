// Random walks on graphs. What all families promise is in families_test.cc.
#include "randnet/machines/automaton.h"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_split.h"
#include "tests/randnet/family_checks.h"

namespace iterand {
namespace {

// What `iterand explain` shows is the graph: every row is the labels of a walk on it that begins in state 0.
TEST(AutomatonTest, RowsAreWalksOnTheGraphThatIsDescribed) {
  ProgramRunner runner(R"({"automaton": {"states": {"fixed": 6}, "symbols": {"fixed": 9}}})", 5);
  std::size_t edges = 0;
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    runner.SampleAndRun(seed);
    const std::string text = runner.program().Describe();
    std::vector<std::vector<std::pair<std::size_t, int>>> graph;  // state -> (state, label) of its edges
    for (const std::string& state :
         std::vector<std::string>(absl::StrSplit(text.substr(text.find("graph=") + 6), ';'))) {
      graph.emplace_back();
      for (const std::string& edge : std::vector<std::string>(absl::StrSplit(state, ','))) {
        const std::vector<std::string> parts = absl::StrSplit(edge, '/');
        graph.back().emplace_back(std::stoul(parts[0]), std::stoi(parts[1]));
        ++edges;
      }
    }
    ASSERT_EQ(graph.size(), 6U) << text;
    for (int r = 0; r < 5; ++r) {
      std::set<std::size_t> states = {0};  // where the walk may be
      for (const Symbol symbol : runner.Row(r)) {
        std::set<std::size_t> next;
        for (const std::size_t state : states) {
          for (const auto& [to, label] : graph[state]) {
            if (label == symbol) next.insert(to);
          }
        }
        ASSERT_FALSE(next.empty()) << text;
        states = next;
      }
    }
  }
  EXPECT_GT(edges, 40U * 6U);
  ProgramRunner large(R"({"automaton": {"states": {"fixed": 40}, "edge_probability": {"fixed": 1}}})", 1);
  large.SampleAndRun(1);
  EXPECT_EQ(large.program().Describe().find("graph="), std::string::npos);
}

}  // namespace
}  // namespace iterand
