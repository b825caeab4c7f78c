#pragma once

#include <cstdint>

#include "../search/problem.h"

namespace stnls {

// Patches of the queries and the patches that their entries point to. Three operations share it:
//   gather:  own    (the queries' pixels)      =  weighted sum of the patches of `video`
//   scatter: video  (where the entries point)  += weighted patches of `own`, its transpose
//   dot:     gradients of weights and offsets, sums over the patch of `own` times `video`
struct PatchProblem {
  void* video;          // (batch, heads, frames, channels, height, width)
  void* own;            // the same sizes; stacked: a size of its own for every one of the k entries
  const void* weights;  // (batch, heads, frames, grid_height, grid_width, k), contiguous
  const void* inds;     // (..., k, 3) = (dt, dh, dw): int32 or the video's type, contiguous
  void* grad_weights;   // dot: as weights, or null
  void* grad_inds;      // dot: as inds (the real grid only), or null
  int64_t* fixed_video;       // scatter on CUDA: see SearchGradProblem
  const double* fixed_scale;  //
  int64_t video_stride[5];    // batch, head, frame, channel, row; columns are contiguous
  int64_t own_stride[5];
  int64_t own_entry_stride;  // stacked: from one entry to the next
  int64_t batch, heads, frames, channels, height, width;
  int64_t grid_height, grid_width, k;
  int64_t ps, patch_offset, dilation, stride0;
  int64_t reflect_bounds, float_grid, dtype;
  int64_t stacked;    // own has one plane for each entry; else entries are summed
  int64_t normalize;  // gather: divide by the number of patches that cover a pixel
};

}  // namespace stnls
