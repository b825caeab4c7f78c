// Chooses the tile kernel for a problem.
#include "direct_launch.h"
#include "every_offsets.h"
#include "tiles_cuda.h"
#include "tiles_launch.h"

namespace stnls {
namespace {

cudaError_t launch_any_size(const SearchProblem& p, cudaStream_t stream) {
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

}  // namespace

int64_t tiles_scratch(const SearchProblem& p) {
  return tiles_apply_cuda(p) ? 1 + tile_count(p) : 0;
}

cudaError_t search_tiles_cuda(const SearchProblem& p, cudaStream_t stream) {
  cudaError_t error = cudaMemsetAsync(p.scratch, 0, sizeof(int32_t), stream);
  if (error != cudaSuccess) return error;
  if (tile_keep(p) == TileKeep::kEvery) every_offsets_cuda(p, stream);
  error = launch_any_size(p, stream);
  if (error != cudaSuccess) return error;
  search_left_cuda(
      p, {p.scratch, tile_rows(static_cast<int>(p.ps)), kTileColumns, static_cast<int>(p.stride0)},
      stream);
  return cudaSuccess;
}

}  // namespace stnls
