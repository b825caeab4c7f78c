// The inner iterations of TV-L1 on the GPU, many for each trip to memory.
//
// A thread holds four pixels of kRows rows in registers, a warp 128 columns of these rows, and the
// warps of a block follow each other downwards, and so do the blocks of a cluster. Each warp hands
// its neighbours its first and last row through shared memory, and waits for theirs alone. What
// lies left and right of these columns, or above and below the cluster, is missing: with every
// iteration one more pixel from there is wrong, and only what is right in the end is written.
#pragma once

#include "tvl1_planes_cuda.h"

namespace stnls {

constexpr int kIterateThreads = 256, kIterateWarps = kIterateThreads / 32;
constexpr int kStrip = 128;  // columns

// How a frame is cut: strips of columns, and segments of rows, one for each cluster.
struct Tvl1Tiling {
  int strips, segments, blocks;  // of a cluster
  int iterations;                // of this trip
  int halo_rows, halo_columns;   // at least as many; columns are a multiple of four
};

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

// Signals between two warps of a block that follow each other: named barriers of their 64 threads.
__device__ __forceinline__ void signal(int barrier) {
  asm volatile("barrier.cta.arrive.aligned %0, 64;" ::"r"(barrier) : "memory");
}

__device__ __forceinline__ void wait_for(int barrier) {
  asm volatile("barrier.cta.sync.aligned %0, 64;" ::"r"(barrier) : "memory");
}

// Between blocks of a cluster 32 threads send two vectors each; the arrival of all of their bytes
// completes a phase of the receiver's barrier.
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
constexpr int kBytesOfPhase = 32 * 2 * 16;

__device__ __forceinline__ unsigned shared_address(const void* shared) {
  return static_cast<unsigned>(__cvta_generic_to_shared(shared));
}

__device__ __forceinline__ unsigned address_in_block(const void* shared, int block) {
  unsigned address;
  asm("mapa.shared::cluster.u32 %0, %1, %2;"
      : "=r"(address)
      : "r"(shared_address(shared)), "r"(block));
  return address;
}

__device__ __forceinline__ void expect_phase(unsigned barrier) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier),
               "r"(kBytesOfPhase)
               : "memory");
}

__device__ __forceinline__ void begin_barrier(unsigned barrier) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(barrier) : "memory");
  expect_phase(barrier);
}

__device__ __forceinline__ void wait_for_phase(unsigned barrier, unsigned parity) {
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "again:\n"
      "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 done, [%0], %1;\n"
      "@!done bra again;\n"
      "}\n" ::"r"(barrier),
      "r"(parity)
      : "memory");
}

__device__ __forceinline__ void send_away(unsigned to, float4 v, unsigned barrier) {
  asm volatile(
      "st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.f32 [%0], {%1, %2, %3, %4}, "
      "[%5];" ::"r"(to),
      "f"(v.x), "f"(v.y), "f"(v.z), "f"(v.w), "r"(barrier)
      : "memory");
}
#endif

// Four floats on their way to shared memory, without a stay in registers; or zeros.
__device__ __forceinline__ void copy_to_shared(float4* to, const float* from, bool inside) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(
                   static_cast<unsigned>(__cvta_generic_to_shared(to))),
               "l"(from), "r"(inside ? 16 : 0)
               : "memory");
#else
  *to = inside ? *reinterpret_cast<const float4*>(from) : float4{};
#endif
}

