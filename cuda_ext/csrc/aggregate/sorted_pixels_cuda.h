// Gradients of the video and of the weights, of patches of one pixel on the real grid.
//
// Atomic additions to memory are what a scatter waits for. So a block takes a tile of queries and
// sorts their entries in shared memory by the pixel they point to. Threads that share an entry then
// take a run of the sorted entries each: they sum up what falls on a pixel in registers, and add it
// to memory when another pixel comes. The pixel itself is at hand for the gradient of the weights.
// All runs are of the same length, however often a pixel is hit.
#pragma once

#include <cuda_pipeline_primitives.h>

#include "../common/cuda_launch.h"
#include "entries_cuda.h"
#include "own_pixels_cuda.h"
#include "packed_cuda.h"
#include "vectors_cuda.h"

namespace stnls {

constexpr int kRunThreads = 512;
constexpr int kRunSide = 16;  // a tile has 16 x 16 queries
constexpr int kRunQueries = kRunSide * kRunSide;
constexpr int kRunHeld = 5;                    // entries of a thread
constexpr int64_t kMostRunBytes = 112 * 1024;  // two blocks on a multiprocessor

// Where entries are counted: by the pixel they point to, of four frames and 32 x 32 pixels, again
// and again. A tile points to no more, but where the flow is torn; then the entries of pixels that
// share a place are mixed, and what they add is handed over more often.
constexpr int kRunPlaces = 4096;
constexpr int kRunPlacesEach = kRunPlaces / kRunThreads;

__device__ __forceinline__ int run_place(const PackedPosition& at) {
  return (at.frame & 3) << 10 | (at.row & 31) << 5 | (at.column & 31);
}

// What is left of an entry.
struct alignas(16) RunEntry {
  int vector;  // of its pixel, from the first of the slab
  int own;     // vector of the query's own pixel in the tile
  float weight;
  int place;  // where it was counted; how many came before, in the upper bits
};

// How far it is below and to the right of the pixel.
struct alignas(8) RunFraction {
  float v, u;
};

struct RunTile {
  int entries;    // of each query that are taken at once
  int64_t bytes;  // of shared memory
};

inline RunTile run_tile_of(const PackedPatchProblem& p, int lanes) {
  RunTile tile{};
  const int64_t most = kRunThreads * kRunHeld / kRunQueries;
  const int64_t rounds = (p.k + most - 1) / most;
  tile.entries = static_cast<int>((p.k + rounds - 1) / rounds);
  const int64_t all = int64_t{kRunQueries} * tile.entries;
  constexpr int64_t each = int64_t{sizeof(RunEntry)} + int64_t{sizeof(RunFraction)};
  tile.bytes = int64_t{sizeof(float4)} * kRunQueries * lanes + each * (all + 1) +
               int64_t{sizeof(int)} * kRunPlaces +
               int64_t{sizeof(uint16_t)} * (all + kRunThreads / lanes + 1);
  return tile;
}

// Turns counts into the sums before them.
__device__ __forceinline__ void scan_run_places(int* counts, int* carry, int* all) {
  const int thread = static_cast<int>(threadIdx.x), lane = thread & 31, warp = thread / 32;
  int each[kRunPlacesEach], total = 0;
#pragma unroll
  for (int n = 0; n < kRunPlacesEach; ++n) {
    each[n] = total;
    total += counts[thread * kRunPlacesEach + n];
  }
  int sum = total;
#pragma unroll
  for (int step = 1; step < 32; step <<= 1) {
    const int before = __shfl_up_sync(0xffffffffu, sum, step);
    if (lane >= step) sum += before;
  }
  if (lane == 31) carry[warp] = sum;
  __syncthreads();
  int before = lane < warp ? carry[lane] : 0;
#pragma unroll
  for (int step = 16; step > 0; step >>= 1) before += __shfl_xor_sync(0xffffffffu, before, step);
#pragma unroll
  for (int n = 0; n < kRunPlacesEach; ++n)
    counts[thread * kRunPlacesEach + n] = before + sum - total + each[n];
  if (thread == kRunThreads - 1) *all = before + sum;
}

// The pixels around a place, or what is added to them.
struct RunCorners {
  float4 here, right, below, beyond;

