#include "randnet/lstm.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "absl/strings/str_cat.h"
#include "randnet/knob.h"
#include "randnet/math.h"

namespace iterand {
namespace {

constexpr int kMaxLayers = 16;
constexpr int kMaxHidden = 1024;
constexpr int kGroup = 16;           // units or symbols whose weights are drawn together
constexpr float kMaxFactor = 1e12F;  // in force: larger products of weights and states could overflow
constexpr float kArgmaxBelow = 1e-6F;

struct LstmKnobs {
  IntegerKnob layers;
  IntegerKnob hidden;
  IntegerKnob embedding;
  RealKnob embedding_scale;
  RealKnob weight_factor;
  bool once_per_layer = false;
  RealKnob temperature;
  IntegerKnob prompt_length;
};

class LstmProgram final : public Program {
 public:
  LstmProgram(const LstmKnobs& knobs, const FamilyContext& context) : knobs_(knobs), context_(context) {}

  void Sample(Rng& rng) override {
    layers_ = knobs_.layers.Draw(rng);
    hidden_ = knobs_.hidden.Draw(rng);
    embedding_ = knobs_.embedding.Draw(rng);
    if (embedding_ == 0) embedding_ = hidden_;
    embedding_scale_ = knobs_.embedding_scale.Draw(rng);
    weight_factor_ = knobs_.weight_factor.Draw(rng);
    temperature_ = knobs_.temperature.Draw(rng);
    prompt_length_ = std::min(knobs_.prompt_length.Draw(rng), context_.length);
    factor_ = weight_factor_;
    if (knobs_.once_per_layer) {
      for (int l = 1; l < layers_; ++l) factor_ *= weight_factor_;
    }
    const float a = 1.0F / std::sqrt(static_cast<float>(hidden_));
    const float b = a * factor_;
    embeddings_.resize(Size(context_.alphabet) * Size(embedding_));
    rng.FillNormal(embedding_scale_, embeddings_);
    weights_.resize(Size(layers_));
    biases_.resize(Size(layers_));
    std::vector<float> second(Size(4 * hidden_));
    for (int l = 0; l < layers_; ++l) {
      biases_[Size(l)].resize(Size(4 * hidden_));
      rng.FillUniform(-b, b, biases_[Size(l)]);
      rng.FillUniform(-b, b, second);
      for (std::size_t j = 0; j < second.size(); ++j) biases_[Size(l)][j] += second[j];
      const int inputs = Inputs(l);
      weights_[Size(l)].resize(Size(4 * hidden_) * Size(inputs));
      for (int group = 0; group < hidden_; group += kGroup) {
        const int units = std::min(kGroup, hidden_ - group);
        for (int gate = 0; gate < 4; ++gate) {
          DrawPanel(rng, b, inputs, units, gate * hidden_ + group, weights_[Size(l)]);
        }
      }
    }
    output_bias_.resize(Size(context_.alphabet));
    rng.FillUniform(-a, a, output_bias_);
    output_weights_.resize(Size(context_.alphabet) * Size(hidden_));
    for (int group = 0; group < context_.alphabet; group += kGroup) {
      DrawPanel(rng, a, hidden_, std::min(kGroup, context_.alphabet - group), group, output_weights_);
    }
    // Products of the first layer with the embeddings.
    const int columns = 4 * hidden_;
    table_x_.resize(Size(context_.alphabet) * Size(columns));
    table_z_.resize(table_x_.size());
    for (int n = 0; n < context_.alphabet; ++n) {
      for (int j = 0; j < columns; ++j) {
        float x = biases_[0][Size(j)];
        float z = 0.0F;
        for (int k = 0; k < embedding_; ++k) {
          const float e = embeddings_[Size(n) * Size(embedding_) + Size(k)];
          x = std::fma(Weight(0, j, k), e, x);
          z = std::fma(Weight(0, j, embedding_ + k), e, z);
        }
        table_x_[Size(n) * Size(columns) + Size(j)] = x;
        table_z_[Size(n) * Size(columns) + Size(j)] = z;
      }
    }
  }

  int prompt_length() const override { return prompt_length_; }

  void Run(BlockView input, BlockView prompt, const RowRng& rng, MutableBlockView out) override {
    for (int r = 0; r < out.rows(); ++r) {
      h_.assign(Size(layers_), std::vector<float>(Size(hidden_), 0.0F));
      c_ = h_;
      gates_.resize(Size(4 * hidden_));
      logits_.resize(Size(context_.alphabet));
      Rng row_rng = rng.ForRow(r);
      const Symbol* z = input.row(r);
      Symbol* x = out.row(r);
      int start = std::min(prompt.length(), out.length());
      std::copy_n(prompt.row(r), start, x);
      if (start == 0) {
        x[0] = z[0];
        start = 1;
      }
      for (int t = 0; t + 1 < out.length(); ++t) {
        Step(x[t], z[t]);
        if (t + 1 >= start) x[t + 1] = Next(row_rng);
      }
    }
  }

