// Sums over the key that the interpolation of distances needs (windows_cuda.h).
#pragma once

#include <cuda_runtime.h>

#include "../common/macros.h"
#include "problem.h"

namespace stnls {

// Floats of the planes X, Y, M: three for each (batch, head, frame); 0 where none are needed.
STNLS_HD int64_t slope_count(const SearchProblem& p) {
  if (!p.float_grid || p.product) return 0;
  return p.batch * p.heads * p.frames * 3 * p.height * p.width;
}

// Patches up to 9 x 9, mirrored at the border.
void key_slopes_cuda(const SearchProblem& p, float* slopes, cudaStream_t stream);

}  // namespace stnls