  __device__ __forceinline__ void read(const float4* video, int vector, int groups, int pitch) {
    const float4* from = video + static_cast<unsigned>(vector);
    here = __ldg(from);
    right = __ldg(from + groups);
    below = __ldg(from + pitch);
    beyond = __ldg(from + pitch + groups);
  }

  __device__ __forceinline__ float dot_with(const RunFraction& f, const float4& g) const {
    const float d00 = dot(g, here, 0.0f), d01 = dot(g, right, 0.0f);
    const float d10 = dot(g, below, 0.0f), d11 = dot(g, beyond, 0.0f);
    const float at_low = fmaf(f.u, d01 - d00, d00), at_high = fmaf(f.u, d11 - d10, d10);
    return fmaf(f.v, at_high - at_low, at_low);
  }

  __device__ __forceinline__ void add_entry(float weight, const RunFraction& f, const float4& g) {
    const float low = weight * f.v, high = weight - low;
    const float w01 = high * f.u, w11 = low * f.u;
    multiply_add(high - w01, g, &here);
    multiply_add(w01, g, &right);
    multiply_add(low - w11, g, &below);
    multiply_add(w11, g, &beyond);
  }

  // Adds to memory what is complete when `next` comes.
  __device__ __forceinline__ void hand_over(float4* sums, int vector, int next, int groups,
                                            int pitch) {
    float4* to = sums + static_cast<unsigned>(vector);
    atomic_add(to, here);
    atomic_add(to + pitch, below);
    if (next == vector + groups) {  // in the same row: the last column is one of the margins
      here = right;
      below = beyond;
    } else {
      atomic_add(to + groups, right);
      atomic_add(to + pitch + groups, beyond);
      here = below = float4{};
    }
    right = beyond = float4{};
  }
};

// Takes the run of sorted entries that begins at `order`; the dot of an entry goes to its place in
// `dots`, or is added there if there is more.
template <int kLanes, bool kReads>
__device__ __forceinline__ void take_run(const uint16_t* order, int each, const RunEntry* entries,
                                         const RunFraction* fractions, const float4* own,
                                         const float4* video, float4* sums, int groups, int pitch,
                                         bool works, bool more, float* dots) {
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  RunCorners sum{}, pixels{};
  int which = *order;
  RunEntry e = entries[which];
  if (kReads && e.vector >= 0) pixels.read(video, e.vector, groups, pitch);
  for (int left_over = each; left_over > 0; --left_over) {
    const int next_which = *++order;
    RunEntry next = entries[next_which];
    if (left_over == 1) next.vector = -1;
    const float4 g = own[e.own];
    const RunFraction f = fractions[which];
    const bool changes = next.vector != e.vector;
    if constexpr (kReads) {
      float value = works ? pixels.dot_with(f, g) : 0.0f;
      if constexpr (kLanes > 2) value += __shfl_xor_sync(0xffffffffu, value, 2);
      if constexpr (kLanes > 1) value += __shfl_xor_sync(0xffffffffu, value, 1);
      if (lane == 0) dots[which] = more ? dots[which] + value : value;
      if (changes && next.vector >= 0) pixels.read(video, next.vector, groups, pitch);
    }
    sum.add_entry(e.weight, f, g);
    if (changes && works && e.vector >= 0)
      sum.hand_over(sums, e.vector, next.vector, groups, pitch);
    e = next;
    which = next_which;
  }
}

// kReads: the gradient of the weights is wanted too.
template <int kLanes, bool kReads>
__global__ void __launch_bounds__(kRunThreads, 2)
    sorted_pixels_kernel(const __grid_constant__ PackedPatchProblem p,
                         const __grid_constant__ Packing packing, int tile_entries,
                         const float4* packed, float4* packed_sums) {
  extern __shared__ __align__(16) unsigned char memory[];
  __shared__ int carry[kRunThreads / 32];
  __shared__ int used;
  constexpr int kSlots = kRunThreads / kLanes;
  const int most = kRunQueries * tile_entries;
  float4* own = reinterpret_cast<float4*>(memory);  // [query][lane]
  // The last one, behind those of the tile, is nobody's.
  RunEntry* entries = reinterpret_cast<RunEntry*>(own + kRunQueries * kLanes);
  RunFraction* fractions = reinterpret_cast<RunFraction*>(entries + most + 1);
  int* starts = reinterpret_cast<int*>(fractions + most + 1);
  float* dots = reinterpret_cast<float*>(starts);  // when the entries are sorted
  uint16_t* order = reinterpret_cast<uint16_t*>(starts + kRunPlaces);

  const int thread = static_cast<int>(threadIdx.x), lane = thread % kLanes;
  const unsigned slot = threadIdx.x / kLanes;
  const int left = static_cast<int>(blockIdx.x) * kRunSide;
  const int top = static_cast<int>(blockIdx.y) * kRunSide;
  const BlockPlane plane(p);
  const int64_t first_entry = plane.entries(p, packing);
  const float* weights = whole(static_cast<const float*>(p.weights) + first_entry);
  const float* inds = whole(static_cast<const float*>(p.inds) + p.components * first_entry);
  const float* planes = static_cast<const float*>(p.own) + plane.offset(p, packing, p.own_stride);
  const int k = static_cast<int>(p.k), groups = packing.groups, pitch = packing.width * groups;
  const int height = static_cast<int>(p.height), width = static_cast<int>(p.width);
  // Four channels of the queries' own pixels; zeros beyond the frame, and the channels.
  const auto copy_own = [&](int group) {
    const float* from = planes + 4 * group * p.own_stride[3];
    const int channels = static_cast<int>(p.channels) - 4 * group;
#pragma unroll 1
    for (unsigned query = slot; query < kRunQueries; query += kSlots) {
      const int row = top + static_cast<int>(query / kRunSide);
      const int column = left + static_cast<int>(query % kRunSide);
      const bool inside_frame = row < height && column < width;
      const float* at = from + row * p.own_stride[4] + column;
      float* to = reinterpret_cast<float*>(own + query * kLanes + lane);
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        const bool exists = inside_frame && c < channels;
        __pipeline_memcpy_async(to + c, exists ? at + c * p.own_stride[3] : planes, sizeof(float),
                                exists ? 0 : sizeof(float));
      }
    }
  };
  // Each warp takes a row of queries, the entries of which lie one after the other.
  const int y = top + thread / 32, first_query = thread / 32 * kRunSide;
  const int columns = y < height ? min(kRunSide, width - left) : 0;

