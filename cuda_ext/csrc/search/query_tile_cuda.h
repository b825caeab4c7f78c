// The tile of pixels whose queries a warp or a block searches for.
#pragma once

#include "../common/query.h"
#include "problem.h"

namespace stnls {

// Tiles are numbered in raster order: batch, head, frame, then over the frame.
struct QueryTile {
  int height, width;  // of the frame
  int left, top;      // of its pixels
  int i, j;           // row and column of its first query, which is at its first pixel
  int t, head, b;

  // down, across: tiles of a frame; rows, columns: queries of a tile, `stride` pixels apart.
  __device__ QueryTile(const SearchProblem& p, int number, int across, int down, int rows,
                       int columns, int stride)
      : height(static_cast<int>(p.height)), width(static_cast<int>(p.width)) {
    j = number % across * columns;
    left = j * stride;
    number /= across;
    i = number % down * rows;
    top = i * stride;
    number /= down;
    t = number % static_cast<int>(p.frames);
    number /= static_cast<int>(p.frames);
    head = number % static_cast<int>(p.heads);
    b = number / static_cast<int>(p.heads);
  }

  // A frame of the query's or the key's video, for the tile's batch and head.
  __device__ const float* plane_of(const void* video, const int64_t (&stride)[5],
                                   int64_t frame) const {
    return static_cast<const float*>(video) + b * stride[0] + head * stride[1] + frame * stride[2];
  }
};

}  // namespace stnls
