#include "randnet/sources/markov.h"

#include <algorithm>
#include <optional>

#include "absl/strings/str_cat.h"
#include "randnet/base/discrete.h"
#include "randnet/knob.h"

namespace iterand {
namespace {

constexpr int kMaxOrder = 6;
constexpr int kMaxContexts = 65536;
constexpr int kMaxSymbols = 1024;
constexpr int kMaxDepth = 32;

struct TreeKnobs {
  IntegerKnob depth;
  RealKnob split;
};

struct MarkovKnobs {
  IntegerKnob order;
  IntegerKnob symbols;
  RealKnob concentration;
  IntegerKnob contexts;
  std::optional<TreeKnobs> tree;
};

int MostSymbols(const MarkovKnobs& knobs, const FamilyContext& context) {
  return std::min(knobs.symbols.high(), context.alphabet);
}

// A random suffix tree, as a walk from the last symbol back needs it.
class SuffixTree {
 public:
  void Reserve(std::size_t contexts, std::size_t symbols) {
    // Every split makes k places and at most k - 1 contexts, so of two places at least one is a context; a single
    // symbol makes a chain.
    children_.reserve(2 * contexts + symbols + kMaxDepth);
    open_.reserve(2 * contexts + symbols + kMaxDepth);
  }

  // `split` in units of 2^-24. At most max(1, contexts) contexts.
  void Sample(Rng& rng, std::uint32_t symbols, std::uint32_t contexts, std::uint32_t depth, std::uint32_t split) {
    symbols_ = symbols;
    depth_ = 0;
    contexts_ = 0;
    children_.assign(1, 0);  // the root's place; those of the first split follow it
    open_.assign(1, {0, 0});
    std::uint32_t places = 1;  // that are a context, or may become one
    while (!open_.empty()) {
      std::swap(open_[rng.Below(static_cast<std::uint32_t>(open_.size()))], open_.back());
      const Open place = open_.back();
      open_.pop_back();
      const bool splits = (rng.Next() >> 8) < split && place.depth < depth && places + symbols - 1 <= contexts;
      if (!splits) {
        children_[place.slot] = kContext | contexts_++;
        continue;
      }
      places += symbols - 1;
      depth_ = std::max(depth_, place.depth + 1);
      const auto first = static_cast<std::uint32_t>(children_.size());
      children_[place.slot] = first;
      children_.resize(first + symbols);
      for (std::uint32_t i = 0; i < symbols; ++i) open_.push_back({first + i, place.depth + 1});
    }
  }

  std::uint32_t contexts() const { return contexts_; }
  std::uint32_t depth() const { return depth_; }  // symbols of the longest context

  // The context whose last symbol is *last, the one before it *(last - 1), ...
  std::uint32_t Find(const Symbol* last) const {
    std::uint32_t node = children_[0];
    while ((node & kContext) == 0) node = children_[node + *last--];
    return node & ~kContext;
  }

 private:
  static constexpr std::uint32_t kContext = std::uint32_t{1} << 31;

  struct Open {
    std::uint32_t slot;
    std::uint32_t depth;
  };

  std::uint32_t symbols_ = 1;
  std::uint32_t depth_ = 0;
  std::uint32_t contexts_ = 1;
  std::vector<std::uint32_t> children_;  // a context's number with kContext, or where the k children of a split begin
  std::vector<Open> open_;               // not yet decided upon
};

class MarkovProgram final : public Program {
 public:
  MarkovProgram(const MarkovKnobs& knobs, const FamilyContext& context) : knobs_(knobs), context_(context) {
    const auto symbols = static_cast<std::size_t>(MostSymbols(knobs, context));
    const auto contexts = std::max(symbols, static_cast<std::size_t>(knobs.contexts.high()));
    symbols_.reserve(symbols);
    columns_.resize(contexts * symbols);
    ready_.reserve(contexts);
    scratch_.reserve(static_cast<std::size_t>(context.alphabet));
    builder_.Reserve(symbols);
    words_.resize(kLanes * static_cast<std::size_t>(context.length));
    if (knobs.tree) {
      walks_.resize(words_.size());
      tree_.Reserve(contexts, symbols);
    }
  }

