#include "randnet/machines/automaton.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "randnet/base/discrete.h"
#include "randnet/knob.h"

namespace iterand {
namespace {

struct AutomatonKnobs {
  IntegerKnob states;
  IntegerKnob symbols;
  RealKnob edge_probability;
};

constexpr std::size_t kMaxDescribed = 128;  // edges that Describe writes out

class AutomatonProgram final : public Program {
 public:
  AutomatonProgram(const AutomatonKnobs& knobs, const FamilyContext& context) : knobs_(knobs), context_(context) {
    words_.resize(kLanes * static_cast<std::size_t>(context.length));
    const auto states = static_cast<std::size_t>(knobs.states.high());
    first_.reserve(states + 1);
    edges_.reserve(states * states);
    symbols_.reserve(static_cast<std::size_t>(std::min(knobs.symbols.high(), context.alphabet)));
    scratch_.reserve(static_cast<std::size_t>(context.alphabet));
  }

  void Sample(Rng& rng) override {
    const int states = knobs_.states.Draw(rng);
    const int symbols = std::min(knobs_.symbols.Draw(rng), context_.alphabet);
    probability_ = knobs_.edge_probability.Draw(rng);
    symbols_.resize(static_cast<std::size_t>(symbols));
    DrawDistinct(rng, context_.alphabet, symbols, scratch_, symbols_);
    const auto threshold = static_cast<std::uint32_t>(probability_ * 0x1.0p24F);
    const auto count = static_cast<std::size_t>(states);
    first_.resize(count + 1);
    edges_.clear();
    for (std::size_t from = 0; from < count; ++from) {
      const std::size_t first = edges_.size();
      first_[from] = static_cast<std::uint32_t>(first);
      for (std::size_t to = 0; to < count; ++to) {
        if ((rng.Next() >> 8) < threshold) {
          const std::uint32_t label = rng.Below(static_cast<std::uint32_t>(symbols));
          edges_.push_back({static_cast<std::uint32_t>(to), 0, symbols_[label]});
        }
      }
      // A dead end is one edge back to the start.
      if (edges_.size() == first) edges_.push_back({0, 0, symbols_[0]});
    }
    first_[count] = static_cast<std::uint32_t>(edges_.size());
    // An edge holds what the walk needs to know of the state that it leads to.
    for (Edge& edge : edges_) {
      const std::uint32_t to = edge.first;
      edge.first = first_[to];
      edge.degree = static_cast<std::uint16_t>(first_[to + 1] - first_[to]);
    }
  }

  void Run(BlockView /*input*/, BlockView /*prompt*/, const RowRng& rng, MutableBlockView out) override {
    int r = 0;
    for (; r + kLanes <= out.rows(); r += kLanes) RunRows<kLanes>(rng, out, r);
    for (; r < out.rows(); ++r) RunRows<1>(rng, out, r);
  }

  std::string Describe() const override {
    std::string text = absl::StrCat("states=", first_.size() - 1, " symbols=", symbols_.size(),
                                    " edges=", edges_.size(), " edge_probability=", probability_);
    if (edges_.size() > kMaxDescribed) return text;
    // State by state: where its edges lead, and their labels.
    absl::StrAppend(&text, " graph=");
    for (std::size_t from = 0; from + 1 < first_.size(); ++from) {
      for (std::uint32_t i = first_[from]; i < first_[from + 1]; ++i) {
        const auto to = std::find(first_.begin(), first_.end(), edges_[i].first) - first_.begin();
        absl::StrAppend(&text, i > first_[from] ? "," : from > 0 ? ";" : "", to, "/", edges_[i].label);
      }
    }
    return text;
  }

 private:
  // Rows side by side: each step waits for the one before it.
  static constexpr int kLanes = 4;

  struct Edge {
    std::uint32_t first;   // of the edges of the state it leads to
    std::uint16_t degree;  // how many those are: at most 1024, the states
    Symbol label;
  };

  template <int kRows>
  void RunRows(const RowRng& rng, MutableBlockView out, int first) {
    const auto length = static_cast<std::size_t>(out.length());
    std::uint32_t begin[kRows] = {};
    std::uint32_t degree[kRows];
    Symbol* rows[kRows];
    for (int i = 0; i < kRows; ++i) {
      Rng row_rng = rng.ForRow(first + i);
      row_rng.Fill({words_.data() + static_cast<std::size_t>(i) * length, length});
      rows[i] = out.row(first + i);
      degree[i] = first_[1];
    }
    const Edge* const edges = edges_.data();
    for (std::size_t t = 0; t < length; ++t) {
      for (int i = 0; i < kRows; ++i) {
        const std::uint64_t word = words_[static_cast<std::size_t>(i) * length + t];
        const Edge edge = edges[begin[i] + static_cast<std::uint32_t>(word * degree[i] >> 32)];
        rows[i][t] = edge.label;
        begin[i] = edge.first;
        degree[i] = edge.degree;
      }
    }
  }

  const AutomatonKnobs& knobs_;
  FamilyContext context_;
  float probability_ = 0;
  std::vector<Symbol> scratch_;
  std::vector<Symbol> symbols_;
  std::vector<std::uint32_t> first_;  // of each state's edges, and their number
  std::vector<Edge> edges_;
  std::vector<std::uint32_t> words_;
};

class AutomatonFamily final : public Family {
 public:
  AutomatonFamily(AutomatonKnobs knobs, const FamilyContext& context) : knobs_(std::move(knobs)), context_(context) {}
  bool reads_input() const override { return false; }
  double most_seconds(int rows) const override {
    const double states = knobs_.states.high();
    return cost::kSymbol * (2 * states * states + context_.alphabet + static_cast<double>(rows) * context_.length);
  }
  double program_bytes(int /*rows*/) const override {
    const double states = knobs_.states.high();
    return 2048.0 + 8 * states * states + 4 * states + 16.0 * context_.length + 4.0 * context_.alphabet;
  }
  std::unique_ptr<Program> NewProgram(int /*max_rows*/) const override {
    return std::make_unique<AutomatonProgram>(knobs_, context_);
  }

 private:
  AutomatonKnobs knobs_;
  FamilyContext context_;
};

absl::StatusOr<std::unique_ptr<Family>> Make(const v1::Family& family, const FamilyContext& context,
                                             const std::string& /*path*/) {
  const v1::Automaton& config = family.automaton();
  return std::make_unique<AutomatonFamily>(AutomatonKnobs{.states = IntegerKnob(config.states()),
                                                          .symbols = IntegerKnob(config.symbols()),
                                                          .edge_probability = RealKnob(config.edge_probability())},
                                           context);
}

}  // namespace

const FamilyEntry kAutomatonEntry = {v1::Family::kAutomaton, "automaton",
                                     "random walk on a random labelled graph (ndfa)", Make};

}  // namespace iterand
