#include "randnet/networks/state_space.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "randnet/base/math.h"
#include "randnet/networks/prompt.h"

namespace iterand {
namespace {

// One step of the recurrence of one row; plain loops over channels, which compilers vectorise.
void Recur(int width, const StateSpaceProgram::Layer& layer, const float* __restrict v, float* __restrict re,
           float* __restrict im) {
  const float* __restrict p = layer.p.data();
  const float* __restrict q = layer.q.data();
  const float* __restrict g = layer.g.data();
  for (int i = 0; i < width; ++i) {
    const float old = re[i];
    re[i] = std::fma(p[i], old, std::fma(-q[i], im[i], g[i] * v[i]));
    im[i] = std::fma(p[i], im[i], q[i] * old);
  }
}

// v = tanh(y) sigmoid(c).
void Gate(std::size_t count, const float* __restrict y, const float* __restrict c, float* __restrict v) {
  for (std::size_t i = 0; i < count; ++i) {
    const float ey = math::GateExp<-2>(y[i]);
    v[i] = (1.0F - ey) / ((1.0F + ey) * (1.0F + math::GateExp<-1>(c[i])));
  }
}

}  // namespace

StateSpaceProgram::StateSpaceProgram(const StateSpaceKnobs& knobs, const FamilyContext& context, int max_rows)
    : knobs_(knobs), context_(context) {
  const int width = knobs.width.high();
  const std::size_t rows = Size(max_rows);
  embedding_x_.reserve(Size(context.alphabet) * Size(width));
  embedding_z_.reserve(Size(context.alphabet) * Size(width));
  layer_.resize(Size(knobs.layers.high()));
  for (Layer& layer : layer_) {
    for (matrix::Floats* floats : {&layer.p, &layer.q, &layer.g}) floats->reserve(Size(width));
    layer.mixer.Reserve(2 * width, width);
    layer.gate.Reserve(width, width);
  }
  output_.Reserve(width, context.alphabet);
  draws_.reserve(3 * Size(width));
  states_.reserve(layer_.size() * rows * 2 * Size(width));
  for (matrix::Floats* floats : {&values_, &mixed_, &gates_}) floats->reserve(rows * Size(matrix::Padded(width)));
  logits_.reserve(rows * Size(matrix::Padded(context.alphabet)));
  rngs_.reserve(rows);
}

void StateSpaceProgram::Sample(Rng& rng) {
  layers_ = knobs_.layers.Draw(rng);
  width_ = knobs_.width.Draw(rng);
  shortest_time_ = knobs_.shortest_time.Draw(rng);
  longest_time_ = std::max(shortest_time_, knobs_.longest_time.Draw(rng));
  embedding_scale_ = knobs_.embedding_scale.Draw(rng);
  weight_factor_ = knobs_.weight_factor.Draw(rng);
  temperature_ = knobs_.temperature.Draw(rng);
  prompt_length_ = knobs_.prompt_length.Draw(rng);

  const std::size_t width = Size(width_);
  for (matrix::Floats* embedding : {&embedding_x_, &embedding_z_}) {
    embedding->resize(Size(context_.alphabet) * width);
    FillNormal(rng, embedding_scale_, *embedding);
  }
  const float low = math::Log(shortest_time_);
  const float range = math::Log(longest_time_) - low;
  const float single = 1.0F / std::sqrt(static_cast<float>(width_));
  const float twice = weight_factor_ / std::sqrt(static_cast<float>(2 * width_));
  draws_.resize(3 * width);
  for (int l = 0; l < layers_ && !stopped(); ++l) {
    Layer& layer = layer_[Size(l)];
    rng.FillUniform(0, 1, {draws_.data(), width});
    const float* const angles = draws_.data() + width;
    rng.FillNormal(1, {draws_.data() + width, 2 * width});
    for (matrix::Floats* floats : {&layer.p, &layer.q, &layer.g}) floats->resize(width);
    for (std::size_t i = 0; i < width; ++i) {
      const float tau = math::Exp(std::fma(draws_[i], range, low));
      const float radius = math::Exp(-1.0F / tau);
      const float a = angles[2 * i];
      const float b = angles[2 * i + 1];
      // Normal() is never 0, nor small enough for its square to vanish: its uniform is an odd multiple of 2^-24.
      const float s = std::sqrt(std::fma(a, a, b * b));
      layer.p[i] = radius * (a / s);
      layer.q[i] = radius * (b / s);
      layer.g[i] = std::sqrt(1.0F - radius * radius);
    }
    layer.mixer.Draw(rng, 2 * width_, width_, twice, twice);
    layer.gate.Draw(rng, width_, width_, weight_factor_ * single, weight_factor_ * single);
  }
  output_.Draw(rng, width_, context_.alphabet, single, single);
}

void StateSpaceProgram::Run(BlockView input, BlockView prompt, const RowRng& rng, MutableBlockView out) {
  RunWithLogits(input, prompt, rng, out, nullptr);
}

void StateSpaceProgram::RunWithLogits(BlockView input, BlockView prompt, const RowRng& rng, MutableBlockView out,
                                      float* logits) {
  const int rows = out.rows();
  const int stride = matrix::Padded(width_);
  const int logit_stride = matrix::Padded(context_.alphabet);
  const std::size_t values = Size(rows) * Size(stride);
  states_.assign(Size(layers_) * Size(rows) * 2 * Size(width_), 0.0F);
  // Padding is 0 so that nothing undefined is read; it is never part of a result.
  for (matrix::Floats* floats : {&values_, &mixed_, &gates_}) floats->assign(values, 0.0F);
  logits_.resize(Size(rows) * Size(logit_stride));
  rngs_.clear();
  for (int r = 0; r < rows; ++r) rngs_.push_back(rng.ForRow(r));
  const int start = BeginRows(input, prompt, out);
  for (int t = 0; t + 1 < out.length() && !stopped(); ++t) {
    for (int r = 0; r < rows; ++r) {
      const float* const x = embedding_x(out.row(r)[t]);
      const float* const z = embedding_z(input.row(r)[t]);
      float* const v = values_.data() + r * stride;
      for (int i = 0; i < width_; ++i) v[i] = x[i] + z[i];
    }
    for (int l = 0; l < layers_; ++l) {
      if (stopped()) return;
      const Layer& layer = layer_[Size(l)];
      float* const states = states_.data() + Size(l) * Size(rows) * 2 * Size(width_);
      for (int r = 0; r < rows; ++r) {
        float* const state = states + static_cast<std::ptrdiff_t>(r) * 2 * width_;
        Recur(width_, layer, values_.data() + r * stride, state, state + width_);
      }
      layer.mixer.Apply(states, 2 * width_, rows, mixed_.data(), stride);
      layer.gate.Apply(values_.data(), stride, rows, gates_.data(), stride);
      Gate(values, mixed_.data(), gates_.data(), values_.data());
    }
    if (t + 1 < start) continue;
    output_.Apply(values_.data(), stride, rows, logits_.data(), logit_stride);
    for (int r = 0; r < rows; ++r) {
      float* const row = logits_.data() + r * logit_stride;
      if (logits != nullptr) logits = std::copy_n(row, context_.alphabet, logits);
      out.row(r)[t + 1] = matrix::Choose(row, context_.alphabet, temperature_, rngs_[Size(r)]);
    }
    if (watch() != nullptr && t + 2 == watch()->next() && !watch()->Look()) return;
  }
}

std::string StateSpaceProgram::Describe() const {
  return absl::StrCat("layers=", layers_, " width=", width_, " shortest_time=", shortest_time_,
                      " longest_time=", longest_time_, " embedding_scale=", embedding_scale_,
                      " weight_factor=", weight_factor_, " temperature=", temperature_,
                      " prompt_length=", prompt_length_);
}

namespace {

class StateSpaceFamily final : public Family {
 public:
  StateSpaceFamily(StateSpaceKnobs knobs, const FamilyContext& context) : knobs_(std::move(knobs)), context_(context) {}

