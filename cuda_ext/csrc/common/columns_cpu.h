// A few columns of a patch as a vector (CPU): patches are narrow, and those of AVX-512 would be
// mostly empty.
#pragma once

#include "simd.h"

namespace stnls {

#if defined(__AVX__) && defined(__FMA__)
constexpr int kColumns = 8;
using Columns = float __attribute__((vector_size(4 * kColumns)));
inline Columns fused(Columns a, Columns b, Columns c) { return _mm256_fmadd_ps(a, b, c); }
#else
constexpr int kColumns = kLanes;
using Columns = FloatV;
inline Columns fused(Columns a, Columns b, Columns c) { return a * b + c; }
#endif

// A bit pattern for each column: all ones or all zeros.
using ColumnMask = int32_t __attribute__((vector_size(4 * kColumns)));

// The first `count` columns.
inline ColumnMask first_columns(int count) {
  static constexpr struct Ones {
    int32_t at[2 * kColumns] = {};
    constexpr Ones() {
      for (int j = 0; j < kColumns; ++j) at[j] = -1;
    }
  } ones;
  ColumnMask mask;
  std::memcpy(&mask, ones.at + kColumns - (count < kColumns ? count : kColumns), sizeof mask);
  return mask;
}

// Zeros elsewhere, also in the place of what is no number.
inline Columns masked(ColumnMask mask, Columns v) { return (Columns)(mask & (ColumnMask)v); }

inline Columns load_columns(const float* from) {
  Columns v;
  std::memcpy(&v, from, sizeof v);
  return v;
}
inline void store_columns(float* to, Columns v) { std::memcpy(to, &v, sizeof v); }

}  // namespace stnls
