#include "randnet/networks/transformer_kernels.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "randnet/base/matrix.h"
#include "randnet/base/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "randnet/networks/transformer_kernels.cc"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"
#include "randnet/base/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace iterand::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace {

constexpr int kSums = matrix::kPanel;
using D = HWY_CAPPED(float, kSums);
using V = hn::Vec<D>;
constexpr int kLanes = static_cast<int>(hn::MaxLanes(D()));
constexpr int kVectors = kSums / kLanes;

// The sixteen partial sums of a row.
struct PartialSums {
  V sum[kVectors];
  HWY_INLINE PartialSums() {
    for (V& s : sum) s = hn::Zero(D());
  }
  HWY_INLINE float Total() const {
    HWY_ALIGN float sums[kSums];
    for (int v = 0; v < kVectors; ++v) hn::Store(sum[v], D(), sums + v * kLanes);
    float total = sums[0];
    for (int j = 1; j < kSums; ++j) total += sums[j];
    return total;
  }
};

// AttentionWeights.
HWY_INLINE float MakeWeights(float* HWY_RESTRICT scores, int count, int padded, float scale) {
  const D d;
  const int used = matrix::Padded(count);
  std::fill(scores + count, scores + used, std::numeric_limits<float>::lowest());
  V most[kVectors];
  for (int v = 0; v < kVectors; ++v) most[v] = hn::Load(d, scores + v * kLanes);
  for (int j = kSums; j < used; j += kSums) {
    for (int v = 0; v < kVectors; ++v) most[v] = hn::Max(most[v], hn::Load(d, scores + j + v * kLanes));
  }
  V top = most[0];
  for (int v = 1; v < kVectors; ++v) top = hn::Max(top, most[v]);
  top = hn::MaxOfLanes(d, top);
  const V factor = hn::Set(d, scale);
  int n = 0;
  for (; n + 4 * kLanes <= used; n += 4 * kLanes) {
    V weight[4];
    HWY_UNROLL(4)
    for (int i = 0; i < 4; ++i) weight[i] = hn::Mul(hn::Sub(hn::Load(d, scores + n + i * kLanes), top), factor);
    vmath::GateExpEach<1, 1, 1, 1>(d, weight);
    HWY_UNROLL(4)
    for (int i = 0; i < 4; ++i) hn::Store(weight[i], d, scores + n + i * kLanes);
  }
  for (; n < used; n += kLanes) {
    const V distance = hn::Mul(hn::Sub(hn::Load(d, scores + n), top), factor);
    hn::Store(vmath::GateExp<1>(d, distance), d, scores + n);
  }
  std::fill(scores + count, scores + padded, 0.0F);
  PartialSums sums;
  for (int j = 0; j < used; j += kSums) {
    HWY_UNROLL(4)
    for (int v = 0; v < kVectors; ++v) sums.sum[v] = hn::Add(sums.sum[v], hn::Load(d, scores + j + v * kLanes));
  }
  return 1.0F / sums.Total();
}

// ---- A step of many rows: AttendStep. ----

// scores = the chains of kPanels panels of keys.
template <int kPanels>
HWY_INLINE void Score(const float* HWY_RESTRICT keys, int width, const float* HWY_RESTRICT query,
                      float* HWY_RESTRICT scores) {
  const D d;
  V sum[kPanels][kVectors];
  for (int p = 0; p < kPanels; ++p) {
    for (int v = 0; v < kVectors; ++v) sum[p][v] = hn::Zero(d);
  }
  const std::ptrdiff_t panel = static_cast<std::ptrdiff_t>(width) * kSums;
  for (int c = 0; c < width; ++c, keys += kSums) {
    const V q = hn::Set(d, query[c]);
    HWY_UNROLL(4)
    for (int p = 0; p < kPanels; ++p) {
      HWY_UNROLL(4)
      for (int v = 0; v < kVectors; ++v) {
        sum[p][v] = hn::MulAdd(q, hn::Load(d, keys + p * panel + v * kLanes), sum[p][v]);
      }
    }
  }
  for (int p = 0; p < kPanels; ++p) {
    for (int v = 0; v < kVectors; ++v) hn::Store(sum[p][v], d, scores + p * kSums + v * kLanes);
  }
}

