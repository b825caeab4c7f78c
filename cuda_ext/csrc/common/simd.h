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

inline FloatV select(IntV mask, FloatV a, FloatV b) { return mask ? a : b; }
inline IntV select(IntV mask, IntV a, IntV b) { return mask ? a : b; }

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

constexpr int64_t round_up_to_lanes(int64_t n) { return (n + kLanes - 1) / kLanes * kLanes; }

}  // namespace stnls
