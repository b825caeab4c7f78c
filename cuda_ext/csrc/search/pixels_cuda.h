// The search for patches of one pixel (attention). Patches do not overlap, so that queries share no
// sums: each thread walks the window of its own query, and no more. What threads share are the
// key's pixels, staged in shared memory with their channels by four, and on the real grid the sums
// over the key from which distances between pixels follow (interpolation_cuda.h).
//
// The windows of a tile may lie apart, at the edge of an object or in torn flow. Then the tile's
// threads are served in rounds, each of which stages the surroundings of one window and serves all
// that lie inside.
#pragma once

#include "../common/cuda_launch.h"
#include "pixel_tile_cuda.h"
#include "pixels_shape_cuda.h"

namespace stnls {

template <int kQuads, int kCells, bool kProduct>
__global__ void __launch_bounds__(kPixelThreads, kQuads == 8 ? 3 : 4)
    pixels_kernel(const __grid_constant__ SearchProblem p, int32_t* leftover) {
  extern __shared__ __align__(16) char shared[];
  const int tile = static_cast<int>(blockIdx.x);
  PixelTile<kQuads, kCells, kProduct> one(p, tile, shared);
  if (!one.run() && threadIdx.x == 0) leftover[1 + atomicAdd(leftover, 1)] = tile;
}

template <int kQuads, int kCells, bool kProduct>
cudaError_t launch_pixels(const SearchProblem& p, cudaStream_t stream) {
  const auto kernel = pixels_kernel<kQuads, kCells, kProduct>;
  const int bytes = pixel_shared(p);
  const cudaError_t error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  if (error != cudaSuccess) return error;
  const unsigned tiles = static_cast<unsigned>(pixel_tile_count(p));
  kernel<<<tiles, kPixelThreads, bytes, stream>>>(p, p.scratch);
  return cudaSuccess;
}

// Distances or products; each is compiled in a source of its own, side by side.
template <int kQuads, bool kProduct>
cudaError_t launch_pixels(const SearchProblem& p, cudaStream_t stream) {
  switch (pixel_cells(p)) {
    case 0:
      return launch_pixels<kQuads, 0, kProduct>(p, stream);
    case 1:
      return launch_pixels<kQuads, 1, kProduct>(p, stream);
    default:
      return launch_pixels<kQuads, 2, kProduct>(p, stream);
  }
}
template <bool kProduct>
cudaError_t launch_pixels(const SearchProblem& p, cudaStream_t stream) {
  switch (pixel_quads(p)) {
    case 2:
      return launch_pixels<2, kProduct>(p, stream);
    case 4:
      return launch_pixels<4, kProduct>(p, stream);
    default:
      return launch_pixels<8, kProduct>(p, stream);
  }
}

extern template cudaError_t launch_pixels<false>(const SearchProblem& p, cudaStream_t stream);
extern template cudaError_t launch_pixels<true>(const SearchProblem& p, cudaStream_t stream);

}  // namespace stnls
