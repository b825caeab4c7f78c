// Chooses the pixel kernel for a problem.
#include "direct_launch.h"
#include "pixels_cuda.h"
#include "pixels_launch.h"

namespace stnls {

int64_t pixels_scratch(const SearchProblem& p) {
  return pixels_apply_cuda(p) ? 1 + pixel_tile_count(p) : 0;
}

cudaError_t search_pixels_cuda(const SearchProblem& p, cudaStream_t stream) {
  cudaError_t error = cudaMemsetAsync(p.scratch, 0, sizeof(int32_t), stream);
  if (error != cudaSuccess) return error;
  error = p.product ? launch_pixels<true>(p, stream) : launch_pixels<false>(p, stream);
  if (error != cudaSuccess) return error;
  search_left_cuda(p, {p.scratch, kPixelRows, kPixelColumns, 1}, stream);
  return cudaSuccess;
}

}  // namespace stnls
