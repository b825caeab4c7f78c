// Chooses the tile kernel for a problem.
#include "../common/cuda_launch.h"
#include "tiles_cuda.h"
#include "tiles_launch.h"

namespace stnls {
namespace {

template <int kPs, int kChannels, bool kProduct>
cudaError_t launch_tiles(const SearchProblem& p, cudaStream_t stream) {
  constexpr int kShared = kTileWarps * kTileShared * static_cast<int>(sizeof(float));
  const auto kernel = tiles_kernel<kPs, kChannels, kProduct>;
  // More than 48 KiB must be asked for; the setting is the device's, and cheap to repeat.
  cudaError_t error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kShared);
  if (error == cudaSuccess) error = cudaMemsetAsync(p.scratch, 0, sizeof(int32_t), stream);
  if (error != cudaSuccess) return error;
  kernel<<<blocks_for(tile_count(p), kTileWarps), 32 * kTileWarps, kShared, stream>>>(p, p.scratch);
  leftover_kernel<kProduct>
      <<<static_cast<unsigned>(tile_count(p) < 2048 ? tile_count(p) : 2048), 256, 0, stream>>>(
          p, p.scratch);
  return cudaSuccess;
}

template <int kPs>
cudaError_t launch_tiles(const SearchProblem& p, cudaStream_t stream) {
  if (p.product)
    return p.channels == 1 ? launch_tiles<kPs, 1, true>(p, stream)
                           : launch_tiles<kPs, 3, true>(p, stream);
  return p.channels == 1 ? launch_tiles<kPs, 1, false>(p, stream)
                         : launch_tiles<kPs, 3, false>(p, stream);
}

}  // namespace

int64_t tiles_scratch(const SearchProblem& p) {
  return tiles_apply_cuda(p) ? 1 + tile_count(p) : 0;
}

cudaError_t search_tiles_cuda(const SearchProblem& p, cudaStream_t stream) {
  switch (p.ps) {
    case 3:
      return launch_tiles<3>(p, stream);
    case 5:
      return launch_tiles<5>(p, stream);
    case 7:
      return launch_tiles<7>(p, stream);
    default:
      return launch_tiles<9>(p, stream);
  }
}

}  // namespace stnls
