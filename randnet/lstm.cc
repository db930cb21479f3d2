#include "randnet/lstm.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"

namespace iterand {
namespace {

constexpr int kMaxLayers = kMaxRecurrentLayers;
constexpr int kMaxHidden = 1024;
constexpr double kMaxFactor = 1e12;  // in force: larger products of weights and states could overflow

// Sizes that bound every program of a family.
struct LstmSizes {
  int layers;
  int hidden;
  int embedding;
  int alphabet;
  int rows;
};

std::size_t Size(int value) { return static_cast<std::size_t>(value); }

int LayerInputs(int layer, int hidden, int embedding) { return layer == 0 ? 2 * embedding + hidden : 2 * hidden; }

LstmSizes LargestSizes(const LstmKnobs& knobs, const FamilyContext& context, int rows) {
  // Embedding 0 means as wide as hidden.
  const int embedding = std::max(knobs.embedding.high(), knobs.embedding.low() == 0 ? knobs.hidden.high() : 0);
  return {knobs.layers.high(), knobs.hidden.high(), embedding, context.alphabet, rows};
}

// Floats that a program needs, each array padded to whole panels.
std::size_t ProgramFloats(const LstmSizes& sizes) {
  const std::size_t hidden = Size(PaddedToPanel(sizes.hidden));
  const std::size_t alphabet = Size(PaddedToPanel(sizes.alphabet));
  std::size_t floats = Size(PaddedToPanel(sizes.alphabet * sizes.embedding));  // embedding
  for (int l = 0; l < sizes.layers; ++l) {
    floats += 4 * hidden * (1 + Size(LayerInputs(l, sizes.hidden, sizes.embedding)));
  }
  floats += alphabet * (1 + Size(sizes.hidden));                                            // output layer
  floats += 2 * Size(sizes.alphabet) * 4 * hidden + 2 * alphabet;                           // tables and their slots
  floats += 4 * hidden;                                                                     // zeros
  floats += std::max(8 * hidden, Size(kPanel) * (2 * Size(sizes.embedding) + 2 * hidden));  // draws
  return floats + RecurrentScratchFloats(sizes.layers, sizes.hidden, sizes.embedding, sizes.alphabet, sizes.rows);
}

}  // namespace

LstmProgram::LstmProgram(const LstmKnobs& knobs, const FamilyContext& context, int max_rows)
    : knobs_(knobs), context_(context), max_rows_(max_rows) {
  const LstmSizes sizes = LargestSizes(knobs, context, max_rows);
  memory_ = hwy::AllocateAligned<float>(ProgramFloats(sizes));
  rngs_.reserve(Size(max_rows));
}

void LstmProgram::Sample(Rng& rng) {
  net_.layers = knobs_.layers.Draw(rng);
  net_.hidden = knobs_.hidden.Draw(rng);
  net_.alphabet = context_.alphabet;
  net_.embedding_width = knobs_.embedding.Draw(rng);
  if (net_.embedding_width == 0) net_.embedding_width = net_.hidden;
  embedding_scale_ = knobs_.embedding_scale.Draw(rng);
  weight_factor_ = knobs_.weight_factor.Draw(rng);
  net_.temperature = knobs_.temperature.Draw(rng);
  prompt_length_ = knobs_.prompt_length.Draw(rng);
  factor_ = weight_factor_;
  if (knobs_.once_per_layer) {
    for (int l = 1; l < net_.layers; ++l) factor_ *= weight_factor_;
  }
  const float a = 1.0F / std::sqrt(static_cast<float>(net_.hidden));
  const float b = a * factor_;
  const int hidden = net_.hidden;
  const int alphabet = net_.alphabet;
  const int groups = net_.padded_hidden() / kPanel;
  const std::size_t columns = Size(groups) * 4 * kPanel;

  // The memory is cut anew for each program; every array begins at a multiple of 16 floats.
  float* next = memory_.get();
  const auto take = [&next](std::size_t floats) {
    float* begin = next;
    next += floats;
    return begin;
  };
  float* const draws =
      take(std::max(2 * columns, Size(kPanel) * Size(LayerInputs(0, hidden, net_.embedding_width) + hidden)));
  float* const zeros = take(columns);
  std::fill_n(zeros, columns, 0.0F);

  float* const embedding = take(Size(PaddedToPanel(alphabet * net_.embedding_width)));
  net_.embedding = embedding;
  rng.FillNormal(embedding_scale_, {embedding, Size(alphabet) * Size(net_.embedding_width)});

  for (int l = 0; l < net_.layers; ++l) {
    const int inputs = LayerInputs(l, hidden, net_.embedding_width);
    float* const bias = take(columns);
    DrawBias(rng, b, draws, bias);
    float* const weights = take(columns * Size(inputs));
    for (int group = 0; group < groups; ++group) {
      for (int gate = 0; gate < 4; ++gate) {
        DrawPanel(rng, b, inputs, std::min(kPanel, hidden - group * kPanel), draws,
                  weights + Size(group * 4 + gate) * Size(inputs) * kPanel);
      }
    }
    weights_[l] = weights;
    // The first layer's products with the embeddings become tables; its own h's weights stand last.
    net_.layer[l] = {l == 0 ? weights + 2 * net_.embedding_width * kPanel : weights, inputs * kPanel, bias};
  }

  float* const output_bias = take(Size(net_.padded_alphabet()));
  rng.FillUniform(-a, a, {output_bias, Size(alphabet)});
  std::fill(output_bias + alphabet, output_bias + net_.padded_alphabet(), std::numeric_limits<float>::lowest());
  float* const output_weights = take(Size(net_.padded_alphabet()) * Size(hidden));
  for (int first = 0; first < alphabet; first += kPanel) {
    DrawPanel(rng, a, hidden, std::min(kPanel, alphabet - first), draws, output_weights + Size(first) * Size(hidden));
  }
  net_.output_bias = output_bias;
  net_.output_weights = output_weights;

  const auto new_table = [&](const float* panels, const float* init) {
    EmbeddingTable table{panels, init, take(Size(alphabet) * columns)};
    static_assert(sizeof(*table.slot) == sizeof(float));
    table.slot = reinterpret_cast<std::uint32_t*>(take(Size(net_.padded_alphabet())));
    std::fill_n(table.slot, alphabet, EmbeddingTable::kNone);
    return table;
  };
  net_.x = new_table(weights_[0], net_.layer[0].bias);
  net_.z = new_table(weights_[0] + net_.embedding_width * kPanel, zeros);
  scratch_ = next;
}

void LstmProgram::DrawBias(Rng& rng, float bound, float* draws, float* bias) const {
  const int hidden = net_.hidden;
  const std::span<float> both(draws, Size(8 * hidden));
  rng.FillUniform(-bound, bound, both);
  for (int gate = 0; gate < 4; ++gate) {
    for (int u = 0; u < net_.padded_hidden(); ++u) {
      bias[(u / kPanel * 4 + gate) * kPanel + u % kPanel] =
          u < hidden ? both[Size(gate * hidden + u)] + both[Size((4 + gate) * hidden + u)] : 0.0F;
    }
  }
}

void LstmProgram::DrawPanel(Rng& rng, float bound, int inputs, int units, float* draws, float* panel) const {
  if (units == kPanel) {
    rng.FillUniform(-bound, bound, {panel, Size(inputs) * kPanel});
    return;
  }
  rng.FillUniform(-bound, bound, {draws, Size(inputs) * Size(units)});
  for (int k = 0; k < inputs; ++k) {
    std::copy_n(draws + k * units, units, panel + k * kPanel);
    std::fill(panel + k * kPanel + units, panel + (k + 1) * kPanel, 0.0F);
  }
}

float LstmProgram::LayerWeight(int layer, int gate, int unit, int k) const {
  const int inputs = LayerInputs(layer, net_.hidden, net_.embedding_width);
  return weights_[layer][(Size(unit / kPanel * 4 + gate) * Size(inputs) + Size(k)) * kPanel + Size(unit % kPanel)];
}

float LstmProgram::LayerBias(int layer, int gate, int unit) const {
  return net_.layer[layer].bias[(unit / kPanel * 4 + gate) * kPanel + unit % kPanel];
}

float LstmProgram::OutputWeight(int symbol, int k) const {
  return net_.output_weights[(Size(symbol / kPanel) * Size(net_.hidden) + Size(k)) * kPanel + Size(symbol % kPanel)];
}

void LstmProgram::Run(BlockView input, BlockView prompt, const RowRng& rng, MutableBlockView out) {
  RunWithLogits(input, prompt, rng, out, nullptr);
}

void LstmProgram::RunWithLogits(BlockView input, BlockView prompt, const RowRng& rng, MutableBlockView out,
                                float* logits) {
  int start = std::min(prompt.length(), out.length());
  for (int r = 0; r < out.rows(); ++r) {
    if (start == 0) {
      out.row(r)[0] = input.row(r)[0];
    } else {
      std::copy_n(prompt.row(r), start, out.row(r));
    }
  }
  start = std::max(start, 1);
  for (int first = 0; first < out.rows(); first += max_rows_) {
    const int rows = std::min(max_rows_, out.rows() - first);
    rngs_.clear();
    for (int r = 0; r < rows; ++r) rngs_.push_back(rng.ForRow(first + r));
    const BlockView part(input.row(first), rows, input.length(), input.stride());
    RunLstm(net_, part, start, rngs_, {out.row(first), rows, out.length(), out.stride()}, scratch_, logits);
  }
}

std::string LstmProgram::Describe() const {
  return absl::StrCat("layers=", net_.layers, " hidden=", net_.hidden, " embedding=", net_.embedding_width,
                      " embedding_scale=", embedding_scale_, " weight_factor=", weight_factor_,
                      " factor_in_force=", factor_, " temperature=", net_.temperature,
                      " prompt_length=", prompt_length_);
}

namespace {

class LstmFamily final : public Family {
 public:
  LstmFamily(LstmKnobs knobs, const FamilyContext& context) : knobs_(std::move(knobs)), context_(context) {}

  bool reads_input() const override { return true; }

  double flops_per_token() const override {
    const double square = knobs_.hidden.Expect([](int hidden) { return static_cast<double>(hidden) * hidden; });
    return 8.0 * square * (2.0 * knobs_.layers.mean() - 1.0) + 2.0 * knobs_.hidden.mean() * context_.alphabet;
  }

  double program_bytes(int rows) const override {
    return static_cast<double>(ProgramFloats(LargestSizes(knobs_, context_, rows))) * sizeof(float);
  }

  std::unique_ptr<Program> NewProgram(int max_rows) const override {
    return std::make_unique<LstmProgram>(knobs_, context_, max_rows);
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
        return absl::InvalidArgumentError(
            absl::StrCat(path, ".weight_factor: its largest value ", weight_factor->high(), " to the power of ",
                         layers->high(), " layers (", path, ".factor_mode is ONCE_PER_LAYER) exceeds ", kMaxFactor));
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

const FamilyEntry kLstmEntry = {v1::Family::kLstm, "lstm",
                                "random LSTM that writes a row token by token while it reads another", Resolve, Make};

}  // namespace iterand