  void Sample(Rng& rng) override {
    order_ = knobs_.order.Draw(rng);
    k_ = std::min(knobs_.symbols.Draw(rng), context_.alphabet);
    concentration_ = GammaShape(knobs_.concentration.Draw(rng));
    const int hashed = knobs_.contexts.Draw(rng);
    contexts_ = order_ == 1 ? k_ : hashed;
    if (knobs_.tree) {
      const int depth = knobs_.tree->depth.Draw(rng);
      split_ = knobs_.tree->split.Draw(rng);
      tree_.Sample(rng, static_cast<std::uint32_t>(k_), static_cast<std::uint32_t>(hashed),
                   static_cast<std::uint32_t>(depth), static_cast<std::uint32_t>(split_ * 0x1.0p24F));
      contexts_ = static_cast<int>(tree_.contexts());
    }
    key_high_ = rng.Next();
    key_low_ = rng.Next();
    const auto k = static_cast<std::size_t>(k_);
    symbols_.resize(k);
    DrawDistinct(rng, context_.alphabet, k_, scratch_, symbols_);
    ready_.assign(static_cast<std::size_t>(contexts_), 0);
  }

  void Run(BlockView /*input*/, BlockView /*prompt*/, const RowRng& rng, MutableBlockView out) override {
    if (knobs_.tree) {
      RunAll<Contexts::kTree>(rng, out);
    } else if (order_ == 1) {
      RunAll<Contexts::kSymbol>(rng, out);
    } else {
      RunAll<Contexts::kHashed>(rng, out);
    }
  }

  std::string Describe() const override {
    const std::string rows =
        absl::StrCat(" symbols=", k_, " concentration=", concentration_.shape, " contexts=", contexts_);
    if (knobs_.tree) return absl::StrCat("tree depth=", tree_.depth(), " split=", split_, rows);
    return absl::StrCat("order=", order_, rows);
  }

 private:
  // Rows side by side: each symbol waits for the one before it.
  static constexpr int kLanes = 8;

  // What the next symbol depends on.
  enum class Contexts { kSymbol, kHashed, kTree };

  template <Contexts kContexts>
  void RunAll(const RowRng& rng, MutableBlockView out) {
    int r = 0;
    for (; r + kLanes <= out.rows() && !stopped(); r += kLanes) RunRows<kContexts, kLanes>(rng, out, r, kLanes);
    if (r < out.rows() && !stopped()) RunRows<kContexts, 0>(rng, out, r, out.rows() - r);
  }

