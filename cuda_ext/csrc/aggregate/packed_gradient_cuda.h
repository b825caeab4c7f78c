// Scatter and dot on packed videos, in kernels for patches of one pixel, for the dots of those of
// 3 x 3, for the scatter of larger ones, and for any stride, dilation and size.
#pragma once

#include "../common/cuda_launch.h"
#include "entries_cuda.h"
#include "packed_cuda.h"
#include "pixel_gradient_cuda.h"
#include "sorted_pixels_cuda.h"
#include "strip_dot_cuda.h"

namespace stnls {

// Sums over the channels of one thread: the value, and the slopes along rows and columns.
struct Dots {
  float value, down, right;
};

// One tap of an entry: what it is with the query's own pixel g, and what g adds there.
template <bool kFloatGrid>
__device__ __forceinline__ void take_tap(const Place& at, const float4& g, float weight, int groups,
                                         const float4* video, float4* sums, Dots* dots) {
  const int64_t low = static_cast<int64_t>(at.at) * groups;
  if constexpr (kFloatGrid) {
    const int down = at.down * groups, right = at.right * groups;
    const float v = at.v, u = at.u;
    if (video != nullptr) {
      const int slope_down = at.slope_down * groups, slope_right = at.slope_right * groups;
      const float4* from = video + low;
      const auto project = [&](int offset) { return dot(g, __ldg(from + offset), 0.0f); };
      const float d00 = project(0), d01 = project(right);
      const float d10 = project(down), d11 = project(down + right);
      const float at_low = (1.0f - u) * d00 + u * d01, at_high = (1.0f - u) * d10 + u * d11;
      const float at_left = (1.0f - v) * d00 + v * d10;
      float below = at_high, beside = (1.0f - v) * d01 + v * d11;
      if (slope_down != down)
        below = (1.0f - u) * project(slope_down) + u * project(slope_down + right);
      if (slope_right != right)
        beside = (1.0f - v) * project(slope_right) + v * project(down + slope_right);
      dots->value += (1.0f - v) * at_low + v * at_high;
      dots->down += at.sign_h * (below - at_low);
      dots->right += at.sign_w * (beside - at_left);
    }
    if (sums != nullptr) {
      float4* to = sums + low;
      const float w01 = (1.0f - v) * u, w10 = v * (1.0f - u), w11 = v * u;
      atomic_add(to, scaled((1.0f - v) * (1.0f - u) * weight, g));
      if (w01 != 0.0f) atomic_add(to + right, scaled(w01 * weight, g));
      if (w10 != 0.0f) atomic_add(to + down, scaled(w10 * weight, g));
      if (w11 != 0.0f) atomic_add(to + down + right, scaled(w11 * weight, g));
    }
  } else {
    if (video != nullptr) dots->value = dot(g, __ldg(video + low), dots->value);
    if (sums != nullptr) atomic_add(sums + low, scaled(weight, g));
  }
}

// All taps of one entry of the query at (y, x). own(tap row, tap column) is its own pixel.
template <bool kFloatGrid, class Own>
__device__ __forceinline__ Dots take_taps(const PackedPatchProblem& p, const Packing& packing,
                                          const Entry<kFloatGrid>& e, int y, int x,
                                          const float4* video, float4* sums, Own&& own) {
  Dots dots{};
  const int dilation = static_cast<int>(p.dilation), low = first_tap(p), high = last_tap(p);
  for (int tap_h = low; tap_h <= high; tap_h += dilation) {
    if (p.mirrors_own == 0 && !inside(int64_t{y} + tap_h, p.height)) continue;
    for (int tap_w = low; tap_w <= high; tap_w += dilation) {
      if (p.mirrors_own == 0 && !inside(int64_t{x} + tap_w, p.width)) continue;
      Place place = place_of(packing, e, tap_h, tap_w);
      if constexpr (kFloatGrid)
        if (e.leaves() && !locate(p, packing, e, tap_h, tap_w, &place)) continue;
      take_tap<kFloatGrid>(place, own(tap_h, tap_w), e.weight, packing.groups, video, sums, &dots);
    }
  }
  return dots;
}

// Adds up the dots of the threads that share an entry.
template <bool kFloatGrid>
__device__ __forceinline__ Dots sum_of_lanes(const Packing& packing, Dots dots) {
  const auto add_other = [&](int step) {
    dots.value += __shfl_xor_sync(0xffffffffu, dots.value, step);
    if constexpr (kFloatGrid) {
      dots.down += __shfl_xor_sync(0xffffffffu, dots.down, step);
      dots.right += __shfl_xor_sync(0xffffffffu, dots.right, step);
    }
  };
  if (packing.lane_bits > 1) add_other(2);
  if (packing.lane_bits > 0) add_other(1);
  return dots;
}

// Writes, or adds if there is more, the gradients of an entry of a query at (y, x).
template <bool kFloatGrid>
__device__ __forceinline__ void write_dots(const PackedPatchProblem& p, const Dots& dots,
                                           const Entry<kFloatGrid>& e, int64_t entry, int y, int x,
                                           bool more) {
  if (p.grad_weights != nullptr) {
    float* to = static_cast<float*>(p.grad_weights) + entry;
    *to = more ? *to + dots.value : dots.value;
  }
  if constexpr (kFloatGrid) {
    if (p.grad_inds == nullptr) return;
    const float* inds = static_cast<const float*>(p.inds) + 3 * entry;
    float* to = static_cast<float*>(p.grad_inds) + 3 * entry;
    float down = 0.0f, right = 0.0f;
    if (e.at != kUnused) {
      down = e.weight * dots.down * reflect_sign(static_cast<float>(y) + inds[1], p.height);
      right = e.weight * dots.right * reflect_sign(static_cast<float>(x) + inds[2], p.width);
    }
    to[0] = 0.0f;
    to[1] = more ? to[1] + down : down;
    to[2] = more ? to[2] + right : right;
  }
}

// -------------------------------------------------------------------------- any stride and
// dilation

constexpr int kAnyThreads = 256;

// One entry at a time to the threads that share it; what it adds goes straight to memory.
template <bool kFloatGrid>
__global__ void __launch_bounds__(kAnyThreads)
    any_gradient_kernel(const __grid_constant__ PackedPatchProblem p,
                        const __grid_constant__ Packing packing, const float4* packed,
                        float4* packed_sums) {
  const int lane = static_cast<int>(threadIdx.x) & ((1 << packing.lane_bits) - 1);
  const int all = static_cast<int>(p.grid_height * p.grid_width * p.k);  // entries of a frame
  const int64_t item =
      (static_cast<int64_t>(blockIdx.x) * kAnyThreads + threadIdx.x) >> packing.lane_bits;
  const bool exists = item < all;
  const BlockPlane plane(p);
  const int64_t first_entry = plane.entries(p, packing);
  const int index = exists ? static_cast<int>(item) : 0;
  const int k = static_cast<int>(p.k), query = index / k;
  const int i = query / static_cast<int>(p.grid_width);
  const int y = i * static_cast<int>(p.stride0);
  const int x = (query - i * static_cast<int>(p.grid_width)) * static_cast<int>(p.stride0);
  Entry<kFloatGrid> e{};
  e.at = kUnused;
  PackedPosition position;
  if (exists)
    e = decode<kFloatGrid>(p, packing, static_cast<const float*>(p.weights) + first_entry,
                           static_cast<const float*>(p.inds) + p.components * first_entry, index,
                           plane.frame, y, x, &position);
  const float* own = static_cast<const float*>(p.own) + plane.offset(p, packing, p.own_stride);
  if (p.stacked != 0) own += (index - query * k) * p.own_entry_stride;
  for (int chunk = 0; chunk < packing.chunks; ++chunk) {
    const int group = (chunk << packing.lane_bits) + lane;
    const int channels = static_cast<int>(p.channels) - 4 * group;
    const int64_t first = plane.slab * packing.vectors + group;
    Dots dots{};
    if (e.at != kUnused && group < packing.groups)
      dots = take_taps(
          p, packing, e, y, x, packed != nullptr ? packed + first : nullptr,
          packed_sums != nullptr ? packed_sums + first : nullptr, [&](int tap_h, int tap_w) {
            return own_pixel(p, own + 4 * group * p.own_stride[3], channels, y + tap_h, x + tap_w);
          });
    if (packed == nullptr) continue;
    dots = sum_of_lanes<kFloatGrid>(packing, dots);
    if (exists && lane == 0) write_dots(p, dots, e, first_entry + index, y, x, chunk > 0);
  }
}

// -------------------------------------------------------------------------------- patches in
// registers
//
// The threads that share an entry share all entries of a query. They decode as many at a time as
// they are, one each, and hand them round; the query's own patch stays in registers.

constexpr int kPatchThreads = 256;
constexpr int kPatchRows = 8;  // of queries that a block takes: a warp each

// All taps of an entry. On the real grid they share their fractions, so that every pixel is read
// once. With sums, what the patch adds there (kPs 1 only: otherwise sorting pays).
template <int kPs, bool kFloatGrid>
__device__ __forceinline__ Dots take_patch(const float4 (&own)[kPs][kPs],
                                           const Entry<kFloatGrid>& e, const float4* video,
                                           float4* sums, bool reads, bool adds, int pitch,
                                           int groups) {
  Dots dots{};
  if (reads) {
    float d00 = 0.0f, d01 = 0.0f, d10 = 0.0f, d11 = 0.0f;
#pragma unroll
    for (int a = 0; a < kPs + (kFloatGrid ? 1 : 0); ++a, video += pitch) {
      float4 line[kPs + 1];
#pragma unroll
      for (int b = 0; b < kPs + (kFloatGrid ? 1 : 0); ++b) line[b] = __ldg(video + b * groups);
#pragma unroll
      for (int b = 0; b < kPs; ++b) {
        if (a < kPs) d00 = dot(own[a][b], line[b], d00);
        if (kFloatGrid && a < kPs) d01 = dot(own[a][b], line[b + 1], d01);
        if (kFloatGrid && a > 0) d10 = dot(own[a - 1][b], line[b], d10);
        if (kFloatGrid && a > 0) d11 = dot(own[a - 1][b], line[b + 1], d11);
      }
    }
    dots.value = d00;
    if constexpr (kFloatGrid) {
      const float v = e.v(), u = e.u;
      const float at_low = (1.0f - u) * d00 + u * d01, at_high = (1.0f - u) * d10 + u * d11;
      dots.value = (1.0f - v) * at_low + v * at_high;
      dots.down = at_high - at_low;
      dots.right = ((1.0f - v) * d01 + v * d11) - ((1.0f - v) * d00 + v * d10);
    }
  }
  if constexpr (kPs == 1) {
    if (!adds) return dots;
    if constexpr (kFloatGrid) {
      const float below = e.weight * e.v(), above = e.weight - below;
      const float w01 = above * e.u, w11 = below * e.u;
      atomic_add(sums, scaled(above - w01, own[0][0]));
      if (w01 != 0.0f) atomic_add(sums + groups, scaled(w01, own[0][0]));
      if (below != w11) atomic_add(sums + pitch, scaled(below - w11, own[0][0]));
      if (w11 != 0.0f) atomic_add(sums + pitch + groups, scaled(w11, own[0][0]));
    } else {
      atomic_add(sums, scaled(e.weight, own[0][0]));
    }
  }
  return dots;
}

// Blocks on a multiprocessor, as far as registers go.
constexpr int patch_blocks(int ps, bool float_grid) {
  return (ps == 1 ? 4 : 3) - (float_grid ? 1 : 0);
}

template <int kPs, bool kFloatGrid>
__global__ void __launch_bounds__(kPatchThreads, patch_blocks(kPs, kFloatGrid))
    patch_gradient_kernel(const __grid_constant__ PackedPatchProblem p,
                          const __grid_constant__ Packing packing, const float4* packed,
                          float4* packed_sums) {
  const int lanes = 1 << packing.lane_bits, slots = 32 >> packing.lane_bits;
  const int lane = static_cast<int>(threadIdx.x) & (lanes - 1);
  const int slot = (static_cast<int>(threadIdx.x) & 31) >> packing.lane_bits;
  const int x = static_cast<int>(blockIdx.x) * slots + slot;
  const int y = static_cast<int>(blockIdx.y) * kPatchRows + static_cast<int>(threadIdx.x) / 32;
  if (y >= p.height) return;  // the whole warp
  const bool exists = x < p.width;
  const BlockPlane plane(p);
  const int k = static_cast<int>(p.k), low = first_tap(p), groups = packing.groups;
  const int query = exists ? y * static_cast<int>(p.width) + x : 0, pitch = packing.width * groups;
  const int64_t first_entry = plane.entries(p, packing);
  const float* weights = static_cast<const float*>(p.weights) + first_entry;
  const float* inds =
      static_cast<const float*>(p.inds) + p.components * first_entry;  // or integers
  const bool reads = packed != nullptr, adds = kPs == 1 && packed_sums != nullptr;
  const int corner = low * (pitch + groups);
  // Margins serve but for slopes, and for what lies between the last pixel and zeros.
  const bool careful = kFloatGrid && (p.reflect_bounds == 0 || p.grad_inds != nullptr);

  for (int chunk = 0; chunk < packing.chunks; ++chunk) {
    const int group = (chunk << packing.lane_bits) + lane;
    const bool works = group < groups;
    const int channels = exists ? static_cast<int>(p.channels) - 4 * group : 0;
    const int64_t first_vector = plane.slab * packing.vectors + (works ? group : 0);
    const float4* video = packed + first_vector;  // only if it reads
    float4* sums = packed_sums + first_vector;    // only if it adds
    const float* own = static_cast<const float*>(p.own) + plane.offset(p, packing, p.own_stride) +
                       4 * group * p.own_stride[3];
    float4 patch[kPs][kPs];
    const auto read_patch = [&](int entry) {
#pragma unroll
      for (int a = 0; a < kPs; ++a)
#pragma unroll
        for (int b = 0; b < kPs; ++b)
          patch[a][b] =
              own_pixel(p, own + entry * p.own_entry_stride, channels, y + low + a, x + low + b);
    };
    if (p.stacked == 0) read_patch(0);
    for (int first = 0; first < k; first += lanes) {
      Entry<kFloatGrid> mine{};
      mine.at = kUnused;
      PackedPosition position;
      const bool decodes = exists && first + lane < k;
      if (decodes)
        mine = decode<kFloatGrid>(p, packing, weights, inds, query * k + first + lane, plane.frame,
                                  y, x, &position);
      Dots mine_dots{};
      const int last = min(lanes, k - first);
      for (int n = 0; n < last; ++n) {
        Entry<kFloatGrid> e;
        e.at = __shfl_sync(0xffffffffu, mine.at, n, lanes);
        e.weight = __shfl_sync(0xffffffffu, mine.weight, n, lanes);
        if constexpr (kFloatGrid) {
          e.signed_v = __shfl_sync(0xffffffffu, mine.signed_v, n, lanes);
          e.u = __shfl_sync(0xffffffffu, mine.u, n, lanes);
        }
        if (p.stacked != 0) read_patch(first + n);
        Dots dots{};
        if (works && e.at != kUnused) {
          if (careful && e.leaves()) {
            const float* layer = own + p.stacked * (first + n) * p.own_entry_stride;
            dots = take_taps(p, packing, e, y, x, reads ? video : nullptr, adds ? sums : nullptr,
                             [&](int tap_h, int tap_w) {
                               return own_pixel(p, layer, channels, y + tap_h, x + tap_w);
                             });
          } else {
            const int at = e.at * groups + corner;
            dots = take_patch<kPs, kFloatGrid>(patch, e, video + at, sums + at, reads, adds, pitch,
                                               groups);
          }
        }
        if (!reads) continue;
        dots = sum_of_lanes<kFloatGrid>(packing, dots);
        if (n == lane) mine_dots = dots;
      }
      if (reads && decodes)
        write_dots(p, mine_dots, mine, first_entry + query * k + first + lane, y, x, chunk > 0);
    }
  }
}

// ------------------------------------------------------------------------ the scatter of larger
// patches
//
// Atomic additions to global memory are what a scatter waits for. So a block takes a tile of
// queries, sorts their entries in shared memory by the pixel they point to, gathers what falls on
// every pixel that is hit, and adds that to memory once.

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

// -------------------------------------------------------------------------------------------
// launch

// after_pack: the kernel before in the stream, if it is one, has made `packed` and `sums`, and
// waited for all that came before it.
template <bool kFloatGrid>
cudaError_t launch_gradient(const PackedPatchProblem& p, const Packing& packing,
                            const float4* packed, float4* sums, bool after_pack,
                            cudaStream_t stream) {
  if constexpr (!kFloatGrid) {
    if (sums != nullptr && takes_pixel_gradient(p)) {
      launch_pixel_gradient(p, packing, packed, sums, after_pack, stream);
      return cudaSuccess;
    }
  }
  if constexpr (kFloatGrid) {
    if (sums != nullptr && takes_sorted_pixels(p)) {
      const float4* video =
          p.grad_inds == nullptr ? packed : nullptr;  // its slopes are taken below
      if (launch_sorted_pixels(p, packing, video, sums, after_pack, stream)) {
        if (video == packed) return cudaSuccess;
        sums = nullptr;
      }
    }
  }
  const bool neighbours = p.stride0 == 1 && (p.dilation == 1 || p.ps == 1);
  const SortTile tile = sort_tile_of(p, packing);
  // Between the last pixel and the zeros beyond nothing may be interpolated.
  bool sorts = sums != nullptr && neighbours && p.ps > 1 && p.frames <= kSortFrames &&
               tile.bytes <= kMostSortBytes && (!kFloatGrid || p.reflect_bounds != 0);
  if (sorts) {
    const auto kernel =
        p.ps == 3 ? sort_scatter_kernel<3, kFloatGrid> : sort_scatter_kernel<0, kFloatGrid>;
    sorts = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 int{kMostSortBytes}) == cudaSuccess;
    if (sorts) {
      const int64_t columns = (p.width + kSortSide - 1) / kSortSide;
      const int64_t lines = (p.height + kSortSide - 1) / kSortSide;
      kernel<<<plane_grid(p, packing, columns, lines), kSortThreads,
               static_cast<size_t>(tile.bytes), stream>>>(p, packing, tile, sums);
      if (packed == nullptr) return cudaSuccess;
      sums = nullptr;
    } else {
      cudaGetLastError();  // older devices have less shared memory: each entry for itself
    }
  }
  if (sums == nullptr && takes_strip_dots(p)) {
    p.ps == 1 ? launch_strip_dots<1, kFloatGrid>(p, packing, packed, sorts, stream)
              : launch_strip_dots<3, kFloatGrid>(p, packing, packed, sorts, stream);
    return cudaSuccess;
  }
  if (neighbours && (p.ps == 1 || (p.ps == 3 && sums == nullptr))) {
    const int64_t slots = 32 >> packing.lane_bits;
    const dim3 grid = plane_grid(p, packing, (p.width + slots - 1) / slots,
                                 (p.height + kPatchRows - 1) / kPatchRows);
    const auto kernel =
        p.ps == 1 ? patch_gradient_kernel<1, kFloatGrid> : patch_gradient_kernel<3, kFloatGrid>;
    kernel<<<grid, kPatchThreads, 0, stream>>>(p, packing, packed, sums);
    return cudaSuccess;
  }
  const int64_t threads = p.grid_height * p.grid_width * p.k << packing.lane_bits;
  const dim3 grid = plane_grid(p, packing, (threads + kAnyThreads - 1) / kAnyThreads, 1);
  any_gradient_kernel<kFloatGrid><<<grid, kAnyThreads, 0, stream>>>(p, packing, packed, sums);
  return cudaSuccess;
}

// `video` is read for the dots, `grad` is written by the scatter; either may be without data.
inline cudaError_t launch_packed(const PackedPatchProblem& p, const Planes& video,
                                 const Planes& grad, cudaStream_t stream) {
  float4* packed = video.data != nullptr ? packed_copy(p, 0) : nullptr;
  float4* sums = grad.data != nullptr ? packed_copy(p, packed != nullptr ? 1 : 0) : nullptr;
  cudaError_t error = cudaSuccess;
  for_rounds(p, [&](const Packing& packing) {
    if (error != cudaSuccess) return;
    if (packed != nullptr) {
      launch_pack(p, packing, video, packed, sums, stream);
    } else {
      const size_t bytes = static_cast<size_t>(packing.slabs * packing.vectors) * sizeof(float4);
      error = cudaMemsetAsync(sums, 0, bytes, stream);
      if (error != cudaSuccess) return;
    }
    error = p.float_grid
                ? launch_gradient<true>(p, packing, packed, sums, packed != nullptr, stream)
                : launch_gradient<false>(p, packing, packed, sums, packed != nullptr, stream);
    if (error == cudaSuccess && sums != nullptr) launch_unpack(p, packing, grad, sums, stream);
  });
  return error;
}

}  // namespace stnls
