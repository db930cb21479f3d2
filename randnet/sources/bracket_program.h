// What dyck and dyck_shuffle share: knobs, draws and the walk over depths. See randnet/sources/dyck.h and
// randnet/sources/dyck_shuffle.h.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "randnet/family.h"
#include "randnet/knob.h"

namespace iterand {

struct BracketKnobs {
  IntegerKnob kinds;
  RealKnob open_probability;
  IntegerKnob max_depth;
};

// kCross: a closing token closes a random open bracket instead of the last one.
template <bool kCross>
class BracketProgram final : public Program {
 public:
  BracketProgram(const BracketKnobs& knobs, const FamilyContext& context) : knobs_(knobs), context_(context) {
    words_.resize(kLanes * static_cast<std::size_t>(context.length));
    // No row is deeper than it is long. One more bracket is written whether the token opens or not, and at depth 0 a
    // bracket is read that does not exist.
    open_.resize(kLanes * (static_cast<std::size_t>(std::min(knobs.max_depth.high(), context.length)) + 2));
  }

  void Sample(Rng& rng) override {
    kinds_ = static_cast<std::uint32_t>(std::min(knobs_.kinds.Draw(rng), context_.alphabet / 2));
    open_probability_ = knobs_.open_probability.Draw(rng);
    max_depth_ = static_cast<std::uint32_t>(knobs_.max_depth.Draw(rng));
  }

  void Run(BlockView /*input*/, BlockView /*prompt*/, const RowRng& rng, MutableBlockView out) override {
    int r = 0;
    for (; r + kLanes <= out.rows(); r += kLanes) RunRows<kLanes>(rng, out, r);
    for (; r < out.rows(); ++r) RunRows<1>(rng, out, r);
  }

  std::string Describe() const override {
    return absl::StrCat("kinds=", kinds_, " open_probability=", open_probability_, " max_depth=", max_depth_);
  }

 private:
  // Rows side by side: each token waits for the depth and the brackets that the one before it left.
  static constexpr int kLanes = 2;

  template <int kRows>
  void RunRows(const RowRng& rng, MutableBlockView out, int first) {
    const auto threshold = static_cast<std::uint32_t>(open_probability_ * 0x1.0p16F);
    const auto length = static_cast<std::size_t>(out.length());
    const std::size_t capacity = open_.size() / kLanes;
    // No deeper than the buffer: a row never gets there.
    const std::uint32_t max_depth = std::min(max_depth_, static_cast<std::uint32_t>(capacity - 2));
    const std::uint32_t kinds = kinds_;
    std::uint32_t depths[kRows] = {};
    Symbol* stacks[kRows];  // places 1 .. depth hold the open brackets
    Symbol* rows[kRows];
    const std::uint32_t* words[kRows];
    for (int i = 0; i < kRows; ++i) {
      const auto lane = static_cast<std::size_t>(i);
      Rng row_rng = rng.ForRow(first + i);
      row_rng.Fill({words_.data() + lane * length, length});
      words[i] = words_.data() + lane * length;
      stacks[i] = open_.data() + lane * capacity;
      rows[i] = out.row(first + i);
    }
    // Without branches, since no processor predicts which way a token goes. In a form that compilers keep so:
    // differences below zero have their highest bit set.
    for (std::size_t t = 0; t < length; ++t) {
      for (int i = 0; i < kRows; ++i) {
        const std::uint32_t word = words[i][t];
        const std::uint32_t depth = depths[i];
        Symbol* const open = stacks[i];
        const std::uint32_t low = word & 0xFFFF;
        // All ones if the token opens, else 0.
        const std::uint32_t opens = 0U - (((((word >> 16) - threshold) & (depth - max_depth)) | (depth - 1)) >> 31);
        const std::uint32_t kind = low * kinds >> 16;
        const std::uint32_t closed = kCross ? (low * depth >> 16) + 1 : depth;
        const std::uint32_t closing = open[closed];
        if constexpr (kCross) {
          // The last bracket moves into the gap; an opening token restores the bracket there.
          const std::uint32_t last = open[depth];
          open[closed] = static_cast<Symbol>(last ^ ((last ^ closing) & opens));
        }
        // Anything may follow the open brackets, so a closing token may write there too.
        open[depth + 1] = static_cast<Symbol>(kind);
        const std::uint32_t closes = kinds + closing;
        rows[i][t] = static_cast<Symbol>(closes ^ ((closes ^ kind) & opens));
        depths[i] = depth - 1 - 2 * opens;
      }
    }
  }

  const BracketKnobs& knobs_;
  FamilyContext context_;
  std::uint32_t kinds_ = 1;
  std::uint32_t max_depth_ = 1;
  float open_probability_ = 0;
  std::vector<std::uint32_t> words_;
  std::vector<Symbol> open_;  // kinds of the open brackets, row by row
};

template <bool kCross>
class BracketFamily final : public Family {
 public:
  BracketFamily(BracketKnobs knobs, const FamilyContext& context) : knobs_(std::move(knobs)), context_(context) {}
  bool reads_input() const override { return false; }
  double most_seconds(int rows) const override { return cost::kSymbol * rows * context_.length; }
  double program_bytes(int /*rows*/) const override { return 12.0 * context_.length + 256; }
  std::unique_ptr<Program> NewProgram(int /*max_rows*/) const override {
    return std::make_unique<BracketProgram<kCross>>(knobs_, context_);
  }

 private:
  BracketKnobs knobs_;
  FamilyContext context_;
};

// Config is v1::Dyck or v1::DyckShuffle, which have the same fields.
template <bool kCross, typename Config>
std::unique_ptr<Family> MakeBrackets(const Config& config, const FamilyContext& context) {
  return std::make_unique<BracketFamily<kCross>>(BracketKnobs{.kinds = IntegerKnob(config.kinds()),
                                                              .open_probability = RealKnob(config.open_probability()),
                                                              .max_depth = IntegerKnob(config.max_depth())},
                                                 context);
}

}  // namespace iterand