  // kRows is the number of rows where that is known when this is compiled, else 0.
  template <Contexts kContexts, int kRows>
  void RunRows(const RowRng& rng, MutableBlockView out, int first, int any_rows) {
    const int row_count = kRows > 0 ? kRows : any_rows;
    const auto k = static_cast<std::uint32_t>(k_);
    const auto length = static_cast<std::size_t>(out.length());
    const std::size_t order =
        std::min(kContexts == Contexts::kTree ? std::size_t{tree_.depth()} : static_cast<std::size_t>(order_), length);
    std::uint64_t history[kLanes] = {};  // the last `order` places, ten bits each; walks_ has those of a tree
    Symbol* rows[kLanes];
    for (int i = 0; i < row_count; ++i) {
      std::uint32_t* const words = words_.data() + static_cast<std::size_t>(i) * length;
      Rng row_rng = rng.ForRow(first + i);
      row_rng.Fill({words, length});
      rows[i] = out.row(first + i);
      for (std::size_t t = 0; t < order; ++t) {
        const std::uint64_t place = (static_cast<std::uint64_t>(words[t]) * k) >> 32;
        rows[i][t] = symbols_[place];
        history[i] = (history[i] << 10) | place;
        if constexpr (kContexts == Contexts::kTree) {
          walks_[static_cast<std::size_t>(i) * length + t] = static_cast<Symbol>(place);
        }
      }
    }
    const Symbol* const symbols = symbols_.data();
    const std::uint8_t* const ready = ready_.data();
    const AliasColumn* const columns = columns_.data();
    const std::uint32_t* const words = words_.data();
    for (std::size_t t = order; t < length; ++t) {
      std::uint32_t contexts[kLanes];
      int ready_count = 0;
#pragma GCC unroll 8
      for (int i = 0; i < row_count; ++i) {
        if constexpr (kContexts == Contexts::kTree) {
          contexts[i] = tree_.Find(walks_.data() + static_cast<std::size_t>(i) * length + t - 1);
        } else {
          contexts[i] = kContexts == Contexts::kSymbol ? static_cast<std::uint32_t>(history[i]) : Context(history[i]);
        }
        ready_count += ready[contexts[i]];
      }
      if (ready_count < row_count) [[unlikely]] {
        if (stopped()) return;
        MakeContexts({contexts, static_cast<std::size_t>(row_count)});
      }
#pragma GCC unroll 8
      for (int i = 0; i < row_count; ++i) {
        const std::size_t now = static_cast<std::size_t>(i) * length + t;
        const Symbol place = DrawAlias(words[now], columns + static_cast<std::size_t>(contexts[i]) * k, k);
        rows[i][t] = symbols[place];
        if constexpr (kContexts == Contexts::kTree) {
          walks_[now] = place;
        } else {
          history[i] = kContexts == Contexts::kSymbol ? place : (history[i] << 10) | place;
        }
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

  // Makes the transition rows of those contexts that have none yet, two at a time.
  [[gnu::noinline]] void MakeContexts(std::span<const std::uint32_t> contexts) {
    std::optional<std::uint32_t> waiting;
    for (const std::uint32_t context : contexts) {
      if (ready_[context] != 0) continue;
      ready_[context] = 1;
      if (waiting) {
        Rng first = ContextRng(*waiting);
        Rng second = ContextRng(context);
        builder_.DrawTwoDirichlets(first, second, concentration_, Columns(*waiting), Columns(context));
        waiting.reset();
      } else {
        waiting = context;
      }
    }
    if (!waiting) return;
    Rng rng = ContextRng(*waiting);
    builder_.DrawDirichlet(rng, concentration_, Columns(*waiting));
  }

  Rng ContextRng(std::uint32_t context) const {
    return Rng((static_cast<std::uint64_t>(key_high_) << 32 | key_low_) + context * 0xD1342543DE82EF95U, context);
  }

  std::span<AliasColumn> Columns(std::uint32_t context) {
    const auto k = static_cast<std::size_t>(k_);
    return {columns_.data() + context * k, k};
  }

  const MarkovKnobs& knobs_;
  FamilyContext context_;
  int order_ = 1;
  int k_ = 2;
  int contexts_ = 2;
  GammaShape concentration_{1.0F};
  std::uint32_t key_high_ = 0;
  std::uint32_t key_low_ = 0;
  float split_ = 0;
  SuffixTree tree_;
  std::vector<Symbol> walks_;  // of a tree: the rows' places
  std::vector<Symbol> scratch_;
  std::vector<Symbol> symbols_;       // place -> symbol
  std::vector<AliasColumn> columns_;  // contexts x k
  std::vector<std::uint8_t> ready_;   // whether a context's row has been made
  std::vector<std::uint32_t> words_;
  AliasBuilder builder_;
};

class MarkovFamily final : public Family {
 public:
  MarkovFamily(MarkovKnobs knobs, const FamilyContext& context) : knobs_(std::move(knobs)), context_(context) {}
  bool reads_input() const override { return false; }
  double most_seconds(int rows) const override {
    // A context's transitions are drawn when it first occurs; a walk down a tree takes as many steps as it is deep.
    const double written = static_cast<double>(rows) * context_.length;
    const double drawn = std::min(written, contexts()) * symbols();
    const double walk = knobs_.tree ? knobs_.tree->depth.high() : 1;
    return cost::kGamma * drawn + cost::kSymbol * (2 * contexts() + context_.alphabet + written * (1 + walk));
  }
  double program_bytes(int /*rows*/) const override {
    return 2048.0 + contexts() * (symbols() * sizeof(AliasColumn) + (knobs_.tree ? 25.0 : 1.0)) + 48.0 * symbols() +
           2.0 * context_.alphabet + 48.0 * context_.length;
  }
  std::unique_ptr<Program> NewProgram(int /*max_rows*/) const override {
    return std::make_unique<MarkovProgram>(knobs_, context_);
  }

 private:
  // The most that a program has.
  double symbols() const { return MostSymbols(knobs_, context_); }
  double contexts() const { return std::max<double>(symbols(), knobs_.contexts.high()); }

  MarkovKnobs knobs_;
  FamilyContext context_;
};

absl::StatusOr<std::unique_ptr<Family>> Make(const v1::Family& family, const FamilyContext& context,
                                             const std::string& /*path*/) {
  const v1::Markov& config = family.markov();
  MarkovKnobs knobs{.order = IntegerKnob(config.order()),
                    .symbols = IntegerKnob(config.symbols()),
                    .concentration = RealKnob(config.concentration()),
                    .contexts = IntegerKnob(config.contexts()),
                    .tree = std::nullopt};
  if (config.has_tree()) knobs.tree = {IntegerKnob(config.tree().depth()), RealKnob(config.tree().split())};
  return std::make_unique<MarkovFamily>(std::move(knobs), context);
}

}  // namespace

const FamilyEntry kMarkovEntry = {
    v1::Family::kMarkov, "markov",
    "random Markov chain of order n or of a context tree, with sparse Dirichlet transitions", Make};

}  // namespace iterand
