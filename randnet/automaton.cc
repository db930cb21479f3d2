#include "randnet/automaton.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "randnet/discrete.h"
#include "randnet/knob.h"

namespace iterand {
namespace {

constexpr int kMaxStates = 1024;

struct AutomatonKnobs {
  IntegerKnob states;
  IntegerKnob symbols;
  RealKnob edge_probability;
};

class AutomatonProgram final : public Program {
 public:
  AutomatonProgram(const AutomatonKnobs& knobs, const FamilyContext& context) : knobs_(knobs), context_(context) {
    words_.resize(static_cast<std::size_t>(context.length));
  }

  void Sample(Rng& rng) override {
    const int states = knobs_.states.Draw(rng);
    const int symbols = std::min(knobs_.symbols.Draw(rng), context_.alphabet);
    probability_ = knobs_.edge_probability.Draw(rng);
    symbols_.resize(static_cast<std::size_t>(symbols));
    DrawDistinct(rng, context_.alphabet, symbols, scratch_, symbols_);
    const auto threshold = static_cast<std::uint32_t>(probability_ * 0x1.0p24F);
    states_.clear();
    edges_.clear();
    for (int from = 0; from < states; ++from) {
      const auto first = static_cast<std::uint32_t>(edges_.size());
      for (int to = 0; to < states; ++to) {
        if ((rng.Next() >> 8) < threshold) {
          const std::uint32_t label = rng.Below(static_cast<std::uint32_t>(symbols));
          edges_.push_back({symbols_[label], static_cast<std::uint16_t>(to)});
        }
      }
      // A dead end is one edge back to the start.
      if (edges_.size() == first) edges_.push_back({symbols_[0], 0});
      states_.push_back({first, static_cast<std::uint32_t>(edges_.size()) - first});
    }
  }

  void Run(BlockView /*input*/, BlockView /*prompt*/, const RowRng& rng, MutableBlockView out) override {
    for (int r = 0; r < out.rows(); ++r) {
      Rng row_rng = rng.ForRow(r);
      row_rng.Fill(words_);
      Symbol* row = out.row(r);
      State state = states_[0];
      for (int t = 0; t < out.length(); ++t) {
        const std::uint64_t choice = (static_cast<std::uint64_t>(words_[static_cast<std::size_t>(t)]) * state.degree) >> 32;
        const Edge edge = edges_[state.first + choice];
        row[t] = edge.label;
        state = states_[edge.to];
      }
    }
  }

  std::string Describe() const override {
    return absl::StrCat("states=", states_.size(), " symbols=", symbols_.size(), " edges=", edges_.size(),
                        " edge_probability=", probability_);
  }

 private:
  struct Edge {
    Symbol label;
    std::uint16_t to;
  };
  struct State {
    std::uint32_t first;  // of its edges
    std::uint32_t degree;
  };

  const AutomatonKnobs& knobs_;
  FamilyContext context_;
  float probability_ = 0;
  std::vector<Symbol> scratch_;
  std::vector<Symbol> symbols_;
  std::vector<State> states_;
  std::vector<Edge> edges_;
  std::vector<std::uint32_t> words_;
};

class AutomatonFamily final : public Family {
 public:
  AutomatonFamily(AutomatonKnobs knobs, const FamilyContext& context) : knobs_(std::move(knobs)), context_(context) {}
  bool reads_input() const override { return false; }
  double program_bytes(int /*rows*/) const override {
    const double states = knobs_.states.high();
    return 4 * states * states + 8 * states + 4.0 * context_.length + 4.0 * context_.alphabet;
  }
  std::unique_ptr<Program> NewProgram(int /*max_rows*/) const override {
    return std::make_unique<AutomatonProgram>(knobs_, context_);
  }

 private:
  AutomatonKnobs knobs_;
  FamilyContext context_;
};

}  // namespace

const FamilyEntry kAutomatonEntry = {
    v1::Family::kAutomaton, "automaton", "random walk on a random labelled graph (ndfa)",
    [](v1::Family& family) {
      v1::Automaton& config = *family.mutable_automaton();
      DefaultGeometric(config.mutable_states(), 1, 0.9, 256);
      DefaultGeometric(config.mutable_symbols(), 1, 0.9, 256);
      DefaultUniform(config.mutable_edge_probability(), 0, 1);
    },
    [](const v1::Family& family, const FamilyContext& context,
       const std::string& path) -> absl::StatusOr<std::unique_ptr<Family>> {
      const v1::Automaton& config = family.automaton();
      auto states = IntegerKnob::Make(config.states(), path + ".states", 1, kMaxStates);
      if (!states.ok()) return states.status();
      auto symbols = IntegerKnob::Make(config.symbols(), path + ".symbols", 1, kMaxAlphabet);
      if (!symbols.ok()) return symbols.status();
      auto probability = RealKnob::Make(config.edge_probability(), path + ".edge_probability", 0, 1);
      if (!probability.ok()) return probability.status();
      return std::make_unique<AutomatonFamily>(
          AutomatonKnobs{*std::move(states), *std::move(symbols), *std::move(probability)}, context);
    }};

}  // namespace iterand
