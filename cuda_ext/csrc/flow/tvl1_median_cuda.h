// Median filter of the flow on the GPU; beyond the frame its border is repeated.
#pragma once

#include "median_network.h"
#include "tvl1_planes_cuda.h"

namespace stnls {

// Medians of 5 x 5 for four pixels beside each other, from the eight sorted columns around them.
__device__ __forceinline__ void medians_of_columns(const float (*columns)[5], float* out) {
  float pairs[3][10];  // columns 1 and 2, 3 and 4, 5 and 6
#pragma unroll
  for (int n = 0; n < 3; ++n) merge5(columns[2 * n + 1], columns[2 * n + 2], pairs[n]);
#pragma unroll
  for (int n = 0; n < 2; ++n) {
    float six[6];
    middle_six(pairs[n], pairs[n + 1], six);
    out[2 * n] = sixth(six, columns[2 * n]);
    out[2 * n + 1] = sixth(six, columns[2 * n + 5]);
  }
}

// Medians of 5 x 5 for a block of two rows of four pixels: v are the pixels around, 6 x 8.
__device__ __forceinline__ void medians5x5(const float (*v)[8], float (*out)[4]) {
  float above[8][5], below[8][5];
#pragma unroll
  for (int x = 0; x < 8; ++x) {
    float four[4] = {v[1][x], v[2][x], v[3][x], v[4][x]};
    sort4(four);
    insert(four, v[0][x], above[x]);
    insert(four, v[5][x], below[x]);
  }
  medians_of_columns(above, out[0]);
  medians_of_columns(below, out[1]);
}

// The same of 3 x 3: v are 4 x 6 pixels.
__device__ __forceinline__ void medians3x3(const float (*v)[6], float (*out)[4]) {
#pragma unroll
  for (int y = 0; y < 2; ++y) {
    float columns[6][3];
#pragma unroll
    for (int x = 0; x < 6; ++x) {
#pragma unroll
      for (int n = 0; n < 3; ++n) columns[x][n] = v[y + n][x];
      sort3(columns[x]);
    }
    // The median of the largest minimum, the median of the middles, and the smallest maximum.
#pragma unroll
    for (int x = 0; x < 4; ++x) {
      const float *a = columns[x], *b = columns[x + 1], *c = columns[x + 2];
      float three[3] = {upper(upper(a[0], b[0]), c[0]), 0.0f, lower(lower(a[2], b[2]), c[2])};
      float middle[3] = {a[1], b[1], c[1]};
      sort3(middle);
      three[1] = middle[1];
      sort3(three);
      out[y][x] = three[1];
    }
  }
}

constexpr int kMedianThreads = 256;
constexpr int kMedianColumns = 128, kMedianRows = 16;  // pixels of a block

// A thread filters four pixels of two rows. Grids are (columns, rows, 2 batch).
template <int kSize>
__global__ void __launch_bounds__(kMedianThreads)
    tvl1_median_kernel(const __grid_constant__ Tvl1Planes planes,
                       const __grid_constant__ Tvl1Step step, int64_t first_pair) {
  after_previous_kernel();
  constexpr int kReach = kSize / 2, kColumns = 4 + 2 * kReach, kRows = 2 + 2 * kReach;
  const int64_t image = 2 * first_pair + blockIdx.z;
  const Tvl1Progress& progress = planes.progress[image / 2];
  if (!step.active(progress)) return;
  const int in = step.flow_in(progress.done[step.number % 3]);
  const int c = static_cast<int>(blockIdx.x * kMedianColumns + threadIdx.x % 32 * 4);
  const int y = static_cast<int>(blockIdx.y * kMedianRows + threadIdx.x / 32 * 2);
  const int pitch = planes.pitch;
  if (c >= pitch || y >= planes.height) return;
  const float* from = planes.flow[in] + image * planes.plane;
  float around[kRows][kColumns];
  const bool inside = c - 4 >= planes.pad && c + 8 <= pitch;
#pragma unroll
  for (int i = 0; i < kRows; ++i) {
    const float* row =
        from + static_cast<int64_t>(min(max(y + i - kReach, 0), planes.height - 1)) * pitch;
    if (inside) {
      float four[12];
#pragma unroll
      for (int n = 0; n < 3; ++n) {
        const float4 v = __ldg(reinterpret_cast<const float4*>(row + c) + n - 1);
        four[4 * n] = v.x;
        four[4 * n + 1] = v.y;
        four[4 * n + 2] = v.z;
        four[4 * n + 3] = v.w;
      }
#pragma unroll
      for (int j = 0; j < kColumns; ++j) around[i][j] = four[4 - kReach + j];
    } else {
#pragma unroll
      for (int j = 0; j < kColumns; ++j)
        around[i][j] = __ldg(row + min(max(c + j - kReach, planes.pad), pitch - 1));
    }
  }
  float found[2][4];
  if constexpr (kSize == 5)
    medians5x5(around, found);
  else
    medians3x3(around, found);
  float* to = planes.flow[1 - in] + image * planes.plane + static_cast<int64_t>(y) * pitch + c;
#pragma unroll
  for (int i = 0; i < 2; ++i)
    if (y + i < planes.height)
      *reinterpret_cast<float4*>(to + i * pitch) =
          make_float4(found[i][0], found[i][1], found[i][2], found[i][3]);
}

}  // namespace stnls
