// Gradients of the weights, of patches of one pixel and of 3 x 3, of queries on every pixel.
//
// The threads that share a query take its entries as in strip_sum_cuda.h, with its own patch in
// registers. Each of them walks down a few rows, so that a patch shares all but one of its lines
// with the one before.
#pragma once

#include "../common/cuda_launch.h"
#include "entries_cuda.h"
#include "entry_reader_cuda.h"
#include "own_pixels_cuda.h"
#include "packed_cuda.h"
#include "vectors_cuda.h"

namespace stnls {

constexpr int kDotThreads = 128;
constexpr int kDotColumns = 16;
constexpr int kMostDotRows = 8;

// Blocks on a multiprocessor, as far as registers go.
constexpr int dot_blocks(int ps, bool float_grid) { return ps == 1 ? 8 : float_grid ? 4 : 5; }

// A query's own patch with the patch of an entry, the first pixel of which is at `from`.
template <int kPs, bool kFloatGrid>
__device__ __forceinline__ float dot_patch(const Entry<kFloatGrid>& e, const float4* from,
                                           int pitch, int groups, const float4 (&own)[kPs][kPs]) {
  constexpr int kMore = kFloatGrid ? 1 : 0;
  float d00 = 0.0f, d01 = 0.0f, d10 = 0.0f, d11 = 0.0f;
#pragma unroll
  for (int a = 0; a < kPs + kMore; ++a, from += pitch) {
    float4 line[kPs + kMore];
#pragma unroll
    for (int b = 0; b < kPs + kMore; ++b) line[b] = __ldg(from + b * groups);
#pragma unroll
    for (int b = 0; b < kPs; ++b) {
      if (a < kPs) d00 = dot(own[a][b], line[b], d00);
      if (kFloatGrid && a < kPs) d01 = dot(own[a][b], line[b + kMore], d01);
      if (kFloatGrid && a > 0) d10 = dot(own[a - kMore][b], line[b], d10);
      if (kFloatGrid && a > 0) d11 = dot(own[a - kMore][b], line[b + kMore], d11);
    }
  }
  if constexpr (kFloatGrid) {
    const float at_low = fmaf(e.u, d01 - d00, d00), at_high = fmaf(e.u, d11 - d10, d10);
    return fmaf(e.v(), at_high - at_low, at_low);
  } else {
    return d00;
  }
}

// Lines of the queries' own pixels, and the number of patches that cover them.
template <int kPs>
struct OwnLines {
  const float* plane;
  int channels, first_column;
  int columns[kPs];  // patches that cover one, along the row

  __device__ __forceinline__ OwnLines(const PackedPatchProblem& p, const float* own, int group,
                                      int first)
      : plane(own + 4 * group * p.own_stride[3]),
        channels(static_cast<int>(p.channels) - 4 * group),
        first_column(first) {
#pragma unroll
    for (int b = 0; b < kPs; ++b)
      columns[b] = reaching(p, first + b, static_cast<int>(p.grid_width));
  }

