// Average of the matched patches that cover each pixel, sampled by bicubic convolution.
#pragma once

#include <cstdint>

#include "../common/geometry.h"
#include "../search/problem.h"

namespace stnls {

struct BlendProblem {
  const void* video;   // (batch, channels, height, width), all tensors contiguous
  const void* offset;  // (batch, height, width, 2) = (dh, dw), finite
  const void* weight;  // (batch, height, width), above 0
  void* out;           // as video
  int64_t batch, channels, height, width;
  int64_t ps, dtype;
};

// Keys 1981 with a = -3/4: the weights of the pixels -1, 0, 1, 2 for a place x in [0, 1).
template <class Real>
STNLS_HD void cubic_weights(Real x, Real* w) {
  const Real a = Real(-0.75), rest = Real(1) - x;
  const auto outer = [a](Real d) {  // 1 <= d <= 2
    return ((a * d - Real(5) * a) * d + Real(8) * a) * d - Real(4) * a;
  };
  const auto inner = [a](Real d) {  // 0 <= d <= 1
    return ((a + Real(2)) * d - (a + Real(3))) * d * d + Real(1);
  };
  w[0] = outer(x + Real(1));
  w[1] = inner(x);
  w[2] = inner(rest);
  w[3] = outer(rest + Real(1));
}

// The place of a match along one axis: the pixel below it and the weights of the pixels around it.
// Far beyond the frame, where nothing but the reflection counts, it is folded back first, so that
// it fits an integer; an offset that is no number stays one.
template <class Real>
struct CubicPlace {
  int64_t low;
  Real weights[4];
};

template <class Real>
STNLS_HD CubicPlace<Real> cubic_place(int64_t at, Real offset, int64_t length) {
  const Real period = static_cast<Real>(length > 1 ? 2 * (length - 1) : 1);
  if (!(std::fabs(offset) < Real(1 << 24))) offset = std::fmod(offset, period);
  const Real floor_offset = std::floor(offset);
  CubicPlace<Real> place;
  place.low = at + (offset == offset ? static_cast<int64_t>(floor_offset) : 0);
  cubic_weights(offset - floor_offset, place.weights);
  return place;
}

// One sample; pixels beyond the frame are those reflected at its border.
template <class Real>
STNLS_HD Real cubic_sample(const Real* plane, const CubicPlace<Real>& h, const CubicPlace<Real>& w,
                           int64_t tap_h, int64_t tap_w, int64_t height, int64_t width) {
  Real total = Real(0);
  for (int i = 0; i < 4; ++i) {
    const Real* row = plane + reflect(h.low + tap_h + i - 1, height) * width;
    Real line = Real(0);
    for (int j = 0; j < 4; ++j) line += w.weights[j] * row[reflect(w.low + tap_w + j - 1, width)];
    total += h.weights[i] * line;
  }
  return total;
}

}  // namespace stnls
