// The kernels of TV-L1 that look at pixels one by one: into the planes, warping, out of them.
#pragma once

#include "tvl1_planes_cuda.h"

namespace stnls {

constexpr int kPixelThreads = 256;

// A thread's pixel: blocks are 128 x 2, grids (columns, rows, batch).
struct PlanePixel {
  int column = static_cast<int>(blockIdx.x * 128 + threadIdx.x % 128);
  int y = static_cast<int>(blockIdx.y * 2 + threadIdx.x / 128);
  int64_t pair = blockIdx.z;

  __device__ bool inside(const Tvl1Planes& planes) const {
    return column < planes.pitch && y < planes.height;
  }
  __device__ int64_t at(const Tvl1Planes& planes) const {
    return static_cast<int64_t>(y) * planes.pitch + column;
  }
};

// Initial flow; no dual variables, no steps yet.
__global__ void __launch_bounds__(kPixelThreads)
    tvl1_begin_kernel(const __grid_constant__ Tvl1Planes planes, const float* start,
                      int64_t first_pair) {
  after_previous_kernel();
  PlanePixel pixel;
  if (!pixel.inside(planes)) return;
  pixel.pair += first_pair;
  if (pixel.column == 0 && pixel.y == 0) planes.progress[pixel.pair] = Tvl1Progress{};
  const int x = pixel.column - planes.pad;
  const int64_t at = pixel.at(planes);
  const int64_t frame = static_cast<int64_t>(planes.height) * planes.width;
  const float* from =
      start + 2 * pixel.pair * frame + static_cast<int64_t>(pixel.y) * planes.width + x;
  for (int n = 0; n < 2; ++n)
    planes.flow[0][(2 * pixel.pair + n) * planes.plane + at] = x < 0 ? 0.0f : from[n * frame];
  for (int n = 0; n < 4; ++n) planes.dual[0][(4 * pixel.pair + n) * planes.plane + at] = 0.0f;
}

__global__ void __launch_bounds__(kPixelThreads)
    tvl1_end_kernel(const __grid_constant__ Tvl1Planes planes,
                    const __grid_constant__ Tvl1Step step, float* flow, int64_t first_pair) {
  after_previous_kernel();
  PlanePixel pixel;
  const int x = pixel.column - planes.pad;
  if (!pixel.inside(planes) || x < 0) return;
  pixel.pair += first_pair;
  const float* from = planes.flow[step.flow_in(planes.progress[pixel.pair].done[step.number % 3])];
  const int64_t frame = static_cast<int64_t>(planes.height) * planes.width;
  for (int n = 0; n < 2; ++n)
    flow[(2 * pixel.pair + n) * frame + static_cast<int64_t>(pixel.y) * planes.width + x] =
        from[(2 * pixel.pair + n) * planes.plane + pixel.at(planes)];
}

// Weights of bicubic convolution (Keys 1981, slope -0.75) for a place x behind the second of four
// pixels.
__device__ __forceinline__ void bicubic_weights(float x, float* w) {
  const float a = -0.75f, r = 1.0f - x, s = 1.0f + x, t = 2.0f - x;
  w[0] = ((a * s - 5.0f * a) * s + 8.0f * a) * s - 4.0f * a;
  w[1] = ((a + 2.0f) * x - (a + 3.0f)) * x * x + 1.0f;
  w[2] = ((a + 2.0f) * r - (a + 3.0f)) * r * r + 1.0f;
  w[3] = ((a * t - 5.0f * a) * t + 8.0f * a) * t - 4.0f * a;
}

// Within a few pixels of the frame, where everything is the border's; so is what is no number.
__device__ __forceinline__ float near_frame(float x, int length) {
  return x >= -4.0f ? fminf(x, static_cast<float>(length) + 3.0f) : -4.0f;
}

// Frame 1 and its central differences where the flow leads, and the difference in brightness
// linear around there; beyond the frame its border is repeated. A new warp begins.
__global__ void __launch_bounds__(kPixelThreads)
    tvl1_linearise_kernel(const __grid_constant__ Tvl1Planes planes,
                          const __grid_constant__ Tvl1Step step, const float* frames0,
                          const float* frames1, int64_t first_pair) {
  after_previous_kernel();
  PlanePixel pixel;
  if (!pixel.inside(planes)) return;
  pixel.pair += first_pair;
  Tvl1Progress& progress = planes.progress[pixel.pair];
  const int done = progress.done[step.number % 3];
  if (pixel.column == 0 && pixel.y == 0) {
    progress.done[0] = done;
    progress.change[0] = 0;
    progress.change[2] = ~0ull;
  }
  const int x = pixel.column - planes.pad, y = pixel.y;
  const int height = planes.height, width = planes.width;
  const int64_t at = pixel.at(planes), frame = static_cast<int64_t>(height) * width;
  float* slope = planes.slope + 3 * pixel.pair * planes.plane + at;
  if (x < 0) {
    for (int n = 0; n < 3; ++n) slope[n * planes.plane] = 0.0f;
    return;
  }
  const float* flow = planes.flow[step.flow_in(done)] + 2 * pixel.pair * planes.plane + at;
  const float u1 = flow[0], u2 = flow[planes.plane];
  const float at_x = near_frame(static_cast<float>(x) + u1, width);
  const float at_y = near_frame(static_cast<float>(y) + u2, height);
  const float top = floorf(at_y), left = floorf(at_x);
  float wy[4], wx[4];
  bicubic_weights(at_y - top, wy);
  bicubic_weights(at_x - left, wx);
  const int first_row = static_cast<int>(top) - 2, first_column = static_cast<int>(left) - 2;
  int columns[6];
#pragma unroll
  for (int j = 0; j < 6; ++j) columns[j] = min(max(first_column + j, 0), width - 1);
  const float* frame1 = frames1 + pixel.pair * frame;
  float lines[6], slopes[6];
#pragma unroll
  for (int i = 0; i < 6; ++i) {
    const float* row =
        frame1 + static_cast<int64_t>(min(max(first_row + i, 0), height - 1)) * width;
    float a[6];
#pragma unroll
    for (int j = 0; j < 6; ++j) a[j] = __ldg(row + columns[j]);
    lines[i] = wx[0] * a[1] + wx[1] * a[2] + wx[2] * a[3] + wx[3] * a[4];
    slopes[i] = wx[0] * (a[2] - a[0]) + wx[1] * (a[3] - a[1]) + wx[2] * (a[4] - a[2]) +
                wx[3] * (a[5] - a[3]);
  }
  float value = 0.0f, dx = 0.0f, dy = 0.0f;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    value += wy[i] * lines[i + 1];
    dx += 0.5f * wy[i] * slopes[i + 1];
    dy += 0.5f * wy[i] * (lines[i + 2] - lines[i]);
  }
  slope[0] = dx;
  slope[planes.plane] = dy;
  slope[2 * planes.plane] =
      value - dx * u1 - dy * u2 - __ldg(frames0 + pixel.pair * frame + y * width + x);
}

}  // namespace stnls
