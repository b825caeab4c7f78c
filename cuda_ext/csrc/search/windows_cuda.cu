// Chooses the window kernel for a problem.
#include "direct_launch.h"
#include "every_offsets.h"
#include "windows_cuda.h"
#include "windows_launch.h"

namespace stnls {
namespace {

cudaError_t launch_any_size(const SearchProblem& p, const WindowScratch& scratch,
                            cudaStream_t stream) {
  // On the integer grid the kernels for few channels charge, be it nothing.
  if (p.charge != 0 || (window_few_channels(p) && !p.float_grid)) {
    switch (p.ps) {
      case 3:
        return launch_charged<3>(p, scratch, stream);
      case 5:
        return launch_charged<5>(p, scratch, stream);
      case 7:
        return launch_charged<7>(p, scratch, stream);
      default:
        return launch_charged<9>(p, scratch, stream);
    }
  }
  if (window_few_channels(p)) {
    switch (p.ps) {
      case 3:
        return launch_few_channels<3>(p, scratch, stream);
      case 5:
        return launch_few_channels<5>(p, scratch, stream);
      case 7:
        return launch_few_channels<7>(p, scratch, stream);
      default:
        return launch_few_channels<9>(p, scratch, stream);
    }
  }
  switch (p.ps) {
    case 1:
      return launch_any_channels<1>(p, scratch, stream);
    case 3:
      return launch_any_channels<3>(p, scratch, stream);
    case 5:
      return launch_any_channels<5>(p, scratch, stream);
    case 7:
      return launch_any_channels<7>(p, scratch, stream);
    default:
      return launch_any_channels<9>(p, scratch, stream);
  }
}

}  // namespace

int64_t windows_scratch(const SearchProblem& p) {
  return windows_apply_cuda(p) ? WindowScratchPlan(p).words : 0;
}

cudaError_t search_windows_cuda(const SearchProblem& p, cudaStream_t stream) {
  const WindowScratchPlan plan(p);
  const WindowScratch scratch = plan.of(p);
  // Candidates of tiles that are left stay zeros: what follows from them is written over.
  cudaError_t error =
      cudaMemsetAsync(scratch.left - plan.found, 0, sizeof(int32_t) * (plan.found + 1), stream);
  if (error != cudaSuccess) return error;
  if (slope_count(p) > 0) key_slopes_cuda(p, scratch.slopes, stream);
  if (p.keep == kEvery) every_offsets_cuda(p, stream);
  error = launch_any_size(p, scratch, stream);
  if (error != cudaSuccess) return error;
  if (scratch.found != nullptr) late_offsets_cuda(p, scratch.found, stream);
  const WindowGrid grid(p);
  search_left_cuda(p, {scratch.left, grid.rows, grid.columns, 1}, stream);
  return cudaSuccess;
}

}  // namespace stnls
