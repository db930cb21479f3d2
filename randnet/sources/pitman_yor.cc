#include "randnet/sources/pitman_yor.h"

#include <algorithm>
#include <array>
#include <bit>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "randnet/base/discrete.h"
#include "randnet/knob.h"

namespace iterand {
namespace {

constexpr int kMaxDepth = 16;  // the schema's

struct PitmanYorKnobs {
  IntegerKnob depth;
  IntegerKnob symbols;
  RealKnob discount;
  RealKnob strength;
  IntegerKnob history;
};

// What was drawn with respect to one context, a restaurant with its customers.
struct Draws {
  std::uint64_t context = 0;  // hash; 0: none, the slot is free
  std::uint32_t first = 0;    // where they begin; there is room for the next power of two from `count` on
  std::uint32_t count = 0;
};

// The contexts of a history and of one text after it, and what was drawn with respect to each.
class Franchise {
 public:
  // Each symbol is drawn with respect to at most `contexts` of them.
  Franchise(std::size_t contexts, std::size_t history, std::size_t length) {
    const std::size_t draws = contexts * (history + length);
    slots_.resize(std::bit_ceil(2 * draws));
    shift_ = 64 - std::countr_zero(slots_.size());
    symbols_.resize(4 * draws);  // doubling the room of each context as it fills takes less than four places per draw
    used_.reserve(draws);
    if (history > 0) replaced_.reserve(contexts * length);
  }

  // Forgets everything.
  void Clear() {
    history_end_ = 0;
    history_used_ = 0;
    Rewind();
  }

  // What has been drawn is the history from now on.
  void KeepAsHistory() {
    history_end_ = end_;
    history_used_ = used_.size();
    replaced_.clear();
  }

  // Forgets everything except the history.
  void Rewind() {
    for (; !replaced_.empty(); replaced_.pop_back()) slots_[replaced_.back().slot] = replaced_.back().draws;
    for (; used_.size() > history_used_; used_.pop_back()) slots_[used_.back()] = {};
    end_ = history_end_;
  }

  // Draws with respect to the context with this hash, which is not 0. A context that is new has none.
  Draws& Find(std::uint64_t context) {
    std::size_t slot = context * 0x9E3779B97F4A7C15U >> shift_;
    while (slots_[slot].context != context) {
      if (slots_[slot].context == 0) {
        slots_[slot].context = context;
        used_.push_back(static_cast<std::uint32_t>(slot));
        break;
      }
      slot = (slot + 1) & (slots_.size() - 1);
    }
    return slots_[slot];
  }

  std::uint32_t Symbol(const Draws& draws, std::uint32_t which) const { return symbols_[draws.first + which]; }

  void Add(Draws& draws, std::uint32_t symbol) {
    if (draws.first < history_end_ && draws.count > 0) {
      replaced_.push_back({static_cast<std::uint32_t>(&draws - slots_.data()), draws});
    }
    if ((draws.count & (draws.count - 1)) == 0) {  // full: 0, 1, 2, 4, ...
      std::copy_n(symbols_.begin() + draws.first, draws.count, symbols_.begin() + end_);
      draws.first = end_;
      end_ += std::max(1U, 2 * draws.count);
    }
    symbols_[draws.first + draws.count++] = symbol;
  }

 private:
  std::vector<Draws> slots_;  // a hash table, open addressing; a power of two
  int shift_ = 0;
  std::vector<std::uint32_t> used_;     // slots
  std::vector<std::uint32_t> symbols_;  // of all draws
  std::uint32_t end_ = 0;               // of what is taken of symbols_

  struct Replaced {
    std::uint32_t slot;
    Draws draws;
  };
  std::uint32_t history_end_ = 0;   // end_ after the history
  std::size_t history_used_ = 0;    // used_.size() after it
  std::vector<Replaced> replaced_;  // what the history's contexts had before they were added to since, oldest first
};

class PitmanYorProgram final : public Program {
 public:
  PitmanYorProgram(const PitmanYorKnobs& knobs, const FamilyContext& context)
      : knobs_(knobs),
        context_(context),
        franchise_(static_cast<std::size_t>(knobs.depth.high()) + 1, static_cast<std::size_t>(knobs.history.high()),
                   static_cast<std::size_t>(context.length)) {
    history_.resize(static_cast<std::size_t>(knobs.history.high()));
    scratch_.reserve(static_cast<std::size_t>(context.alphabet));
    symbols_.reserve(static_cast<std::size_t>(context.alphabet));
  }

  void Sample(Rng& rng) override {
    depth_ = static_cast<std::size_t>(knobs_.depth.Draw(rng));
    const int k = std::min(knobs_.symbols.Draw(rng), context_.alphabet);
    symbols_.resize(static_cast<std::size_t>(k));
    DrawDistinct(rng, context_.alphabet, k, scratch_, symbols_);
    for (std::size_t m = 0; m <= depth_; ++m) {
      discount_[m] = knobs_.discount.Draw(rng);
      strength_[m] = knobs_.strength.Draw(rng);
    }
    history_count_ = static_cast<std::size_t>(knobs_.history.Draw(rng));
    franchise_.Clear();
    WriteText(rng, std::span(history_).first(history_count_));
    franchise_.KeepAsHistory();
  }

  void Run(BlockView /*input*/, BlockView /*prompt*/, const RowRng& rng, MutableBlockView out) override {
    for (int r = 0; r < out.rows() && !stopped(); ++r) {
      Rng row_rng = rng.ForRow(r);
      franchise_.Rewind();
      WriteText(row_rng, out.row_span(r));
    }
  }

