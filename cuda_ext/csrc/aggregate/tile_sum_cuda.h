// Patch sums of any stride, dilation and size on packed videos.
//
// A block takes a tile of pixels, one to the threads that share an entry. It decodes the entries of
// all queries whose patches reach into the tile, as many of each query at a time as shared memory
// holds, and every thread walks the taps. Few blocks share a multiprocessor, so that what their
// entries point to stays in its L1 cache.
#pragma once

#include "../common/cuda_launch.h"
#include "entries_cuda.h"
#include "own_pixels_cuda.h"
#include "packed_cuda.h"
#include "tap_places_cuda.h"
#include "vectors_cuda.h"

namespace stnls {

constexpr int kTileThreads = 512;
constexpr int64_t kStagedBytes = 28 * 1024;
constexpr int64_t kMostStagedBytes = 48 * 1024;  // what a block gets without asking

struct SumTile {
  int width_bits, height;   // pixels
  int columns, lines;       // tiles of a frame
  int grid_width, queries;  // that reach into a tile
  int entries;              // of each query that are staged at once
  int pitch;                // from query to query: odd, for the banks of shared memory
};

inline int64_t entry_bytes(const PackedPatchProblem& p) {
  return p.float_grid ? int64_t{sizeof(Entry<true>)} : int64_t{sizeof(Entry<false>)};
}

// False if the queries of one tile are too many for shared memory.
inline bool tile_of(const PackedPatchProblem& p, const Packing& packing, bool margins,
                    SumTile* tile) {
  const int slots = kTileThreads >> packing.lane_bits;
  tile->width_bits = packing.lane_bits == 0 ? 5 : 4;
  tile->height = slots >> tile->width_bits;
  const int64_t width = int64_t{1} << tile->width_bits, height = tile->height;
  const int64_t border = p.dilation * (p.ps - 1);
  const int64_t grid_width = (width - 1 + border) / p.stride0 + 1;
  const int64_t queries = ((height - 1 + border) / p.stride0 + 1) * grid_width;
  if (queries * entry_bytes(p) > kMostStagedBytes) return false;
  tile->columns = static_cast<int>(((margins ? packing.width : p.width) + width - 1) / width);
  tile->lines = static_cast<int>(((margins ? packing.height : p.height) + height - 1) / height);
  tile->grid_width = static_cast<int>(grid_width);
  tile->queries = static_cast<int>(queries);
  int64_t most = kStagedBytes / (queries * entry_bytes(p));
  most = most < 2 || p.stacked ? 1 : most - 1 + most % 2;  // odd
  const int64_t rounds = (p.k + most - 1) / most;
  tile->entries = static_cast<int>((p.k + rounds - 1) / rounds);
  tile->pitch = tile->entries | 1;
  return true;
}

__device__ __forceinline__ int ceil_divide(int a, int b) {
  if (b == 1) return a;
  return a >= 0 ? (a + b - 1) / b : -(-a / b);
}

// The query whose patch has a tap at a distance to pixel `from` of an axis; -1 if there is none.
__device__ __forceinline__ int query_from(int from, int stride, int grid) {
  if (from < 0) return -1;
  if (stride != 1) {
    const int query = from / stride;
    if (query * stride != from) return -1;
    from = query;
  }
  return from < grid ? from : -1;
}

// Staged entries hold the place of their pixel in the slab in bytes, or this.
constexpr int kUnusedBytes = -1;

__device__ __forceinline__ float4 read_bytes(const float4* from, int bytes) {
  return __ldg(reinterpret_cast<const float4*>(reinterpret_cast<const char*>(from) +
                                               static_cast<unsigned>(bytes)));
}

// One tap of one entry: `at` is where it would be read for an entry at 0, `down` and `right` are
// the steps to the pixels beside it.
template <bool kFloatGrid>
__device__ __forceinline__ void add_entry(const Entry<kFloatGrid>& e, const float4* at, int down,
                                          int right, float4* sum) {
  if constexpr (kFloatGrid) {
    const float low = e.weight * e.v(), high = e.weight - low;
    const float w01 = high * e.u, w11 = low * e.u;
    multiply_add(high - w01, read_bytes(at, e.at), sum);
    multiply_add(w01, read_bytes(at + right, e.at), sum);
    multiply_add(low - w11, read_bytes(at + down, e.at), sum);
    multiply_add(w11, read_bytes(at + down + right, e.at), sum);
  } else {
    multiply_add(e.weight, read_bytes(at, e.at), sum);
  }
}

// The same of several entries on the integer grid, whose pixels are read at once.
constexpr int kEntriesTogether = 5;
__device__ __forceinline__ void add_entries(const Entry<false>* entry, int count, const float4* at,
                                            float4* sum) {
  for (int first = 0; first < count; first += kEntriesTogether, entry += kEntriesTogether) {
    float weights[kEntriesTogether];
    float4 pixels[kEntriesTogether];
#pragma unroll
    for (int n = 0; n < kEntriesTogether; ++n) {
      weights[n] = 0.0f;
      pixels[n] = float4{};
      if (first + n < count) {
        weights[n] = entry[n].weight;
        pixels[n] = read_bytes(at, entry[n].at);
      }
    }
#pragma unroll
    for (int n = 0; n < kEntriesTogether; ++n)
      if (first + n < count) multiply_add(weights[n], pixels[n], sum);
  }
}

// The same where entries may be empty or rare.
template <bool kFloatGrid>
__device__ __forceinline__ void add_carefully(const PackedPatchProblem& p, const Packing& packing,
                                              Entry<kFloatGrid> e, const float4* video, int tap_h,
                                              int tap_w, float4* sum) {
  if (e.at == kUnusedBytes) return;
  const int groups = packing.groups, pitch = packing.width * groups;
  if constexpr (kFloatGrid) {
    if (p.reflect_bounds == 0 && e.leaves()) {
      Place place;
      e.at = static_cast<int>(static_cast<unsigned>(e.at) / (16u * static_cast<unsigned>(groups)));
      if (!locate(p, packing, e, tap_h, tap_w, &place)) return;
      e = Entry<true>{0, e.weight, place.v, place.u};
      add_entry<true>(e, video + static_cast<int64_t>(place.at) * groups, place.down * groups,
                      place.right * groups, sum);
      return;
    }
  }
  add_entry(e, video + (tap_h * pitch + tap_w * groups), pitch, groups, sum);
}

// kSum: the sums themselves, to the planes of `own`. kSumWithMargins, kDifference: packed, with
// what falls on the margins; kDifference: own is subtracted from what every tap reads.
enum SumForm { kSum, kSumWithMargins, kDifference };

template <bool kFloatGrid, SumForm kForm>
__global__ void __launch_bounds__(kTileThreads, 2)
    packed_sum_kernel(const __grid_constant__ PackedPatchProblem p,
                      const __grid_constant__ Packing packing, const __grid_constant__ SumTile tile,
                      const float4* packed, float4* packed_sums) {
  extern __shared__ __align__(16) unsigned char memory[];
  Entry<kFloatGrid>* staged = reinterpret_cast<Entry<kFloatGrid>*>(memory);
  const int thread = static_cast<int>(threadIdx.x);
  const int margin = kForm == kSum ? 0 : packing.margin;
  const int left = (static_cast<int>(blockIdx.x) << tile.width_bits) - margin;
  const int line = packing.chunks == 1 ? static_cast<int>(blockIdx.y)
                                       : static_cast<int>(blockIdx.y) / packing.chunks;
  const int chunk = static_cast<int>(blockIdx.y) - line * packing.chunks;
  const int top = line * tile.height - margin;
  const BlockPlane plane(p);

  const int grid_height = static_cast<int>(p.grid_height);
  const int grid_width = static_cast<int>(p.grid_width);
  const int stride = static_cast<int>(p.stride0), dilation = static_cast<int>(p.dilation);
  const int k = static_cast<int>(p.k), low = first_tap(p), high = last_tap(p);
  const int first_row = ceil_divide(top - high, stride);
  const int first_column = ceil_divide(left - high, stride);

  const int slot = thread >> packing.lane_bits;
  const int lane = thread & ((1 << packing.lane_bits) - 1);
  const int group = (chunk << packing.lane_bits) + lane, groups = packing.groups;
  const int pitch = packing.width * groups;
  const int x = left + (slot & ((1 << tile.width_bits) - 1));
  const int y = top + (slot >> tile.width_bits);
  const bool works = group < groups && x < (kForm == kSum ? p.width : packing.width - margin) &&
                     y < (kForm == kSum ? p.height : packing.height - margin);
  const float4* video = packed + plane.slab * packing.vectors + (works ? group : 0);
  const int64_t first_entry = plane.entries(p, packing);
  const float* weights = static_cast<const float*>(p.weights) + first_entry;
  const float* inds =
      static_cast<const float*>(p.inds) + p.components * first_entry;  // or integers
  const float inverse_width = 1.0f / static_cast<float>(tile.grid_width);

  float4 sum{};
  float weight = 0.0f;  // kDifference: their sum
  for (int first = 0; first < k; first += tile.entries) {
    const int entries = min(tile.entries, k - first);
    const float inverse_entries = 1.0f / static_cast<float>(entries);
    bool care = false;
    if (first > 0) __syncthreads();
#pragma unroll 2
    for (int n = thread; n < tile.queries * entries; n += kTileThreads) {
      // Quotients of small numbers: exact.
      const int query = static_cast<int>((static_cast<float>(n) + 0.5f) * inverse_entries);
      const int row = static_cast<int>((static_cast<float>(query) + 0.5f) * inverse_width);
      const int i = first_row + row, j = first_column + query - row * tile.grid_width;
      const int entry = n - query * entries;
      if (i < 0 || i >= grid_height || j < 0 || j >= grid_width) continue;
      PackedPosition position;
      Entry<kFloatGrid> e =
          decode<kFloatGrid>(p, packing, weights, inds, (i * grid_width + j) * k + first + entry,
                             plane.frame, i * stride, j * stride, &position);
      care = care || e.at == kUnused || is_rare(p, e);
      e.at = e.at != kUnused ? e.at * groups * 16 : kUnusedBytes;
      staged[query * tile.pitch + entry] = e;
    }
    const bool careful = __syncthreads_or(care) != 0;
    if (first == 0) {
      wait_for_previous();  // the copy of the video may not be there yet
      let_next_start();
    }
    if (!works) continue;
    for (int tap_h = low; tap_h <= high; tap_h += dilation) {
      const int i = query_from(y - tap_h, stride, grid_height);
      if (i < 0) continue;
      for (int tap_w = low; tap_w <= high; tap_w += dilation) {
        const int j = query_from(x - tap_w, stride, grid_width);
        if (j < 0) continue;
        const Entry<kFloatGrid>* at =
            staged + ((i - first_row) * tile.grid_width + j - first_column) * tile.pitch;
        if (careful) {
          for (int n = 0; n < entries; ++n) {
            add_carefully(p, packing, at[n], video, tap_h, tap_w, &sum);
            if (kForm == kDifference && at[n].at != kUnusedBytes) weight += at[n].weight;
          }
          continue;
        }
        const float4* tapped = video + (tap_h * pitch + tap_w * groups);
        if constexpr (kFloatGrid || kForm == kDifference) {
#pragma unroll(kFloatGrid ? 2 : 4)
          for (int n = 0; n < entries; ++n) {
            add_entry(at[n], tapped, pitch, groups, &sum);
            if (kForm == kDifference) weight += at[n].weight;
          }
        } else {
          add_entries(at, entries, tapped, &sum);
        }
      }
    }
    if (p.stacked == 0 && first + entries < k) continue;
    const int channels = static_cast<int>(p.channels) - 4 * group;
    float* own = static_cast<float*>(p.own) + plane.offset(p, packing, p.own_stride) +
                 4 * group * p.own_stride[3];
    if constexpr (kForm != kSum) {
      if (kForm == kDifference) multiply_add(-weight, own_pixel(p, own, channels, y, x), &sum);
      const int line_of = (plane.frame * packing.height + y + margin) * packing.width;
      packed_sums[plane.slab * packing.vectors +
                  static_cast<int64_t>(line_of + x + margin) * groups + group] = sum;
      continue;
    }
    float* out = own + y * p.own_stride[4] + x;
    if (p.stacked != 0) out += first * p.own_entry_stride;
    float share = 1.0f;
    if (p.normalize)
      share /= static_cast<float>(reaching(p, y, grid_height) * reaching(p, x, grid_width));
    __stcs(out, sum.x * share);
    if (channels > 1) __stcs(out + p.own_stride[3], sum.y * share);
    if (channels > 2) __stcs(out + 2 * p.own_stride[3], sum.z * share);
    if (channels > 3) __stcs(out + 3 * p.own_stride[3], sum.w * share);
    sum = float4{};
  }
}

// Right after launch_pack, the first of which waits for all that was launched before: so the
// entries are there when they are read, while the copy is made.
template <SumForm kForm>
void launch_sum(const PackedPatchProblem& p, const Packing& packing, const float4* packed,
                float4* sums, cudaStream_t stream) {
  SumTile tile;
  tile_of(p, packing, kForm != kSum, &tile);
  const dim3 grid = plane_grid(p, packing, tile.columns, int64_t{tile.lines} * packing.chunks);
  const size_t bytes = static_cast<size_t>(tile.pitch * tile.queries * entry_bytes(p));
  const auto kernel =
      p.float_grid ? packed_sum_kernel<true, kForm> : packed_sum_kernel<false, kForm>;
  launch_overlapping(kernel, grid, kTileThreads, bytes, stream, p, packing, tile, packed, sums);
}

}  // namespace stnls
