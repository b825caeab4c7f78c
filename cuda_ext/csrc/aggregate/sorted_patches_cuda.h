// Gradient of the video, of patches larger than one pixel, of queries on every pixel.
//
// Atomic additions to global memory are what a scatter waits for. So a block takes a tile of
// queries, sorts their entries in shared memory by the pixel they point to, gathers what falls on
// every pixel that is hit, and adds that to memory once.
#pragma once

#include "../common/cuda_launch.h"
#include "entries_cuda.h"
#include "own_pixels_cuda.h"
#include "packed_cuda.h"
#include "take_taps_cuda.h"
#include "vectors_cuda.h"

namespace stnls {

constexpr int kSortThreads = 512;
constexpr int kSortSide = 16;    // a tile has 16 x 16 queries
constexpr int kSortFrames = 32;  // at most
constexpr int kSortArea = 6144;  // pixels that the entries of a tile may be spread over
constexpr int kHeld = 5;         // entries of a thread

struct SortTile {
  int own_width, own_pixels;  // of the queries' own pixels
  int entries;                // of each query that are taken at once
  int64_t bytes;              // of shared memory
};

// What a pixel needs to know of an entry: the query's place in the tile and the column that it
// points to, counted from the left side of the rectangle.
template <bool kFloatGrid>
struct alignas(8) Sorted {
  int base;  // place - column
  float weight;
};

template <>
struct alignas(16) Sorted<true> {
  int place_column;  // two halves
  float weight, v, u;
};

inline SortTile sort_tile_of(const PackedPatchProblem& p, const Packing& packing) {
  SortTile tile{};
  tile.own_width = kSortSide + static_cast<int>(p.ps) - 1;
  tile.own_pixels = tile.own_width * tile.own_width;
  const int64_t most = kSortThreads * kHeld / (kSortSide * kSortSide);
  const int64_t rounds = (p.k + most - 1) / most;
  tile.entries = p.stacked ? 1 : static_cast<int>((p.k + rounds - 1) / rounds);
  const int64_t each =
      p.float_grid ? int64_t{sizeof(Sorted<true>)} : int64_t{sizeof(Sorted<false>)};
  tile.bytes = (int64_t{tile.own_pixels} << packing.lane_bits) * int64_t{sizeof(float4)} +
               each * kSortSide * kSortSide * tile.entries + 4 * (kSortArea + 1);
  return tile;
}

constexpr int64_t kMostSortBytes = 112 * 1024;  // two blocks on a multiprocessor

// The rectangle of each frame that the entries of a tile point to.
struct Rectangles {
  int top[kSortFrames], bottom[kSortFrames], left[kSortFrames], right[kSortFrames];
  int first[kSortFrames + 1];    // pixels before those of a frame
  int reached[kSortFrames + 1];  // the same for the pixels that the patches reach
  int carry[kSortThreads / 32];

