// The blend of patches of three channels: a warp walks down a strip of the frame. A lane samples
// the whole patch of its query, row by row, of which neighbouring taps share the pixels and the
// weights of the bicubic convolution; what belongs to other columns goes there over shuffles, and
// sums for the rows that are still open stay in registers.
#pragma once

#include "../common/cuda_launch.h"
#include "blend.h"

namespace stnls {

constexpr int kBlendRows = 32;  // of pixels that a warp writes

// reflect() in 32 bits.
__device__ __forceinline__ int reflect_int(int x, int length) {
  const int last = length - 1;
  if (x >= 0 && x <= last) return x;
  if (last == 0) return 0;
  if (x < 0) x = -x;
  x %= 2 * last;
  return x <= last ? x : 2 * last - x;
}

template <int kPs>
class BlendStrip {
 public:
  static constexpr int kChannels = 3;
  static constexpr int kFirst = -(kPs / 2);
  static constexpr int kBefore = kPs - 1 + kFirst;  // columns of queries before those of pixels
  static constexpr int kColumns = 33 - kPs;         // of pixels
  static constexpr int kReach = kPs + 3;            // pixels along a side of what a patch reads

  __device__ BlendStrip(const BlendProblem& problem, int strip, int segment, int64_t b)
      : p(problem),
        height(static_cast<int>(p.height)),
        width(static_cast<int>(p.width)),
        lane(static_cast<int>(threadIdx.x)),
        x(strip * kColumns - kBefore + lane),
        top(segment * kBlendRows),
        b(b),
        video(static_cast<const float*>(p.video) + b * kChannels * p.height * p.width) {}

  __device__ void run() {
    const int last = min(top + kBlendRows, height) - 1;
    for (int y = top - kBefore; y <= last - kFirst; ++y) {
      if (y >= 0 && y < height) add_queries(y);
      const int done = y + kFirst;  // the row that no further query reaches
      if (done >= top) write(done);
#pragma unroll
      for (int i = 0; i < kPs; ++i) {
#pragma unroll
        for (int c = 0; c < kChannels; ++c) total[i][c] = i + 1 < kPs ? total[i + 1][c] : 0.0f;
        sum[i] = i + 1 < kPs ? sum[i + 1] : 0.0f;
      }
    }
  }

 private:
  const BlendProblem& p;
  const int height, width, lane, x, top;
  const int64_t b;
  const float* const video;
  float total[kPs][kChannels] = {}, sum[kPs] = {};  // of the rows from y + kFirst on

  // What the queries of a row say of the pixels around them.
  __device__ void add_queries(int y) {
    const bool has = x >= 0 && x < width;
    const int64_t query = (b * height + y) * width + (has ? x : 0);
    const float weight = has ? static_cast<const float*>(p.weight)[query] : 0.0f;
    const float* offset = static_cast<const float*>(p.offset) + 2 * query;
    const CubicPlace<float> h = cubic_place<float>(y, offset[0], height);
    const CubicPlace<float> w = cubic_place<float>(has ? x : 0, offset[1], width);
    float share = 0.0f;
#pragma unroll
    for (int j = kPs - 1; j >= 0; --j) share += moved(weight, j);
#pragma unroll
    for (int i = 0; i < kPs; ++i) sum[i] += share;
    const int above = static_cast<int>(h.low) + kFirst - 1;
    const int left = static_cast<int>(w.low) + kFirst - 1;
    const bool inside =
        above >= 0 && above + kReach <= height && left >= 0 && left + kReach <= width;
    if (__all_sync(0xffffffffu, inside))
      add_samples<true>(h, w, above, left, has, weight);
    else
      add_samples<false>(h, w, above, left, has, weight);
  }

  // Of the lane whose query has its tap of column j here.
  __device__ __forceinline__ float moved(float value, int j) const {
    return __shfl_sync(0xffffffffu, value, lane - kFirst - j);
  }

  // kInside: no pixel lies beyond the frame.
  template <bool kInside>
  __device__ __forceinline__ void add_samples(const CubicPlace<float>& h,
                                              const CubicPlace<float>& w, int above, int left,
                                              bool has, float weight) {
    int columns[kReach];
#pragma unroll
    for (int n = 0; n < kReach; ++n) columns[n] = kInside ? left + n : reflect_int(left + n, width);
#pragma unroll
    for (int c = 0; c < kChannels; ++c) {
      const float* plane = video + c * p.height * p.width;
      float part[4][kPs];  // rows of samples of which not all lines are added; ring
#pragma unroll
      for (int r = 0; r < kReach; ++r) {
        const int row = kInside ? above + r : reflect_int(above + r, height);
        const float* from = plane + static_cast<int64_t>(row) * width;
        float pixels[kReach];
#pragma unroll
        for (int n = 0; n < kReach; ++n) pixels[n] = from[columns[n]];
#pragma unroll
        for (int j = 0; j < kPs; ++j) {
          float line = 0.0f;
#pragma unroll
          for (int n = 0; n < 4; ++n) line = fmaf(w.weights[n], pixels[j + n], line);
#pragma unroll
          for (int m = 0; m < 4; ++m) {
            const int i = r - m;
            if (i < 0 || i >= kPs) continue;
            part[i % 4][j] = fmaf(h.weights[m], line, m == 0 ? 0.0f : part[i % 4][j]);
          }
        }
        const int i = r - 3;
        if (i < 0) continue;
#pragma unroll
        for (int j = kPs - 1; j >= 0; --j)
          total[i][c] += moved(has ? weight * part[i % 4][j] : 0.0f, j);
      }
    }
  }

  __device__ void write(int y) const {
    if (lane < kBefore || lane >= kBefore + kColumns || x >= width) return;
    float* out = static_cast<float*>(p.out) + (b * kChannels * height + y) * width + x;
#pragma unroll
    for (int c = 0; c < kChannels; ++c) out[c * p.height * p.width] = total[0][c] / sum[0];
  }
};

template <int kPs>
__global__ void __launch_bounds__(32, 12)
    blend_strip_kernel(const __grid_constant__ BlendProblem p) {
  const int segments = static_cast<int>((p.height + kBlendRows - 1) / kBlendRows);
  // Grids are 65,535 blocks high at most.
  for (int64_t item = blockIdx.y; item < p.batch * segments; item += gridDim.y)
    BlendStrip<kPs>(p, static_cast<int>(blockIdx.x), static_cast<int>(item % segments),
                    item / segments)
        .run();
}

inline bool strips_apply(const BlendProblem& p) {
  constexpr int64_t most = int64_t(1) << 24;
  return p.dtype == kFloat32 && p.channels == 3 && (p.ps == 3 || p.ps == 5 || p.ps == 7) &&
         p.height < most && p.width < most;
}

template <int kPs>
void launch_strips(const BlendProblem& p, cudaStream_t stream) {
  const int64_t items = p.batch * ((p.height + kBlendRows - 1) / kBlendRows);
  const dim3 blocks(blocks_for(p.width, BlendStrip<kPs>::kColumns),
                    static_cast<unsigned>(items < 65535 ? items : 65535));
  blend_strip_kernel<kPs><<<blocks, 32, 0, stream>>>(p);
}

}  // namespace stnls
