// Patch sums of queries on every pixel, of patches of 3 x 3 on the real grid; and the choice
// between this form and that for patches of one pixel.
//
// The threads that share a query take its entries: they decode as many at a time as they are, one
// each, and hand them round. What an entry adds to all pixels of the query's patch stays in
// registers, so that on the real grid 16 pixels are read for 9 taps, not 36.
//
// A block walks down a strip of pixels, with a query for every column and for those beside the
// strip. Of an entry's 4 x 4 pixels each thread takes a column, of one vector of the channels. A
// row of pixels is complete when the queries of the last row that reaches it are done: what each of
// them adds to its pixels is then handed to their threads.
#pragma once

#include "entries_cuda.h"
#include "entry_reader_cuda.h"
#include "own_pixels_cuda.h"
#include "packed_cuda.h"
#include "pixel_sum_cuda.h"
#include "vectors_cuda.h"

namespace stnls {

// Where the sums of one thread go: channels of a column of pixels.
struct SumColumn {
  float* out;
  int64_t next, pitch;  // from channel to channel, from row to row
  int channels, shares;

  __device__ __forceinline__ SumColumn(const PackedPatchProblem& p, const Packing& packing,
                                       const BlockPlane& plane, int group, int x)
      : next(p.own_stride[3]), pitch(p.own_stride[4]) {
    out =
        static_cast<float*>(p.own) + plane.offset(p, packing, p.own_stride) + 4 * group * next + x;
    channels = static_cast<int>(p.channels) - 4 * group;
    shares = p.normalize ? reaching(p, x, static_cast<int>(p.grid_width)) : 1;
  }

  __device__ __forceinline__ float share(const PackedPatchProblem& p, int y) const {
    if (p.normalize == 0) return 1.0f;
    return 1.0f / static_cast<float>(reaching(p, y, static_cast<int>(p.grid_height)) * shares);
  }

