#include "randnet/sources/pointwise.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "randnet/base/discrete.h"
#include "randnet/knob.h"

namespace iterand {
namespace {

struct PointwiseKnobs {
  IntegerKnob symbols;
  RealKnob concentration;
  RealKnob rest_concentration;
};

class PointwiseProgram final : public Program {
 public:
  PointwiseProgram(const PointwiseKnobs& knobs, const FamilyContext& context) : knobs_(knobs), context_(context) {
    const auto alphabet = static_cast<std::size_t>(context.alphabet);
    symbols_.reserve(alphabet);
    weights_.reserve(alphabet);
    columns_.reserve(alphabet);
    builder_.Reserve(alphabet);
    words_.resize(static_cast<std::size_t>(context.length));
  }

  void Sample(Rng& rng) override {
    k_ = std::clamp(knobs_.symbols.Draw(rng), 1, context_.alphabet);
    concentration_ = knobs_.concentration.Draw(rng);
    rest_ = knobs_.rest_concentration.Draw(rng);
    const int drawn = rest_ > 0 ? context_.alphabet : k_;
    const auto count = static_cast<std::size_t>(drawn);
    symbols_.resize(count);
    weights_.resize(count);
    columns_.resize(count);
    DrawDistinct(rng, context_.alphabet, drawn, scratch_, symbols_);
    const auto k = static_cast<std::size_t>(k_);
    DrawLogGammas(rng, GammaShape(concentration_), {weights_.data(), k});
    if (rest_ > 0) DrawLogGammas(rng, GammaShape(rest_), {weights_.data() + k, count - k});
    ExpBelowLargest(weights_);
    builder_.Build(weights_, symbols_, columns_);
  }

  void Run(BlockView /*input*/, BlockView /*prompt*/, const RowRng& rng, MutableBlockView out) override {
    const auto count = static_cast<std::uint32_t>(columns_.size());
    for (int r = 0; r < out.rows(); ++r) {
      Rng row_rng = rng.ForRow(r);
      row_rng.Fill(words_);
      Symbol* row = out.row(r);
      for (int t = 0; t < out.length(); ++t) {
        row[t] = DrawAlias(words_[static_cast<std::size_t>(t)], columns_.data(), count);
      }
    }
  }

  std::string Describe() const override {
    return absl::StrCat("symbols=", k_, " concentration=", concentration_, " rest_concentration=", rest_);
  }

 private:
  const PointwiseKnobs& knobs_;
  FamilyContext context_;
  int k_ = 0;
  float concentration_ = 0;
  float rest_ = 0;
  std::vector<Symbol> scratch_;
  std::vector<Symbol> symbols_;
  std::vector<float> weights_;
  std::vector<AliasColumn> columns_;
  std::vector<std::uint32_t> words_;
  AliasBuilder builder_;
};

class PointwiseFamily final : public Family {
 public:
  PointwiseFamily(PointwiseKnobs knobs, const FamilyContext& context) : knobs_(std::move(knobs)), context_(context) {}
  bool reads_input() const override { return false; }
  double most_seconds(int rows) const override {
    const int drawn =
        knobs_.rest_concentration.high() > 0 ? context_.alphabet : std::min(knobs_.symbols.high(), context_.alphabet);
    return cost::kGamma * drawn + cost::kSymbol * (context_.alphabet + static_cast<double>(rows) * context_.length);
  }
  double program_bytes(int /*rows*/) const override {
    return 2048.0 + 40.0 * context_.alphabet + 4.0 * context_.length;
  }
  std::unique_ptr<Program> NewProgram(int /*max_rows*/) const override {
    return std::make_unique<PointwiseProgram>(knobs_, context_);
  }

 private:
  PointwiseKnobs knobs_;
  FamilyContext context_;
};

absl::StatusOr<std::unique_ptr<Family>> Make(const v1::Family& family, const FamilyContext& context,
                                             const std::string& /*path*/) {
  const v1::Pointwise& config = family.pointwise();
  return std::make_unique<PointwiseFamily>(PointwiseKnobs{.symbols = IntegerKnob(config.symbols()),
                                                          .concentration = RealKnob(config.concentration()),
                                                          .rest_concentration = RealKnob(config.rest_concentration())},
                                           context);
}

}  // namespace

const FamilyEntry kPointwiseEntry = {v1::Family::kPointwise, "pointwise",
                                     "independent tokens from a random distribution over a few symbols", Make};

}  // namespace iterand
