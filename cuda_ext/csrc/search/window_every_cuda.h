// Every candidate of a warp's queries: distances are written as they come, in the place of lists of
// matches (window_matches_cuda.h). Those of invalid candidates, and all offsets, are there already
// (every_offsets_cuda.cu).
#pragma once

#include "direct.h"

namespace stnls {

constexpr int kListEvery = -1;  // in the place of the number of matches that are kept

template <class Search>
class WindowEvery {
 public:
  // to: where the distance of candidate 0 would be.
  __device__ explicit WindowEvery(float* to) : to(to) {}

  // A distance of NaN is no candidate.
  __device__ __forceinline__ void offer(float distance, int id) {
    if (distance == distance) to[id] = Search::key_to_distance(distance);
  }
  __device__ __forceinline__ void make_room(int) {}
  __device__ __forceinline__ void end_column() {}
  __device__ __forceinline__ void store() {}

 private:
  float* const to;
};

}  // namespace stnls