// The attention weights of all heads of a row, rows.slots floats apart, and the inverses of their sums.
HWY_INLINE void WeighKeys(const AttendedRows& rows, int row, float scale, float* scores, float* inverse) {
  const float* query = rows.query + row * rows.query_stride;
  const float* keys = rows.caches + row * rows.CacheFloats();
  const std::ptrdiff_t panel = static_cast<std::ptrdiff_t>(rows.width) * kSums;
  const int padded = matrix::Padded(rows.keys);
  for (int head = 0; head < rows.heads; ++head, query += rows.width, scores += rows.slots) {
    int j = 0;
    for (; j + 4 * kSums <= padded; j += 4 * kSums) Score<4>(keys + j / kSums * panel, rows.width, query, scores + j);
    for (; j < padded; j += kSums) Score<1>(keys + j / kSums * panel, rows.width, query, scores + j);
    inverse[head] = MakeWeights(scores, rows.keys, padded, scale);
    keys += rows.slots / kSums * panel;
  }
}

// A panel of channels of one row.
struct Unit {
  const float* values;  // [slot][kSums]
  const float* scores;  // of the first head that has channels here
  const float* inverse;
  float* out;
  int heads;  // that have channels here
  int width;  // channels of a head
  int begin;  // of the first head, as a lane; 0 or less
};

HWY_INLINE Unit MakeUnit(const AttendedRows& rows, int row, int panel, const float* scores, const float* inverse) {
  const int channel = panel * kSums;
  const int head = channel / rows.width;
  const float* const values = rows.caches + row * rows.CacheFloats() + rows.CacheFloats() / 2;
  return {.values = values + static_cast<std::ptrdiff_t>(channel) * rows.slots,
          .scores = scores + static_cast<std::ptrdiff_t>(head) * rows.slots,
          .inverse = inverse + head,
          .out = rows.out + row * rows.out_stride + channel,
          .heads = (channel + kSums - 1) / rows.width - head + 1,
          .width = rows.width,
          .begin = head * rows.width - channel};
}

// For each lane the value of its head, of which values[0] is the first head's; heads' values are `stride` floats apart.
// kHeads is 1, 2 or, for any number, 0.
template <int kHeads>
HWY_INLINE V OfHeads(const Unit& unit, const float* values, std::ptrdiff_t stride, int v) {
  const D d;
  const hn::RebindToSigned<D> di;
  V value = hn::Set(d, values[0]);
  if constexpr (kHeads == 1) return value;
  const auto lane = hn::Iota(di, v * kLanes);
  const auto from = [&](int head) {
    return hn::RebindMask(d, hn::Gt(lane, hn::Set(di, unit.begin + head * unit.width - 1)));
  };
  if constexpr (kHeads == 2) return hn::IfThenElse(from(1), hn::Set(d, values[unit.heads == 1 ? 0 : stride]), value);
  for (int h = 1; h < unit.heads; ++h) value = hn::IfThenElse(from(h), hn::Set(d, values[h * stride]), value);
  return value;
}

// out = chain(0; values, weights) * inverse for kUnits panels, whose chains run side by side.
template <int kUnits, int kHeads>
HWY_INLINE void Values(const Unit* units, int keys, std::ptrdiff_t slots) {
  const D d;
  V sum[kUnits][kVectors];
  HWY_UNROLL(4)
  for (int i = 0; i < kUnits; ++i) {
    HWY_UNROLL(4)
    for (int v = 0; v < kVectors; ++v) sum[i][v] = hn::Zero(d);
  }
  for (int j = 0; j < keys; ++j) {
    HWY_UNROLL(4)
    for (int i = 0; i < kUnits; ++i) {
      HWY_UNROLL(4)
      for (int v = 0; v < kVectors; ++v) {
        const V weight = OfHeads<kHeads>(units[i], units[i].scores + j, slots, v);
        sum[i][v] = hn::MulAdd(weight, hn::Load(d, units[i].values + j * kSums + v * kLanes), sum[i][v]);
      }
    }
  }
  HWY_UNROLL(4)
  for (int i = 0; i < kUnits; ++i) {
    HWY_UNROLL(4)
    for (int v = 0; v < kVectors; ++v) {
      hn::Store(hn::Mul(sum[i][v], OfHeads<kHeads>(units[i], units[i].inverse, 1, v)), d, units[i].out + v * kLanes);
    }
  }
}

