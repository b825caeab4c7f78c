// The tile form of the search on the GPU (tiles_cuda.h).
#pragma once

#include <cuda_runtime.h>

#include "problem.h"

namespace stnls {

// Words of scratch that the tile form needs; 0 where it does not serve the problem.
int64_t tiles_scratch(const SearchProblem& p);

cudaError_t search_tiles_cuda(const SearchProblem& p, cudaStream_t stream);

}  // namespace stnls
