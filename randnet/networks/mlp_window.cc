#include "randnet/networks/mlp_window.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "randnet/networks/mlp_window_kernels.h"

namespace iterand {

MlpWindowProgram::MlpWindowProgram(const MlpWindowKnobs& knobs, const FamilyContext& context, int max_rows)
    : knobs_(knobs), context_(context) {
  const int hidden = knobs.hidden.high();
  const int symbols = std::min(knobs.symbols.high(), context.alphabet);
  const std::size_t window = Size(knobs.order.high() + knobs.input_window.high());
  first_bias_.reserve(Size(hidden) + matrix::kPanel);
  first_weights_.reserve(window * Size(symbols) * Size(hidden) + matrix::kPanel);
  lines_.reserve(Size(max_rows) * window);
  linear_.resize(Size(knobs.layers.high()));
  // With fewer layers than the most, any of them can be the output layer.
  for (matrix::Linear& linear : linear_) linear.Reserve(hidden, std::max(hidden, symbols));
  for (matrix::Floats& states : states_) states.reserve(Size(max_rows) * Size(matrix::Padded(hidden)));
  logits_.reserve(Size(max_rows) * Size(matrix::Padded(symbols)));
  rngs_.reserve(Size(max_rows));
  chosen_.reserve(Size(max_rows));
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
  const std::size_t hidden = Size(hidden_);
  first_bias_.resize(hidden + matrix::kPanel);
  rng.FillNormal(first, {first_bias_.data(), hidden});
  std::fill_n(first_bias_.data() + hidden, matrix::kPanel, 0.0F);
  const std::size_t weights = Size(window) * Size(symbols_) * hidden;
  first_weights_.resize(weights + matrix::kPanel);
  FillNormal(rng, first, {first_weights_.data(), weights});
  std::fill_n(first_weights_.data() + weights, matrix::kPanel, 0.0F);
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
  const MlpWindowFirst first = {.hidden = hidden_, .bias = first_bias_.data(), .weights = first_weights_.data()};
  chosen_.resize(Size(rows));
  lines_.assign(Size(rows) * Size(order_ + input_window_), 0);
  for (int t = start - 1; t + 1 < out.length() && !stopped(); ++t) {
    float* state = states_[0].data();
    float* next = states_[1].data();
    const int count = FindLines(input, t, out);
    MlpWindowLayer(first, lines_.data(), order_ + input_window_, count, rows, state);
    for (int l = 1; l < layers_; ++l) {
      if (stopped()) return;
      layer(l).Apply(state, stride, rows, next, stride);
      matrix::Tanh(next, Size(rows) * Size(stride));
      std::swap(state, next);
    }
    layer(layers_).Apply(state, stride, rows, logits_.data(), logit_stride);
    if (logits != nullptr) {
      for (int r = 0; r < rows; ++r) logits = std::copy_n(logits_.data() + r * logit_stride, symbols_, logits);
    }
    matrix::ChooseEach(logits_.data(), logit_stride, rows, symbols_, temperature_, rngs_.data(), chosen_.data());
    for (int r = 0; r < rows; ++r) out.row(r)[t + 1] = chosen_[Size(r)];
  }
}

int MlpWindowProgram::FindLines(BlockView input, int t, MutableBlockView out) {
  const int own = std::min(order_, t + 1);
  const int read = std::min(input_window_, t + 1);
  // Tokens that the network wrote are codes already, and a division takes as long as a vector of units.
  const auto code = [symbols = symbols_](Symbol symbol) { return symbol < symbols ? symbol : symbol % symbols; };
  std::int32_t* lines = lines_.data();
  for (int r = 0; r < out.rows(); ++r, lines += order_ + input_window_) {
    const Symbol* const x = out.row(r) + t;
    const Symbol* const z = input.row(r) + t;
    for (int i = 0; i < own; ++i) lines[i] = i * symbols_ + code(x[-i]);
    for (int i = 0; i < read; ++i) lines[own + i] = (order_ + i) * symbols_ + code(z[-i]);
  }
  return own + read;
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
                  rows * (2 * hidden + symbols + window)) +
           18.0 * rows + 2048.0;
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

absl::StatusOr<std::unique_ptr<Family>> Make(const v1::Family& family, const FamilyContext& context,
                                             const std::string& /*path*/) {
  const v1::MlpWindow& config = family.mlp_window();
  return std::make_unique<MlpWindowFamily>(MlpWindowKnobs{.order = IntegerKnob(config.order()),
                                                          .input_window = IntegerKnob(config.input_window()),
                                                          .symbols = IntegerKnob(config.symbols()),
                                                          .layers = IntegerKnob(config.layers()),
                                                          .hidden = IntegerKnob(config.hidden()),
                                                          .weight_factor = RealKnob(config.weight_factor()),
                                                          .output_scale = RealKnob(config.output_scale()),
                                                          .temperature = RealKnob(config.temperature())},
                                           context);
}

}  // namespace

const FamilyEntry kMlpWindowEntry = {v1::Family::kMlpWindow, "mlp_window",
                                     "random network on the last tokens: a source of order n", Make};

}  // namespace iterand