__device__ __forceinline__ void wait_for_copies() {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_all;" ::: "memory");
#endif
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
      wait_for_above(phase);
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
      wait_for_below(phase);
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

  __device__ __forceinline__ void wait_for_above(unsigned phase) {
    if (is_top) return;
    if (warp > 0)
      wait_for(warp);
    else
      wait_for_block(0, phase);
  }

  __device__ __forceinline__ void wait_for_below(unsigned phase) {
    if (is_bottom) return;
    if (warp < kIterateWarps - 1)
      wait_for(kIterateWarps + warp);
    else
      wait_for_block(1, phase);
  }

  __device__ __forceinline__ void wait_for_block(int n, unsigned phase) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
    if constexpr (kCluster) {
      const unsigned barrier = shared_address(&memory.barriers[n]);
      wait_for_phase(barrier, phase & 1u);
      if (thread % 32 == 0) expect_phase(barrier);
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

// What a block works on.
struct Tvl1Place {
  int block, strip, segment;
  int64_t pair;
  int left, valid_left, valid_right, top, valid_top, valid_bottom;

  // top: of the cluster's rows.
  __device__ __forceinline__ Tvl1Place(const Tvl1Planes& planes, const Tvl1Tiling& tiling, int rows,
                                       unsigned index) {
    const auto next = [&index](int count) {
      const int digit = static_cast<int>(index % static_cast<unsigned>(count));
      index /= static_cast<unsigned>(count);
      return digit;
    };
    block = next(tiling.blocks);
    strip = next(tiling.strips);
    segment = next(tiling.segments);
    pair = index;
    const int step_columns = kStrip - 2 * tiling.halo_columns;
    const bool last_strip = strip == tiling.strips - 1;
    left = last_strip ? planes.pitch - kStrip : strip * step_columns;
    valid_left = strip == 0 ? 0 : strip * step_columns + tiling.halo_columns;
    valid_right = last_strip ? planes.pitch : (strip + 1) * step_columns + tiling.halo_columns;
    const int step_rows = rows - 2 * tiling.halo_rows;
    const bool last_segment = segment == tiling.segments - 1;
    top = last_segment ? planes.height - rows : segment * step_rows;
    valid_top = segment == 0 ? 0 : segment * step_rows + tiling.halo_rows;
    valid_bottom = last_segment ? planes.height : (segment + 1) * step_rows + tiling.halo_rows;
  }
};

// One trip. Grids are one-dimensional: block of a cluster, strip, segment, pair.
template <int kRows, bool kCluster>
__global__ void __launch_bounds__(kIterateThreads, kRows == 4   ? 2
                                                   : kRows == 2 ? 3
                                                                : 4)
    tvl1_iterate_kernel(const __grid_constant__ Tvl1Planes planes,
                        const __grid_constant__ Tvl1Step step,
                        const __grid_constant__ Tvl1Tiling tiling,
                        const __grid_constant__ Tvl1Weights weights, bool first_trip,
                        bool measures) {
  after_previous_kernel();
  extern __shared__ __align__(16) unsigned char shared[];
  Tvl1Memory<kRows>& memory = *reinterpret_cast<Tvl1Memory<kRows>*>(shared);
  const int rows = tiling.blocks * kIterateWarps * kRows;
  const Tvl1Place place(planes, tiling, rows, blockIdx.x);
  const int64_t pair = place.pair;
  Tvl1Progress& progress = planes.progress[pair];
  const bool active = step.active(progress);
  const int done = progress.done[step.number % 3];
  if (first_trip && threadIdx.x == 0 && place.block + place.strip + place.segment == 0) {
    progress.change[(step.number + 1) % 3] = 0;
    progress.done[(step.number + 1) % 3] = done + (active ? 1 : 0);
  }
  if (!active) return;

  const int pitch = planes.pitch, height = planes.height;
  const int warp = static_cast<int>(threadIdx.x / 32);
  const int column = place.left + 4 * static_cast<int>(threadIdx.x % 32);
  const int top = place.top + (place.block * kIterateWarps + warp) * kRows;
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
  if constexpr (kCluster) {
    if (threadIdx.x < 2) begin_barrier(shared_address(&memory.barriers[threadIdx.x]));
    asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
  }
#endif
  if (top + kRows <= 0) return;  // above the frame
  Tvl1Tile<kRows, kCluster> tile(weights, memory, place.block, tiling.blocks, top, column,
                                 planes.pad);

  const int64_t plane = planes.plane;
  const float* flow = planes.flow[step.flow_in(done)] + 2 * pair * plane;
  const float* dual = planes.dual[step.dual_in(done)] + 4 * pair * plane;
  const float* slope = planes.slope + 3 * pair * plane;
  const int64_t first = static_cast<int64_t>(top) * pitch + column;
  const auto inside = [&](int row) { return top + row >= 0 && top + row < height && column >= 0; };
  const auto address = [&](const float* from, int number, int row) {
    return from + number * plane + (inside(row) ? first + static_cast<int64_t>(row) * pitch : 0);
  };
  const auto read = [&](const float* from, int number, int row, float* v) {
    const float4* at = reinterpret_cast<const float4*>(address(from, number, row));
    unpack(inside(row) ? *at : float4{}, v);
  };
  // All of this is under way at once.
#pragma unroll
  for (int row = 0; row < kRows; ++row)
#pragma unroll
    for (int n = 0; n < 3; ++n)
      copy_to_shared(&memory.constants[4 * row + n][threadIdx.x], address(slope, n, row),
                     inside(row));
#pragma unroll
  for (int row = 0; row < kRows; ++row) {
    read(flow, 0, row, tile.u1[row]);
    read(flow, 1, row, tile.u2[row]);
    read(dual, 0, row, tile.p11[row]);
    read(dual, 1, row, tile.p12[row]);
    read(dual, 2, row, tile.p21[row]);
    read(dual, 3, row, tile.p22[row]);
  }
  const bool writes = column >= place.valid_left && column < place.valid_right;
  const auto counts = [&](int row, int n) {
    return writes && column + n >= planes.pad && top + row >= place.valid_top &&
           top + row < place.valid_bottom;
  };
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
  // Blocks must have begun before others write to their memory.
  if constexpr (kCluster) asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
#endif
  wait_for_copies();
#pragma unroll
  for (int row = 0; row < kRows; ++row) tile.make_constants(row);
  tile.send_down();
  const int plain = tiling.iterations - (measures ? 1 : 0);
#pragma unroll 1
  for (int n = 0; n < plain; ++n)
    tile.template iterate<false>(n, n + 1 == tiling.iterations, counts);
  if (measures) {
    float change = tile.template iterate<true>(plain, true, counts);
    // The order of the sum is fixed; across blocks integers are added, in any order.
#pragma unroll
    for (int n = 16; n > 0; n /= 2) change += __shfl_xor_sync(~0u, change, n);
    if (threadIdx.x % 32 == 0 && change != 0.0f) {
      const float most = static_cast<float>(2 * kEnoughChange), units = change * weights.change;
      atomicAdd(&progress.change[step.number % 3],
                units < most ? static_cast<unsigned long long>(ceilf(units)) : 2 * kEnoughChange);
    }
  }

  if (!writes) return;
  float* flow_out = planes.flow[1 - step.flow_in(done)] + 2 * pair * plane;
  float* dual_out = planes.dual[1 - step.dual_in(done)] + 4 * pair * plane;
#pragma unroll
  for (int row = 0; row < kRows; ++row) {
    const int y = top + row;
    if (y < place.valid_top || y >= place.valid_bottom) continue;
    const int64_t at = static_cast<int64_t>(y) * pitch + column;
    const auto write = [&](float* to, int n, const float* v) {
      *reinterpret_cast<float4*>(to + n * plane + at) = packed(v);
    };
    write(flow_out, 0, tile.u1[row]);
    write(flow_out, 1, tile.u2[row]);
    write(dual_out, 0, tile.p11[row]);
    write(dual_out, 1, tile.p12[row]);
    write(dual_out, 2, tile.p21[row]);
    write(dual_out, 3, tile.p22[row]);
  }
}

}  // namespace stnls
