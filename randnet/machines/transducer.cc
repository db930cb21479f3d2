#include "randnet/machines/transducer.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "randnet/base/discrete.h"
#include "randnet/knob.h"

namespace iterand {
namespace {

constexpr int kMaxTransitions = 1 << 18;
// Rows that are rewritten side by side: each symbol waits for the state before it.
constexpr int kLanes = 8;

struct TransducerKnobs {
  IntegerKnob states;
  IntegerKnob classes;
  IntegerKnob symbols;
  RealKnob copy;
};

struct Transition {
  std::uint32_t next;  // place of the next state's transitions
  Symbol symbol;       // what is written, 0 where the symbol read is
  std::uint16_t keep;  // mask of the symbol read: all ones or 0
};

constexpr std::size_t kMaxDescribed = 128;  // transitions that Describe writes out

class TransducerProgram final : public Program {
 public:
  TransducerProgram(const TransducerKnobs& knobs, const FamilyContext& context) : knobs_(knobs), context_(context) {
    class_of_.resize(static_cast<std::size_t>(context.alphabet));
    symbols_.reserve(static_cast<std::size_t>(std::min(knobs.symbols.high(), context.alphabet)));
    scratch_.reserve(static_cast<std::size_t>(context.alphabet));
    const std::size_t transitions =
        static_cast<std::size_t>(knobs.states.high()) * static_cast<std::size_t>(knobs.classes.high());
    transitions_.reserve(transitions);
    words_.resize(std::max(2 * transitions, static_cast<std::size_t>(context.alphabet)));
  }

  void Sample(Rng& rng) override {
    states_ = knobs_.states.Draw(rng);
    classes_ = knobs_.classes.Draw(rng);
    const int symbols = std::min(knobs_.symbols.Draw(rng), context_.alphabet);
    copy_ = knobs_.copy.Draw(rng);
    symbols_.resize(static_cast<std::size_t>(symbols));
    DrawDistinct(rng, context_.alphabet, symbols, scratch_, symbols_);
    rng.Fill({words_.data(), class_of_.size()});
    for (std::size_t i = 0; i < class_of_.size(); ++i)
      class_of_[i] = static_cast<std::uint16_t>(Scale(words_[i], classes_));
    const auto count = static_cast<std::size_t>(states_) * static_cast<std::size_t>(classes_);
    transitions_.resize(count);
    rng.Fill({words_.data(), 2 * count});
    const auto threshold = static_cast<std::uint32_t>(copy_ * 0x1.0p16F);
    for (std::size_t i = 0; i < count; ++i) {
      // The first word draws the next state; the second one's low half whether to copy, its high half the symbol.
      const std::uint32_t word = words_[2 * i + 1];
      const bool copies = (word & 0xFFFF) < threshold;
      const Symbol symbol = symbols_[(word >> 16) * static_cast<std::uint32_t>(symbols) >> 16];
      transitions_[i] = {Scale(words_[2 * i], states_) * static_cast<std::uint32_t>(classes_),
                         copies ? Symbol{0} : symbol, static_cast<std::uint16_t>(copies ? 0xFFFF : 0)};
    }
  }

  void Run(BlockView input, BlockView /*prompt*/, const RowRng& /*rng*/, MutableBlockView out) override {
    int r = 0;
    for (; r + kLanes <= out.rows(); r += kLanes) RunRows<kLanes>(input, out, r);
    for (; r < out.rows(); ++r) RunRows<1>(input, out, r);
  }

  std::string Describe() const override {
    std::string text =
        absl::StrCat("states=", states_, " classes=", classes_, " symbols=", symbols_.size(), " copy=", copy_);
    if (transitions_.size() > kMaxDescribed) return text;
    // State by state, class by class: the next state, and the symbol written, or = for the one that is read.
    absl::StrAppend(&text, " table=");
    const auto classes = static_cast<std::size_t>(classes_);
    for (std::size_t i = 0; i < transitions_.size(); ++i) {
      const Transition& transition = transitions_[i];
      absl::StrAppend(&text, i % classes != 0 ? "," : i > 0 ? ";" : "", transition.next / classes, "/");
      absl::StrAppend(&text, transition.keep != 0 ? "=" : absl::StrCat(transition.symbol));
    }
    return text;
  }

 private:
  static std::uint32_t Scale(std::uint32_t word, int bound) {
    return static_cast<std::uint32_t>(static_cast<std::uint64_t>(word) * static_cast<std::uint32_t>(bound) >> 32);
  }

  template <int kRows>
  void RunRows(BlockView input, MutableBlockView out, int first) const {
    const Symbol* in[kRows];
    Symbol* to[kRows];
    std::uint32_t state[kRows] = {};
    for (int i = 0; i < kRows; ++i) {
      in[i] = input.row(first + i);
      to[i] = out.row(first + i);
    }
    const Transition* const transitions = transitions_.data();
    const std::uint16_t* const class_of = class_of_.data();
    for (int t = 0; t < out.length(); ++t) {
      for (int i = 0; i < kRows; ++i) {
        const Symbol symbol = in[i][t];
        const Transition& transition = transitions[state[i] + class_of[symbol]];
        to[i][t] = static_cast<Symbol>(transition.symbol | (symbol & transition.keep));
        state[i] = transition.next;
      }
    }
  }

  const TransducerKnobs& knobs_;
  FamilyContext context_;
  int states_ = 1;
  int classes_ = 1;
  float copy_ = 0;
  std::vector<Symbol> symbols_;
  std::vector<Symbol> scratch_;
  std::vector<std::uint16_t> class_of_;
  std::vector<Transition> transitions_;  // states x classes
  std::vector<std::uint32_t> words_;
};

class TransducerFamily final : public Family {
 public:
  TransducerFamily(TransducerKnobs knobs, const FamilyContext& context) : knobs_(std::move(knobs)), context_(context) {}
  bool reads_input() const override { return true; }
  double most_seconds(int rows) const override {
    const double transitions = static_cast<double>(knobs_.states.high()) * knobs_.classes.high();
    return cost::kSymbol * (transitions + context_.alphabet + static_cast<double>(rows) * context_.length);
  }
  double program_bytes(int /*rows*/) const override {
    return 2048.0 + 16.0 * knobs_.states.high() * knobs_.classes.high() + 10.0 * context_.alphabet;
  }
  std::unique_ptr<Program> NewProgram(int /*max_rows*/) const override {
    return std::make_unique<TransducerProgram>(knobs_, context_);
  }

 private:
  TransducerKnobs knobs_;
  FamilyContext context_;
};

absl::StatusOr<std::unique_ptr<Family>> Make(const v1::Family& family, const FamilyContext& context,
                                             const std::string& path) {
  const v1::Transducer& config = family.transducer();
  TransducerKnobs knobs{.states = IntegerKnob(config.states()),
                        .classes = IntegerKnob(config.classes()),
                        .symbols = IntegerKnob(config.symbols()),
                        .copy = RealKnob(config.copy())};
  if (const std::int64_t transitions = std::int64_t{knobs.states.high()} * knobs.classes.high();
      transitions > kMaxTransitions) {
    return absl::InvalidArgumentError(absl::StrCat(path, ".states: times ", path, ".classes is up to ", transitions,
                                                   ", must be at most ", kMaxTransitions));
  }
  return std::make_unique<TransducerFamily>(std::move(knobs), context);
}

}  // namespace

const FamilyEntry kTransducerEntry = {v1::Family::kTransducer, "transducer",
                                      "random finite-state Mealy machine that rewrites a row", Make};

}  // namespace iterand
