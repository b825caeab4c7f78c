// Arithmetic on vectors of four channels.
#pragma once

#include <cuda_runtime.h>

namespace stnls {

__device__ __forceinline__ void add(const float4& a, float4* sum) {
  sum->x += a.x;
  sum->y += a.y;
  sum->z += a.z;
  sum->w += a.w;
}

__device__ __forceinline__ void multiply_add(float a, const float4& b, float4* sum) {
  sum->x = fmaf(a, b.x, sum->x);
  sum->y = fmaf(a, b.y, sum->y);
  sum->z = fmaf(a, b.z, sum->z);
  sum->w = fmaf(a, b.w, sum->w);
}

__device__ __forceinline__ float dot(const float4& a, const float4& b, float sum) {
  return fmaf(a.w, b.w, fmaf(a.z, b.z, fmaf(a.y, b.y, fmaf(a.x, b.x, sum))));
}

__device__ __forceinline__ float4 scaled(float a, const float4& b) {
  return float4{a * b.x, a * b.y, a * b.z, a * b.w};
}

// Of the lane so many after this one.
__device__ __forceinline__ float4 shuffle_down(const float4& v, int step) {
  return float4{__shfl_down_sync(0xffffffffu, v.x, step), __shfl_down_sync(0xffffffffu, v.y, step),
                __shfl_down_sync(0xffffffffu, v.z, step), __shfl_down_sync(0xffffffffu, v.w, step)};
}

// Adds four channels of a pixel at once, where the hardware can.
__device__ __forceinline__ void atomic_add(float4* to, const float4& v) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  atomicAdd(to, v);
#else
  float* at = reinterpret_cast<float*>(to);
  atomicAdd(at, v.x);
  atomicAdd(at + 1, v.y);
  atomicAdd(at + 2, v.z);
  atomicAdd(at + 3, v.w);
#endif
}

}  // namespace stnls
