// Every distance of a tile's queries. Those of invalid candidates, and all offsets, are there
// already (every_offsets_cuda.cu).
//
// What a row of displacements yields is gathered in shared memory: of each query the distances of a
// row of its window. They lie side by side in the output, and so they are written. A place that has
// no distance holds NaN, which is no candidate's.
#pragma once

#include "interpolation_cuda.h"
#include "tile_shape_cuda.h"

namespace stnls {

// `kRows` rows of queries, each with a lane of its own.
template <int kRows>
class TileEvery {
 public:
  static constexpr int kQueries = kRows * kTileColumns;
  static constexpr int kItems = (kTileColumns * kTileEveryMost + 31) / 32;  // of a lane, of a row

  // Bytes of shared memory: of every query the place that its row goes to, and the row.
  STNLS_HD static int shared(const SearchProblem& p) { return 4 * kQueries * (1 + pitch(p)); }

  // first: number of the tile's first query.
  __device__ void open(const SearchProblem& p, int64_t first, char* memory) {
    lane = static_cast<int>(threadIdx.x);
    ws = static_cast<int>(p.ws);
    line = pitch(p);
    entries = static_cast<int>(entry_count(p));
    width = static_cast<int>(p.grid_width);
    dists = static_cast<float*>(p.dists) + first * entries;
    places = reinterpret_cast<int*>(memory);
    rows = reinterpret_cast<float*>(places + kQueries);
    for (int i = lane; i < kQueries * line; i += 32) rows[i] = no_distance();
    __syncwarp();
  }

  // The lane's query x has row `i` of its window here; the window begins at column `from` of the
  // union.
  __device__ __forceinline__ void begin_row(const SearchProblem& p, int x, int slot, int i,
                                            int from) {
    const int query = x * kRows + lane;
    const int window = (slot - static_cast<int>(p.first_slot)) * ws + i;
    if (lane < kRows) places[query] = (lane * width + x) * entries + window * ws;
    begin[x] = query * line - from;
  }
  template <bool>
  __device__ __forceinline__ bool wants(int, float, int) const {
    return true;
  }
  __device__ __forceinline__ void offer(int x, float found, int column) {
    rows[begin[x] + column] = found;
  }
  template <int>
  __device__ __forceinline__ void make_room() {}

  // Writes what has come. `any`: whether the lane's queries have something.
  __device__ __forceinline__ void end_row(bool any) {
    __syncwarp();
    int item_x[kItems], item_j[kItems];
#pragma unroll
    for (int n = 0; n < kItems; ++n) {
      item_x[n] = (lane + 32 * n) / ws;
      item_j[n] = lane + 32 * n - item_x[n] * ws;
    }
    for (unsigned left = __ballot_sync(0xffffffffu, any); left != 0; left &= left - 1) {
      const int row = __ffs(static_cast<int>(left)) - 1;
#pragma unroll
      for (int n = 0; n < kItems; ++n) {
        if (item_x[n] >= kTileColumns) break;
        const int query = item_x[n] * kRows + row;
        float& one = rows[query * line + item_j[n]];
        const float found = one;
        if (found == found) dists[places[query] + item_j[n]] = found;
        one = no_distance();
      }
    }
    __syncwarp();
  }

 private:
  float* dists;  // of the tile's first query
  int* places;   // from there to the candidates of the row of displacements, of every query
  float* rows;
  int lane, ws, line, entries, width;
  int begin[kTileColumns];  // of the lane's rows, minus where their windows begin

  // Floats between rows: odd, so that lanes meet different banks.
  STNLS_HD static int pitch(const SearchProblem& p) { return static_cast<int>(p.ws) | 1; }
};

}  // namespace stnls
