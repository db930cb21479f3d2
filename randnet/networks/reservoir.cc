#include "randnet/networks/reservoir.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "randnet/base/discrete.h"

namespace iterand {
namespace {}  // namespace

ReservoirProgram::ReservoirProgram(const ReservoirKnobs& knobs, const FamilyContext& context)
    : knobs_(knobs), context_(context) {
  const std::size_t width = Size(knobs.width.high());
  const std::size_t connections = width * Size(std::min(knobs.connections.high(), knobs.width.high()));
  const std::size_t emitted = Size(std::min(knobs.emitted.high(), context.alphabet));
  embedding_.reserve(Size(context.alphabet) * width);
  shuffled_.reserve(width);
  sources_.reserve(connections);
  weights_.reserve(connections);
  scratch_.reserve(Size(context.alphabet));
  symbols_.reserve(emitted);
  output_weights_.reserve(emitted * width);
  states_.reserve(2 * width * kReservoirRows);
  lane_logits_.reserve(emitted * kReservoirRows);
  logits_.reserve(Size(matrix::Padded(static_cast<int>(emitted))));
  rngs_.reserve(kReservoirRows);
}

void ReservoirProgram::Sample(Rng& rng) {
  net_.width = knobs_.width.Draw(rng);
  net_.connections = std::min(knobs_.connections.Draw(rng), net_.width);
  weight_scale_ = knobs_.weight_scale.Draw(rng);
  embedding_scale_ = knobs_.embedding_scale.Draw(rng);
  net_.emitted = std::min(knobs_.emitted.Draw(rng), context_.alphabet);
  output_scale_ = knobs_.output_scale.Draw(rng);
  temperature_ = knobs_.temperature.Draw(rng);

  embedding_.resize(Size(context_.alphabet) * Size(net_.width));
  FillNormal(rng, embedding_scale_, embedding_);
  shuffled_.resize(Size(net_.width));
  std::iota(shuffled_.begin(), shuffled_.end(), 0U);
  sources_.resize(Size(net_.width) * Size(net_.connections));
  std::size_t next = 0;
  for (int u = 0; u < net_.width; ++u) {
    for (int k = 0; k < net_.connections; ++k) {
      const std::size_t j = Size(k) + rng.Below(static_cast<std::uint32_t>(net_.width - k));
      std::swap(shuffled_[Size(k)], shuffled_[j]);
      sources_[next++] = shuffled_[Size(k)];
    }
  }
  weights_.resize(sources_.size());
  FillNormal(rng, weight_scale_, weights_);
  symbols_.resize(Size(net_.emitted));
  DrawDistinct(rng, context_.alphabet, net_.emitted, scratch_, symbols_);
  output_weights_.resize(Size(net_.emitted) * Size(net_.width));
  FillNormal(rng, output_scale_ / std::sqrt(static_cast<float>(net_.width)), output_weights_);

  net_.embedding = embedding_.data();
  net_.sources = sources_.data();
  net_.weights = weights_.data();
  net_.output_weights = output_weights_.data();
}

void ReservoirProgram::Run(BlockView input, BlockView /*prompt*/, const RowRng& rng, MutableBlockView out) {
  RunWithLogits(input, rng, out, nullptr);
}

void ReservoirProgram::RunWithLogits(BlockView input, const RowRng& rng, MutableBlockView out, float* logits) {
  const std::size_t state_floats = Size(net_.width) * kReservoirRows;
  lane_logits_.resize(Size(net_.emitted) * kReservoirRows);
  logits_.resize(Size(matrix::Padded(net_.emitted)));
  for (int first = 0; first < out.rows(); first += kReservoirRows) {
    const int rows = std::min(kReservoirRows, out.rows() - first);
    states_.assign(2 * state_floats, 0.0F);
    float* state = states_.data();
    float* next = state + state_floats;
    rngs_.clear();
    for (int r = 0; r < rows; ++r) rngs_.push_back(rng.ForRow(first + r));
    Symbol z[kReservoirRows] = {};
    for (int t = 0; t < out.length() && !stopped(); ++t) {
      for (int r = 0; r < rows; ++r) z[r] = input.row(first + r)[t];
      ReservoirStep(net_, rows > kReservoirRows / 2, z, state, next, lane_logits_.data());
      std::swap(state, next);
      for (int r = 0; r < rows; ++r) {
        for (int m = 0; m < net_.emitted; ++m) logits_[Size(m)] = lane_logits_[Size(m * kReservoirRows + r)];
        if (logits != nullptr) {
          std::copy_n(logits_.data(), net_.emitted,
                      logits + (Size(first + r) * Size(out.length()) + Size(t)) * Size(net_.emitted));
        }
        out.row(first + r)[t] = symbols_[matrix::Choose(logits_.data(), net_.emitted, temperature_, rngs_[Size(r)])];
      }
      if (rows == out.rows() && watch() != nullptr && t + 1 == watch()->next() && !watch()->Look()) return;
    }
  }
}

std::string ReservoirProgram::Describe() const {
  return absl::StrCat("width=", net_.width, " connections=", net_.connections, " weight_scale=", weight_scale_,
                      " embedding_scale=", embedding_scale_, " emitted=", net_.emitted, " output_scale=", output_scale_,
                      " temperature=", temperature_);
}

namespace {

class ReservoirFamily final : public Family {
 public:
  ReservoirFamily(ReservoirKnobs knobs, const FamilyContext& context) : knobs_(std::move(knobs)), context_(context) {}

