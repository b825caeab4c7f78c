// A tile of pixels in the inner iterations of TV-L1 (tvl1_iterate_cuda.h): a thread holds four
// pixels of kRows rows, and hands its neighbours what they need of them.
#pragma once

#include "tvl1_signals_cuda.h"

namespace stnls {

constexpr int kIterateThreads = 256, kIterateWarps = kIterateThreads / 32;

struct Tvl1Weights {
  float theta, step, most;  // tau / theta, lambda theta
  float change;             // units of Tvl1Progress::change for a squared pixel
};

__device__ __forceinline__ float fast_root(float x) {
  float root;
  asm("sqrt.approx.ftz.f32 %0, %1;" : "=f"(root) : "f"(x));
  return root;
}

__device__ __forceinline__ float fast_inverse(float x) {
  float inverse;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"(x));
  return inverse;
}

__device__ __forceinline__ float4 packed(const float* v) {
  return make_float4(v[0], v[1], v[2], v[3]);
}

__device__ __forceinline__ void unpack(float4 from, float* v) {
  v[0] = from.x;
  v[1] = from.y;
  v[2] = from.z;
  v[3] = from.w;
}

// What a block keeps in shared memory.
template <int kRows>
struct Tvl1Memory {
  float4 constants[4 * kRows][kIterateThreads];  // of a thread's pixels
  float4 above[2][kIterateThreads];              // p12 and p22 of the row above
  float4 below[2][kIterateThreads];              // u1 and u2 of the row below
  unsigned long long barriers[2];                // of `above` and `below`, from other blocks
};

// A thread's pixels and its place.
template <int kRows, bool kCluster>
class Tvl1Tile {
 public:
  __device__ __forceinline__ Tvl1Tile(const Tvl1Weights& weights, Tvl1Memory<kRows>& memory,
                                      int block, int blocks, int top, int column, int pad)
      : weights(weights),
        memory(memory),
        thread(static_cast<int>(threadIdx.x)),
        warp(thread / 32),
        block(block),
        column(column),
        pad(pad),
        top(top),
        is_top(top <= 0 || (warp == 0 && block == 0)),
        is_bottom(warp == kIterateWarps - 1 && block == blocks - 1) {
    if (is_top)
      for (int n = 0; n < 2; ++n) memory.above[n][thread] = float4{};
  }

  float u1[kRows][4], u2[kRows][4];
  float p11[kRows][4], p12[kRows][4], p21[kRows][4], p22[kRows][4];

  // Of dx, dy and the constant of rho for four pixels: for each of them, the direction of the
  // slope, rho over its size, and what a step is long at most.
  __device__ __forceinline__ void make_constants(int row) {
    float dx[4], dy[4], constant[4];
    unpack(memory.constants[4 * row][thread], dx);
    unpack(memory.constants[4 * row + 1][thread], dy);
    unpack(memory.constants[4 * row + 2][thread], constant);
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      const float square = fmaf(dx[n], dx[n], dy[n] * dy[n]);
      const float inverse = square > 1e-7f ? rsqrtf(square) : 0.0f;
      memory.constants[4 * row + n][thread] = make_float4(
          dx[n] * inverse, dy[n] * inverse, constant[n] * inverse, weights.most * square * inverse);
    }
  }

  // The dual variables of the last row, to the warp below.
  __device__ __forceinline__ void send_down() {
    if (warp < kIterateWarps - 1) {
      memory.above[0][thread + 32] = packed(p12[kRows - 1]);
      memory.above[1][thread + 32] = packed(p22[kRows - 1]);
      signal(1 + warp);
      return;
    }
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
    if constexpr (kCluster) {
      if (is_bottom) return;
      constexpr int kFirst = kIterateThreads - 32;
      const unsigned barrier = address_in_block(&memory.barriers[0], block + 1);
      send_away(address_in_block(&memory.above[0][thread - kFirst], block + 1),
                packed(p12[kRows - 1]), barrier);
      send_away(address_in_block(&memory.above[1][thread - kFirst], block + 1),
                packed(p22[kRows - 1]), barrier);
    }
#endif
  }

  // One iteration; `phase` counts them. In the last one nobody needs the dual variables after it.
  // Returns the squared change of the flow where `counts` says so.
  template <bool kMeasure, class Counts>
  __device__ __forceinline__ float iterate(unsigned phase, bool last, const Counts& counts) {
    float change = 0.0f;
#pragma unroll
    for (int row = kRows - 1; row > 0; --row)
      change += update_flow<kMeasure>(row, p12[row - 1], p22[row - 1], counts);
    {
      wait_for_above(phase, last);
      float above12[4], above22[4];
      unpack(memory.above[0][thread], above12);
      unpack(memory.above[1][thread], above22);
      change += update_flow<kMeasure>(0, above12, above22, counts);
      send_up();
    }
#pragma unroll
    for (int row = 0; row < kRows - 1; ++row) {
      update_dual(row, u1[row + 1], u2[row + 1]);
    }
    {
      wait_for_below(phase, last);
      float below1[4], below2[4];
      unpack(memory.below[0][thread], below1);
      unpack(memory.below[1][thread], below2);
      update_dual(kRows - 1, below1, below2);
      forget_outside();
      if (!last) send_down();
    }
    return change;
  }

 private:
  const Tvl1Weights& weights;
  Tvl1Memory<kRows>& memory;
  const int thread, warp, block, column, pad, top;
  const bool is_top, is_bottom;

