// Rounds of recurrent networks, and how benchmarks time them.
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "common/thread_clock.h"
#include "randnet/base/fma_peak.h"
#include "randnet/base/rng.h"
#include "randnet/family.h"

namespace iterand::bench {

inline constexpr int kAlphabet = 256;

// FLOP/s of the core now, over about 0.1 ms.
inline double MeasurePeak() {
  const double begin = ThreadSeconds();
  const double flops = RunFmas(50000);
  return flops / (ThreadSeconds() - begin);
}

// The value below which `share` of the values lie.
inline double Quantile(std::vector<double>& values, double share) {
  std::sort(values.begin(), values.end());
  return values[static_cast<std::size_t>(share * static_cast<double>(values.size() - 1))];
}

struct RecurrentShape {
  v1::Family::KindCase kind = v1::Family::kLstm;
  int layers = 1;
  int hidden = 32;
  int rows = 6;
  int length = 512;
  double weight_factor = 6;
  double embedding_scale = 0.1;
  double temperature = 0;

  // Such as "4x128/104": layers x hidden / rows.
  std::string name() const {
    return std::to_string(layers) + "x" + std::to_string(hidden) + "/" + std::to_string(rows) +
           (temperature > 0 ? "/drawn" : "");
  }
};

// What a round of a chain does with such a program: sample it, run it on noise.
class RecurrentRound {
 public:
  explicit RecurrentRound(const RecurrentShape& shape) : shape_(shape) {
    v1::Family config;
    switch (shape.kind) {
      case v1::Family::kGru:
        Configure(*config.mutable_gru());
        gates_ = 3;
        break;
      case v1::Family::kRnn:
        Configure(*config.mutable_rnn());
        gates_ = 1;
        break;
      default:
        Configure(*config.mutable_lstm());
        gates_ = 4;
        break;
    }
    const FamilyEntry* entry = FindFamily(config.kind_case());
    entry->Resolve(config);
    family_ = *entry->Make(config, {.alphabet = kAlphabet, .length = shape.length}, "bench");
    program_ = family_->NewProgram(shape.rows);
    input_.Reshape(shape.rows, shape.length);
    Rng rng(1, 2);
    for (int r = 0; r < shape.rows; ++r) {
      for (int t = 0; t < shape.length; ++t) input_.row(r)[t] = static_cast<Symbol>(rng.Below(kAlphabet));
    }
    prompt_.Reshape(shape.rows, kPromptLength);
    output_.Reshape(shape.rows, shape.length);
    Sample();
  }

  void Sample() {
    Rng rng = MakeRng({.round = round_++}, Purpose::kSampleProgram);
    program_->Sample(rng);
  }

  void Run() { program_->Run(input_.view(), prompt_.view(), RowRng({}), output_.mutable_view()); }

  double tokens() const { return static_cast<double>(shape_.rows) * shape_.length; }

  // Of the matrix products that run: the last token is not read, and no logits are made while the prompt is.
  double flops() const {
    const double hidden = shape_.hidden;
    const double layers = 2 * gates_ * hidden * hidden * (2 * shape_.layers - 1);
    const double output = 2 * hidden * kAlphabet;
    return shape_.rows * ((shape_.length - 1) * layers + (shape_.length - kPromptLength) * output);
  }

 private:
  static constexpr int kPromptLength = 8;

  template <class Config>
  void Configure(Config& config) const {
    config.mutable_layers()->set_fixed(shape_.layers);
    config.mutable_hidden()->set_fixed(shape_.hidden);
    config.mutable_weight_factor()->set_fixed(shape_.weight_factor);
    config.mutable_embedding_scale()->set_fixed(shape_.embedding_scale);
    config.mutable_temperature()->set_fixed(shape_.temperature);
    config.mutable_prompt_length()->set_fixed(kPromptLength);
  }

  RecurrentShape shape_;
  int gates_ = 0;
  std::unique_ptr<Family> family_;
  std::unique_ptr<Program> program_;
  Block input_;
  Block prompt_;
  Block output_;
  std::uint64_t round_ = 0;
};

}  // namespace iterand::bench