  __device__ __forceinline__ void read(const PackedPatchProblem& p, int y,
                                       float4 (&line)[kPs]) const {
    const int rows = p.divide_own ? reaching(p, y, static_cast<int>(p.grid_height)) : 1;
#pragma unroll
    for (int b = 0; b < kPs; ++b) {
      line[b] = own_value(p, plane, channels, y, first_column + b);
      if (p.divide_own)
        line[b] = scaled(__fdividef(1.0f, static_cast<float>(max(rows * columns[b], 1))), line[b]);
    }
  }
};

template <int kPs, int kLanes, bool kFloatGrid>
__global__ void __launch_bounds__(kDotThreads, dot_blocks(kPs, kFloatGrid))
    strip_dot_kernel(const __grid_constant__ PackedPatchProblem p,
                     const __grid_constant__ Packing packing, int rows, const float4* packed) {
  constexpr int kBands = kDotThreads / kLanes / kDotColumns;
  const int thread = static_cast<int>(threadIdx.x), slot = thread / kLanes;
  const BlockPlane plane(p);
  const int height = static_cast<int>(p.height), width = static_cast<int>(p.width);
  const int x = static_cast<int>(blockIdx.x) * kDotColumns + slot % kDotColumns;
  const int top = (static_cast<int>(blockIdx.y) * kBands + slot / kDotColumns) * rows;
  const int bottom = x < width ? min(top + rows, height) : top;
  const int low = first_tap(p), groups = packing.groups, pitch = packing.width * groups;
  const float* own = static_cast<const float*>(p.own) + plane.offset(p, packing, p.own_stride);
  float* to_weights = static_cast<float*>(p.grad_weights) + plane.entries(p, packing);
  for (int chunk = 0; chunk < packing.chunks; ++chunk) {
    const int group = chunk * kLanes + thread % kLanes;
    const bool works = group < groups;
    const float4* video = packed + plane.slab * packing.vectors + (works ? group : 0);
    const OwnLines<kPs> lines(p, own, group, x + low);
    EntryReader<kLanes, kFloatGrid> reader(p, packing, plane, thread);
    reader.read(p, top * width + x, 0, top < bottom);
    float4 patch[kPs][kPs] = {};
    if (top < bottom) {
#pragma unroll
      for (int a = 0; a + 1 < kPs; ++a) lines.read(p, top + low + a, patch[a + 1]);
    }
    for (int row = 0, y = top; row < rows; ++row, ++y) {
      const bool here = y < bottom;
      if (__ballot_sync(0xffffffffu, here) == 0) break;
#pragma unroll
      for (int a = 0; a + 1 < kPs; ++a)
#pragma unroll
        for (int b = 0; b < kPs; ++b) patch[a][b] = patch[a + 1][b];
      if (here) lines.read(p, y + low + kPs - 1, patch[kPs - 1]);
      for (int first = 0; first < reader.k; first += kLanes) {
        const RawEntry<kFloatGrid> raw = reader.next;
        const bool more = first + kLanes < reader.k;
        reader.read(p, (more ? y : y + 1) * width + x, more ? first + kLanes : 0,
                    more ? here : y + 1 < bottom);
        const bool mine = here && first + reader.lane < reader.k;
        float found = 0.0f;
        for_batch<kLanes>(p, packing, raw, mine, reader.k - first, plane.frame, y, x,
                          low * (pitch + groups), [&](const Entry<kFloatGrid>& e, int n) {
                            float value = 0.0f;
                            if (e.at >= 0 && works)
                              value =
                                  dot_patch<kPs, kFloatGrid>(e, video + e.at, pitch, groups, patch);
                            if constexpr (kLanes > 2)
                              value += __shfl_xor_sync(0xffffffffu, value, 2);
                            if constexpr (kLanes > 1)
                              value += __shfl_xor_sync(0xffffffffu, value, 1);
                            if (n == reader.lane) found = value;
                          });
        if (!mine) continue;
        float* to = to_weights + (y * width + x) * reader.k + first + reader.lane;
        *to = chunk > 0 ? *to + found : found;
      }
    }
  }
  wait_for_previous();  // whoever waits for this kernel waits for that one too
}

// Whether the gradient of the weights can be taken in this form. That of the offsets needs the
// slopes where a patch is mirrored.
inline bool takes_strip_dots(const PackedPatchProblem& p) {
  return (p.ps == 1 || (p.ps == 3 && p.dilation == 1)) && p.stride0 == 1 && p.stacked == 0 &&
         p.grad_weights != nullptr && p.grad_inds == nullptr &&
         (p.float_grid == 0 || p.reflect_bounds != 0);
}

template <int kPs, int kLanes, bool kFloatGrid>
void launch_strip_dots(const PackedPatchProblem& p, const Packing& packing, const float4* packed,
                       bool overlaps, cudaStream_t stream) {
  constexpr int kBands = kDotThreads / kLanes / kDotColumns;
  const int64_t columns = (p.width + kDotColumns - 1) / kDotColumns;
  const int rows =
      rows_of_block(1, (p.height + kBands - 1) / kBands, columns * p.frames * packing.slabs,
                    kPs - 1, kMostDotRows, dot_blocks(kPs, kFloatGrid));
  const dim3 grid =
      plane_grid(p, packing, columns, (p.height + kBands * rows - 1) / (kBands * rows));
  launch_after(overlaps, strip_dot_kernel<kPs, kLanes, kFloatGrid>, grid, kDotThreads, 0, stream, p,
               packing, rows, packed);
}

// overlaps: the kernel before in the stream prepares nothing that is read here.
template <int kPs, bool kFloatGrid>
void launch_strip_dots(const PackedPatchProblem& p, const Packing& packing, const float4* packed,
                       bool overlaps, cudaStream_t stream) {
  with_lanes(packing, [&](auto lanes) {
    launch_strip_dots<kPs, decltype(lanes)::value, kFloatGrid>(p, packing, packed, overlaps,
                                                               stream);
  });
}

}  // namespace stnls
