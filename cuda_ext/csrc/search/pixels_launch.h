// The pixel form of the search on the GPU (pixels_cuda.h).
#pragma once

#include <cuda_runtime.h>

#include "problem.h"

namespace stnls {

// Words of scratch that the pixel form needs; 0 where it does not serve the problem.
int64_t pixels_scratch(const SearchProblem& p);

cudaError_t search_pixels_cuda(const SearchProblem& p, cudaStream_t stream);

}  // namespace stnls