  bool reads_input() const override { return true; }

  double flops_per_token() const override {
    const double square = knobs_.width.Expect([](int width) { return static_cast<double>(width) * width; });
    return Flops(knobs_.layers.mean(), knobs_.width.mean(), square);
  }

  double most_seconds(int rows) const override {
    const double width = knobs_.width.high();
    const double layers = knobs_.layers.high();
    const double weights = 3 * layers * width * (width + 1) + 3 * width * context_.alphabet;
    const double layer = matrix::MultiplySeconds(rows, 2 * width, width) + matrix::MultiplySeconds(rows, width, width) +
                         2 * matrix::ActivationSeconds(rows, width) + cost::kValue * rows * width;
    const double step = rows * 2 * cost::TableRow(width, width * context_.alphabet) + layers * layer +
                        matrix::MultiplySeconds(rows, width, context_.alphabet) +
                        matrix::ChooseSeconds(rows, context_.alphabet);
    return context_.length * step + cost::kWeight * weights;
  }

  double program_bytes(int rows) const override {
    const double alphabet = context_.alphabet + matrix::kPanel;
    const double width = knobs_.width.high() + matrix::kPanel;
    const double layers = knobs_.layers.high();
    return 4.0 * (2 * alphabet * width + 3 * width +
                  layers * (3 * width + matrix::Linear::MaxFloats(2 * width, width) +
                            matrix::Linear::MaxFloats(width, width) + 2.0 * rows * width) +
                  matrix::Linear::MaxFloats(width, alphabet) + rows * (3 * width + alphabet)) +
           16.0 * rows + 2048.0;
  }

  std::unique_ptr<Program> NewProgram(int max_rows) const override {
    return std::make_unique<StateSpaceProgram>(knobs_, context_, max_rows);
  }

 private:
  // A token, `square` being that of `width`, or what is expected of it.
  double Flops(double layers, double width, double square) const {
    return layers * (6 * square + 8 * width) + 2 * width * context_.alphabet;
  }

  StateSpaceKnobs knobs_;
  FamilyContext context_;
};

absl::StatusOr<std::unique_ptr<Family>> Make(const v1::Family& family, const FamilyContext& context,
                                             const std::string& path) {
  const v1::StateSpace& config = family.state_space();
  StateSpaceKnobs knobs{.layers = IntegerKnob(config.layers()),
                        .width = IntegerKnob(config.width()),
                        .shortest_time = RealKnob(config.shortest_time()),
                        .longest_time = RealKnob(config.longest_time()),
                        .embedding_scale = RealKnob(config.embedding_scale()),
                        .weight_factor = RealKnob(config.weight_factor()),
                        .temperature = RealKnob(config.temperature()),
                        .prompt_length = IntegerKnob(config.prompt_length())};
  if (absl::Status s = CheckPromptLength(knobs.prompt_length, context, path); !s.ok()) return s;
  return std::make_unique<StateSpaceFamily>(std::move(knobs), context);
}

}  // namespace

const FamilyEntry kStateSpaceEntry = {
    v1::Family::kStateSpace, "state_space",
    "random diagonal linear recurrences with gates that write a row while they read another", Make};

}  // namespace iterand
