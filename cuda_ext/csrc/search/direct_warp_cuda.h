// The direct form with a warp for each query: for the few queries that other forms leave, which
// would otherwise keep a GPU waiting for single threads.
#pragma once

#include "direct.h"

namespace stnls {

struct Warp {
  static constexpr int kCount = 32;

  __device__ int number() const { return static_cast<int>(threadIdx.x % 32); }

  template <class List, class Real>
  __device__ void offer(List* list, bool has, Real key, int64_t id) const {
    unsigned left = __ballot_sync(0xffffffffu, has);
    while ((left &= __ballot_sync(0xffffffffu, list->size < list->capacity || key < list->worst)) !=
           0) {
      const int from = __ffs(static_cast<int>(left)) - 1;
      const Real found = __shfl_sync(0xffffffffu, key, from);
      const int candidate = __shfl_sync(0xffffffffu, static_cast<int>(id), from);
      left &= left - 1;
      if (number() == 0) list->offer(found, candidate);
      list->size = __shfl_sync(0xffffffffu, list->size, 0);
      list->worst = __shfl_sync(0xffffffffu, list->worst, 0);
    }
  }

  __device__ void meet() const { __syncwarp(); }
};

}  // namespace stnls