  std::string Describe() const override {
    return absl::StrCat("layers=", layers_, " hidden=", hidden_, " embedding=", embedding_,
                        " embedding_scale=", embedding_scale_, " weight_factor=", weight_factor_,
                        " factor_in_force=", factor_, " temperature=", temperature_, " prompt_length=", prompt_length_);
  }

 private:
  static std::size_t Size(int value) { return static_cast<std::size_t>(value); }

  int Inputs(int layer) const { return layer == 0 ? 2 * embedding_ + hidden_ : 2 * hidden_; }

  float Weight(int layer, int row, int k) const {
    return weights_[Size(layer)][Size(row) * Size(Inputs(layer)) + Size(k)];
  }

  // Draws inputs x units weights, in this order, and puts them into the rows first, first + 1, ... of a row-major matrix.
  void DrawPanel(Rng& rng, float bound, int inputs, int units, int first, std::vector<float>& matrix) {
    panel_.resize(Size(inputs) * Size(units));
    rng.FillUniform(-bound, bound, panel_);
    for (int k = 0; k < inputs; ++k) {
      for (int u = 0; u < units; ++u) matrix[Size(first + u) * Size(inputs) + Size(k)] = panel_[Size(k * units + u)];
    }
  }

  void Step(Symbol x, Symbol z) {
    for (int l = 0; l < layers_; ++l) {
      const int columns = 4 * hidden_;
      for (int j = 0; j < columns; ++j) {
        float sum = 0.0F;
        int offset = 0;
        if (l == 0) {
          sum = table_x_[Size(x) * Size(columns) + Size(j)] + table_z_[Size(z) * Size(columns) + Size(j)];
          offset = 2 * embedding_;
        } else {
          sum = biases_[Size(l)][Size(j)];
          for (int k = 0; k < hidden_; ++k) sum = std::fma(Weight(l, j, k), h_[Size(l - 1)][Size(k)], sum);
          offset = hidden_;
        }
        for (int k = 0; k < hidden_; ++k) sum = std::fma(Weight(l, j, offset + k), h_[Size(l)][Size(k)], sum);
        gates_[Size(j)] = sum;
      }
      for (int u = 0; u < hidden_; ++u) {
        const float p = 1.0F + math::GateExp<-1>(gates_[Size(u)]);
        const float s = 1.0F + math::GateExp<-1>(gates_[Size(hidden_ + u)]);
        const float eg = math::GateExp<-2>(gates_[Size(2 * hidden_ + u)]);
        const float eo = math::GateExp<-1>(gates_[Size(3 * hidden_ + u)]);
        const float pq = p * (1.0F + eg);
        float& c = c_[Size(l)][Size(u)];
        c = std::fma(c, pq, (1.0F - eg) * s) / (pq * s);
        const float ec = math::GateExp<-2>(c);
        h_[Size(l)][Size(u)] = (1.0F - ec) / ((1.0F + eo) * (1.0F + ec));
      }
    }
  }

  Symbol Next(Rng& rng) {
    const std::vector<float>& h = h_.back();
    for (int n = 0; n < context_.alphabet; ++n) {
      float sum = output_bias_[Size(n)];
      for (int k = 0; k < hidden_; ++k) sum = std::fma(output_weights_[Size(n) * Size(hidden_) + Size(k)], h[Size(k)], sum);
      logits_[Size(n)] = sum;
    }
    const auto best = std::max_element(logits_.begin(), logits_.end());
    if (temperature_ < kArgmaxBelow) return static_cast<Symbol>(best - logits_.begin());
    const float largest = *best;
    const float scale = 1.0F / temperature_;
    float sums[kGroup] = {};
    for (int n = 0; n < context_.alphabet; ++n) {
      logits_[Size(n)] = math::GateExp((logits_[Size(n)] - largest) * scale);
      sums[n % kGroup] += logits_[Size(n)];
    }
    float total = 0.0F;
    for (const float sum : sums) total += sum;
    float u = total * rng.Uniform();
    const int columns = std::min(kGroup, context_.alphabet);
    int j = 0;
    while (j + 1 < columns && !(u < sums[j])) u -= sums[j++];
    float running = 0.0F;
    int last = j;
    for (int n = j; n < context_.alphabet; n += kGroup) {
      running += logits_[Size(n)];
      last = n;
      if (u < running) break;
    }
    return static_cast<Symbol>(last);
  }

  const LstmKnobs& knobs_;
  FamilyContext context_;
  int layers_ = 1;
  int hidden_ = 4;
  int embedding_ = 4;
  int prompt_length_ = 0;
  float embedding_scale_ = 1;
  float weight_factor_ = 1;
  float factor_ = 1;
  float temperature_ = 0;
  std::vector<float> embeddings_;
  std::vector<std::vector<float>> weights_;
  std::vector<std::vector<float>> biases_;
  std::vector<float> output_weights_;
  std::vector<float> output_bias_;
  std::vector<float> table_x_;
  std::vector<float> table_z_;
  std::vector<float> panel_;
  std::vector<std::vector<float>> h_;
  std::vector<std::vector<float>> c_;
  std::vector<float> gates_;
  std::vector<float> logits_;
};

class LstmFamily final : public Family {
 public:
  LstmFamily(LstmKnobs knobs, const FamilyContext& context) : knobs_(std::move(knobs)), context_(context) {}

