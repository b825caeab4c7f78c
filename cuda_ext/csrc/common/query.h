// The queries of a search or of a patch sum, numbered in raster order: batch, head, frame, row and
// column of the grid.
#pragma once

#include <cstdint>

#include "macros.h"

namespace stnls {

struct Query {
  int64_t b, head, t, i, j;
};

template <class Problem>
STNLS_HD Query query_at(const Problem& p, int64_t index) {
  Query q;
  q.j = index % p.grid_width;
  index /= p.grid_width;
  q.i = index % p.grid_height;
  index /= p.grid_height;
  q.t = index % p.frames;
  index /= p.frames;
  q.head = index % p.heads;
  q.b = index / p.heads;
  return q;
}

template <class Problem>
STNLS_HD int64_t query_count(const Problem& p) {
  return p.batch * p.heads * p.frames * p.grid_height * p.grid_width;
}

}  // namespace stnls
