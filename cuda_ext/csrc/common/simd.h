// Vectors of the width of the instruction set that this translation unit is compiled for, through
// the vector extensions of GCC and Clang: no intrinsics, any architecture.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX512F__) || (defined(__AVX__) && defined(__FMA__))
#include <immintrin.h>
#endif

namespace stnls {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

using FloatV = float __attribute__((vector_size(4 * kLanes)));
using IntV = int32_t __attribute__((vector_size(4 * kLanes)));
using UIntV = uint32_t __attribute__((vector_size(4 * kLanes)));

inline FloatV load(const float* from) {
  FloatV v;
  std::memcpy(&v, from, sizeof v);
  return v;
}
inline IntV load(const int32_t* from) {
  IntV v;
  std::memcpy(&v, from, sizeof v);
  return v;
}
inline void store(float* to, FloatV v) { std::memcpy(to, &v, sizeof v); }
inline void store(int32_t* to, IntV v) { std::memcpy(to, &v, sizeof v); }

inline FloatV broadcast(float x) { return FloatV{} + x; }
inline IntV broadcast(int32_t x) { return IntV{} + x; }

// 0, 1, 2, ...
inline IntV lane_numbers() {
  int32_t lanes[kLanes];
  for (int32_t lane = 0; lane < kLanes; ++lane) lanes[lane] = lane;
  return load(lanes);
}

inline FloatV to_float(IntV v) { return __builtin_convertvector(v, FloatV); }
inline IntV truncate(FloatV v) { return __builtin_convertvector(v, IntV); }
inline IntV floor_to_int(FloatV v) {
  const IntV i = truncate(v);
  return i + (to_float(i) > v);
}

#if defined(__AVX2__) && !defined(__AVX512F__)
// GCC would compare the mask with zero first.
inline FloatV select(IntV mask, FloatV a, FloatV b) { return _mm256_blendv_ps(b, a, (__m256)mask); }
inline IntV select(IntV mask, IntV a, IntV b) {
  return (IntV)_mm256_blendv_ps((__m256)b, (__m256)a, (__m256)mask);
}
#else
inline FloatV select(IntV mask, FloatV a, FloatV b) { return mask ? a : b; }
inline IntV select(IntV mask, IntV a, IntV b) { return mask ? a : b; }
#endif

// a b + c, fused where the hardware can: the compiler itself may not fuse (see CMakeLists.txt).
inline FloatV multiply_add(FloatV a, FloatV b, FloatV c) {
#if defined(__AVX512F__)
  return _mm512_fmadd_ps(a, b, c);
#elif defined(__AVX__) && defined(__FMA__)
  return _mm256_fmadd_ps(a, b, c);
#else
  return a * b + c;
#endif
}

// The smaller and the larger; b if one of them is not a number. (The plain forms for AVX-512 make
// GCC 12 warn of what they leave undefined.)
inline FloatV minimum(FloatV a, FloatV b) {
#if defined(__AVX512F__)
  return _mm512_maskz_min_ps(0xffff, a, b);
#elif defined(__AVX__) && defined(__FMA__)
  return _mm256_min_ps(a, b);
#else
  return select(a < b, a, b);
#endif
}
inline FloatV maximum(FloatV a, FloatV b) {
#if defined(__AVX512F__)
  return _mm512_maskz_max_ps(0xffff, a, b);
#elif defined(__AVX__) && defined(__FMA__)
  return _mm256_max_ps(a, b);
#else
  return select(a > b, a, b);
#endif
}
inline IntV minimum(IntV a, IntV b) { return a < b ? a : b; }
inline IntV maximum(IntV a, IntV b) { return a > b ? a : b; }

// Where place <= last and key < best: best = key and best_id = id.
inline void keep_smaller(IntV place, IntV last, FloatV key, IntV id, FloatV& best, IntV& best_id) {
#if defined(__AVX512F__)
  const __mmask16 inside = _mm512_cmple_epi32_mask((__m512i)place, (__m512i)last);
  const __mmask16 better = _mm512_mask_cmp_ps_mask(inside, key, best, _CMP_LT_OQ);
  best = _mm512_mask_mov_ps(best, better, key);
  best_id = (IntV)_mm512_mask_mov_epi32((__m512i)best_id, better, (__m512i)id);
#elif defined(__AVX2__) && defined(__FMA__)
  const FloatV inside = _mm256_or_ps(key, (__m256)(place > last));  // elsewhere not a number
  best_id = select((IntV)_mm256_cmp_ps(inside, best, _CMP_LT_OQ), id, best_id);
  best = minimum(inside, best);
#else
  const IntV better = (place <= last) & (key < best);
  best = select(better, key, best);
  best_id = select(better, id, best_id);
#endif
}

inline bool any(IntV mask) {
#if defined(__AVX512F__) && defined(__AVX512DQ__)
  return _mm512_movepi32_mask((__m512i)mask) != 0;
#elif defined(__AVX__) && defined(__FMA__)
  return _mm256_movemask_ps((__m256)mask) != 0;
#else
  int32_t lanes[kLanes];
  std::memcpy(lanes, &mask, sizeof mask);
  int32_t all = 0;
  for (int lane = 0; lane < kLanes; ++lane) all |= lanes[lane];
  return all != 0;
#endif
}

#if defined(__AVX512F__)
// Lanes n, n + 1, ... of two vectors that follow each other.
template <int n>
inline FloatV shifted(FloatV a, FloatV b) {
  return (FloatV)_mm512_maskz_alignr_epi32(0xffff, (__m512i)b, (__m512i)a, n);
}
#endif

inline float sum_of_lanes(FloatV v) {
  float lanes[kLanes];
  store(lanes, v);
  for (int n = kLanes / 2; n > 0; n /= 2)
    for (int lane = 0; lane < n; ++lane) lanes[lane] += lanes[lane + n];
  return lanes[0];
}

constexpr int64_t round_up_to_lanes(int64_t n) { return (n + kLanes - 1) / kLanes * kLanes; }

}  // namespace stnls
