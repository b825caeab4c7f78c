// Offsets of matches, written when a search is over (late_offsets_cuda.cu).
#pragma once

#include <cuda_runtime.h>

#include "direct.h"

namespace stnls {

// Whether the numbers of candidates fit 16 bits, and those of a frame's matches 31.
inline bool late_offsets_apply(const SearchProblem& p) {
  return p.keep != kEvery && end_slot(p) * p.ws * p.ws <= 65536 &&
         p.grid_height * p.grid_width * entry_count(p) < (int64_t(1) << 31);
}

// found: the candidates of all matches, in the order of the distances. The real grid, float32.
void late_offsets_cuda(const SearchProblem& p, const uint16_t* found, cudaStream_t stream);

}  // namespace stnls
