// Gradients of the video and of the weights, of patches of one pixel on the integer grid.
//
// The threads that share a query take its entries as in strip_sum_cuda.h. What an entry adds to its
// pixel goes straight to memory: entries of neighbouring queries meet too rarely to be sorted
// first.
#pragma once

#include "../common/cuda_launch.h"
#include "entries_cuda.h"
#include "entry_reader_cuda.h"
#include "own_pixels_cuda.h"
#include "packed_cuda.h"
#include "vectors_cuda.h"

namespace stnls {

constexpr int kPointThreads = 512;
constexpr int kPointBlocks = 2;  // on a multiprocessor, as far as registers go
constexpr int kPointColumns = 16;
constexpr int kMostPointSteps = 4;

// Leaves each of the threads that share an entry with the sum over all of them of one value, that
// with its number.
template <int kLanes>
__device__ __forceinline__ float sum_of_own(float (&values)[kLanes], int lane) {
  int kept = kLanes;
#pragma unroll
  for (int step = kLanes / 2; step > 0; step /= 2) {
    kept /= 2;
    const bool upper = (lane & step) != 0;
#pragma unroll
    for (int n = 0; n < kept; ++n) {
      const float sent = upper ? values[n] : values[n + kept];
      values[n] = (upper ? values[n + kept] : values[n]) + __shfl_xor_sync(0xffffffffu, sent, step);
    }
  }
  return values[0];
}

// kReads: the gradient of the weights is wanted too.
template <int kLanes, bool kReads>
__global__ void __launch_bounds__(kPointThreads, kPointBlocks)
    pixel_gradient_kernel(const __grid_constant__ PackedPatchProblem p,
                          const __grid_constant__ Packing packing, int steps, const float4* packed,
                          float4* packed_sums) {
  constexpr int kRows = kPointThreads / kLanes / kPointColumns;
  const int thread = static_cast<int>(threadIdx.x), slot = thread / kLanes, lane = thread % kLanes;
  const BlockPlane plane(p);
  const int width = static_cast<int>(p.width), groups = packing.groups;
  const int x = static_cast<int>(blockIdx.x) * kPointColumns + slot % kPointColumns;
  const int first_y = static_cast<int>(blockIdx.y) * steps * kRows + slot / kPointColumns;
  const int last_y = min(first_y + (steps - 1) * kRows, static_cast<int>(p.height) - 1);
  const bool exists = x < width;
  const float* planes = static_cast<const float*>(p.own) + plane.offset(p, packing, p.own_stride);
  float* to_weights = whole(static_cast<float*>(p.grad_weights) + plane.entries(p, packing));
  for (int chunk = 0; chunk < packing.chunks; ++chunk) {
    const int group = chunk * kLanes + lane;
    const bool works = group < groups;
    const int64_t first_vector = plane.slab * packing.vectors + (works ? group : 0);
    const float4* video = whole(packed + first_vector);  // only if it reads
    float4* sums = whole(packed_sums + first_vector);
    const float* own = whole(planes + 4 * group * p.own_stride[3] + x);
    const int channels = exists && works ? static_cast<int>(p.channels) - 4 * group : 0;
    const auto own_at = [&](int y) {
      return value_inside(p, own, y <= last_y ? channels : 0, y, 0);
    };
    EntryReader<kLanes, false> reader(p, packing, plane, thread);
    reader.read(p, first_y * width + x, 0, exists && first_y <= last_y);
    float4 next_own = own_at(first_y);
    if (chunk == 0) {
      wait_for_previous();  // the copy of the video and the zeros may not be there yet
      let_next_start();
    }
    // Warps may be of two rows: all of their threads go as far as the last of them.
    for (int step = 0, y = first_y; step < steps; ++step, y += kRows) {
      const bool here = exists && y <= last_y;
      if (__ballot_sync(0xffffffffu, here) == 0) break;
      const float4 g = next_own;
      next_own = own_at(y + kRows);
      for (int first = 0; first < reader.k; first += kLanes) {
        const RawEntry<false> raw = reader.next;
        const bool more = first + kLanes < reader.k;
        const int next_y = more ? y : y + kRows;
        reader.read(p, next_y * width + x, more ? first + kLanes : 0,
                    exists && next_y <= last_y && (more || step + 1 < steps));
        const bool mine = here && first + lane < reader.k;
        Entry<false> e{};
        e.at = kUnused;
        PackedPosition position;
        if (mine) e = decode(p, packing, raw, plane.frame, y, x, &position);
        const int vector = e.at == kUnused ? -1 : e.at * groups;
        int at[kLanes];
        float4 pixels[kLanes];
        float weights[kLanes], values[kLanes];
#pragma unroll
        for (int n = 0; n < kLanes; ++n) {
          at[n] = kLanes > 1 ? __shfl_sync(0xffffffffu, vector, n, kLanes) : vector;
          weights[n] = kLanes > 1 ? __shfl_sync(0xffffffffu, e.weight, n, kLanes) : e.weight;
          if (!works) at[n] = -1;
          pixels[n] = float4{};
          if (kReads && at[n] >= 0) pixels[n] = __ldg(video + static_cast<unsigned>(at[n]));
        }
#pragma unroll
        for (int n = 0; n < kLanes; ++n)
          if (at[n] >= 0) atomic_add(sums + static_cast<unsigned>(at[n]), scaled(weights[n], g));
        if constexpr (kReads) {
#pragma unroll
          for (int n = 0; n < kLanes; ++n) values[n] = at[n] >= 0 ? dot(g, pixels[n], 0.0f) : 0.0f;
          const float value = sum_of_own<kLanes>(values, lane);
          if (!mine) continue;
          float* to = to_weights + static_cast<unsigned>((y * width + x) * reader.k + first + lane);
          *to = chunk > 0 ? *to + value : value;
        }
      }
    }
  }
}

// Whether queries and patches are such.
inline bool takes_pixel_gradient(const PackedPatchProblem& p) {
  return p.ps == 1 && p.stride0 == 1 && p.stacked == 0 && p.float_grid == 0;
}

template <int kLanes>
void launch_pixel_gradient(const PackedPatchProblem& p, const Packing& packing,
                           const float4* packed, float4* sums, bool after_pack,
                           cudaStream_t stream) {
  constexpr int kRows = kPointThreads / kLanes / kPointColumns;
  const int64_t columns = (p.width + kPointColumns - 1) / kPointColumns;
  const int64_t rows = (p.height + kRows - 1) / kRows;
  const int64_t in_all = columns * rows * p.frames * packing.slabs;
  int steps = kMostPointSteps;
  while (steps > 1 && in_all < int64_t{steps} * multiprocessors() * kPointBlocks) steps /= 2;
  const dim3 grid = plane_grid(p, packing, columns, (rows + steps - 1) / steps);
  const auto kernel = packed != nullptr ? pixel_gradient_kernel<kLanes, true>
                                        : pixel_gradient_kernel<kLanes, false>;
  launch_after(after_pack, kernel, grid, kPointThreads, 0, stream, p, packing, steps, packed, sums);
}

inline void launch_pixel_gradient(const PackedPatchProblem& p, const Packing& packing,
                                  const float4* packed, float4* sums, bool after_pack,
                                  cudaStream_t stream) {
  with_lanes(packing, [&](auto lanes) {
    launch_pixel_gradient<decltype(lanes)::value>(p, packing, packed, sums, after_pack, stream);
  });
}

}  // namespace stnls
