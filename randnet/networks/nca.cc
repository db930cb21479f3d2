#include "randnet/networks/nca.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "randnet/check.h"

namespace iterand {
namespace {

constexpr std::int64_t kMaxCells = 65536;

int PaddedFeatures(int features) { return (features + 3) / 4 * 4; }

// Symbols of patches of this many cells, marks included; more than any alphabet if it is too large to count.
std::int64_t Symbols(std::int64_t colours, std::int64_t cells, bool marks) {
  std::int64_t symbols = 1;
  for (std::int64_t i = 0; i < cells && symbols <= kMaxAlphabet; ++i) symbols *= colours;
  return symbols + (marks ? 2 : 0);
}

}  // namespace

NcaProgram::NcaProgram(const NcaKnobs& knobs, const FamilyContext& /*context*/) : knobs_(knobs) {
  net_.height = knobs.height;
  net_.width = knobs.width;
  const std::size_t colours = Size(knobs.colours.high());
  const std::size_t features = Size(PaddedFeatures(knobs.features.high()));
  const std::size_t hidden = Size(knobs.hidden.high());
  neighbour_weights_.reserve(Size(net_.positions()) * colours * features);
  draws_.reserve(neighbour_weights_.capacity());
  feature_bias_.reserve(features);
  hidden_weights_.reserve(hidden * features);
  hidden_bias_.reserve(hidden);
  output_weights_.reserve(colours * hidden);
  output_bias_.reserve(colours);
  logits_.reserve(colours * kNcaCells);
  grids_.resize(2 * net_.grid_cells());
}

void NcaProgram::DrawBias(Rng& rng, int count, matrix::Floats& bias) {
  bias.assign(Size(count), 0.0F);
  if (bias_scale_ != 0.0F) rng.FillNormal(bias_scale_, bias);
}

void NcaProgram::Sample(Rng& rng) {
  const auto scale = [this](int inputs) { return weight_scale_ / std::sqrt(static_cast<float>(inputs)); };
  net_.colours = knobs_.colours.Draw(rng);
  net_.features = knobs_.features.Draw(rng);
  net_.hidden = knobs_.hidden.Draw(rng);
  weight_scale_ = knobs_.weight_scale.Draw(rng);
  bias_scale_ = knobs_.bias_scale.Draw(rng);
  net_.identity_bias = knobs_.identity_bias.Draw(rng);
  net_.temperature = knobs_.temperature.Draw(rng);
  warm_up_ = knobs_.warm_up.Draw(rng);
  mark_ = static_cast<Symbol>(Symbols(net_.colours, knobs_.patch_height * knobs_.patch_width, false));

  const int inputs = net_.positions() * net_.colours;
  const int padded = net_.padded_features();
  draws_.resize(Size(inputs) * Size(net_.features));
  rng.FillNormal(scale(inputs), draws_);
  neighbour_weights_.assign(Size(inputs) * Size(padded), 0.0F);
  for (int i = 0; i < inputs; ++i) {
    std::copy_n(draws_.data() + Size(i) * Size(net_.features), net_.features,
                neighbour_weights_.data() + Size(i) * Size(padded));
  }
  DrawBias(rng, net_.features, feature_bias_);
  feature_bias_.resize(Size(padded), 0.0F);
  hidden_weights_.resize(Size(net_.hidden) * Size(net_.features));
  rng.FillNormal(scale(net_.features), hidden_weights_);
  DrawBias(rng, net_.hidden, hidden_bias_);
  output_weights_.resize(Size(net_.colours) * Size(net_.hidden));
  rng.FillNormal(scale(net_.hidden), output_weights_);
  DrawBias(rng, net_.colours, output_bias_);

  net_.neighbour_weights = neighbour_weights_.data();
  net_.feature_bias = feature_bias_.data();
  net_.hidden_weights = hidden_weights_.data();
  net_.hidden_bias = hidden_bias_.data();
  net_.output_weights = output_weights_.data();
  net_.output_bias = output_bias_.data();
}

// Writes a frame's tokens at the beginning of `out`, as many as fit, and makes `out` what is left.
void NcaProgram::WriteFrame(const Symbol* grid, std::span<Symbol>& out) const {
  if (knobs_.frame_marks && !out.empty()) {
    out[0] = mark_;
    out = out.subspan(1);
  }
  const int patch_height = knobs_.patch_height;
  const int patch_width = knobs_.patch_width;
  const std::ptrdiff_t stride = net_.stride();
  Symbol* to = out.data();
  std::size_t left = out.size();
  for (int y = 0; y < net_.height; y += patch_height) {
    const Symbol* row = grid + net_.origin() + y * stride;
    const std::size_t patches = std::min(left, Size(net_.width / patch_width));
    if (patch_height == 1 && patch_width == 1) {
      std::copy_n(row, patches, to);
    } else {
      for (std::size_t p = 0; p < patches; ++p, row += patch_width) {
        std::uint32_t value = 0;
        for (int dy = 0; dy < patch_height; ++dy) {
          for (int dx = 0; dx < patch_width; ++dx) {
            value = value * static_cast<std::uint32_t>(net_.colours) + row[dy * stride + dx];
          }
        }
        to[p] = static_cast<Symbol>(value);
      }
    }
    to += patches;
    left -= patches;
  }
  out = {to, left};
  if (knobs_.frame_marks && !out.empty()) {
    out[0] = static_cast<Symbol>(mark_ + 1);
    out = out.subspan(1);
  }
}

void NcaProgram::Run(BlockView input, BlockView /*prompt*/, const RowRng& rng, MutableBlockView out) {
  logits_.resize(Size(net_.colours) * kNcaCells);
  Symbol* grid = grids_.data();
  Symbol* next = grid + net_.grid_cells();
  const auto step = [&](Rng& row_rng) {
    NcaStep(net_, grid, next, logits_.data(), row_rng);
    std::swap(grid, next);
  };
  for (int r = 0; r < out.rows(); ++r) {
    Rng row_rng = rng.ForRow(r);
    const auto colours = static_cast<std::uint32_t>(net_.colours);
    int place = 0;
    for (int y = 0; y < net_.height; ++y) {
      Symbol* const row = grid + net_.origin() + y * net_.stride();
      for (int x = 0; x < net_.width; ++x) {
        if (knobs_.start_from_input) {
          row[x] = static_cast<Symbol>(input.row(r)[place] % colours);
          if (++place == input.length()) place = 0;
        } else {
          row[x] = static_cast<Symbol>(row_rng.Below(colours));
        }
      }
    }
    NcaWrap(net_, grid);
    for (int i = 0; i < warm_up_ && !stopped(); ++i) step(row_rng);
    std::span<Symbol> rest = out.row_span(r);
    WriteFrame(grid, rest);
    while (!rest.empty() && !stopped()) {
      step(row_rng);
      WriteFrame(grid, rest);
    }
  }
}

std::string NcaProgram::Describe() const {
  return absl::StrCat("height=", net_.height, " width=", net_.width, " colours=", net_.colours,
                      " features=", net_.features, " hidden=", net_.hidden, " weight_scale=", weight_scale_,
                      " bias_scale=", bias_scale_, " identity_bias=", net_.identity_bias,
                      " temperature=", net_.temperature, " warm_up=", warm_up_, " patch=", knobs_.patch_height, "x",
                      knobs_.patch_width, " frame_marks=", knobs_.frame_marks,
                      " start=", knobs_.start_from_input ? "INPUT" : "NOISE");
}

namespace {

class NcaFamily final : public Family {
 public:
  NcaFamily(NcaKnobs knobs, const FamilyContext& context) : knobs_(std::move(knobs)), context_(context) {}

