// The offsets of every candidate (every_offsets_cuda.cu).
#pragma once

#include <cuda_runtime.h>

#include "problem.h"

namespace stnls {

// Writes them, and the distance of invalid candidates to all, for those that another form finds to
// be valid. Float32 videos; nothing is said of the query's own place.
void every_offsets_cuda(const SearchProblem& p, cudaStream_t stream);

}  // namespace stnls