template <int kUnits = 1>
HWY_INLINE void SomeValues(const Unit* units, int count, int heads, int keys, std::ptrdiff_t slots) {
  if constexpr (kUnits < kAttendUnits) {
    if (count > kUnits) return SomeValues<kUnits + 1>(units, count, heads, keys, slots);
  }
  if (heads == 1) return Values<kUnits, 1>(units, keys, slots);
  if (heads == 2) return Values<kUnits, 2>(units, keys, slots);
  Values<kUnits, 0>(units, keys, slots);
}

}  // namespace

void AddAndNormalise(const float* added, std::ptrdiff_t added_stride, int rows, int width, float* values,
                     std::ptrdiff_t stride) {
  const D d;
  const auto count = static_cast<float>(width);
  for (int r = 0; r < rows; ++r, added += added_stride, values += stride) {
    PartialSums sums;
    for (int n = 0; n < width; n += kSums) {
      for (int v = 0; v < kVectors; ++v) {
        float* const at = values + n + v * kLanes;
        const V x = hn::Add(hn::Load(d, at), hn::Load(d, added + n + v * kLanes));
        hn::Store(x, d, at);
        sums.sum[v] = hn::Add(sums.sum[v], x);
      }
    }
    const V mean = hn::Set(d, sums.Total() / count);
    PartialSums squares;
    for (int n = 0; n < width; n += kSums) {
      for (int v = 0; v < kVectors; ++v) {
        float* const at = values + n + v * kLanes;
        const V x = hn::Sub(hn::Load(d, at), mean);
        hn::Store(x, d, at);
        squares.sum[v] = hn::MulAdd(x, x, squares.sum[v]);
      }
    }
    const V inverse = hn::Set(d, 1.0F / std::sqrt(squares.Total() / count + 1e-5F));
    for (int n = 0; n < width; n += kLanes) hn::Store(hn::Mul(hn::Load(d, values + n), inverse), d, values + n);
  }
}

float AttentionWeights(float* scores, int count, int padded, float scale) {
  return MakeWeights(scores, count, padded, scale);
}

void AttendStep(const AttendedRows& rows, float scale, float* scores) {
  const int panels = rows.heads * rows.width / kSums;
  const std::ptrdiff_t row_scores = static_cast<std::ptrdiff_t>(rows.heads) * rows.slots;
  float inverse[kAttendUnits * kMaxHeads];
  const int together = AttendTogether(panels);
  for (int first = 0; first < rows.rows; first += together) {
    const int count = std::min(together, rows.rows - first);
    for (int r = 0; r < count; ++r) {
      WeighKeys(rows, first + r, scale, scores + r * row_scores, inverse + r * rows.heads);
    }
    for (int unit = 0; unit < count * panels; unit += kAttendUnits) {
      Unit units[kAttendUnits];
      const int some = std::min(kAttendUnits, count * panels - unit);
      int most = 1;
      for (int i = 0; i < some; ++i) {
        const int r = (unit + i) / panels;
        units[i] = MakeUnit(rows, first + r, (unit + i) % panels, scores + r * row_scores, inverse + r * rows.heads);
        most = std::max(most, units[i].heads);
      }
      SomeValues(units, some, most, rows.keys, rows.slots);
    }
  }
}

}  // namespace iterand::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace iterand {

HWY_EXPORT(AddAndNormalise);
HWY_EXPORT(AttentionWeights);
HWY_EXPORT(AttendStep);

void AddAndNormalise(const float* added, std::ptrdiff_t added_stride, int rows, int width, float* values,
                     std::ptrdiff_t stride) {
  HWY_DYNAMIC_DISPATCH(AddAndNormalise)(added, added_stride, rows, width, values, stride);
}

float AttentionWeights(float* scores, int count, int padded, float scale) {
  return HWY_DYNAMIC_DISPATCH(AttentionWeights)(scores, count, padded, scale);
}

void AttendStep(const AttendedRows& rows, float scale, float* scores) {
  HWY_DYNAMIC_DISPATCH(AttendStep)(rows, scale, scores);
}

}  // namespace iterand
#endif  // HWY_ONCE
