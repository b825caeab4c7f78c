// Chooses the window kernel for a problem.
#include "direct_launch.h"
#include "every_offsets.h"
#include "windows_cuda.h"
#include "windows_launch.h"

namespace stnls {
namespace {

cudaError_t launch_any_size(const SearchProblem& p, const KeySlopes& slopes, cudaStream_t stream) {
  // On the integer grid the kernels for few channels charge, be it nothing.
  if (p.charge != 0 || (window_few_channels(p) && !p.float_grid)) {
    switch (p.ps) {
      case 3:
        return launch_charged<3>(p, slopes, stream);
      case 5:
        return launch_charged<5>(p, slopes, stream);
      case 7:
        return launch_charged<7>(p, slopes, stream);
      default:
        return launch_charged<9>(p, slopes, stream);
    }
  }
  if (window_few_channels(p)) {
    switch (p.ps) {
      case 3:
        return launch_few_channels<3>(p, slopes, stream);
      case 5:
        return launch_few_channels<5>(p, slopes, stream);
      case 7:
        return launch_few_channels<7>(p, slopes, stream);
      default:
        return launch_few_channels<9>(p, slopes, stream);
    }
  }
  switch (p.ps) {
    case 1:
      return launch_any_channels<1>(p, slopes, stream);
    case 3:
      return launch_any_channels<3>(p, slopes, stream);
    case 5:
      return launch_any_channels<5>(p, slopes, stream);
    case 7:
      return launch_any_channels<7>(p, slopes, stream);
    default:
      return launch_any_channels<9>(p, slopes, stream);
  }
}

// Where the slopes begin: they are read as two numbers at once.
int64_t slopes_at(const SearchProblem& p) { return (window_tile_count(p) + 1 + 1) / 2 * 2; }

}  // namespace

int64_t windows_scratch(const SearchProblem& p) {
  return windows_apply_cuda(p) ? slopes_at(p) + 3 * slope_count(p) : 0;
}

cudaError_t search_windows_cuda(const SearchProblem& p, cudaStream_t stream) {
  float* at = reinterpret_cast<float*>(p.scratch + slopes_at(p));
  const KeySlopes slopes{reinterpret_cast<float2*>(at), at + 2 * slope_count(p)};
  cudaError_t error = cudaMemsetAsync(p.scratch, 0, sizeof(int32_t), stream);
  if (error != cudaSuccess) return error;
  if (slope_count(p) > 0) key_slopes_cuda(p, slopes, stream);
  if (p.keep == kEvery) every_offsets_cuda(p, stream);
  error = launch_any_size(p, slopes, stream);
  if (error != cudaSuccess) return error;
  const WindowGrid grid(p);
  search_left_cuda(p, {p.scratch, grid.rows, grid.columns, 1}, stream);
  return cudaSuccess;
}

}  // namespace stnls
