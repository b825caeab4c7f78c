// Scatter and dot on packed videos: chooses the kernels for a problem.
#pragma once

#include "any_gradient_cuda.h"
#include "pack_cuda.h"
#include "packed_cuda.h"
#include "patch_gradient_cuda.h"
#include "pixel_gradient_cuda.h"
#include "sorted_patches_cuda.h"
#include "sorted_pixels_cuda.h"
#include "strip_dot_cuda.h"

namespace stnls {

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
