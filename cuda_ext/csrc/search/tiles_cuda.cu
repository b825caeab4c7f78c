// Chooses the tile kernel for a problem.
#include "tiles_cuda.h"
#include "tiles_launch.h"

namespace stnls {
namespace {

// The tiles that were left, one thread a query.
__global__ void __launch_bounds__(256)
    leftover_kernel(const __grid_constant__ SearchProblem p, const int32_t* leftover) {
  const DirectSearch<float, false, false> search(p);
  const int rows = tile_rows(static_cast<int>(p.ps));
  const int columns = tile_columns(p.k);
  const int64_t tiles_wide = (p.width + columns - 1) / columns;
  const int64_t tile_lines = (p.height + rows - 1) / rows;
  const int count = *leftover;
  for (int item = blockIdx.x; item < count; item += gridDim.x) {
    int64_t tile = leftover[1 + item];
    const int64_t left = tile % tiles_wide * columns;
    tile /= tiles_wide;
    const int64_t top = tile % tile_lines * rows, plane = tile / tile_lines;
    for (int place = threadIdx.x; place < rows * columns; place += blockDim.x) {
      const int64_t i = top + place / columns, j = left + place % columns;
      if (i < p.grid_height && j < p.grid_width)
        search.run((plane * p.grid_height + i) * p.grid_width + j);
    }
  }
}

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
  if (error == cudaSuccess) error = launch_any_size(p, stream);
  if (error != cudaSuccess) return error;
  const int64_t tiles = tile_count(p);
  leftover_kernel<<<static_cast<unsigned>(tiles < 2048 ? tiles : 2048), 256, 0, stream>>>(
      p, p.scratch);
  return cudaSuccess;
}

}  // namespace stnls
