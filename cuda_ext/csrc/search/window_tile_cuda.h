// A tile of queries in the window form of the search (windows_cuda.h): a warp walks the union of
// their windows, slot by slot and column by column.
#pragma once

#include "query_tile_cuda.h"
#include "window_candidates_cuda.h"
#include "window_distances_cuda.h"
#include "window_lists_cuda.h"
#include "window_memory_cuda.h"
#include "window_places_cuda.h"
#include "window_queries_cuda.h"
#include "window_scratch.h"
#include "window_shape_cuda.h"

namespace stnls {

template <int kPs, int kChannels, bool kProduct, bool kFloat, int kList, bool kCharge>
class WindowTile {
 public:
  using Search = DirectSearch<float, kFloat, kProduct>;
  static constexpr int kRows = window_rows(kList == 1);  // of pixels
  static constexpr int kColumns = 33 - kPs;

  __device__ WindowTile(const SearchProblem& problem, const WindowGrid& grid, int number,
                        uint64_t* shared, const WindowScratch& scratch)
      : p(problem),
        slopes(scratch.slopes),
        lane(threadIdx.x),
        height(static_cast<int>(p.height)),
        width(static_cast<int>(p.width)),
        memory(p, shared, lane),
        reach(window_reach(p)),
        kept(window_kept(p)),
        tile(p, number, grid.across, grid.down, grid.rows, grid.columns,
             static_cast<int>(p.stride0)),
        queries(WindowQueries::of<kRows, kColumns>(p, tile, lane)),
        places(p, tile, queries, lane, reach, memory.places),
        lists(p, tile, queries, lane, memory, scratch.found),
        distances(p, tile, lane, reach, kept, memory.sums),
        candidates(p, tile, lane, reach, memory) {}

  // False, with nothing written that counts, where the windows of a slot lie too far apart or too
  // far outside, or too few candidates are valid.
  __device__ bool run() {
    if (!distances.near_own()) return false;
    for (int slot = static_cast<int>(p.first_slot); slot < end_slot(p); ++slot) {
      const bool begins = slot == p.first_slot || p.keep == kBestOfEach;
      const bool ends = slot + 1 == end_slot(p) || p.keep == kBestOfEach;
      if (begins) lists.clear();
      if (!place(slot, begins)) return false;
      if (places.high > 0) walk(slot);
      if constexpr (!Lists::kAll)
        if (ends && !lists.write(slot)) return false;
    }
    return true;
  }

 private:
  using Distances = WindowDistances<kPs, kChannels, kProduct, kRows>;
  using Lists = WindowLists<Search, kRows, kList, kCharge>;
  using List = typename Lists::List;
  using Row = WindowRow;
  static constexpr int kAbreast = Distances::kAbreast;

  const SearchProblem& p;
  const KeySlopes slopes;
  const int lane, height, width;
  const WindowMemory memory;
  const int reach, kept;  // displacements along one axis; columns of them that are kept
  const QueryTile tile;
  const WindowQueries queries;
  WindowPlaces<Search, kRows> places;
  Lists lists;
  Distances distances;
  WindowCandidates<kProduct, kFloat, kCharge, kRows, List> candidates;

  // Finds the windows of one slot; false where their union is too large or too far outside.
  __device__ bool place(int slot, bool begins) {
    if (!places.find(slot, begins, lists)) return true;
    if (static_cast<int64_t>(places.high) * places.wide > kWindowUnion) return false;
    return distances.near(places.low_h, places.low_w, places.high, places.wide);
  }

  // All displacements of one slot, column by column.
  __device__ void walk(int slot) {
    const int64_t frame = slot_frame(tile.t, slot, p.wt, p.frames);
    const float* key = tile.plane_of(p.key, p.key_stride, frame);
    const int64_t plane = ((tile.b * p.heads + tile.head) * p.frames + frame) * height * width;
    const KeySlopes slope{slopes.across + plane, slopes.down + plane};
    const bool whole = kept == reach;
    for (int dx = places.low_w; dx < places.low_w + places.wide; dx += kAbreast) {
      int first_h[kRows], first_w[kRows];
      int begin = kNoWindow, end = kNoWindow;  // the latter negated
#pragma unroll
      for (int row = 0; row < kRows; ++row) {
        first_h[row] = places.at(row).first_h;
        first_w[row] = places.at(row).first_w;
        const bool in =
            first_h[row] < kNoWindow && static_cast<unsigned>(dx + kAbreast - 1 - first_w[row]) <
                                            static_cast<unsigned>(reach + kAbreast - 1);
        begin = min(begin, in ? first_h[row] : kNoWindow);
        end = min(end, in ? -first_h[row] : kNoWindow);
      }
      begin = warp_min(begin);
      end = -warp_min(end) + reach;
      if (begin >= end) continue;
      distances.walk(key, places.low_w, dx, begin, end, first_h, first_w);
      if (whole) continue;
      for (int row = 0; row < kRows; ++row) {
        if (!queries.in_row(row)) continue;
        const Row r(p, tile, lane, places.at(row), slot, row, slope);
        List list = lists.list_of(r);
        for (int n = 0; n < kAbreast; ++n) {
          const int column = dx + n - r.w.first_w - (kFloat ? 1 : 0);
          const bool active = r.active && column >= 0 && column < reach - (kFloat ? 1 : 0);
          candidates.compare(r, active ? column : 0, active,
                             distances.kept_at(dx + n - 1, places.low_w),
                             distances.kept_at(dx + n, places.low_w), list);
        }
        list.store();
      }
    }
    if (!whole) return;
    for (int row = 0; row < kRows; ++row) {
      if (!queries.in_row(row)) continue;
      const Row r(p, tile, lane, places.at(row), slot, row, slope);
      List list = lists.list_of(r);
      for (int column = 0; column < reach - (kFloat ? 1 : 0); ++column)
        candidates.compare(r, column, r.active, column, column + (kFloat ? 1 : 0), list);
      list.store();
    }
  }
};

}  // namespace stnls