  const bool has_time = p.components == 3;
  const int entry_bytes = static_cast<int>(p.components) * static_cast<int>(sizeof(float));
  for (int first = 0; first < k; first += tile_entries) {
    const int count = min(tile_entries, k - first), in_row = columns * count;
    const int before = first_query * count;  // entries of the rows above
    const unsigned inverse = (65536u + static_cast<unsigned>(count) - 1) / count;
    const auto column_of = [&](int m) {  // of entry m of the row; exact
      return static_cast<int>(static_cast<unsigned>(m) * inverse >> 16);
    };
    const auto entry_of = [&](int m) {
      return (y * width + left) * k + first + m + column_of(m) * (k - count);
    };
    __syncthreads();
#pragma unroll
    for (int n = 0; n < kRunPlacesEach; ++n) starts[thread + n * kRunThreads] = 0;
    if (thread == 0) entries[most] = RunEntry{-1, 0, 0.0f, 0};
    if (thread == 0) fractions[most] = RunFraction{};
    // All reads of the tile are on their way at once, to shared memory: weight and offsets of an
    // entry to its own place.
#pragma unroll 1
    for (int m = thread & 31; m < in_row; m += 32) {
      float* to = reinterpret_cast<float*>(entries + before + m);
      const int entry = entry_of(m);
      const float* end = reinterpret_cast<const float*>(reinterpret_cast<const char*>(inds) +
                                                        int64_t{entry + 1} * int64_t{entry_bytes});
      __pipeline_memcpy_async(to, weights + entry, sizeof(float));
      __pipeline_memcpy_async(to + 1, has_time ? end - 3 : end - 2, sizeof(float));
      __pipeline_memcpy_async(to + 2, end - 2, sizeof(float));
      __pipeline_memcpy_async(to + 3, end - 1, sizeof(float));
    }
    if (first == 0 || packing.chunks > 1) copy_own(lane);
    __pipeline_commit();
    __syncthreads();
    __pipeline_wait_prior(0);  // each thread reads what it copied
#pragma unroll 1
    for (int m = thread & 31; m < in_row; m += 32) {
      const float* from = reinterpret_cast<const float*>(entries + before + m);
      const RawEntry<true> raw{from[0], has_time ? from[1] : 0.0f, from[2], from[3]};
      const int column = column_of(m);
      PackedPosition where;
      const Entry<true> e = decode(p, packing, raw, plane.frame, y, left + column, &where);
      RunEntry to{-1, (first_query + column) * kLanes, e.weight, 0};
      if (e.at != kUnused) {
        to.vector = e.at * groups;
        to.place = run_place(where);
        to.place |= atomicAdd(&starts[to.place], 1) << 12;
        fractions[before + m] = RunFraction{e.v(), e.u};
      }
      entries[before + m] = to;
    }
    __syncthreads();
    scan_run_places(starts, carry, &used);
    __syncthreads();
    const int total = used, each = (total + kSlots - 1) / kSlots;
    for (int m = thread & 31; m < in_row; m += 32) {
      const RunEntry e = entries[before + m];
      if (e.vector >= 0)
        order[starts[e.place & (kRunPlaces - 1)] + (e.place >> 12)] =
            static_cast<uint16_t>(before + m);
    }
    for (int n = total + thread; n <= kSlots * each; n += kRunThreads)
      order[n] = static_cast<uint16_t>(most);
    __syncthreads();
    if (kReads)
      for (int m = thread & 31; m < in_row; m += 32) dots[before + m] = 0.0f;
    for (int chunk = 0; chunk < packing.chunks; ++chunk) {
      const int group = chunk * kLanes + lane;
      const bool works = group < groups;
      if (chunk > 0) {
        __syncthreads();
        copy_own(chunk * kLanes + lane);
        __pipeline_commit();
        __pipeline_wait_prior(0);
      }
      if (first == 0 && chunk == 0) {  // up to here, what the kernel before makes is not needed
        wait_for_previous();
        let_next_start();
      }
      __syncthreads();
      const int64_t first_vector = plane.slab * packing.vectors + (works ? group : 0);
      const float4* video = whole(packed + first_vector);  // only if it reads
      float4* sums = whole(packed_sums + first_vector);
      take_run<kLanes, kReads>(order + slot * each, each, entries, fractions, own + lane, video,
                               sums, groups, pitch, works, chunk > 0, dots);
    }
    if (!kReads) continue;
    __syncthreads();
    float* to_weights = static_cast<float*>(p.grad_weights) + first_entry;
    for (int m = thread & 31; m < in_row; m += 32) to_weights[entry_of(m)] = dots[before + m];
  }
}

