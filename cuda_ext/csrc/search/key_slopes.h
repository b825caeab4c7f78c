// Sums over the key that the interpolation of distances needs (windows_cuda.h).
#pragma once

#include <cuda_runtime.h>

#include "../common/macros.h"
#include "problem.h"

namespace stnls {

// Places of X, Y, the difference of Y to the next column, and M, side by side: one for each pixel
// of every (batch, head, frame); 0 where none are needed.
STNLS_HD int64_t slope_count(const SearchProblem& p) {
  if (!p.float_grid || p.product) return 0;
  return p.batch * p.heads * p.frames * p.height * p.width;
}

// Patches of 1, 3, 5, 7 or 9 pixels, mirrored at the border.
void key_slopes_cuda(const SearchProblem& p, float4* slopes, cudaStream_t stream);

}  // namespace stnls
