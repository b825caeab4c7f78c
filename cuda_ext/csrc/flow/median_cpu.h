// Median of the pixels around each of kLanes pixels, by exchanges that forget what cannot be it.
#pragma once

#include "../common/simd.h"

namespace stnls {

inline void exchange(FloatV& low, FloatV& high) {
  const FloatV smaller = minimum(low, high);
  high = maximum(low, high);
  low = smaller;
}

// Of `count` values, the first kHeld = count / 2 + 2 of which are held at once: the smallest and
// the largest of those cannot be the median; they are let go, and the next value takes their place.
template <int count, class Next>
inline FloatV median_of(const Next& next) {
  constexpr int kHeld = count / 2 + 2;
  FloatV v[kHeld];
  for (int n = 0; n < kHeld; ++n) v[n] = next(n);
  int held = kHeld;
#pragma GCC unroll 32
  for (int n = kHeld; n <= count; ++n) {
    // The smallest to the front, the largest to the back.
    for (int i = 0; i < held / 2; ++i) exchange(v[i], v[held - 1 - i]);
    for (int i = 1; i < (held + 1) / 2; ++i) exchange(v[0], v[i]);
    for (int i = held / 2; i < held - 1; ++i) exchange(v[i], v[held - 1]);
    if (n == count) break;
    // The front's place is taken by the next value; the back goes.
    v[0] = next(n);
    --held;
  }
  return v[1];
}

inline FloatV median3x3(const float* const* rows, int64_t x) {
  return median_of<9>([&](int n) { return load(rows[n / 3] + x + n % 3 - 1); });
}

inline FloatV median5x5(const float* const* rows, int64_t x) {
  return median_of<25>([&](int n) { return load(rows[n / 5] + x + n % 5 - 2); });
}

}  // namespace stnls