// Whether queries and patches are such. Between the last pixel and the zeros beyond nothing may be
// interpolated.
inline bool takes_sorted_pixels(const PackedPatchProblem& p) {
  return p.ps == 1 && p.stride0 == 1 && p.stacked == 0 && p.float_grid != 0 &&
         p.reflect_bounds != 0;
}

// False on devices that have less shared memory than this takes.
template <int kLanes>
bool launch_sorted_pixels(const PackedPatchProblem& p, const Packing& packing, const float4* packed,
                          float4* sums, bool after_pack, cudaStream_t stream) {
  const RunTile tile = run_tile_of(p, kLanes);
  const auto kernel =
      packed != nullptr ? sorted_pixels_kernel<kLanes, true> : sorted_pixels_kernel<kLanes, false>;
  if (cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                           int{kMostRunBytes}) != cudaSuccess) {
    cudaGetLastError();
    return false;
  }
  const dim3 grid = plane_grid(p, packing, (p.width + kRunSide - 1) / kRunSide,
                               (p.height + kRunSide - 1) / kRunSide);
  launch_after(after_pack, kernel, grid, kRunThreads, static_cast<size_t>(tile.bytes), stream, p,
               packing, tile.entries, packed, sums);
  return true;
}

inline bool launch_sorted_pixels(const PackedPatchProblem& p, const Packing& packing,
                                 const float4* packed, float4* sums, bool after_pack,
                                 cudaStream_t stream) {
  return with_lanes(packing, [&](auto lanes) {
    return launch_sorted_pixels<decltype(lanes)::value>(p, packing, packed, sums, after_pack,
                                                        stream);
  });
}

}  // namespace stnls
