// Which pixels of a tile have queries: every stride0-th row and column, the first ones among them.
// What it takes to find out is computed once for a tile.
#pragma once

#include "query_tile_cuda.h"

namespace stnls {

class WindowQueries {
 public:
  int j;  // column of the lane's query in the grid

  // A tile has kRows rows of kColumns pixels, a lane a column.
  template <int kRows, int kColumns>
  __device__ static WindowQueries of(const SearchProblem& p, const QueryTile& tile, int lane) {
    static_assert(kRows <= 4, "a bit for each");
    const int stride = static_cast<int>(p.stride0);
    const unsigned inside = (1u << min(kRows, tile.height - tile.top)) - 1;
    WindowQueries q;
    q.rows = inside & (stride == 1 ? 15u : stride == 2 ? 5u : stride == 3 ? 9u : 1u);
    q.j = tile.j + lane / stride;
    // Tiles go beyond the frame.
    const bool pixel = lane < kColumns && tile.left + lane < tile.width;
    q.on_column = pixel && (q.j - tile.j) * stride == lane;
    q.first_i = tile.i;
    return q;
  }

  __device__ bool in_row(int row) const { return (rows >> row & 1) != 0; }
  // Whether the lane has one in that row, and its row in the grid.
  __device__ bool has(int row) const { return on_column && in_row(row); }
  __device__ int i(int row) const { return first_i + __popc(rows & ((1u << row) - 1)); }
  // Queries of a row. By all lanes.
  __device__ int count() const { return __popc(__ballot_sync(0xffffffffu, on_column)); }

 private:
  int first_i;
  unsigned rows;  // of pixels: a bit for each that has queries
  bool on_column;
};

}  // namespace stnls
