#include "randnet/networks/recurrent.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "randnet/networks/prompt.h"

namespace iterand {
namespace {

constexpr int kPanel = matrix::kPanel;

// Sizes that bound every program of a family.
struct Sizes {
  Cell cell;
  int layers;
  int hidden;
  int embedding;
  int alphabet;
  int rows;
};

int LayerInputs(int layer, int hidden, int embedding) { return layer == 0 ? 2 * embedding + hidden : 2 * hidden; }

Sizes LargestSizes(Cell cell, const RecurrentKnobs& knobs, const FamilyContext& context, int rows) {
  // Embedding 0 means as wide as hidden.
  const int embedding = std::max(knobs.embedding.high(), knobs.embedding.low() == 0 ? knobs.hidden.high() : 0);
  return {cell, knobs.layers.high(), knobs.hidden.high(), embedding, context.alphabet, rows};
}

// Floats that a program needs, each array padded to whole panels.
std::size_t ProgramFloats(const Sizes& sizes) {
  const std::size_t hidden = Size(matrix::Padded(sizes.hidden));
  const std::size_t alphabet = Size(matrix::Padded(sizes.alphabet));
  const std::size_t columns = Size(Gates(sizes.cell)) * hidden;
  std::size_t floats = Size(matrix::Padded(sizes.alphabet * sizes.embedding));  // embedding
  for (int l = 0; l < sizes.layers; ++l) {
    floats += hidden + columns * (1 + Size(LayerInputs(l, sizes.hidden, sizes.embedding)));
  }
  floats += alphabet * (1 + Size(sizes.hidden));  // output layer
  const auto table_stride = static_cast<std::size_t>(TableStride(sizes.cell, sizes.hidden));
  floats += 2 * Size(sizes.alphabet) * table_stride + 2 * alphabet;                          // tables and their slots
  floats += columns;                                                                         // zeros
  floats += std::max(2 * columns, Size(kPanel) * (2 * Size(sizes.embedding) + 2 * hidden));  // draws
  return floats + RecurrentScratchFloats(sizes.layers, sizes.hidden, sizes.embedding, sizes.alphabet, sizes.rows);
}

}  // namespace

RecurrentProgram::RecurrentProgram(Cell cell, const RecurrentKnobs& knobs, const FamilyContext& context, int max_rows)
    : knobs_(knobs), context_(context), max_rows_(max_rows) {
  net_.cell = cell;
  memory_ = hwy::AllocateAligned<float>(ProgramFloats(LargestSizes(cell, knobs, context, max_rows)));
  rngs_.reserve(Size(max_rows));
}

void RecurrentProgram::Sample(Rng& rng) {
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
  const int gates = Gates(net_.cell);
  const std::size_t columns = Size(groups * gates) * kPanel;

  // Each program divides the memory again; every array begins at a multiple of 16 floats.
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

  float* const embedding = take(Size(matrix::Padded(alphabet * net_.embedding_width)));
  net_.embedding = embedding;
  FillNormal(rng, embedding_scale_, {embedding, Size(alphabet) * Size(net_.embedding_width)});

  for (int l = 0; l < net_.layers; ++l) {
    const int inputs = LayerInputs(l, hidden, net_.embedding_width);
    float* const bias = take(columns);
    float* const own_bias = net_.cell == Cell::kGru ? take(Size(net_.padded_hidden())) : nullptr;
    DrawBias(rng, b, draws, bias, own_bias);
    float* const weights = take(columns * Size(inputs));
    for (int group = 0; group < groups; ++group) {
      if (stopped()) return;
      for (int gate = 0; gate < gates; ++gate) {
        DrawPanel(rng, b, inputs, std::min(kPanel, hidden - group * kPanel), draws,
                  weights + Size(group * gates + gate) * Size(inputs) * kPanel);
      }
    }
    weights_[l] = weights;
    // The first layer's products with the embeddings become tables; its own h's weights come last.
    net_.layer[l] = {l == 0 ? weights + 2 * net_.embedding_width * kPanel : weights, inputs * kPanel, bias, own_bias};
  }

  float* const output_bias = take(Size(net_.padded_alphabet()));
  rng.FillUniform(-a, a, {output_bias, Size(alphabet)});
  std::fill(output_bias + alphabet, output_bias + net_.padded_alphabet(), std::numeric_limits<float>::lowest());
  float* const output_weights = take(Size(net_.padded_alphabet()) * Size(hidden));
  for (int first = 0; first < alphabet; first += kPanel) {
    if (stopped()) return;
    DrawPanel(rng, a, hidden, std::min(kPanel, alphabet - first), draws, output_weights + Size(first) * Size(hidden));
  }
  net_.output_bias = output_bias;
  net_.output_weights = output_weights;

  const auto new_table = [&](const float* panels, const float* init) {
    EmbeddingTable table{panels, init, take(Size(alphabet) * static_cast<std::size_t>(net_.table_stride()))};
    static_assert(sizeof(*table.slot) == sizeof(float));
    table.slot = reinterpret_cast<std::uint32_t*>(take(Size(net_.padded_alphabet())));
    std::fill_n(table.slot, alphabet, EmbeddingTable::kNone);
    return table;
  };
  net_.x = new_table(weights_[0], net_.layer[0].bias);
  net_.z = new_table(weights_[0] + net_.embedding_width * kPanel, zeros);
  scratch_ = next;
}

void RecurrentProgram::DrawBias(Rng& rng, float bound, float* draws, float* bias, float* own_bias) const {
  const int hidden = net_.hidden;
  const int padded = net_.padded_hidden();
  const int gates = Gates(net_.cell);
  const float* const second = draws + gates * hidden;
  rng.FillUniform(-bound, bound, {draws, Size(2 * gates * hidden)});
  for (int gate = 0; gate < gates; ++gate) {
    const bool apart = own_bias != nullptr && gate == gates - 1;
    for (int u = 0; u < padded; ++u) {
      const int from = gate * hidden + u;
      const bool unit = u < hidden;
      bias[(u / kPanel * gates + gate) * kPanel + u % kPanel] = !unit   ? 0.0F
                                                                : apart ? draws[from]
                                                                        : draws[from] + second[from];
      if (apart) own_bias[u] = unit ? second[from] : 0.0F;
    }
  }
}

void RecurrentProgram::DrawPanel(Rng& rng, float bound, int inputs, int units, float* draws, float* panel) const {
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

float RecurrentProgram::LayerWeight(int layer, int gate, int unit, int k) const {
  const int inputs = LayerInputs(layer, net_.hidden, net_.embedding_width);
  return weights_[layer][(Size(unit / kPanel * Gates(net_.cell) + gate) * Size(inputs) + Size(k)) * kPanel +
                         Size(unit % kPanel)];
}

float RecurrentProgram::LayerBias(int layer, int gate, int unit) const {
  return net_.layer[layer].bias[(unit / kPanel * Gates(net_.cell) + gate) * kPanel + unit % kPanel];
}

float RecurrentProgram::OutputWeight(int symbol, int k) const {
  return net_.output_weights[(Size(symbol / kPanel) * Size(net_.hidden) + Size(k)) * kPanel + Size(symbol % kPanel)];
}

void RecurrentProgram::Run(BlockView input, BlockView prompt, const RowRng& rng, MutableBlockView out) {
  RunWithLogits(input, prompt, rng, out, nullptr);
}

void RecurrentProgram::RunWithLogits(BlockView input, BlockView prompt, const RowRng& rng, MutableBlockView out,
                                     float* logits) {
  const int start = BeginRows(input, prompt, out);
  for (int first = 0; first < out.rows(); first += max_rows_) {
    const int rows = std::min(max_rows_, out.rows() - first);
    rngs_.clear();
    for (int r = 0; r < rows; ++r) rngs_.push_back(rng.ForRow(first + r));
    const BlockView part(input.row(first), rows, input.length(), input.stride());
    RunRecurrent(net_, part, start, rngs_, {out.row(first), rows, out.length(), out.stride()}, scratch_,
                 rows == out.rows() ? watch() : nullptr, stop(), logits);
  }
}

std::string RecurrentProgram::Describe() const {
  return absl::StrCat("layers=", net_.layers, " hidden=", net_.hidden, " embedding=", net_.embedding_width,
                      " embedding_scale=", embedding_scale_, " weight_factor=", weight_factor_,
                      " factor_in_force=", factor_, " temperature=", net_.temperature,
                      " prompt_length=", prompt_length_);
}

namespace {

class RecurrentFamily final : public Family {
 public:
  RecurrentFamily(Cell cell, RecurrentKnobs knobs, const FamilyContext& context)
      : cell_(cell), knobs_(std::move(knobs)), context_(context) {}

  bool reads_input() const override { return true; }

  double flops_per_token() const override {
    const double square = knobs_.hidden.Expect([](int hidden) { return static_cast<double>(hidden) * hidden; });
    return 2.0 * Gates(cell_) * square * (2.0 * knobs_.layers.mean() - 1.0) +
           2.0 * knobs_.hidden.mean() * context_.alphabet;
  }

  double most_seconds(int rows) const override {
    const Sizes most = LargestSizes(cell_, knobs_, context_, rows);
    const double gates = Gates(cell_);
    const double columns = gates * matrix::Padded(most.hidden);
    const double tokens = static_cast<double>(rows) * context_.length;
    // A group of units takes at most one kernel per gate, for this many rows at a time.
    const double calls = columns / kPanel * std::ceil(rows / static_cast<double>(kRecurrentChunkRows));
    double own = 0;  // weights of the layers that each token is multiplied with
    double step = rows * 2 * cost::TableRow(columns, columns * most.alphabet);
    for (int l = 0; l < most.layers; ++l) {
      const double inputs = (l == 0 ? 1.0 : 2.0) * most.hidden;
      own += gates * most.hidden * inputs;
      step += matrix::MultiplySeconds(rows, inputs, columns) + cost::kCall * calls + cost::kValue * rows * columns;
    }
    own += static_cast<double>(most.alphabet) * most.hidden;
    step += matrix::MultiplySeconds(rows, most.hidden, most.alphabet) + matrix::ChooseSeconds(rows, most.alphabet);
    // The product with a symbol is made once: for the input row's symbols many together, for those of the row written
    // one by one.
    const double embedded = matrix::MultiplySeconds(1, most.embedding, columns) +
                            matrix::MultiplySeconds(kRecurrentChunkRows, most.embedding, columns) / kRecurrentChunkRows;
    return context_.length * step + std::min<double>(tokens, most.alphabet) * embedded +
           cost::kWeight *
               (own + 2 * gates * most.hidden * most.embedding + static_cast<double>(most.alphabet) * most.embedding);
  }

  double program_bytes(int rows) const override {
    return static_cast<double>(ProgramFloats(LargestSizes(cell_, knobs_, context_, rows))) * sizeof(float);
  }

  std::unique_ptr<Program> NewProgram(int max_rows) const override {
    return std::make_unique<RecurrentProgram>(cell_, knobs_, context_, max_rows);
  }

 private:
  Cell cell_;
  RecurrentKnobs knobs_;
  FamilyContext context_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Family>> MakeRecurrentFamily(Cell cell, RecurrentKnobs knobs,
                                                            const FamilyContext& context, const std::string& path) {
  if (absl::Status s = CheckPromptLength(knobs.prompt_length, context, path); !s.ok()) return s;
  return std::make_unique<RecurrentFamily>(cell, std::move(knobs), context);
}

}  // namespace iterand
