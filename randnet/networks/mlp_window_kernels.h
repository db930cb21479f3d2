// The first layer of a network on a window of tokens (randnet/networks/mlp_window.h), vectors running across units.
#pragma once

#include <cstddef>
#include <cstdint>

namespace iterand {

// The first layer, read-only while it runs. After the last bias and the last weight there are matrix::kPanel floats
// that are read but not used.
struct MlpWindowFirst {
  int hidden = 0;
  const float* bias = nullptr;     // [hidden]
  const float* weights = nullptr;  // [place * symbols + code][hidden]
};

// states[r] = tanh(bias + the weights lines[r * line_stride + i], i < count, added in this order) for r < rows. A line
// is place * symbols + code. States are `stride` = matrix::Padded(hidden) floats apart and aligned; what is beyond
// `hidden` in them is not defined.
void MlpWindowLayer(const MlpWindowFirst& first, const std::int32_t* lines, std::ptrdiff_t line_stride, int count,
                    int rows, float* states);

}  // namespace iterand
