// Structural similarity (Wang, Bovik, Sheikh & Simoncelli 2004) of frames with their references.
#pragma once

#include <cstdint>

#include "../common/geometry.h"

namespace stnls {

constexpr int kSsimWindow = 11;
constexpr int kSsimBand = 16;  // rows of windows whose sum is one number of the output

struct SsimProblem {
  const void* reference;      // (references, channels, height, width) float32, as the frames
  const void* frames;         // (count, channels, height, width), all contiguous
  void* out;                  // (count, channels, bands) float64: sums over the windows inside
  int64_t count, references;  // frame n is compared with reference n modulo their number
  int64_t channels, height, width, bands;
  float taps[kSsimWindow + 1];  // of the window along one axis; they sum to 1
  float middle;                 // taken off before squares are summed, so that they lose less
  float c1, c2;                 // (0.01 L)^2 and (0.03 L)^2, L the range of values
};

// From the weighted means of x, y, x^2, y^2 and x y, x and y without the middle.
template <class Float>
STNLS_HD Float ssim_of_means(Float x, Float y, Float xx, Float yy, Float xy, float middle, float c1,
                             float c2) {
  const Float variance = (xx - x * x) + (yy - y * y), covariance = xy - x * y;
  x = x + middle;
  y = y + middle;
  const Float above = (x * y * 2.0f + c1) * (covariance * 2.0f + c2);
  return above / ((x * x + y * y + c1) * (variance + c2));
}

}  // namespace stnls
