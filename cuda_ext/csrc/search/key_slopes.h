// Sums over the key that the interpolation of distances needs (interpolation_cuda.h);
// window_scratch.h tells where they lie.
#pragma once

#include <cuda_runtime.h>

#include "../common/macros.h"
#include "problem.h"

namespace stnls {

// Pixels of every (batch, head, frame) that have sums; 0 where none are needed.
STNLS_HD int64_t slope_count(const SearchProblem& p) {
  if (!p.float_grid || p.product) return 0;
  return p.batch * p.heads * p.frames * p.height * p.width;
}

// The sums: X and M of a pixel side by side, and Y. Y and M, differences between two lines, are
// stored with the lower one: a cell between lines needs them together with that line's X.
struct KeySlopes {
  float2* across;
  float* down;
};

// Patches of 1, 3, 5, 7 or 9 pixels, mirrored at the border.
void key_slopes_cuda(const SearchProblem& p, const KeySlopes& slopes, cudaStream_t stream);

}  // namespace stnls
