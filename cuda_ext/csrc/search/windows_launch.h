// The window form of the search on the GPU (windows_cuda.h).
#pragma once

#include <cuda_runtime.h>

#include "problem.h"

namespace stnls {

// Words of scratch that the window form needs; 0 where it does not serve the problem.
int64_t windows_scratch(const SearchProblem& p);

cudaError_t search_windows_cuda(const SearchProblem& p, cudaStream_t stream);

}  // namespace stnls
