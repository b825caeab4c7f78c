// The direct form of the search on the GPU (direct.h), for all queries or for what others left.
#pragma once

#include <cuda_runtime.h>

#include "problem.h"

namespace stnls {

void search_direct_cuda(const SearchProblem& p, cudaStream_t stream);

// Tiles that another form has left: how many, then their numbers. A tile has `rows` x `columns`
// places, of which every `stride`-th is that of a query; tiles lie in raster order.
struct LeftTiles {
  const int32_t* list;
  int rows, columns, stride;

  LeftTiles(const int32_t* list, int rows, int columns, int stride)
      : list(list), rows(rows), columns(columns), stride(stride) {}
};

// In single precision.
void search_left_cuda(const SearchProblem& p, const LeftTiles& left, cudaStream_t stream);

}  // namespace stnls