  // Counts the pixels; false if they are too many.
  __device__ __forceinline__ void count(int frames, int taps) {
    int64_t total = 0, all = 0;
    for (int f = 0; f < frames; ++f) {
      first[f] = static_cast<int>(total);
      reached[f] = static_cast<int>(all);
      if (bottom[f] >= 0 && total <= kSortArea) {
        const int64_t rows = bottom[f] - top[f] + 1, columns = right[f] - left[f] + 1;
        total = min(total + rows * columns, int64_t{kSortArea} + 1);
        all = min(all + (rows + taps - 1) * (columns + taps - 1), int64_t{INT32_MAX});
      }
    }
    first[frames] = static_cast<int>(total);
    reached[frames] = static_cast<int>(all);
  }
};

__device__ __forceinline__ void lower(int* bound, int value) {
  if (value < *bound) atomicMin(bound, value);
}
__device__ __forceinline__ void raise(int* bound, int value) {
  if (value > *bound) atomicMax(bound, value);
}

// Turns counts into the sums before them.
__device__ __forceinline__ void exclusive_scan(int* counts, int size, int* carry) {
  const int thread = static_cast<int>(threadIdx.x), lane = thread & 31;
  const int each = (size + kSortThreads - 1) / kSortThreads;
  const int first = min(thread * each, size), last = min(first + each, size);
  int total = 0;
  for (int n = first; n < last; ++n) total += counts[n];
  int sum = total;
  for (int step = 1; step < 32; step <<= 1) {
    const int before = __shfl_up_sync(0xffffffffu, sum, step);
    if (lane >= step) sum += before;
  }
  if (lane == 31) carry[thread / 32] = sum;
  __syncthreads();
  int at = sum - total;
  for (int warp = 0; warp < thread / 32; ++warp) at += carry[warp];
  for (int n = first; n < last; ++n) {
    const int count = counts[n];
    counts[n] = at;
    at += count;
  }
}

// What the sorted entries begin .. end - 1 of row a of the taps add to a pixel in a column.
template <int kPs, bool kFloatGrid>
__device__ __forceinline__ void gather_sorted(const Sorted<kFloatGrid>* sorted, int begin, int end,
                                              const float4* own, int lane_bits, int own_width,
                                              int a, int ps, int column, float4* sum) {
  if constexpr (kFloatGrid) {
    const int up = own_width << lane_bits, back = 1 << lane_bits;
    for (int n = begin; n < end; ++n) {
      const Sorted<true> e = sorted[n];
      const int b = column - (e.place_column & 0xffff);
      const float4* at = own + (((e.place_column >> 16) + a * own_width + b) << lane_bits);
      const float below = e.weight * e.v, above = e.weight - below;
      const float w01 = above * e.u, w11 = below * e.u;
      if (a < ps) {
        if (b < ps) multiply_add(above - w01, at[0], sum);
        if (b > 0) multiply_add(w01, at[-back], sum);
      }
      if (a > 0) {
        if (b < ps) multiply_add(below - w11, at[-up], sum);
        if (b > 0) multiply_add(w11, at[-up - back], sum);
      }
    }
  } else {
    const float4* at = own + ((a * own_width + column) << lane_bits);
#pragma unroll 2
    for (int n = begin; n < end; ++n) {
      const Sorted<false> e = sorted[n];
      multiply_add(e.weight, at[e.base << lane_bits], sum);
    }
  }
}

// kPs: the size of a patch, 0: any.
template <int kPs, bool kFloatGrid>
__global__ void __launch_bounds__(kSortThreads, 2)
    sort_scatter_kernel(const __grid_constant__ PackedPatchProblem p,
                        const __grid_constant__ Packing packing,
                        const __grid_constant__ SortTile tile, float4* packed_sums) {
  extern __shared__ __align__(16) unsigned char memory[];
  __shared__ Rectangles box;
  float4* own = reinterpret_cast<float4*>(memory);
  Sorted<kFloatGrid>* sorted =
      reinterpret_cast<Sorted<kFloatGrid>*>(own + (tile.own_pixels << packing.lane_bits));
  int* starts = reinterpret_cast<int*>(sorted + kSortSide * kSortSide * tile.entries);

  const int thread = static_cast<int>(threadIdx.x), slots = kSortThreads >> packing.lane_bits;
  const int slot = thread >> packing.lane_bits;
  const int lane = thread & ((1 << packing.lane_bits) - 1);
  const int left = static_cast<int>(blockIdx.x) * kSortSide;
  const int top = static_cast<int>(blockIdx.y) * kSortSide;
  const BlockPlane plane(p);
  const int64_t first_entry = plane.entries(p, packing);
  const float* weights = static_cast<const float*>(p.weights) + first_entry;
  const float* inds =
      static_cast<const float*>(p.inds) + p.components * first_entry;  // or integers
  const float* planes = static_cast<const float*>(p.own) + plane.offset(p, packing, p.own_stride);
  const int frames = static_cast<int>(p.frames), k = static_cast<int>(p.k);
  const int height = static_cast<int>(p.height), width = static_cast<int>(p.width);
  const int low = first_tap(p), groups = packing.groups;
  const int ps = kPs > 0 ? kPs : static_cast<int>(p.ps);
  const int taps = ps + (kFloatGrid ? 1 : 0);  // along an axis, of pixels hit

  let_next_start();
  for (int first = 0; first < k; first += tile.entries) {
    const int count = min(tile.entries, k - first), all = kSortSide * kSortSide * count;
    const float inverse = 1.0f / static_cast<float>(count);
    __syncthreads();
    for (int f = thread; f < frames; f += kSortThreads) {
      box.top[f] = box.left[f] = INT32_MAX;
      box.bottom[f] = box.right[f] = -1;
    }
    __syncthreads();
    Entry<kFloatGrid> held[kHeld];
    PackedPosition where[kHeld];
#pragma unroll
    for (int h = 0; h < kHeld; ++h) {
      const int n = thread + h * kSortThreads;
      const int query = static_cast<int>((static_cast<float>(n) + 0.5f) * inverse);  // exact
      const int y = top + query / kSortSide, x = left + query % kSortSide;
      held[h].at = kUnused;
      if (n >= all || y >= height || x >= width) continue;
      held[h] = decode<kFloatGrid>(p, packing, weights, inds,
                                   (y * width + x) * k + first + n - query * count, plane.frame, y,
                                   x, &where[h]);
      if (held[h].at == kUnused) continue;
      lower(&box.top[where[h].frame], where[h].row);
      raise(&box.bottom[where[h].frame], where[h].row);
      lower(&box.left[where[h].frame], where[h].column);
      raise(&box.right[where[h].frame], where[h].column);
    }
    __syncthreads();
    if (thread == 0) box.count(frames, taps);
    __syncthreads();
    const int area = box.first[frames];
    const bool listed = area <= kSortArea;
    if (listed) {
      for (int n = thread; n <= area; n += kSortThreads) starts[n] = 0;
      __syncthreads();
      int ranks[kHeld];
#pragma unroll
      for (int h = 0; h < kHeld; ++h) {
        if (held[h].at == kUnused) continue;
        const int f = where[h].frame, columns = box.right[f] - box.left[f] + 1;
        where[h].column -= box.left[f];
        where[h].row = box.first[f] + (where[h].row - box.top[f]) * columns + where[h].column;
        ranks[h] = atomicAdd(&starts[where[h].row], 1);
      }
      __syncthreads();
      exclusive_scan(starts, area + 1, box.carry);
      __syncthreads();
#pragma unroll
      for (int h = 0; h < kHeld; ++h) {
        if (held[h].at == kUnused) continue;
        const int query =
            static_cast<int>((static_cast<float>(thread + h * kSortThreads) + 0.5f) * inverse);
        const int place = query / kSortSide * tile.own_width + query % kSortSide;
        Sorted<kFloatGrid>* to = sorted + starts[where[h].row] + ranks[h];
        if constexpr (kFloatGrid)
          *to = Sorted<true>{place << 16 | where[h].column, held[h].weight, held[h].v(), held[h].u};
        else
          *to = Sorted<false>{place - where[h].column, held[h].weight};
      }
    } else {  // too widely spread: each for itself, in the same memory
      static_assert(sizeof(Sorted<kFloatGrid>) == sizeof(Entry<kFloatGrid>), "see below");
#pragma unroll
      for (int h = 0; h < kHeld; ++h)
        if (thread + h * kSortThreads < all)
          reinterpret_cast<Entry<kFloatGrid>*>(sorted)[thread + h * kSortThreads] = held[h];
    }
    for (int chunk = 0; chunk < packing.chunks; ++chunk) {
      const int group = (chunk << packing.lane_bits) + lane;
      if (first == 0 || packing.chunks > 1 || p.stacked != 0) {
        __syncthreads();
        const float* from = planes + 4 * group * p.own_stride[3];
        if (p.stacked != 0) from += first * p.own_entry_stride;
        for (int pixel = slot; pixel < tile.own_pixels; pixel += slots) {
          const int line = pixel / tile.own_width;
          own[(pixel << packing.lane_bits) + lane] =
              own_pixel(p, from, static_cast<int>(p.channels) - 4 * group, top + low + line,
                        left + low + pixel - line * tile.own_width);
        }
      }
      __syncthreads();
      if (group >= groups) continue;
      float4* sums = packed_sums + plane.slab * packing.vectors + group;
      if (!listed) {
        for (int n = slot; n < all; n += slots) {
          const Entry<kFloatGrid> e = reinterpret_cast<const Entry<kFloatGrid>*>(sorted)[n];
          if (e.at == kUnused) continue;
          const int query = n / count, row = query / kSortSide, column = query % kSortSide;
          take_taps(p, packing, e, top + row, left + column, nullptr, sums,
                    [&](int tap_h, int tap_w) {
                      const int at = (row + tap_h - low) * tile.own_width + column + tap_w - low;
                      return own[(at << packing.lane_bits) + lane];
                    });
        }
        continue;
      }
      int f = 0;
      const int reached = box.reached[frames];
      for (int pixel = slot; pixel < reached; pixel += slots) {
        while (pixel >= box.reached[f + 1]) ++f;
        const int columns = box.right[f] - box.left[f] + 1, rows = box.bottom[f] - box.top[f] + 1;
        const int within = pixel - box.reached[f], row = within / (columns + taps - 1);
        const int column = within - row * (columns + taps - 1);
        // The entries that reach the pixel with the taps of one row lie one after the other.
        const int* near = starts + box.first[f] + max(column - taps + 1, 0);
        const int* far = starts + box.first[f] + min(column, columns - 1) + 1;
        float4 sum{};
        bool hit = false;
        const auto take_row = [&](int a) {
          const int begin = near[(row - a) * columns], end = far[(row - a) * columns];
          hit = hit || begin < end;
          gather_sorted<kPs, kFloatGrid>(sorted, begin, end, own + lane, packing.lane_bits,
                                         tile.own_width, a, ps, column, &sum);
        };
        if constexpr (kPs > 0) {
#pragma unroll
          for (int a = 0; a < kPs + (kFloatGrid ? 1 : 0); ++a)
            if (a <= row && row - a < rows) take_row(a);
        } else {
          for (int a = max(row - rows + 1, 0); a <= min(row, taps - 1); ++a) take_row(a);
        }
        if (!hit) continue;
        const int to = (f * packing.height + box.top[f] + low + row) * packing.width + box.left[f] +
                       low + column;
        atomic_add(sums + static_cast<int64_t>(to) * groups, sum);
      }
    }
  }
}

}  // namespace stnls