  std::string Describe() const override {
    const auto levels = [this](const auto& values) { return absl::StrJoin(std::span(values).first(depth_ + 1), ","); };
    return absl::StrCat("depth=", depth_, " symbols=", symbols_.size(), " discount=", levels(discount_),
                        " strength=", levels(strength_), " history=", history_count_);
  }

 private:
  // Marks a new draw, with respect to the context one symbol shorter. Symbols are below 2^16.
  static constexpr std::uint32_t kAnew = 1U << 31;
  static constexpr std::uint64_t kBase = 0xD1342543DE82EF95U;  // of the contexts' polynomial hash

  static constexpr std::size_t kSymbolsBetweenLooks = 1024;

  void WriteText(Rng& rng, std::span<Symbol> text) {
    std::array<std::uint64_t, kMaxDepth + 1> contexts{1};  // hashes of the last 0, 1, 2, ... symbols
    std::array<Draws*, kMaxDepth + 1> draws;
    for (std::size_t t = 0; t < text.size(); ++t) {
      if (t % kSymbolsBetweenLooks == 0 && stopped()) return;
      const std::size_t longest = std::min(depth_, t);
      std::uint32_t symbol = kAnew;
      std::size_t m = longest + 1;
      while (symbol == kAnew && m > 0) {
        --m;
        draws[m] = &franchise_.Find(contexts[m]);
        symbol = DrawAgain(rng, *draws[m], m);
      }
      if (symbol == kAnew) {
        symbol = rng.Below(static_cast<std::uint32_t>(symbols_.size()));
        franchise_.Add(*draws[0], symbol | kAnew);
      } else {
        franchise_.Add(*draws[m], symbol);
      }
      for (++m; m <= longest; ++m) franchise_.Add(*draws[m], symbol | kAnew);
      text[t] = symbols_[symbol];
      for (m = depth_; m > 0; --m) contexts[m] = contexts[m - 1] * kBase + symbol + 1;
    }
  }

  // One of the draws again, or kAnew. Takes a word of the generator if there are any.
  std::uint32_t DrawAgain(Rng& rng, const Draws& draws, std::size_t m) const {
    if (draws.count == 0) return kAnew;
    const double place = rng.Next() * 0x1.0p-32 * (double{strength_[m]} + draws.count);
    const auto which = static_cast<std::uint32_t>(place);
    if (which >= draws.count) return kAnew;
    const std::uint32_t drawn = franchise_.Symbol(draws, which);
    if (drawn >= kAnew && place - which < double{discount_[m]}) return kAnew;
    return drawn & ~kAnew;
  }

  const PitmanYorKnobs& knobs_;
  FamilyContext context_;
  std::size_t depth_ = 0;
  std::array<float, kMaxDepth + 1> discount_{};
  std::array<float, kMaxDepth + 1> strength_{};
  std::vector<Symbol> scratch_;
  std::vector<Symbol> symbols_;
  std::vector<Symbol> history_;
  std::size_t history_count_ = 0;
  Franchise franchise_;
};

class PitmanYorFamily final : public Family {
 public:
  PitmanYorFamily(PitmanYorKnobs knobs, const FamilyContext& context) : knobs_(std::move(knobs)), context_(context) {}
  bool reads_input() const override { return false; }
  double most_seconds(int rows) const override {
    // Each context of a symbol is looked up in memory that may be far away, and cleared again.
    constexpr double kContext = 60 * cost::kSymbol;
    const double symbols = knobs_.history.high() + static_cast<double>(rows) * context_.length;
    return kContext * (knobs_.depth.high() + 1) * symbols + cost::kSymbol * context_.alphabet;
  }
  double program_bytes(int /*rows*/) const override {
    // A hash table of up to four slots per draw, four places for its symbol, its slot's number, and what it replaced.
    constexpr double kDrawBytes = 4.0 * sizeof(Draws) + 4.0 * sizeof(std::uint32_t) + sizeof(std::uint32_t) + 24.0;
    const double symbols = static_cast<double>(context_.length) + knobs_.history.high();
    return 2048.0 + kDrawBytes * symbols * (knobs_.depth.high() + 1) + 2.0 * knobs_.history.high() +
           4.0 * context_.alphabet;
  }
  std::unique_ptr<Program> NewProgram(int /*max_rows*/) const override {
    return std::make_unique<PitmanYorProgram>(knobs_, context_);
  }

 private:
  PitmanYorKnobs knobs_;
  FamilyContext context_;
};

absl::StatusOr<std::unique_ptr<Family>> Make(const v1::Family& family, const FamilyContext& context,
                                             const std::string& /*path*/) {
  const v1::PitmanYor& config = family.pitman_yor();
  return std::make_unique<PitmanYorFamily>(PitmanYorKnobs{.depth = IntegerKnob(config.depth()),
                                                          .symbols = IntegerKnob(config.symbols()),
                                                          .discount = RealKnob(config.discount()),
                                                          .strength = RealKnob(config.strength()),
                                                          .history = IntegerKnob(config.history())},
                                           context);
}

}  // namespace

const FamilyEntry kPitmanYorEntry = {v1::Family::kPitmanYor, "pitman_yor",
                                     "texts of a hierarchical Pitman-Yor process, the prior of n-gram smoothing", Make};

}  // namespace iterand