  __device__ __forceinline__ void write(int y, int channel, float value) const {
    if (channel < channels) __stcs(out + y * pitch + channel * next, value);
  }
};

constexpr int kStripPs = 3;
constexpr int kStripColumns = 4;    // of an entry's pixels, and channels of a vector
constexpr int kStripThreads = 384;  // at most
constexpr int kStripBlocks = 2;     // of so many threads on a multiprocessor
constexpr int kMostStripRows = 64;

struct SumStrip {
  int columns, count;  // pixels of a strip, strips of a frame
  int rows, bands;     // that a block walks down
  int threads;
};

template <int kGroups>
__global__ void __launch_bounds__(kStripThreads, kStripBlocks)
    strip_sum_kernel(const __grid_constant__ PackedPatchProblem p,
                     const __grid_constant__ Packing packing,
                     const __grid_constant__ SumStrip strip, const float4* packed) {
  constexpr int kPs = kStripPs, kLanes = kStripColumns * kGroups;
  extern __shared__ __align__(16) unsigned char memory[];
  float4* handed = reinterpret_cast<float4*>(memory);  // [2][threads]
  const int thread = static_cast<int>(threadIdx.x), slot = thread / kLanes;
  const int threads = static_cast<int>(blockDim.x);
  const int own_column = thread % kLanes / kGroups;
  const BlockPlane plane(p);
  const int band = static_cast<int>(blockIdx.y) / packing.chunks;
  const int chunk = static_cast<int>(blockIdx.y) - band * packing.chunks;
  const int group = chunk * kGroups + thread % kGroups, groups = packing.groups;
  const bool works = group < groups;
  const float4* video =
      packed + plane.slab * packing.vectors + (works ? own_column * groups + group : 0);
  const int height = static_cast<int>(p.height), width = static_cast<int>(p.width);
  const int low = first_tap(p), high = low + kPs - 1, pitch = packing.width * groups;
  const int left = static_cast<int>(blockIdx.x) * strip.columns, top = band * strip.rows;
  const int right = min(left + strip.columns, width), bottom = min(top + strip.rows, height);
  // Of the query, and of the pixel that its first column of taps falls on.
  const int column = left - high + slot, x = column + low;
  const bool exists = column >= 0 && column < width && column < right - low;
  const bool writes = works && x >= left && x < right;
  const SumColumn out(p, packing, plane, group, x);
  EntryReader<kLanes, true> reader(p, packing, plane, thread);
  const int first_row = max(top - high, 0), last_row = min(bottom - low, height) - 1;
  reader.read(p, first_row * width + column, 0, exists);
  // What the thread's column of pixels adds to the taps on it, and to those left of it.
  float4 sums[kPs] = {}, sums_left[kPs] = {};
  int parity = 0;
  for (int i = top - high; i < bottom - low; ++i) {
    if (i >= first_row && i <= last_row) {
      for (int first = 0; first < reader.k; first += kLanes) {
        const RawEntry<true> raw = reader.next;
        const bool more = first + kLanes < reader.k;
        reader.read(p, (more ? i : i + 1) * width + column, more ? first + kLanes : 0,
                    exists && (more || i < last_row));
        for_batch<kLanes>(p, packing, raw, exists && first + reader.lane < reader.k,
                          reader.k - first, plane.frame, i, column, low * (pitch + groups),
                          [&](const Entry<true>& e, int) {
                            if (e.at < 0 || !works) return;
                            const float4* from = video + e.at;
                            float4 pixels[kPs + 1];
#pragma unroll
                            for (int a = 0; a <= kPs; ++a) pixels[a] = __ldg(from + a * pitch);
                            const float below = e.weight * e.v(), above = e.weight - below;
                            const float w01 = above * e.u, w11 = below * e.u;
#pragma unroll
                            for (int a = 0; a < kPs; ++a) {
                              multiply_add(above - w01, pixels[a], &sums[a]);
                              multiply_add(below - w11, pixels[a + 1], &sums[a]);
                              multiply_add(w01, pixels[a], &sums_left[a]);
                              multiply_add(w11, pixels[a + 1], &sums_left[a]);
                            }
                          });
      }
    }
    const int y = i + low;
    if (y >= top) {  // the whole block
      float4 sum = sums[0];
      add(shuffle_down(sums_left[0], kGroups), &sum);
      float4* row = handed + parity * threads;
      parity ^= 1;
      row[thread] = sum;
      __syncthreads();
      if (writes) {
        // One channel for the thread of each column.
        const float* from = reinterpret_cast<const float*>(row + thread % kGroups) + own_column;
        float total = 0.0f;
#pragma unroll
        for (int b = 0; b < kPs; ++b) total += from[4 * ((slot - b) * kLanes + b * kGroups)];
        out.write(y, own_column, out.share(p, y) * total);
      }
    }
#pragma unroll
    for (int a = 0; a < kPs; ++a) {
      sums[a] = a + 1 < kPs ? sums[(a + 1) % kPs] : float4{};
      sums_left[a] = a + 1 < kPs ? sums_left[(a + 1) % kPs] : float4{};
    }
  }
}

inline SumStrip strip_of(const PackedPatchProblem& p, const Packing& packing, int lanes) {
  const int64_t border = p.ps - 1, most = kStripThreads / lanes;  // queries of a row
  SumStrip strip{};
  int64_t least = INT64_MAX;
  const int64_t fewest = (p.width + most - border - 1) / (most - border);
  for (int64_t count = fewest; count < fewest + 8 && count <= p.width; ++count) {
    const int64_t columns = (p.width + count - 1) / count;
    const int64_t warps = ((columns + border) * lanes + 31) / 32;
    if (count * warps < least) {
      least = count * warps;
      strip.columns = static_cast<int>(columns);
      strip.threads = static_cast<int>(32 * warps);
    }
  }
  strip.count = static_cast<int>((p.width + strip.columns - 1) / strip.columns);
  strip.rows = rows_of_block(
      packing.chunks, p.height, strip.count * p.frames * packing.slabs * packing.chunks,
      static_cast<int>(border), kMostStripRows, kStripBlocks * kStripThreads / strip.threads);
  strip.bands = static_cast<int>((p.height + strip.rows - 1) / strip.rows);
  return strip;
}

// Whether the problem can be taken in this form. On the integer grid the form for any patch reads
// no more. Between the last pixel and the zeros beyond nothing may be interpolated.
inline bool takes_strips(const PackedPatchProblem& p) {
  if (p.stride0 != 1 || p.stacked != 0) return false;
  if (p.ps == 1 && p.width * p.k >= kMostPixelEntries) return false;
  if (p.float_grid == 0) return p.ps == 1;
  return p.reflect_bounds != 0 && (p.ps == 1 || (p.ps == kStripPs && p.dilation == 1));
}

template <int kGroups, bool kFloatGrid>
void launch_strip_sum(const PackedPatchProblem& p, const Packing& packing, const float4* packed,
                      cudaStream_t stream) {
  if constexpr (kFloatGrid) {
    if (p.ps == kStripPs) {
      const SumStrip strip = strip_of(p, packing, kStripColumns * kGroups);
      const dim3 grid = plane_grid(p, packing, strip.count, int64_t{strip.bands} * packing.chunks);
      const size_t bytes = 2 * sizeof(float4) * static_cast<size_t>(strip.threads);
      strip_sum_kernel<kGroups><<<grid, strip.threads, bytes, stream>>>(p, packing, strip, packed);
      return;
    }
  }
  launch_pixel_sum<kGroups, kFloatGrid>(p, packing, packed, stream);
}

template <bool kFloatGrid>
void launch_strip_sum(const PackedPatchProblem& p, const Packing& packing, const float4* packed,
                      cudaStream_t stream) {
  with_lanes(packing, [&](auto lanes) {
    launch_strip_sum<decltype(lanes)::value, kFloatGrid>(p, packing, packed, stream);
  });
}

}  // namespace stnls
