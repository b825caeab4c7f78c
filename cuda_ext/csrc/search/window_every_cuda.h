// Every candidate of a warp's queries, in the place of lists of matches (window_matches_cuda.h).
// Distances of invalid candidates, and all offsets, are there already (every_offsets_cuda.cu).
//
// Where there is room, the distances of whole windows are gathered in shared memory, and written
// side by side; a place that has none holds NaN, which is no candidate's. Else they are written as
// they come.
#pragma once

#include "direct.h"
#include "interpolation_cuda.h"

namespace stnls {

constexpr int kListEvery = -1;         // in the place of the number of matches that are kept
constexpr int kWindowEveryMost = 128;  // candidates of a window that are gathered

template <class Search>
class WindowEvery {
 public:
  static constexpr int kPitch = 33;  // from one candidate to the next: lanes meet different banks

  // Of a window that is `active`. to: where the distance of its first candidate, number `first`,
  // goes; stage: of all lanes, or null.
  __device__ WindowEvery(float* to, float* stage, int first, int area, bool active)
      : to(to), stage(stage), first(first), area(area), active(active) {}

  // By all lanes, before the first window.
  __device__ static void clear(float* stage, int area) {
    for (int i = static_cast<int>(threadIdx.x); i < area * kPitch; i += 32)
      stage[i] = no_distance();
    __syncwarp();
  }

  // A distance of NaN is no candidate.
  __device__ __forceinline__ void offer(float distance, int id) {
    if (!(distance == distance)) return;
    if (stage != nullptr)
      stage[(id - first) * kPitch + threadIdx.x] = Search::key_to_distance(distance);
    else
      to[id - first] = Search::key_to_distance(distance);
  }
  __device__ __forceinline__ void make_room(int) {}
  __device__ __forceinline__ void end_column() {}

  // By all lanes, when all has been offered.
  __device__ __forceinline__ void store() {
    if (stage == nullptr) return;
    __syncwarp();
    const int64_t place = reinterpret_cast<int64_t>(to);
    for (unsigned left = __ballot_sync(0xffffffffu, active); left != 0; left &= left - 1) {
      const int lane = __ffs(static_cast<int>(left)) - 1;
      float* const dists = reinterpret_cast<float*>(__shfl_sync(0xffffffffu, place, lane));
      for (int i = static_cast<int>(threadIdx.x); i < area; i += 32) {
        float& one = stage[i * kPitch + lane];
        const float found = one;
        if (found == found) dists[i] = found;
        one = no_distance();
      }
    }
    __syncwarp();
  }

 private:
  float* const to;
  float* const stage;
  const int first, area;
  const bool active;
};

}  // namespace stnls
