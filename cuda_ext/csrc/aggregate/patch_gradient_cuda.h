// Gradients of the video, the weights and the offsets, of queries on every pixel whose patch of one
// pixel or of 3 x 3 stays in registers.
//
// The threads that share an entry share all entries of a query. They decode as many at a time as
// they are, one each, and hand them round.
#pragma once

#include "entries_cuda.h"
#include "entry_dots_cuda.h"
#include "own_pixels_cuda.h"
#include "packed_cuda.h"
#include "take_taps_cuda.h"
#include "vectors_cuda.h"

namespace stnls {

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
        const Entry<kFloatGrid> e = entry_of_lane(mine, n, lanes);
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

}  // namespace stnls
