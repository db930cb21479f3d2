#include "randnet/networks/mlp_window.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"

namespace iterand {
namespace {

constexpr int kMaxWindow = 64;
constexpr int kMaxSymbols = 4096;
constexpr int kMaxLayers = 8;
constexpr int kMaxHidden = 1024;

}  // namespace

MlpWindowProgram::MlpWindowProgram(const MlpWindowKnobs& knobs, const FamilyContext& context, int max_rows)
    : knobs_(knobs), context_(context) {
  const int hidden = knobs.hidden.high();
  const int symbols = std::min(knobs.symbols.high(), context.alphabet);
  first_bias_.reserve(Size(hidden));
  first_weights_.reserve(Size(knobs.order.high() + knobs.input_window.high()) * Size(symbols) * Size(hidden));
  linear_.resize(Size(knobs.layers.high()));
  // With fewer layers than the most, any of them can be the output layer.
  for (matrix::Linear& linear : linear_) linear.Reserve(hidden, std::max(hidden, symbols));
  for (matrix::Floats& states : states_) states.reserve(Size(max_rows) * Size(matrix::Padded(hidden)));
  logits_.reserve(Size(max_rows) * Size(matrix::Padded(symbols)));
  rngs_.reserve(Size(max_rows));
}

void MlpWindowProgram::Sample(Rng& rng) {
  order_ = knobs_.order.Draw(rng);
  input_window_ = knobs_.input_window.Draw(rng);
  symbols_ = std::min(knobs_.symbols.Draw(rng), context_.alphabet);
  layers_ = knobs_.layers.Draw(rng);
  hidden_ = knobs_.hidden.Draw(rng);
  weight_factor_ = knobs_.weight_factor.Draw(rng);
  output_scale_ = knobs_.output_scale.Draw(rng);
  temperature_ = knobs_.temperature.Draw(rng);
  const int window = order_ + input_window_;
  const float first = weight_factor_ / std::sqrt(static_cast<float>(window));
  const float root = std::sqrt(static_cast<float>(hidden_));
  first_bias_.resize(Size(hidden_));
  rng.FillNormal(first, first_bias_);
  first_weights_.resize(Size(window) * Size(symbols_) * Size(hidden_));
  FillNormal(rng, first, first_weights_);
  for (int l = 1; l < layers_ && !stopped(); ++l) {
    linear_[Size(l - 1)].Draw(rng, hidden_, hidden_, weight_factor_ / root, weight_factor_ / root);
  }
  linear_[Size(layers_ - 1)].Draw(rng, hidden_, symbols_, output_scale_ / root, output_scale_ / root);
}

void MlpWindowProgram::Run(BlockView input, BlockView prompt, const RowRng& rng, MutableBlockView out) {
  RunWithLogits(input, prompt, rng, out, nullptr);
}

void MlpWindowProgram::RunWithLogits(BlockView input, BlockView prompt, const RowRng& rng, MutableBlockView out,
                                     float* logits) {
  const int rows = out.rows();
  const int start = std::min(prompt.length(), out.length());
  const int stride = matrix::Padded(hidden_);
  const int logit_stride = matrix::Padded(symbols_);
  states_[0].resize(Size(rows) * Size(stride));
  states_[1].resize(Size(rows) * Size(stride));
  logits_.resize(Size(rows) * Size(logit_stride));
  rngs_.clear();
  for (int r = 0; r < rows; ++r) {
    rngs_.push_back(rng.ForRow(r));
    std::copy_n(prompt.row(r), start, out.row(r));
  }
  const auto add = [this](float* to, int place, int code) {
    const float* const weights = FirstWeights(place, code);
    for (int u = 0; u < hidden_; ++u) to[u] += weights[u];
  };
  for (int t = start - 1; t + 1 < out.length() && !stopped(); ++t) {
    float* state = states_[0].data();
    float* next = states_[1].data();
    for (int r = 0; r < rows; ++r) {
      float* const to = state + r * stride;
      std::copy_n(first_bias_.data(), hidden_, to);
      std::fill(to + hidden_, to + stride, 0.0F);
      for (int i = 0; i < std::min(order_, t + 1); ++i) add(to, i, out.row(r)[t - i] % symbols_);
      for (int i = 0; i < std::min(input_window_, t + 1); ++i) add(to, order_ + i, input.row(r)[t - i] % symbols_);
    }
    matrix::Tanh(state, Size(rows) * Size(stride));
    for (int l = 1; l < layers_; ++l) {
      if (stopped()) return;
      layer(l).Apply(state, stride, rows, next, stride);
      matrix::Tanh(next, Size(rows) * Size(stride));
      std::swap(state, next);
    }
    layer(layers_).Apply(state, stride, rows, logits_.data(), logit_stride);
    for (int r = 0; r < rows; ++r) {
      float* const row = logits_.data() + r * logit_stride;
      if (logits != nullptr) logits = std::copy_n(row, symbols_, logits);
      out.row(r)[t + 1] = matrix::Choose(row, symbols_, temperature_, rngs_[Size(r)]);
    }
  }
}

std::string MlpWindowProgram::Describe() const {
  return absl::StrCat("order=", order_, " input_window=", input_window_, " symbols=", symbols_, " layers=", layers_,
                      " hidden=", hidden_, " weight_factor=", weight_factor_, " output_scale=", output_scale_,
                      " temperature=", temperature_);
}

namespace {

class MlpWindowFamily final : public Family {
 public:
  MlpWindowFamily(MlpWindowKnobs knobs, const FamilyContext& context) : knobs_(std::move(knobs)), context_(context) {}

