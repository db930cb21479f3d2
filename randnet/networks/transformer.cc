// The family: its sizes, what its programs cost, and its parameters.
#include "randnet/networks/transformer.h"

#include <algorithm>
#include <cmath>

#include "randnet/networks/prompt.h"

namespace iterand {
namespace {

TransformerSizes LargestSizes(const TransformerKnobs& knobs, const FamilyContext& context) {
  TransformerSizes sizes;
  sizes.width = matrix::Padded(knobs.width.high());
  sizes.layers = std::max(knobs.layers.high(), knobs.layers.low() == 0 ? TransformerPaperLayers(sizes.width) : 1);
  sizes.heads = knobs.heads.high();
  sizes.feed_forward = knobs.feed_forward.high() * sizes.width;
  sizes.alphabet = context.alphabet;
  sizes.length = context.length;
  sizes.sequential = knobs.sequential;
  sizes.window = std::min(knobs.window, context.length);
  return sizes;
}

class TransformerFamily final : public Family {
 public:
  TransformerFamily(TransformerKnobs knobs, const FamilyContext& context)
      : knobs_(std::move(knobs)), context_(context), largest_(LargestSizes(knobs_, context)) {}

  bool reads_input() const override { return true; }

  double flops_per_token() const override {
    const double papers = knobs_.layers.Expect([](int layers) { return layers == 0 ? 1 : 0; });
    return knobs_.width.Expect([&](int drawn) {
      const int width = matrix::Padded(drawn);
      return Flops(width, knobs_.layers.mean() + papers * TransformerPaperLayers(width), knobs_.feed_forward.mean());
    });
  }

  double most_seconds(int rows) const override {
    const double width = largest_.width;
    const double weights = largest_.layers * Matrices(knobs_.feed_forward.high()) * width * width +
                           (2.0 * context_.alphabet + 1 + context_.length) * width;
    const double run = knobs_.sequential ? context_.length * StepSeconds(rows) : rows * RowSeconds();
    return run + cost::kWeight * weights;
  }

  double program_bytes(int rows) const override {
    const double width = largest_.width;
    const double inner = largest_.feed_forward;
    const auto linear = matrix::Linear::MaxFloats;
    double layer = linear(width, 3 * width) + linear(width, width) + linear(width, inner) + linear(inner, width);
    if (knobs_.sequential) layer += 2 * linear(width, width) + linear(width, 2 * width);
    const TransformerBuffers buffers = LargestBuffers(largest_, rows);
    return 4.0 * ((context_.alphabet + context_.length) * width + largest_.layers * layer +
                  linear(width, context_.alphabet + 1.0) + 7.0 * static_cast<double>(buffers.lines) * width +
                  TransformerProgram::kChunk * (inner + context_.alphabet + matrix::kPanel) +
                  static_cast<double>(buffers.cache) + static_cast<double>(buffers.scores) +
                  TransformerProgram::kQueries * width) +
           16.0 * rows;
  }

  std::unique_ptr<Program> NewProgram(int max_rows) const override {
    return std::make_unique<TransformerProgram>(knobs_, context_, largest_, max_rows);
  }

 private:
  // Weights of a layer, as a multiple of width x width.
  double Matrices(double feed_forward) const { return (knobs_.sequential ? 8 : 4) + 2 * feed_forward; }

  // The most time of `lines` lines where a layer does not attend: the feed-forward layer, and `single` products of
  // width x width.
  double LineSeconds(double lines, double single) const {
    const double width = largest_.width;
    const double inner = largest_.feed_forward;
    const double norms = knobs_.sequential ? 3 : 2;
    return single * matrix::MultiplySeconds(lines, width, width) + matrix::MultiplySeconds(lines, width, inner) +
           matrix::ActivationSeconds(lines, inner / 4) + matrix::MultiplySeconds(lines, inner, width) +
           norms * (lines * cost::kCall + matrix::ActivationSeconds(lines, width));
  }

  // The most time of all heads for `queries` queries that each see `keys` keys. The values of a head are padded to
  // whole panels.
  double AttendSeconds(double queries, double keys) const {
    const double heads = std::min(largest_.heads, largest_.width);
    const double width = std::ceil(largest_.width / heads);
    return heads * (matrix::MultiplySeconds(queries, width, keys) + matrix::MultiplySeconds(queries, keys, width) +
                    queries * (4 * cost::kSymbol + cost::kValue * keys) + cost::kCall);
  }

  double HeadSeconds(double lines) const {
    return matrix::MultiplySeconds(lines, largest_.width, context_.alphabet + 1.0) +
           matrix::ChooseSeconds(lines, context_.alphabet);
  }

  // PARALLEL: of a row.
  double RowSeconds() const {
    const double length = context_.length;
    const double queries =
        std::min<double>(TransformerProgram::kQueries, length);  // together; they see half of the row on average
    const double layer =
        LineSeconds(length, 4) + std::ceil(length / queries) * AttendSeconds(queries, (length + queries) / 2);
    return largest_.layers * layer + HeadSeconds(length);
  }

  // SEQUENTIAL: of a step.
  double StepSeconds(double rows) const {
    const double window = largest_.window;
    const double keys = window - window * window / (2.0 * context_.length);  // while it fills up they are fewer
    return largest_.layers * (LineSeconds(rows, 8) + 2 * rows * AttendSeconds(1, keys)) + HeadSeconds(rows);
  }

  double Flops(double width, double layers, double feed_forward) const {
    const double seen = knobs_.sequential ? 2.0 * largest_.window : context_.length / 2.0;
    return layers * (2 * Matrices(feed_forward) * width * width + 4 * seen * width) +
           2 * width * (context_.alphabet + 1.0);
  }

  TransformerKnobs knobs_;
  FamilyContext context_;
  TransformerSizes largest_;
};

absl::StatusOr<std::unique_ptr<Family>> Make(const v1::Family& family, const FamilyContext& context,
                                             const std::string& path) {
  const v1::Transformer& config = family.transformer();
  TransformerKnobs knobs{.sequential = config.mode() == v1::Transformer::SEQUENTIAL,
                         .mask = config.mask(),
                         .window = static_cast<int>(config.window()),
                         .width = IntegerKnob(config.width()),
                         .layers = IntegerKnob(config.layers()),
                         .heads = IntegerKnob(config.heads()),
                         .feed_forward = IntegerKnob(config.feed_forward()),
                         .embedding_scale = RealKnob(config.embedding_scale()),
                         .position_scale = RealKnob(config.position_scale()),
                         .weight_factor = RealKnob(config.weight_factor()),
                         .head_scale = RealKnob(config.head_scale()),
                         .head_bias_scale = RealKnob(config.head_bias_scale()),
                         .temperature = RealKnob(config.temperature()),
                         .prompt_length = IntegerKnob(config.prompt_length())};
  if (absl::Status s = CheckPromptLength(knobs.prompt_length, context, path); !s.ok()) return s;
  return std::make_unique<TransformerFamily>(std::move(knobs), context);
}

}  // namespace

const FamilyEntry kTransformerEntry = {v1::Family::kTransformer, "transformer",
                                       "random causal transformer that rewrites a row, or writes one token by token",
                                       Make};

}  // namespace iterand