  bool reads_input() const override { return true; }

  double flops_per_token() const override {
    const double hidden = knobs_.hidden.mean();
    return 2.0 * hidden * hidden * 4.0 * (2.0 * knobs_.layers.mean() - 1.0) + 2.0 * hidden * context_.alphabet;
  }

  double program_bytes(int rows) const override {
    const double alphabet = context_.alphabet;
    const double hidden = knobs_.hidden.high() + kGroup;
    const double embedding = knobs_.embedding.high() == 0 ? hidden : std::max<double>(knobs_.embedding.high(), hidden);
    const double weights = alphabet * embedding + 4.0 * hidden * (2.0 * embedding + 2.0 * hidden * knobs_.layers.high()) +
                           hidden * alphabet + 8.0 * hidden * alphabet;
    return 4.0 * (weights + rows * (alphabet + 8.0 * hidden * (knobs_.layers.high() + 1)));
  }

  std::unique_ptr<Program> NewProgram(int /*max_rows*/) const override {
    return std::make_unique<LstmProgram>(knobs_, context_);
  }

 private:
  LstmKnobs knobs_;
  FamilyContext context_;
};

void Resolve(v1::Family& family) {
  v1::Lstm& config = *family.mutable_lstm();
  DefaultFixed(config.mutable_layers(), 2);
  DefaultFixed(config.mutable_hidden(), 32);
  DefaultFixed(config.mutable_embedding(), 0);
  DefaultFixed(config.mutable_embedding_scale(), 1.0);
  DefaultFixed(config.mutable_weight_factor(), 1.0);
  if (!config.has_factor_mode() || config.factor_mode() == v1::Lstm::FACTOR_MODE_UNSPECIFIED) {
    config.set_factor_mode(v1::Lstm::ONCE);
  }
  DefaultFixed(config.mutable_temperature(), 0.0);
  DefaultFixed(config.mutable_prompt_length(), 8);
}

absl::StatusOr<std::unique_ptr<Family>> Make(const v1::Family& family, const FamilyContext& context,
                                             const std::string& path) {
  const v1::Lstm& config = family.lstm();
  auto layers = IntegerKnob::Make(config.layers(), path + ".layers", 1, kMaxLayers);
  if (!layers.ok()) return layers.status();
  auto hidden = IntegerKnob::Make(config.hidden(), path + ".hidden", 4, kMaxHidden);
  if (!hidden.ok()) return hidden.status();
  auto embedding = IntegerKnob::Make(config.embedding(), path + ".embedding", 0, kMaxHidden);
  if (!embedding.ok()) return embedding.status();
  auto embedding_scale = RealKnob::Make(config.embedding_scale(), path + ".embedding_scale", 0, 1e6);
  if (!embedding_scale.ok()) return embedding_scale.status();
  auto weight_factor = RealKnob::Make(config.weight_factor(), path + ".weight_factor", 0, 1e6);
  if (!weight_factor.ok()) return weight_factor.status();
  auto temperature = RealKnob::Make(config.temperature(), path + ".temperature", 0, 1e6);
  if (!temperature.ok()) return temperature.status();
  auto prompt_length = IntegerKnob::Make(config.prompt_length(), path + ".prompt_length", 0, context.length);
  if (!prompt_length.ok()) return prompt_length.status();
  bool once_per_layer = false;
  switch (config.factor_mode()) {
    case v1::Lstm::ONCE:
      break;
    case v1::Lstm::ONCE_PER_LAYER:
      once_per_layer = true;
      if (std::pow(weight_factor->high(), layers->high()) > kMaxFactor) {
        return absl::InvalidArgumentError(absl::StrCat(path, ".weight_factor: its largest value ", weight_factor->high(),
                                                       " to the power of ", layers->high(), " layers (",  path,
                                                       ".factor_mode is ONCE_PER_LAYER) exceeds ", kMaxFactor));
      }
      break;
    default:
      return absl::InvalidArgumentError(absl::StrCat(path, ".factor_mode: is ", static_cast<int>(config.factor_mode()),
                                                     ", must be ONCE or ONCE_PER_LAYER"));
  }
  return std::make_unique<LstmFamily>(
      LstmKnobs{*std::move(layers), *std::move(hidden), *std::move(embedding), *std::move(embedding_scale),
                *std::move(weight_factor), once_per_layer, *std::move(temperature), *std::move(prompt_length)},
      context);
}

}  // namespace

const FamilyEntry kLstmEntry = {
    v1::Family::kLstm, "lstm", "random LSTM that writes a row token by token while it reads another", Resolve, Make};

}  // namespace iterand
