#include "randnet/sources/repeat.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "randnet/base/noise.h"
#include "randnet/base/repeat_to_fill.h"
#include "randnet/knob.h"

namespace iterand {
namespace {

constexpr int kMaxPeriod = 65536;

struct RepeatKnobs {
  IntegerKnob period;
  IntegerKnob symbols;
  bool from_row;
};

class RepeatProgram final : public Program {
 public:
  RepeatProgram(const RepeatKnobs& knobs, const FamilyContext& context) : knobs_(knobs), context_(context) {}

  void Sample(Rng& rng) override {
    n_ = std::min(knobs_.period.Draw(rng), context_.length);
    k_ = std::min(knobs_.symbols.Draw(rng), context_.alphabet);
  }

  void Run(BlockView input, BlockView /*prompt*/, const RowRng& rng, MutableBlockView out) override {
    // A trial may need fewer symbols than the word has.
    const auto n = static_cast<std::size_t>(std::min(n_, out.length()));
    for (int r = 0; r < out.rows(); ++r) {
      const auto row = out.row_span(r);
      const auto word = row.first(n);
      if (knobs_.from_row) {
        std::transform(input.row(r), input.row(r) + n, word.begin(),
                       [this](Symbol symbol) { return static_cast<Symbol>(symbol % k_); });
      } else {
        Rng row_rng = rng.ForRow(r);
        FillNoise(row_rng, k_, word);
      }
      RepeatToFill(row, n);
    }
  }

  void MarkTargets(int /*r*/, std::span<const Symbol> /*row*/, std::span<std::uint8_t> mask) const override {
    const auto repeated = mask.begin() + std::min<std::ptrdiff_t>(n_, std::ssize(mask));
    std::fill(mask.begin(), repeated, std::uint8_t{0});
    std::fill(repeated, mask.end(), std::uint8_t{1});
  }

  std::string Describe() const override { return absl::StrCat("period=", n_, " symbols=", k_); }

 private:
  const RepeatKnobs& knobs_;
  FamilyContext context_;
  int n_ = 1;
  int k_ = 1;
};

class RepeatFamily final : public Family {
 public:
  RepeatFamily(RepeatKnobs knobs, const FamilyContext& context) : knobs_(std::move(knobs)), context_(context) {}
  bool reads_input() const override { return knobs_.from_row; }
  double most_seconds(int rows) const override { return cost::kSymbol * rows * context_.length; }
  double program_bytes(int /*rows*/) const override { return sizeof(RepeatProgram); }
  std::unique_ptr<Program> NewProgram(int /*max_rows*/) const override {
    return std::make_unique<RepeatProgram>(knobs_, context_);
  }

 private:
  RepeatKnobs knobs_;
  FamilyContext context_;
};

absl::StatusOr<std::unique_ptr<Family>> Make(const v1::Family& family, const FamilyContext& context,
                                             const std::string& /*path*/) {
  const v1::Repeat& config = family.repeat();
  return std::make_unique<RepeatFamily>(RepeatKnobs{.period = IntegerKnob(config.period()),
                                                    .symbols = IntegerKnob(config.symbols()),
                                                    .from_row = config.source() == v1::Repeat::ROW},
                                        context);
}

}  // namespace

const FamilyEntry kRepeatEntry = {v1::Family::kRepeat, "repeat", "a word of random symbols, again and again", Make};

}  // namespace iterand
