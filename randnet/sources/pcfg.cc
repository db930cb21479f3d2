#include "randnet/sources/pcfg.h"

#include <algorithm>
#include <array>

#include "absl/strings/str_cat.h"
#include "randnet/base/discrete.h"
#include "randnet/knob.h"

namespace iterand {
namespace {

constexpr int kMaxBranching = 8;  // the schema's
constexpr std::size_t kMaxDescribedRules = 256;
// Rows that are derived side by side: each symbol waits for the one before it.
constexpr int kLanes = 6;

struct PcfgKnobs {
  IntegerKnob nonterminals;
  IntegerKnob rules;
  IntegerKnob branching;
  IntegerKnob terminals;
  RealKnob ambiguity;
  RealKnob terminal_share;
  RealKnob concentration;
  IntegerKnob max_depth;
  bool separator;
};

// A symbol on the stack: its number, and its depth in the high half. Numbers: nonterminals from 0, then the top symbol,
// then the terminals.
using Item = std::uint32_t;
constexpr int kDepthShift = 16;

struct Rule {
  std::array<Item, kMaxBranching> symbols;  // from right to left, depth 0
  std::uint32_t length;
};

// How a symbol is expanded: by one of `count` alias columns, which draw rules.
struct Expansion {
  std::uint32_t first;
  std::uint32_t count;
};

struct Lane {
  Item* stack;
  Symbol* out;
  std::uint32_t size;  // of the stack
  std::uint32_t written;
  Rng rng{0, 0};
};

class PcfgProgram final : public Program {
 public:
  PcfgProgram(const PcfgKnobs& knobs, const FamilyContext& context) : knobs_(knobs), context_(context) {
    const auto nonterminals = static_cast<std::size_t>(knobs.nonterminals.high());
    const auto per_nonterminal = static_cast<std::size_t>(knobs.rules.high());
    const auto terminals = static_cast<std::size_t>(std::min(knobs.terminals.high() + 1, context.alphabet));
    rules_.reserve(nonterminals * per_nonterminal + 2);
    columns_.reserve(nonterminals * (per_nonterminal + 1) + 2);
    expansions_.reserve(2 * (nonterminals + 1 + terminals));
    written_as_.reserve(nonterminals + 1 + terminals);
    symbols_.reserve(terminals);
    scratch_.reserve(static_cast<std::size_t>(context.alphabet));
    terminal_scratch_.reserve(terminals);
    firsts_.reserve(per_nonterminal);
    weights_.reserve(per_nonterminal);
    numbers_.reserve(per_nonterminal);
    // Each level leaves less than kMaxBranching symbols waiting; whole right-hand sides are copied at once.
    lane_stack_ = static_cast<std::size_t>(kMaxBranching) * static_cast<std::size_t>(knobs.max_depth.high() + 4);
    stacks_.resize(kLanes * lane_stack_);
    builder_.Reserve(per_nonterminal);
  }

  void Sample(Rng& rng) override {
    nonterminals_ = knobs_.nonterminals.Draw(rng);
    const int rules = knobs_.rules.Draw(rng);
    branching_ = knobs_.branching.Draw(rng);
    terminals_ = std::min(knobs_.terminals.Draw(rng), context_.alphabet - (knobs_.separator ? 1 : 0));
    ambiguity_ = knobs_.ambiguity.Draw(rng);
    terminal_share_ = knobs_.terminal_share.Draw(rng);
    concentration_ = knobs_.concentration.Draw(rng);
    max_depth_ = knobs_.max_depth.Draw(rng);
    rules_a_nonterminal_ = std::min(rules, terminals_);
    symbols_.resize(static_cast<std::size_t>(terminals_ + (knobs_.separator ? 1 : 0)));
    DrawDistinct(rng, context_.alphabet, static_cast<int>(symbols_.size()), scratch_, symbols_);

    const auto n = static_cast<std::size_t>(nonterminals_);
    const auto r = static_cast<std::size_t>(rules_a_nonterminal_);
    const std::size_t numbers = n + 1 + symbols_.size();
    rules_.clear();
    columns_.clear();
    expansions_.resize(2 * numbers);
    written_as_.assign(numbers, 0);
    weights_.resize(r);
    numbers_.resize(r);
    firsts_.resize(r);
    const GammaShape concentration(concentration_);
    for (std::size_t i = 0; i < n; ++i) {
      DrawDistinct(rng, terminals_, rules_a_nonterminal_, terminal_scratch_, firsts_);
      const auto first_rule = static_cast<std::uint32_t>(rules_.size());
      for (std::size_t j = 0; j < r; ++j) {
        DrawRule(rng, firsts_[j], j == 0);
        numbers_[j] = static_cast<Symbol>(first_rule + j);
      }
      DrawDirichlet(rng, concentration, weights_);
      const auto at = static_cast<std::uint32_t>(columns_.size());
      columns_.resize(columns_.size() + r + 1);
      builder_.Build(weights_, numbers_, {columns_.data() + at, r});
      columns_[at + r] = Only(first_rule);
      expansions_[i] = {at, static_cast<std::uint32_t>(r)};
      expansions_[numbers + i] = {at + static_cast<std::uint32_t>(r), 1};  // at the depth limit
    }
    // The top symbol becomes start, separator, top, endlessly; terminals become nothing.
    AddOnly(n, numbers, static_cast<std::uint32_t>(rules_.size()));
    if (knobs_.separator) {
      rules_.push_back({{static_cast<Item>(n), static_cast<Item>(numbers - 1), 0}, 3});
    } else {
      rules_.push_back({{static_cast<Item>(n), 0}, 2});
    }
    const auto nothing = static_cast<std::uint32_t>(columns_.size());
    columns_.push_back(Only(static_cast<std::uint32_t>(rules_.size())));
    rules_.push_back({{}, 0});
    for (std::size_t i = 0; i < symbols_.size(); ++i) {
      expansions_[n + 1 + i] = expansions_[numbers + n + 1 + i] = {nothing, 1};
      written_as_[n + 1 + i] = symbols_[i];
    }
  }

