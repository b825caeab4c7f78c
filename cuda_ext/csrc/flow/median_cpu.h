// Median filter of rows of pixels, kLanes at a time.
#pragma once

#include <cstdint>
#include <vector>

#include "../common/simd.h"

namespace stnls {
// What the networks are made of.
inline FloatV lower(FloatV a, FloatV b) { return minimum(a, b); }
inline FloatV upper(FloatV a, FloatV b) { return maximum(a, b); }
}  // namespace stnls

#include "median_network.h"

namespace stnls {

// Medians of 3 x 3 around the pixels from x on; rows: above, here and below.
inline FloatV median3x3(const float* const* rows, int64_t x) {
  FloatV columns[3][3];
  for (int j = 0; j < 3; ++j) {
    for (int i = 0; i < 3; ++i) columns[j][i] = load(rows[i] + x + j - 1);
    sort3(columns[j]);
  }
  const FloatV *a = columns[0], *b = columns[1], *c = columns[2];
  // The median of the largest minimum, the median of the middles, and the smallest maximum.
  FloatV middles[3] = {a[1], b[1], c[1]};
  sort3(middles);
  FloatV three[3] = {upper(upper(a[0], b[0]), c[0]), middles[1], lower(lower(a[2], b[2]), c[2])};
  sort3(three);
  return three[1];
}

// Medians of 5 x 5 of a row. Neighbouring pixels share the sorted columns around them and the
// merged pairs of these, which are kept in memory.
class Median5x5 {
 public:
  explicit Median5x5(int64_t width)
      : pitch_(round_up_to_lanes(width + 4) + kLanes), kept_(static_cast<size_t>(15 * pitch_)) {}

  // rows: the five around, readable from two pixels before their first one to kLanes + 4 behind the
  // last of `width`; out: up to kLanes behind it is written.
  void operator()(const float* const* rows, int64_t width, float* out) {
    for (int64_t x = 0; x < width + 4; x += kLanes) {
      FloatV column[5];
      for (int i = 0; i < 5; ++i) column[i] = load(rows[i] + x - 2);
      sort5(column);
      for (int i = 0; i < 5; ++i) store(sorted(i) + x, column[i]);
    }
    for (int64_t x = 0; x < width + 3; x += kLanes) {
      FloatV left[5], right[5], pair[10];
      for (int i = 0; i < 5; ++i) {
        left[i] = load(sorted(i) + x);
        right[i] = load(sorted(i) + x + 1);
      }
      merge5(left, right, pair);
      for (int i = 0; i < 10; ++i) store(merged(i) + x, pair[i]);
    }
    for (int64_t x = 0; x < width; x += kLanes) {
      FloatV left[10], right[10], six[6], column[5];
      for (int i = 0; i < 10; ++i) {
        left[i] = load(merged(i) + x);
        right[i] = load(merged(i) + x + 3);
      }
      for (int i = 0; i < 5; ++i) column[i] = load(sorted(i) + x + 2);
      middle_six(left, right, six);
      store(out + x, sixth(six, column));
    }
  }

 private:
  float* sorted(int i) { return kept_.data() + i * pitch_; }
  float* merged(int i) { return kept_.data() + (5 + i) * pitch_; }

  int64_t pitch_;
  std::vector<float> kept_;
};

}  // namespace stnls
