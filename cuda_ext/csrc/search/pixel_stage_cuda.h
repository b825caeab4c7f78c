// What a tile of the pixel form of the search stages of the key in shared memory: a region around
// windows, with the sums over the key from which distances between pixels follow.
#pragma once

#include "../common/geometry.h"
#include "pixels_shape_cuda.h"
#include "query_tile_cuda.h"

namespace stnls {

template <int kQuads, int kCells, bool kProduct>
class PixelStage {
 public:
  static constexpr bool kSums = kCells > 0 && !kProduct;
  static constexpr int kPitch = pixel_pitch(kCells);

  float4* pixels;  // row by row; of a row the first four channels, then the next four ...
  float4* sums;    // for each pixel: X, Y, the difference of Y to the next column, M
  int top, left, rows, columns;  // the region

  __device__ PixelStage(const SearchProblem& problem, const QueryTile& tile, int thread)
      : p(problem), tile(tile), thread(thread) {}

  // In the shared memory of the tile.
  __device__ void open(char* shared) {
    pixels = reinterpret_cast<float4*>(shared + pixel_fixed_bytes(p));
    sums = pixels + kQuads * kPitch * pixel_rows(p);
  }

  // Stages the key's pixels of the region, and the sums over them.
  __device__ void fill(int slot) {
    const float* plane =
        tile.plane_of(p.key, p.key_stride, slot_frame(tile.t, slot, p.wt, p.frames));
    const int count = rows * kPitch;
    for (int i = thread; i < count; i += kPixelThreads) {
      const int r = i / kPitch, c = i - r * kPitch;
      if (c >= columns) continue;
      const int y = pixel_of(top + r, p.height), x = pixel_of(left + c, p.width);
      const float* at = plane + y * static_cast<int>(p.key_stride[4]) + x;
      float4* to = pixels + r * kQuads * kPitch + c;
#pragma unroll
      for (int j = 0; j < kQuads; ++j) {
        float four[4];
#pragma unroll
        for (int n = 0; n < 4; ++n)
          four[n] = 4 * j + n < p.channels ? at[(4 * j + n) * p.key_stride[3]] : 0.0f;
        to[j * kPitch] = make_float4(four[0], four[1], four[2], four[3]);
      }
    }
    __syncthreads();
    for (int i = thread; kSums && i < count; i += kPixelThreads) {
      const int r = i / kPitch, c = i - r * kPitch;
      if (c >= columns) continue;
      // What lies beyond the region is not needed.
      const int right = c + 1 < columns ? 1 : 0;
      const int below = r + 1 < rows ? kQuads * kPitch : 0;
      const float4* at = pixels + r * kQuads * kPitch + c;
      float along = 0.0f, down = 0.0f, next = 0.0f, both = 0.0f;
#pragma unroll
      for (int j = 0; j < kQuads; ++j, at += kPitch) {
        const float4 k00 = at[0], k01 = at[right], k10 = at[below], k11 = at[below + right];
        add_slopes(k00.x, k01.x, k10.x, k11.x, along, down, next, both);
        add_slopes(k00.y, k01.y, k10.y, k11.y, along, down, next, both);
        add_slopes(k00.z, k01.z, k10.z, k11.z, along, down, next, both);
        add_slopes(k00.w, k01.w, k10.w, k11.w, along, down, next, both);
      }
      sums[i] = make_float4(along, down, next - down, both);
    }
    if (kSums) __syncthreads();
  }

 private:
  const SearchProblem& p;
  const QueryTile tile;
  const int thread;

  __device__ static int pixel_of(int x, int64_t length) {
    return x >= 0 && x < length ? x : static_cast<int>(reflect(static_cast<int64_t>(x), length));
  }
  __device__ static void add_slopes(float k00, float k01, float k10, float k11, float& along,
                                    float& down, float& next, float& both) {
    const float to_right = k01 - k00, to_bottom = k10 - k00, right_to_bottom = k11 - k01;
    const float mixed = right_to_bottom - to_bottom;
    along = fmaf(to_right, to_right, along);
    down = fmaf(to_bottom, to_bottom, down);
    next = fmaf(right_to_bottom, right_to_bottom, next);
    both = fmaf(mixed, mixed, both);
  }
};

}  // namespace stnls
