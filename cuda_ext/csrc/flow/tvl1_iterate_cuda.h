// The inner iterations of TV-L1 on the GPU, many for each trip to memory.
//
// A thread holds four pixels of kRows rows in registers, a warp 128 columns of these rows, and the
// warps of a block follow each other downwards, and so do the blocks of a cluster. Each warp hands
// its neighbours its first and last row through shared memory, and waits for theirs alone. What
// lies left and right of these columns, or above and below the cluster, is missing: with every
// iteration one more pixel from there is wrong, and only what is right in the end is written.
#pragma once

#include "tvl1_planes_cuda.h"
#include "tvl1_signals_cuda.h"
#include "tvl1_tile_cuda.h"

namespace stnls {

constexpr int kStrip = 128;  // columns

// How a frame is cut: strips of columns, and segments of rows, one for each cluster.
struct Tvl1Tiling {
  int strips, segments, blocks;  // of a cluster
  int iterations;                // of this trip
  int halo_rows, halo_columns;   // at least as many; columns are a multiple of four
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
    // Those that this block will wait for: above its first row, and below its last.
    const int first_row = place.top + place.block * kIterateWarps * kRows;
    const bool above = place.block > 0 && first_row > 0;
    const bool below = place.block + 1 < tiling.blocks && first_row + kIterateWarps * kRows > 0;
    if (threadIdx.x == 0 && above) begin_barrier(shared_address(&memory.barriers[0]));
    if (threadIdx.x == 1 && below) begin_barrier(shared_address(&memory.barriers[1]));
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