  bool reads_input() const override { return knobs_.input_window.high() > 0; }

  double flops_per_token() const override {
    const double hidden = knobs_.hidden.mean();
    const double square = knobs_.hidden.Expect([](int units) { return static_cast<double>(units) * units; });
    const double symbols = knobs_.symbols.Expect([this](int count) { return std::min(count, context_.alphabet); });
    return Flops(knobs_.order.mean() + knobs_.input_window.mean(), hidden, square, knobs_.layers.mean(), symbols);
  }

  double most_seconds(int rows) const override {
    const double hidden = knobs_.hidden.high();
    const double symbols = std::min(knobs_.symbols.high(), context_.alphabet);
    const double layers = knobs_.layers.high();
    const double weights = hidden * (window() * symbols + hidden * (layers - 1) + symbols);
    const double step = rows * window() * cost::TableRow(hidden, window() * symbols * hidden) +
                        layers * matrix::ActivationSeconds(rows, hidden) +
                        (layers - 1) * matrix::MultiplySeconds(rows, hidden, hidden) +
                        matrix::MultiplySeconds(rows, hidden, symbols) + matrix::ChooseSeconds(rows, symbols);
    return context_.length * step + cost::kWeight * weights;
  }

  double program_bytes(int rows) const override {
    const double hidden = knobs_.hidden.high() + matrix::kPanel;
    const double symbols = std::min(knobs_.symbols.high(), context_.alphabet) + matrix::kPanel;
    const double window = this->window();
    return 4.0 * (hidden * (1 + window * symbols) +
                  knobs_.layers.high() * matrix::Linear::MaxFloats(hidden, std::max(hidden, symbols)) +
                  rows * (2 * hidden + symbols)) +
           16.0 * rows + 2048.0;
  }

  std::unique_ptr<Program> NewProgram(int max_rows) const override {
    return std::make_unique<MlpWindowProgram>(knobs_, context_, max_rows);
  }

 private:
  // A token, `square` being that of `hidden`, or what is expected of it.
  static double Flops(double window, double hidden, double square, double layers, double symbols) {
    return hidden * window + 2 * square * (layers - 1) + 2 * hidden * symbols;
  }
  double window() const { return knobs_.order.high() + knobs_.input_window.high(); }  // at most

  MlpWindowKnobs knobs_;
  FamilyContext context_;
};

void Resolve(v1::Family& family) {
  v1::MlpWindow& config = *family.mutable_mlp_window();
  DefaultUniform(config.mutable_order(), 2, 6);
  DefaultFixed(config.mutable_input_window(), 0);
  DefaultLogUniform(config.mutable_symbols(), 4, 256);
  DefaultFixed(config.mutable_layers(), 1);
  DefaultFixed(config.mutable_hidden(), 32);
  DefaultLogUniform(config.mutable_weight_factor(), 1, 10);
  DefaultFixed(config.mutable_output_scale(), 1.0);
  DefaultFixed(config.mutable_temperature(), 0.0);
}

absl::StatusOr<std::unique_ptr<Family>> Make(const v1::Family& family, const FamilyContext& context,
                                             const std::string& path) {
  const v1::MlpWindow& config = family.mlp_window();
  auto order = IntegerKnob::Make(config.order(), path + ".order", 1, kMaxWindow);
  if (!order.ok()) return order.status();
  auto input_window = IntegerKnob::Make(config.input_window(), path + ".input_window", 0, kMaxWindow);
  if (!input_window.ok()) return input_window.status();
  auto symbols = IntegerKnob::Make(config.symbols(), path + ".symbols", 2, kMaxSymbols);
  if (!symbols.ok()) return symbols.status();
  auto layers = IntegerKnob::Make(config.layers(), path + ".layers", 1, kMaxLayers);
  if (!layers.ok()) return layers.status();
  auto hidden = IntegerKnob::Make(config.hidden(), path + ".hidden", 1, kMaxHidden);
  if (!hidden.ok()) return hidden.status();
  auto weight_factor = RealKnob::Make(config.weight_factor(), path + ".weight_factor", 0, 1e6);
  if (!weight_factor.ok()) return weight_factor.status();
  auto output_scale = RealKnob::Make(config.output_scale(), path + ".output_scale", 0, 1e6);
  if (!output_scale.ok()) return output_scale.status();
  auto temperature = RealKnob::Make(config.temperature(), path + ".temperature", 0, 1e6);
  if (!temperature.ok()) return temperature.status();
  return std::make_unique<MlpWindowFamily>(
      MlpWindowKnobs{*std::move(order), *std::move(input_window), *std::move(symbols), *std::move(layers),
                     *std::move(hidden), *std::move(weight_factor), *std::move(output_scale), *std::move(temperature)},
      context);
}

}  // namespace

const FamilyEntry kMlpWindowEntry = {v1::Family::kMlpWindow, "mlp_window",
                                     "random network on the last tokens: a source of order n", Resolve, Make};

}  // namespace iterand