  void Run(BlockView /*input*/, BlockView /*prompt*/, const RowRng& rng, MutableBlockView out) override {
    const auto length = static_cast<std::uint32_t>(out.length());
    Lane lanes[kLanes];
    int next_row = 0;
    const auto start_row = [&](Lane& lane) {
      lane.out = out.row(next_row);
      lane.rng = rng.ForRow(next_row);
      lane.stack[0] = static_cast<Item>(nonterminals_);
      lane.size = 1;
      lane.written = 0;
      ++next_row;
    };
    int active = 0;
    for (; active < kLanes && next_row < out.rows(); ++active) {
      lanes[active].stack = stacks_.data() + static_cast<std::size_t>(active) * lane_stack_;
      start_row(lanes[active]);
    }
    while (active > 0) {
      for (int i = 0; i < active; ++i) {
        Step(lanes[i]);
        if (lanes[i].written == length) {
          if (next_row < out.rows() && !stopped()) {
            start_row(lanes[i]);
          } else {
            lanes[i] = lanes[--active];
            break;
          }
        }
      }
    }
  }

  std::string Describe() const override {
    std::string text =
        absl::StrCat("nonterminals=", nonterminals_, " rules=", rules_a_nonterminal_, " branching=", branching_,
                     " terminals=", terminals_, " ambiguity=", ambiguity_, " terminal_share=", terminal_share_,
                     " concentration=", concentration_, " max_depth=", max_depth_);
    if (rules_.size() > kMaxDescribedRules) return text;
    // Nonterminals as N0, N1, ..., terminals as the symbols that are written.
    if (knobs_.separator) absl::StrAppend(&text, " separator=", symbols_.back());
    absl::StrAppend(&text, " grammar=");
    const auto r = static_cast<std::size_t>(rules_a_nonterminal_);
    for (std::size_t i = 0; i < static_cast<std::size_t>(nonterminals_) * r; ++i) {
      const Rule& rule = rules_[i];
      absl::StrAppend(&text, i % r != 0 ? "|" : absl::StrCat(i > 0 ? ";" : "", "N", i / r, ":"));
      for (std::size_t k = rule.length; k-- > 0;) {
        const Item symbol = rule.symbols[k];
        const bool terminal = symbol > static_cast<Item>(nonterminals_);
        absl::StrAppend(&text, terminal ? "" : "N", terminal ? written_as_[symbol] : symbol, k > 0 ? "," : "");
      }
    }
    return text;
  }

 private:
  // The column of a single rule.
  static AliasColumn Only(std::uint32_t rule) {
    return {1U << 24, {static_cast<Symbol>(rule), static_cast<Symbol>(rule)}};
  }

  void AddOnly(std::size_t number, std::size_t numbers, std::uint32_t rule) {
    expansions_[number] = expansions_[numbers + number] = {static_cast<std::uint32_t>(columns_.size()), 1};
    columns_.push_back(Only(rule));
  }

  Item DrawTerminal(Rng& rng) {
    return static_cast<Item>(nonterminals_ + 1) + rng.Below(static_cast<std::uint32_t>(terminals_));
  }

  void DrawRule(Rng& rng, Symbol first, bool terminals_only) {
    const auto draw = [&] {
      if (terminals_only || rng.Uniform() < terminal_share_) return DrawTerminal(rng);
      return static_cast<Item>(rng.Below(static_cast<std::uint32_t>(nonterminals_)));
    };
    Rule rule{};
    rule.length = 1 + rng.Below(static_cast<std::uint32_t>(branching_));
    const bool exempt = rng.Uniform() < ambiguity_;
    rule.symbols[rule.length - 1] = exempt ? draw() : static_cast<Item>(nonterminals_ + 1) + first;
    for (std::size_t k = rule.length - 1; k-- > 0;) rule.symbols[k] = draw();
    rules_.push_back(rule);
  }

