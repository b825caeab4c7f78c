// Chooses the window kernel for a problem.
#include "windows_cuda.h"
#include "windows_launch.h"

namespace stnls {
namespace {

// The tiles that were left, one thread a query.
template <bool kProduct, bool kFloat>
__global__ void __launch_bounds__(128)
    leftover_windows_kernel(const __grid_constant__ SearchProblem p, const int32_t* leftover) {
  const DirectSearch<float, kFloat, kProduct> search(p);
  const int rows = kWindowRows, columns = window_columns(p);
  const int64_t wide = (p.width + columns - 1) / columns;
  const int64_t lines = (p.height + rows * kWindowWarps - 1) / (rows * kWindowWarps);
  const int count = *leftover;
  for (int item = blockIdx.x; item < count; item += gridDim.x) {
    int64_t tile = leftover[1 + item];
    const int64_t warp = tile % kWindowWarps;
    tile /= kWindowWarps;
    const int64_t left = tile % wide * columns;
    tile /= wide;
    const int64_t top = (tile % lines * kWindowWarps + warp) * rows, plane = tile / lines;
    for (int place = threadIdx.x; place < rows * columns; place += blockDim.x) {
      const int64_t i = top + place / columns, j = left + place % columns;
      if (i < p.grid_height && j < p.grid_width)
        search.run((plane * p.grid_height + i) * p.grid_width + j);
    }
  }
}

cudaError_t launch_any_size(const SearchProblem& p, const float* slopes, cudaStream_t stream) {
  if (window_in_registers(p)) {
    switch (p.ps) {
      case 3:
        return launch_in_registers<3>(p, slopes, stream);
      case 5:
        return launch_in_registers<5>(p, slopes, stream);
      case 7:
        return launch_in_registers<7>(p, slopes, stream);
      default:
        return launch_in_registers<9>(p, slopes, stream);
    }
  }
  switch (p.ps) {
    case 1:
      return launch_any_channels<1>(p, slopes, stream);
    case 3:
      return launch_any_channels<3>(p, slopes, stream);
    case 5:
      return launch_any_channels<5>(p, slopes, stream);
    default:
      return launch_any_channels<7>(p, slopes, stream);
  }
}

template <bool kProduct, bool kFloat>
void launch_leftover(const SearchProblem& p, cudaStream_t stream) {
  const int64_t tiles = window_tile_count(p);
  leftover_windows_kernel<kProduct, kFloat>
      <<<static_cast<unsigned>(tiles < 2048 ? tiles : 2048), 128, 0, stream>>>(p, p.scratch);
}

}  // namespace

int64_t windows_scratch(const SearchProblem& p) {
  return windows_apply_cuda(p) ? 1 + window_tile_count(p) + slope_count(p) : 0;
}

cudaError_t search_windows_cuda(const SearchProblem& p, cudaStream_t stream) {
  float* slopes = reinterpret_cast<float*>(p.scratch + 1 + window_tile_count(p));
  cudaError_t error = cudaMemsetAsync(p.scratch, 0, sizeof(int32_t), stream);
  if (error != cudaSuccess) return error;
  if (slope_count(p) > 0) key_slopes_cuda(p, slopes, stream);
  error = launch_any_size(p, slopes, stream);
  if (error != cudaSuccess) return error;
  if (p.product)
    p.float_grid ? launch_leftover<true, true>(p, stream) : launch_leftover<true, false>(p, stream);
  else
    p.float_grid ? launch_leftover<false, true>(p, stream)
                 : launch_leftover<false, false>(p, stream);
  return cudaSuccess;
}

}  // namespace stnls
