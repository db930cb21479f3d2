#include "randnet/markov.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "randnet/discrete.h"
#include "randnet/knob.h"

namespace iterand {
namespace {

constexpr int kMaxOrder = 6;
constexpr int kMaxContexts = 65536;
constexpr int kMaxSymbols = 1024;

struct MarkovKnobs {
  IntegerKnob order;
  IntegerKnob symbols;
  RealKnob concentration;
  IntegerKnob contexts;
};

class MarkovProgram final : public Program {
 public:
  MarkovProgram(const MarkovKnobs& knobs, const FamilyContext& context) : knobs_(knobs), context_(context) {
    const auto symbols = static_cast<std::size_t>(std::min({knobs.symbols.high(), context.alphabet, kMaxSymbols}));
    const auto contexts = std::max(symbols, static_cast<std::size_t>(knobs.contexts.high()));
    symbols_.reserve(symbols);
    places_.reserve(symbols);
    weights_.reserve(symbols);
    columns_.resize(contexts * symbols);
    ready_.reserve(contexts);
    scratch_.reserve(static_cast<std::size_t>(context.alphabet));
    builder_.Reserve(symbols);
    words_.resize(kLanes * static_cast<std::size_t>(context.length));
  }

  void Sample(Rng& rng) override {
    order_ = knobs_.order.Draw(rng);
    k_ = std::min({knobs_.symbols.Draw(rng), context_.alphabet, kMaxSymbols});
    concentration_ = knobs_.concentration.Draw(rng);
    const int hashed = knobs_.contexts.Draw(rng);
    contexts_ = order_ == 1 ? k_ : hashed;
    key_high_ = rng.Next();
    key_low_ = rng.Next();
    const auto k = static_cast<std::size_t>(k_);
    symbols_.resize(k);
    DrawDistinct(rng, context_.alphabet, k_, scratch_, symbols_);
    ready_.assign(static_cast<std::size_t>(contexts_), 0);
    weights_.resize(k);
    places_.resize(k);
    for (std::size_t i = 0; i < k; ++i) places_[i] = static_cast<Symbol>(i);
  }

  void Run(BlockView /*input*/, BlockView /*prompt*/, const RowRng& rng, MutableBlockView out) override {
    int r = 0;
    if (order_ == 1) {
      for (; r + kLanes <= out.rows(); r += kLanes) RunRows<kLanes, true>(rng, out, r);
      for (; r < out.rows(); ++r) RunRows<1, true>(rng, out, r);
    } else {
      for (; r + kLanes <= out.rows(); r += kLanes) RunRows<kLanes, false>(rng, out, r);
      for (; r < out.rows(); ++r) RunRows<1, false>(rng, out, r);
    }
  }

  std::string Describe() const override {
    return absl::StrCat("order=", order_, " symbols=", k_, " concentration=", concentration_, " contexts=", contexts_);
  }

 private:
  // Rows side by side: each symbol waits for the one before it.
  static constexpr int kLanes = 4;

  template <int kRows, bool kFirstOrder>
  void RunRows(const RowRng& rng, MutableBlockView out, int first) {
    const auto k = static_cast<std::uint32_t>(k_);
    const auto length = static_cast<std::size_t>(out.length());
    const std::size_t order = std::min(static_cast<std::size_t>(order_), length);
    std::uint64_t history[kRows] = {};  // the last `order` places, ten bits each
    Symbol* rows[kRows];
    for (int i = 0; i < kRows; ++i) {
      std::uint32_t* const words = words_.data() + static_cast<std::size_t>(i) * length;
      Rng row_rng = rng.ForRow(first + i);
      row_rng.Fill({words, length});
      rows[i] = out.row(first + i);
      for (std::size_t t = 0; t < order; ++t) {
        const std::uint64_t place = (static_cast<std::uint64_t>(words[t]) * k) >> 32;
        rows[i][t] = symbols_[place];
        history[i] = (history[i] << 10) | place;
      }
    }
    const Symbol* const symbols = symbols_.data();
    const std::uint8_t* const ready = ready_.data();
    const AliasColumn* const columns = columns_.data();
    for (std::size_t t = order; t < length; ++t) {
      for (int i = 0; i < kRows; ++i) {
        const std::uint32_t context = kFirstOrder ? static_cast<std::uint32_t>(history[i]) : Context(history[i]);
        if (ready[context] == 0) [[unlikely]]
          MakeContext(context);
        const Symbol place = DrawAlias(words_[static_cast<std::size_t>(i) * length + t],
                                       columns + static_cast<std::size_t>(context) * k, k);
        rows[i][t] = symbols[place];
        history[i] = kFirstOrder ? place : (history[i] << 10) | place;
      }
    }
  }