  bool reads_input() const override { return knobs_.start_from_input; }

  double flops_per_token() const override {
    return RowFlops(knobs_.features.mean(), knobs_.hidden.mean(), knobs_.colours.mean(), knobs_.warm_up.mean()) /
           context_.length;
  }

  double most_seconds(int rows) const override {
    const double features = knobs_.features.high();
    const double hidden = knobs_.hidden.high();
    const double colours = knobs_.colours.high();
    const double padded = PaddedFeatures(knobs_.features.high());
    const double groups = std::ceil(cells() / kNcaCells);
    // Of a cell, and of the cells that are computed together. Where a colour can be drawn, any cell may draw one.
    const double perceived = positions() * (cost::kValue / 4 * padded + cost::Miss(positions() * colours * padded));
    const double drawn = knobs_.temperature.high() > 0 ? 4 * cost::kSymbol + 6 * cost::kValue * colours : 0;
    const double cell =
        perceived + 2 * cost::kFlop * hidden * (features + 1 + colours) + cost::kValue * colours + drawn;
    const double group = cost::kCall + kNcaCells * cell + cost::kRead * hidden * (features + colours);
    const double step = 2 * cost::kCall + cost::kSymbol * knobs_.height + groups * group;
    const double row = Steps(knobs_.warm_up.high()) * step + cost::kSymbol * (cells() + context_.length);
    return rows * row +
           cost::kWeight * ((positions() * colours + hidden + 1) * (features + 1) + (hidden + 1) * colours);
  }

  double program_bytes(int /*rows*/) const override {
    const double colours = knobs_.colours.high();
    const double features = PaddedFeatures(knobs_.features.high());
    const double hidden = knobs_.hidden.high();
    return 2048.0 +
           4.0 * (2 * positions() * colours * features + (hidden + 1) * (features + 1) + colours * (hidden + 1) +
                  colours * kNcaCells) +
           4.0 * (knobs_.height + 2.0) * (knobs_.width + 2.0);
  }

