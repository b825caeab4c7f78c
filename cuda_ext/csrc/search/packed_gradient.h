// The gradients of the videos as sums of patches (packed_gradient_cuda.cu).
#pragma once

#include <cuda_runtime.h>

#include "problem.h"

namespace stnls {

// Floats of scratch memory that this form needs; 0 where it does not serve.
int64_t packed_gradient_scratch(const SearchGradProblem& g);

cudaError_t launch_packed_gradient(const SearchGradProblem& g, cudaStream_t stream);

}  // namespace stnls