  // The transition row of a history from order 2 on: a multiplicative hash of the last `order_` places. (Of order 1 it
  // is the last symbol's place.)
  std::uint32_t Context(std::uint64_t history) const {
    const std::uint64_t context = history & ((std::uint64_t{1} << (order_ * 10)) - 1);  // kMaxOrder fills 60 bits
    const std::uint64_t hash = (context + 1) * 0x9E3779B97F4A7C15U;
    return static_cast<std::uint32_t>(((hash >> 32) * static_cast<std::uint64_t>(contexts_)) >> 32);
  }

  void MakeContext(std::uint32_t context) {
    Rng rng((static_cast<std::uint64_t>(key_high_) << 32 | key_low_) + context * 0xD1342543DE82EF95U, context);
    DrawDirichlet(rng, concentration_, weights_);
    builder_.Build(weights_, places_,
                   {columns_.data() + static_cast<std::size_t>(context) * weights_.size(), weights_.size()});
    ready_[context] = 1;
  }

  const MarkovKnobs& knobs_;
  FamilyContext context_;
  int order_ = 1;
  int k_ = 2;
  int contexts_ = 2;
  float concentration_ = 1;
  std::uint32_t key_high_ = 0;
  std::uint32_t key_low_ = 0;
  std::vector<Symbol> scratch_;
  std::vector<Symbol> symbols_;       // place -> symbol
  std::vector<Symbol> places_;        // 0 .. k - 1
  std::vector<float> weights_;        // of the context being made
  std::vector<AliasColumn> columns_;  // contexts x k
  std::vector<std::uint8_t> ready_;   // whether a context's row has been made
  std::vector<std::uint32_t> words_;
  AliasBuilder builder_;
};

class MarkovFamily final : public Family {
 public:
  MarkovFamily(MarkovKnobs knobs, const FamilyContext& context) : knobs_(std::move(knobs)), context_(context) {}
  bool reads_input() const override { return false; }
  double program_bytes(int /*rows*/) const override {
    const double contexts = std::max(knobs_.contexts.high(), knobs_.symbols.high());
    return contexts * knobs_.symbols.high() * sizeof(AliasColumn) + 2.0 * context_.alphabet + 16.0 * context_.length;
  }
  std::unique_ptr<Program> NewProgram(int /*max_rows*/) const override {
    return std::make_unique<MarkovProgram>(knobs_, context_);
  }

 private:
  MarkovKnobs knobs_;
  FamilyContext context_;
};

}  // namespace

const FamilyEntry kMarkovEntry = {
    v1::Family::kMarkov, "markov", "random Markov chain of order n with sparse Dirichlet transitions",
    [](v1::Family& family) {
      v1::Markov& config = *family.mutable_markov();
      DefaultChoice(config.mutable_order(), {1, 1, 2});
      DefaultLogUniform(config.mutable_symbols(), 2, 40);
      DefaultLogUniform(config.mutable_concentration(), 0.03, 0.5);
      DefaultFixed(config.mutable_contexts(), 512);
    },
    [](const v1::Family& family, const FamilyContext& context,
       const std::string& path) -> absl::StatusOr<std::unique_ptr<Family>> {
      const v1::Markov& config = family.markov();
      auto order = IntegerKnob::Make(config.order(), path + ".order", 1, kMaxOrder);
      if (!order.ok()) return order.status();
      auto symbols = IntegerKnob::Make(config.symbols(), path + ".symbols", 1, kMaxSymbols);
      if (!symbols.ok()) return symbols.status();
      auto concentration = RealKnob::Make(config.concentration(), path + ".concentration", 1e-4, 1e4);
      if (!concentration.ok()) return concentration.status();
      auto contexts = IntegerKnob::Make(config.contexts(), path + ".contexts", 1, kMaxContexts);
      if (!contexts.ok()) return contexts.status();
      return std::make_unique<MarkovFamily>(
          MarkovKnobs{*std::move(order), *std::move(symbols), *std::move(concentration), *std::move(contexts)},
          context);
    }};

}  // namespace iterand