  // Takes one symbol from the stack: writes it if it is a terminal, else replaces it. Without branches, since its kind
  // is random.
  void Step(Lane& lane) const {
    const Item item = lane.stack[--lane.size];
    const std::uint32_t symbol = item & ((1U << kDepthShift) - 1);
    const std::uint32_t depth = item >> kDepthShift;
    const auto top = static_cast<std::uint32_t>(nonterminals_);
    lane.out[lane.written] = written_as_[symbol];
    lane.written += symbol > top ? 1 : 0;
    const std::size_t limit = depth >= static_cast<std::uint32_t>(max_depth_) ? written_as_.size() : 0;
    const Expansion expansion = expansions_[limit + symbol];
    const Rule& rule = rules_[DrawAlias(lane.rng.Next(), columns_.data() + expansion.first, expansion.count)];
    // What the top symbol becomes is at depth 0.
    const Item below = symbol == top ? 0 : (depth + 1) << kDepthShift;
    Item* const stack = lane.stack + lane.size;
    for (int k = 0; k < kMaxBranching; ++k) stack[k] = rule.symbols[static_cast<std::size_t>(k)] + below;
    lane.size += rule.length;
  }

  const PcfgKnobs& knobs_;
  FamilyContext context_;
  int nonterminals_ = 1;
  int rules_a_nonterminal_ = 1;
  int branching_ = 1;
  int terminals_ = 1;
  int max_depth_ = 1;
  float ambiguity_ = 0;
  float terminal_share_ = 0;
  float concentration_ = 0;
  std::vector<Rule> rules_;  // of nonterminal 0, of nonterminal 1, ..., of the top symbol, of terminals
  std::vector<AliasColumn> columns_;
  std::vector<Expansion> expansions_;  // by symbol; then the same at the depth limit
  std::vector<Symbol> written_as_;     // by symbol
  std::vector<Symbol> symbols_;        // of the terminals, then the separator
  std::vector<Symbol> scratch_;
  std::vector<Symbol> terminal_scratch_;
  std::vector<Symbol> firsts_;
  std::vector<Symbol> numbers_;
  std::vector<float> weights_;
  AliasBuilder builder_;
  std::size_t lane_stack_;
  std::vector<Item> stacks_;
};

class PcfgFamily final : public Family {
 public:
  PcfgFamily(PcfgKnobs knobs, const FamilyContext& context) : knobs_(std::move(knobs)), context_(context) {}
  bool reads_input() const override { return false; }
  double most_seconds(int rows) const override {
    // Each nonterminal draws its rules' first terminals from all of them.
    const double rules = static_cast<double>(knobs_.rules.high()) * (2 + knobs_.branching.high());
    const double grammar = knobs_.nonterminals.high() * (knobs_.terminals.high() + rules);
    return cost::kGamma * knobs_.nonterminals.high() * knobs_.rules.high() +
           cost::kSymbol * (context_.alphabet + grammar +
                            static_cast<double>(rows) * context_.length * (knobs_.max_depth.high() + 2));
  }
  double program_bytes(int /*rows*/) const override {
    const double rules = static_cast<double>(knobs_.nonterminals.high()) * knobs_.rules.high();
    const double symbols = static_cast<double>(knobs_.nonterminals.high()) + knobs_.terminals.high();
    return rules * (sizeof(Rule) + sizeof(AliasColumn)) + 32 * symbols + 4.0 * context_.alphabet + 65536;
  }
  std::unique_ptr<Program> NewProgram(int /*max_rows*/) const override {
    return std::make_unique<PcfgProgram>(knobs_, context_);
  }

 private:
  PcfgKnobs knobs_;
  FamilyContext context_;
};

absl::StatusOr<std::unique_ptr<Family>> Make(const v1::Family& family, const FamilyContext& context,
                                             const std::string& /*path*/) {
  const v1::Pcfg& config = family.pcfg();
  return std::make_unique<PcfgFamily>(PcfgKnobs{.nonterminals = IntegerKnob(config.nonterminals()),
                                                .rules = IntegerKnob(config.rules()),
                                                .branching = IntegerKnob(config.branching()),
                                                .terminals = IntegerKnob(config.terminals()),
                                                .ambiguity = RealKnob(config.ambiguity()),
                                                .terminal_share = RealKnob(config.terminal_share()),
                                                .concentration = RealKnob(config.concentration()),
                                                .max_depth = IntegerKnob(config.max_depth()),
                                                .separator = config.separator()},
                                      context);
}

}  // namespace

const FamilyEntry kPcfgEntry = {v1::Family::kPcfg, "pcfg", "sentences of a random probabilistic context-free grammar",
                                Make};

}  // namespace iterand
