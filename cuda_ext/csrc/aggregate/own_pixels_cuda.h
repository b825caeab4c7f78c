// The queries' own pixels: which taps fall on one, and what is read there.
#pragma once

#include "packed_cuda.h"
#include "vectors_cuda.h"

namespace stnls {

// Rows and columns between the centre of a patch and its first and last tap.
__device__ __forceinline__ int first_tap(const PackedPatchProblem& p) {
  return static_cast<int>(p.dilation) * static_cast<int>(p.patch_offset);
}
__device__ __forceinline__ int last_tap(const PackedPatchProblem& p) {
  return static_cast<int>(p.dilation) * static_cast<int>(p.ps - 1 + p.patch_offset);
}

// Number of taps of queries that fall on pixel `at` of an axis.
__device__ __forceinline__ int reaching(const PackedPatchProblem& p, int at, int grid) {
  const int dilation = static_cast<int>(p.dilation), stride = static_cast<int>(p.stride0);
  const int ps = static_cast<int>(p.ps), from = at - first_tap(p);
  if (stride == 1 && (dilation == 1 || ps == 1))  // queries from - ps + 1 .. from, inside the grid
    return min(from, grid - 1) - max(from - ps + 1, 0) + 1;
  int count = 0;
  for (int tap = 0; tap < ps; ++tap) {
    const int query = from - dilation * tap;
    count += query >= 0 && query % stride == 0 && query / stride < grid;
  }
  return count;
}

// Four channels of a query's own pixel; zero outside the frame.
__device__ __forceinline__ float4 value_inside(const PackedPatchProblem& p, const float* plane,
                                               int channels, int y, int x) {
  float4 v{};
  if (channels <= 0 || static_cast<unsigned>(y) >= static_cast<unsigned>(p.height) ||
      static_cast<unsigned>(x) >= static_cast<unsigned>(p.width))
    return v;
  const float* at = plane + y * p.own_stride[4] + x;
  const int64_t next = p.own_stride[3];
  v.x = __ldg(at);
  if (channels > 1) v.y = __ldg(at + next);
  if (channels > 2) v.z = __ldg(at + 2 * next);
  if (channels > 3) v.w = __ldg(at + 3 * next);
  return v;
}

// The same; outside the frame the mirrored pixel, if the problem says so.
__device__ __forceinline__ float4 own_value(const PackedPatchProblem& p, const float* plane,
                                            int channels, int y, int x) {
  if (p.mirrors_own != 0) {
    y = reflect_near(int64_t{y}, static_cast<int>(p.height));
    x = reflect_near(int64_t{x}, static_cast<int>(p.width));
  }
  return value_inside(p, plane, channels, y, x);
}

// The same divided by the number of patches that reach it, if the problem says so.
__device__ __forceinline__ float4 own_pixel(const PackedPatchProblem& p, const float* plane,
                                            int channels, int y, int x) {
  const float4 v = own_value(p, plane, channels, y, x);
  if (p.divide_own == 0 || !inside(int64_t{y}, p.height) || !inside(int64_t{x}, p.width)) return v;
  const int rows = reaching(p, y, static_cast<int>(p.grid_height));
  const int columns = reaching(p, x, static_cast<int>(p.grid_width));
  return scaled(1.0f / static_cast<float>(rows * columns), v);
}

}  // namespace stnls
