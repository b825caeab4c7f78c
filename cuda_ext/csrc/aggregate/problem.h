#pragma once

#include <cstdint>

#include "../search/problem.h"

namespace stnls {

// Weighted sum of the patches that a search found, averaged where patches overlap.
struct PatchSumProblem {
  const void* video;        // (batch, heads, frames, channels, height, width)
  const void* weights;      // (batch, heads, frames, grid_height, grid_width, k), contiguous
  const void* inds;         // (..., k, 3) = (dt, dh, dw): int32 or the video's type, contiguous
  void* out;                // the video's sizes
  int64_t video_stride[5];  // batch, head, frame, channel, row; columns are contiguous
  int64_t out_stride[5];
  int64_t batch, heads, frames, channels, height, width;
  int64_t grid_height, grid_width, k;
  int64_t ps, patch_offset, dilation, stride0;
  int64_t reflect_bounds, float_grid, dtype;
};

}  // namespace stnls
