// Chooses the window kernel for a problem.
#include "direct_launch.h"
#include "windows_cuda.h"
#include "windows_launch.h"

namespace stnls {
namespace {

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
  search_direct_cuda(p, {p.scratch, kWindowRows, window_columns(p), kWindowWarps}, stream);
  return cudaSuccess;
}

}  // namespace stnls
