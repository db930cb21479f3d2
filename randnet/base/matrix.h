// Random linear layers: packed weights, their product with many inputs at once, and the choice of a symbol by its
// logit.
//
// Layout. Outputs are cut into panels of kPanel = 16; a panel is [k][16]: for each input k the weights of its 16
// outputs. The last panel is filled up with zero weights. The layout is the same for every vector width.
//
// chain(a; w, v) means the value of a after a = fma(w_k, v_k, a) for k ascending. Every output is one such chain, and
// vectors run across the outputs of a panel, so that a product depends neither on the vector width nor on how many
// inputs are multiplied side by side.
#pragma once

#include <cmath>
#include <cstddef>
#include <new>
#include <vector>

#include "randnet/base/rng.h"
#include "randnet/block.h"
#include "randnet/cost.h"

namespace iterand::matrix {

inline constexpr int kPanel = 16;
inline constexpr std::size_t kAlignment = 64;  // bytes

constexpr int Padded(int count) { return (count + kPanel - 1) / kPanel * kPanel; }

// Vectors that begin at a multiple of kAlignment.
template <typename T>
struct AlignedAllocator {
  using value_type = T;
  AlignedAllocator() = default;
  template <typename U>
  AlignedAllocator(const AlignedAllocator<U>&) {}  // NOLINT(google-explicit-constructor)
  T* allocate(std::size_t count) {
    return static_cast<T*>(::operator new(count * sizeof(T), std::align_val_t{kAlignment}));
  }
  void deallocate(T* memory, std::size_t /*count*/) { ::operator delete(memory, std::align_val_t{kAlignment}); }
  bool operator==(const AlignedAllocator&) const { return true; }
};
using Floats = std::vector<float, AlignedAllocator<float>>;

// out[r][n] = chain(bias_n; W_n, in[r]) for r < rows and n < Padded(outputs); a null bias is zero. `in` has `inputs`
// floats per row, in_stride floats apart; `weights` is panels, panel_stride floats apart (inputs * kPanel where they
// are dense); `out` rows are out_stride floats apart. weights, bias, out and out_stride are aligned to whole panels; in
// need not be.
void Multiply(const float* in, std::ptrdiff_t in_stride, int rows, int inputs, const float* weights,
              std::ptrdiff_t panel_stride, int outputs, const float* bias, float* out, std::ptrdiff_t out_stride);

// values[i] = tanh(values[i]) (math::Tanh); `count` is a multiple of kPanel and values are aligned.
void Tanh(float* values, std::size_t count);

// values[i] = max(values[i], 0), where NaN cannot occur; likewise.
void Relu(float* values, std::size_t count);

// The next symbol of `symbols` by their logits, as randnet/networks/recurrent.h defines it under "Next token": at a
// temperature below 1e-6 the largest, else drawn by one Uniform() of rng. `logits` has Padded(symbols) floats, aligned;
// they are overwritten.
Symbol Choose(float* logits, int symbols, float temperature, Rng& rng);

// A linear layer with weights of its own.
class Linear {
 public:
  // Makes memory for a layer of at most this many inputs and outputs.
  void Reserve(int inputs, int outputs);
  // Draws the layer: the biases, bias_scale * Normal() each (none is drawn and they are zero where bias_scale is 0);
  // then, for every panel, for every input k ascending, for every output of the panel: scale * Normal().
  void Draw(Rng& rng, int inputs, int outputs, float scale, float bias_scale);

  int inputs() const { return inputs_; }
  int outputs() const { return outputs_; }
  float weight(int output, int input) const {
    return weights_[(static_cast<std::size_t>(output / kPanel) * static_cast<std::size_t>(inputs_) +
                     static_cast<std::size_t>(input)) *
                        kPanel +
                    static_cast<std::size_t>(output % kPanel)];
  }
  float bias(int output) const { return bias_[static_cast<std::size_t>(output)]; }

  // Multiply with this layer's weights and biases.
  void Apply(const float* in, std::ptrdiff_t in_stride, int rows, float* out, std::ptrdiff_t out_stride) const {
    Multiply(in, in_stride, rows, inputs_, weights_.data(), static_cast<std::ptrdiff_t>(inputs_) * kPanel, outputs_,
             bias_.data(), out, out_stride);
  }

  // Floats that a layer of this size takes, draws included.
  static double MaxFloats(double inputs, double outputs) {
    return (inputs + 1) * (outputs + kPanel) + (inputs + 1) * kPanel;
  }

 private:
  int inputs_ = 0;
  int outputs_ = 0;
  Floats weights_;
  Floats bias_;
  Floats draws_;  // of a last panel that has fewer than kPanel outputs
};

// ---- Seconds that these may take (randnet/cost.h), of sizes that need not be whole. ----

inline double PaddedCount(double count) { return std::ceil(count / kPanel) * kPanel; }

inline double MultiplySeconds(double rows, double inputs, double outputs) {
  // Beginning and ending a panel's chains takes as long as some inputs; each weight is read once for all rows.
  return cost::kCall + (inputs + kPanel) * PaddedCount(outputs) * (2 * cost::kFlop * rows + cost::kRead);
}

// For Tanh, Relu and the like.
inline double ActivationSeconds(double rows, double width) {
  return cost::kCall + cost::kValue * rows * PaddedCount(width);
}

// For a choice in each row.
inline double ChooseSeconds(double rows, double symbols) {
  return rows * (cost::kCall + cost::kValue * PaddedCount(symbols));
}

}  // namespace iterand::matrix
