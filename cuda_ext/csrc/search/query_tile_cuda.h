// The tile of queries that a warp or a block searches for: queries on every pixel, side by side.
#pragma once

#include "../common/query.h"
#include "problem.h"

namespace stnls {

// Tiles are numbered in raster order: batch, head, frame, then over the frame.
struct QueryTile {
  int height, width;  // of the frame
  int left, top, t, head, b;

  // down, across: tiles of a frame; rows, columns: queries of a tile.
  __device__ QueryTile(const SearchProblem& p, int number, int across, int down, int rows,
                       int columns)
      : height(static_cast<int>(p.height)), width(static_cast<int>(p.width)) {
    left = number % across * columns;
    number /= across;
    top = number % down * rows;
    number /= down;
    t = number % static_cast<int>(p.frames);
    number /= static_cast<int>(p.frames);
    head = number % static_cast<int>(p.heads);
    b = number / static_cast<int>(p.heads);
  }

  // Whether a place of a tile of so many columns has a query: tiles go beyond the frame.
  __device__ bool holds(int row, int column, int columns) const {
    return column < columns && top + row < height && left + column < width;
  }
  __device__ Query query_at(int row, int column) const {
    return Query{b, head, t, top + row, left + column};
  }

  // A frame of the query's or the key's video, for the tile's batch and head.
  __device__ const float* plane_of(const void* video, const int64_t (&stride)[5],
                                   int64_t frame) const {
    return static_cast<const float*>(video) + b * stride[0] + head * stride[1] + frame * stride[2];
  }
};

}  // namespace stnls