  std::unique_ptr<Program> NewProgram(int /*max_rows*/) const override {
    return std::make_unique<NcaProgram>(knobs_, context_);
  }

 private:
  double positions() const { return knobs_.height == 1 ? 3 : 9; }

  double cells() const { return static_cast<double>(knobs_.height) * knobs_.width; }

  // Of a row, in which every frame but the first takes a step.
  double Steps(double warm_up) const {
    const double tokens = cells() / (knobs_.patch_height * knobs_.patch_width) + (knobs_.frame_marks ? 2 : 0);
    return std::ceil(context_.length / tokens) + warm_up;
  }

  double RowFlops(double features, double hidden, double colours, double warm_up) const {
    return cells() * Steps(warm_up) * (positions() * features + 2 * hidden * (features + 1) + 2 * hidden * colours);
  }

  NcaKnobs knobs_;
  FamilyContext context_;
};

// Cells of a token along each side of the grid.
struct Patch {
  std::int64_t height;
  std::int64_t width;
};

// What the grid is covered with: what the message gives, or the largest patch that fits. Errors: InvalidArgument.
absl::StatusOr<Patch> MakePatch(const v1::Nca& config, std::int64_t width, const FamilyContext& context,
                                const std::string& path) {
  const std::int64_t height = config.height();
  const std::int64_t colours = IntegerKnob(config.colours()).high();
  const bool marks = config.frame_marks();
  Patch patch{config.patch_height(), config.patch_width()};
  if ((patch.height == 0) != (patch.width == 0)) {
    return absl::InvalidArgumentError(absl::StrCat(path, patch.height == 0 ? ".patch_height" : ".patch_width",
                                                   ": is 0, but ", patch.height == 0 ? "patch_width" : "patch_height",
                                                   " is given; both must be 0 or neither"));
  }
  if (patch.height == 0) {
    const auto fits = [&](std::int64_t h, std::int64_t w) {
      return height % h == 0 && width % w == 0 && Symbols(colours, h * w, marks) <= context.alphabet;
    };
    patch.height = fits(2, 2) ? 2 : 1;
    patch.width = patch.height == 2 || fits(1, 2) ? 2 : 1;
  }
  if (height % patch.height != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ".patch_height: is ", patch.height, ", must divide the height ", height));
  }
  if (width % patch.width != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ".patch_width: is ", patch.width, ", must divide the width ", width));
  }
  const std::int64_t symbols = Symbols(colours, patch.height * patch.width, marks);
  if (symbols > context.alphabet) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ".colours: ", colours, " colours and patches of ", patch.height, "x", patch.width, " cells",
                     marks ? " with frame_marks" : "", symbols > kMaxAlphabet ? " need more than " : " need ",
                     std::min<std::int64_t>(symbols, kMaxAlphabet), " symbols, alphabet_size is ", context.alphabet));
  }
  return patch;
}

absl::StatusOr<std::unique_ptr<Family>> Make(const v1::Family& family, const FamilyContext& context,
                                             const std::string& path) {
  const v1::Nca& config = family.nca();
  const std::int64_t width = config.width() == 0 ? context.length : config.width();
  if (config.height() * width > kMaxCells) {
    return absl::InvalidArgumentError(absl::StrCat(path, ".width: is ", width, ", which makes a grid of ",
                                                   config.height() * width, " cells with height ", config.height(),
                                                   "; a grid may have at most ", kMaxCells));
  }
  const absl::StatusOr<Patch> patch = MakePatch(config, width, context, path);
  if (!patch.ok()) return patch.status();
  return std::make_unique<NcaFamily>(NcaKnobs{.height = static_cast<int>(config.height()),
                                              .width = static_cast<int>(width),
                                              .patch_height = static_cast<int>(patch->height),
                                              .patch_width = static_cast<int>(patch->width),
                                              .frame_marks = config.frame_marks(),
                                              .start_from_input = config.start() == v1::Nca::INPUT,
                                              .colours = IntegerKnob(config.colours()),
                                              .features = IntegerKnob(config.features()),
                                              .hidden = IntegerKnob(config.hidden()),
                                              .weight_scale = RealKnob(config.weight_scale()),
                                              .bias_scale = RealKnob(config.bias_scale()),
                                              .identity_bias = RealKnob(config.identity_bias()),
                                              .temperature = RealKnob(config.temperature()),
                                              .warm_up = IntegerKnob(config.warm_up())},
                                     context);
}

}  // namespace

const FamilyEntry kNcaEntry = {v1::Family::kNca, "nca",
                               "neural cellular automaton: frames of a grid under a random local network", Make};

}  // namespace iterand