  bool reads_input() const override { return true; }

  double flops_per_token() const override {
    return 2.0 * knobs_.width.mean() *
           (std::min(knobs_.connections.mean(), knobs_.width.mean()) +
            knobs_.emitted.Expect([this](int count) { return std::min(count, context_.alphabet); }));
  }

  double most_seconds(int rows) const override {
    const double width = knobs_.width.high();
    const double connections = std::min(knobs_.connections.high(), knobs_.width.high());
    const double emitted = std::min(knobs_.emitted.high(), context_.alphabet);
    // Rows take a step in groups; a last group of no more than half as many takes half the time.
    constexpr int kHalf = kReservoirRows / 2;
    const int padded = (rows + kHalf - 1) / kHalf * kHalf;
    const double computed = padded;
    const double groups = std::ceil(computed / kReservoirRows);
    const double fma = 2 * cost::kFlop * computed;
    // A unit reads its rows' embeddings one by one, a connection reads a state anywhere, and an output reads a line of
    // each.
    const double units = width * 4 * cost::kValue * computed;
    const double connected = width * connections * (fma + 2 * cost::kValue * groups);
    const double logits = std::ceil(emitted / 4) * 4 * width * (fma + cost::kRead * groups);
    const double step = cost::kCall * groups + units + connected + logits + 3 * cost::kValue * rows * emitted +
                        matrix::ChooseSeconds(rows, emitted);
    return context_.length * step + cost::kWeight * width * (context_.alphabet + connections + emitted) +
           cost::kSymbol * width * connections;
  }

  double program_bytes(int /*rows*/) const override {
    const double width = knobs_.width.high();
    const double connections = std::min(knobs_.connections.high(), knobs_.width.high());
    const double emitted = std::min(knobs_.emitted.high(), context_.alphabet);
    return 2048.0 +
           4.0 * (context_.alphabet * width + width + 2.0 * width * connections + emitted * width +
                  2.0 * width * kReservoirRows + emitted * (kReservoirRows + 2)) +
           4.0 * context_.alphabet;
  }

  std::unique_ptr<Program> NewProgram(int /*max_rows*/) const override {
    return std::make_unique<ReservoirProgram>(knobs_, context_);
  }

 private:
  ReservoirKnobs knobs_;
  FamilyContext context_;
};

absl::StatusOr<std::unique_ptr<Family>> Make(const v1::Family& family, const FamilyContext& context,
                                             const std::string& /*path*/) {
  const v1::Reservoir& config = family.reservoir();
  return std::make_unique<ReservoirFamily>(ReservoirKnobs{.width = IntegerKnob(config.width()),
                                                          .connections = IntegerKnob(config.connections()),
                                                          .weight_scale = RealKnob(config.weight_scale()),
                                                          .embedding_scale = RealKnob(config.embedding_scale()),
                                                          .emitted = IntegerKnob(config.emitted()),
                                                          .output_scale = RealKnob(config.output_scale()),
                                                          .temperature = RealKnob(config.temperature())},
                                           context);
}

}  // namespace

const FamilyEntry kReservoirEntry = {v1::Family::kReservoir, "reservoir",
                                     "echo state network that reads a row and emits a symbol for each of its symbols",
                                     Make};

}  // namespace iterand
