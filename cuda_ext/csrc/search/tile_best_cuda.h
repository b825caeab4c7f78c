// The best matches of a tile's queries where one is wanted of each (tile_lists_cuda.h has lists).
#pragma once

#include "tile_shape_cuda.h"

namespace stnls {

// The best match of every query of a lane, in registers.
struct TileBest {
  float worst[kTileColumns];
  int code[kTileColumns];

  __device__ TileBest() {
#pragma unroll
    for (int x = 0; x < kTileColumns; ++x) {
      worst[x] = infinity<float>();
      code[x] = -1;
    }
  }
  // Where candidates come in raster order the first of equals stays; elsewhere the lowest.
  template <bool kRaster>
  __device__ __forceinline__ bool wants(int x, float found, int id) const {
    // No branches: they cost more than what they skip.
    const bool better = found < worst[x], lower = (found == worst[x]) & (id < code[x]);
    return kRaster ? better : better | lower;
  }
  __device__ __forceinline__ void offer(int x, float found, int id) {
    worst[x] = found;
    code[x] = id;
  }
  template <int>
  __device__ __forceinline__ void make_room() {}
};

}  // namespace stnls
