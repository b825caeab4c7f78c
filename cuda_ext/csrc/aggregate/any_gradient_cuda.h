// Gradients of the video, the weights and the offsets, of patches of any stride, dilation and size:
// one entry at a time to the threads that share it; what it adds goes straight to memory.
#pragma once

#include "entries_cuda.h"
#include "entry_dots_cuda.h"
#include "own_pixels_cuda.h"
#include "packed_cuda.h"
#include "take_taps_cuda.h"

namespace stnls {

constexpr int kAnyThreads = 256;

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

}  // namespace stnls