  // The flow of the first row, to the warp above.
  __device__ __forceinline__ void send_up() {
    if (is_bottom) {  // the last row is its own neighbour: no slope
      memory.below[0][thread] = packed(u1[kRows - 1]);
      memory.below[1][thread] = packed(u2[kRows - 1]);
    }
    if (is_top) return;
    if (warp > 0) {
      memory.below[0][thread - 32] = packed(u1[0]);
      memory.below[1][thread - 32] = packed(u2[0]);
      signal(kIterateWarps - 1 + warp);
      return;
    }
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
    if constexpr (kCluster) {
      constexpr int kLast = kIterateThreads - 32;
      const unsigned barrier = address_in_block(&memory.barriers[1], block - 1);
      send_away(address_in_block(&memory.below[0][thread + kLast], block - 1), packed(u1[0]),
                barrier);
      send_away(address_in_block(&memory.below[1][thread + kLast], block - 1), packed(u2[0]),
                barrier);
    }
#endif
  }

  __device__ __forceinline__ void wait_for_above(unsigned phase, bool last) {
    if (is_top) return;
    if (warp > 0)
      wait_for(warp);
    else
      wait_for_block(0, phase, last);
  }

  __device__ __forceinline__ void wait_for_below(unsigned phase, bool last) {
    if (is_bottom) return;
    if (warp < kIterateWarps - 1)
      wait_for(kIterateWarps + warp);
    else
      wait_for_block(1, phase, last);
  }

  __device__ __forceinline__ void wait_for_block(int n, unsigned phase, bool last) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
    if constexpr (kCluster) {
      const unsigned barrier = shared_address(&memory.barriers[n]);
      wait_for_phase(barrier, phase & 1u);
      if (last) __syncwarp();  // no lane asks any more
      if (thread % 32 != 0) return;
      if (last)
        end_barrier(barrier);
      else
        expect_phase(barrier);
    }
#endif
  }

  template <bool kMeasure, class Counts>
  __device__ __forceinline__ float update_flow(int row, const float* above12, const float* above22,
                                               const Counts& counts) {
    const float left1 = __shfl_up_sync(~0u, p11[row][3], 1);
    const float left2 = __shfl_up_sync(~0u, p21[row][3], 1);
    float change = 0.0f;
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      const float4 k = memory.constants[4 * row + n][thread];
      const float a = u1[row][n], b = u2[row][n];
      const float rho = fmaf(k.x, a, fmaf(k.y, b, k.z));
      const float step = fminf(fmaxf(-rho, -k.w), k.w);
      const float before1 = n == 0 ? left1 : p11[row][n > 0 ? n - 1 : 0];
      const float before2 = n == 0 ? left2 : p21[row][n > 0 ? n - 1 : 0];
      const float div1 = (p11[row][n] - before1) + (p12[row][n] - above12[n]);
      const float div2 = (p21[row][n] - before2) + (p22[row][n] - above22[n]);
      u1[row][n] = fmaf(weights.theta, div1, fmaf(step, k.x, a));
      u2[row][n] = fmaf(weights.theta, div2, fmaf(step, k.y, b));
      if constexpr (kMeasure) {
        const float d1 = u1[row][n] - a, d2 = u2[row][n] - b;
        if (counts(row, n)) change += fmaf(d1, d1, d2 * d2);
      }
    }
    return change;
  }

  // below1, below2: the flow one row further down.
  __device__ __forceinline__ void update_dual(int row, const float* below1, const float* below2) {
    // Behind the last column of the frame, as behind its last row, there is no slope.
    float next1 = __shfl_down_sync(~0u, u1[row][0], 1);
    float next2 = __shfl_down_sync(~0u, u2[row][0], 1);
    if (thread % 32 == 31) {
      next1 = u1[row][3];
      next2 = u2[row][3];
    }
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      const float a = u1[row][n], b = u2[row][n];
      const float ax = (n < 3 ? u1[row][n < 3 ? n + 1 : 3] : next1) - a, ay = below1[n] - a;
      const float bx = (n < 3 ? u2[row][n < 3 ? n + 1 : 3] : next2) - b, by = below2[n] - b;
      const float size1 = fast_root(fmaf(ax, ax, ay * ay));
      const float size2 = fast_root(fmaf(bx, bx, by * by));
      const float grown1 = fmaf(weights.step, size1, 1.0f);
      const float grown2 = fmaf(weights.step, size2, 1.0f);
      const float shrink1 = fast_inverse(grown1), shrink2 = fast_inverse(grown2);
      p11[row][n] = fmaf(weights.step, ax, p11[row][n]) * shrink1;
      p12[row][n] = fmaf(weights.step, ay, p12[row][n]) * shrink1;
      p21[row][n] = fmaf(weights.step, bx, p21[row][n]) * shrink2;
      p22[row][n] = fmaf(weights.step, by, p22[row][n]) * shrink2;
    }
  }

  // Nothing flows into the frame from the left of it or from above.
  __device__ __forceinline__ void forget_outside() {
    if (column < pad) {
#pragma unroll
      for (int row = 0; row < kRows; ++row)
#pragma unroll
        for (int n = 0; n < 4; ++n)
          if (column + n < pad) p11[row][n] = p21[row][n] = 0.0f;
    }
    if (top < 0) {
#pragma unroll
      for (int row = 0; row < kRows - 1; ++row)
#pragma unroll
        for (int n = 0; n < 4; ++n)
          if (top + row < 0) p12[row][n] = p22[row][n] = 0.0f;
    }
  }
};

}  // namespace stnls
