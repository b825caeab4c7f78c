// Sums over the neighbours of a tile, held in registers and across the lanes of a warp.
#pragma once

namespace stnls {

// Sum over kPs lanes, this one and those after it; right for the first 33 - kPs lanes.
template <int kPs>
__device__ __forceinline__ float sum_rows(float v) {
  if constexpr (kPs == 1) return v;
  constexpr unsigned all = 0xffffffffu;
  const float second = __shfl_down_sync(all, v, 1);
  const float two = v + second;
  if constexpr (kPs == 3) return two + __shfl_down_sync(all, v, 2);
  const float next = __shfl_down_sync(all, two, 2);
  const float four = two + next;
  if constexpr (kPs == 5) return four + __shfl_down_sync(all, v, 4);
  if constexpr (kPs == 7) return four + __shfl_down_sync(all, second + next, 3);
  return four + __shfl_down_sync(all, four, 4) + __shfl_down_sync(all, v, 8);
}

// Sums over kPs neighbours along the row, from sums that start and end at the borders of blocks.
template <int kPs, int kColumns>
__device__ __forceinline__ void sum_columns(const float (&v)[kColumns + kPs - 1],
                                            float (&sums)[kColumns]) {
  constexpr int kWidth = kColumns + kPs - 1;
  float before[kWidth], after[kWidth];
#pragma unroll
  for (int i = 0; i < kWidth; ++i) before[i] = i % kPs == 0 ? v[i] : before[i - 1] + v[i];
#pragma unroll
  for (int i = kWidth - 1; i >= 0; --i)
    after[i] = i % kPs == kPs - 1 || i == kWidth - 1 ? v[i] : v[i] + after[i + 1];
#pragma unroll
  for (int i = 0; i < kColumns; ++i)
    sums[i] = i % kPs != 0             ? after[i] + before[i + kPs - 1]
              : i == 0 && kColumns > 1 ? after[i]  // its sums are needed anyway
                                       : before[i + kPs - 1];
}

__device__ __forceinline__ int warp_min(int v) {
#if __CUDA_ARCH__ >= 800
  return __reduce_min_sync(0xffffffffu, v);
#else
#pragma unroll
  for (int lane = 16; lane > 0; lane /= 2) v = min(v, __shfl_xor_sync(0xffffffffu, v, lane));
  return v;
#endif
}

__device__ __forceinline__ unsigned warp_or(unsigned v) {
#if __CUDA_ARCH__ >= 800
  return __reduce_or_sync(0xffffffffu, v);
#else
#pragma unroll
  for (int lane = 16; lane > 0; lane /= 2) v |= __shfl_xor_sync(0xffffffffu, v, lane);
  return v;
#endif
}

}  // namespace stnls
