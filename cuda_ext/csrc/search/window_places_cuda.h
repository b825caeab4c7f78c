// The windows of a tile's queries in one slot, and their union.
#pragma once

#include "box_sums_cuda.h"
#include "query_tile_cuda.h"
#include "query_window_cuda.h"
#include "window_memory_cuda.h"
#include "window_queries_cuda.h"

namespace stnls {

constexpr int kNoWindow = 1 << 28;  // a displacement that no window has

// A warp has kRows rows of pixels, a lane a column.
template <class Search, int kRows>
class WindowPlaces {
 public:
  using Pos = typename Search::Pos;
  int low_h, low_w, wide, high;  // the union of the windows

  // reach: window_reach; places: of every row and lane, in shared memory.
  __device__ WindowPlaces(const SearchProblem& p, const QueryTile& tile,
                          const WindowQueries& queries, int lane, int reach, WindowPlace* places)
      : search(p), tile(tile), queries(queries), lane(lane), reach(reach), places(places) {}

  __device__ WindowPlace& at(int row) const { return places[row * 32 + lane]; }

  // Finds the windows of one slot; false where there are none, and the union is empty. Where lists
  // begin, an entry of them may be pinned.
  template <class Lists>
  __device__ bool find(int slot, bool begins, const Lists& lists) {
    int low_y = kNoWindow, low_x = kNoWindow;
    int up_y = kNoWindow, up_x = kNoWindow;  // negated
    // What is read beyond the last distances, and not used, may lie in other lanes' windows.
    __syncwarp();
    for (int row = 0; row < kRows; ++row) {
      WindowPlace w{};
      w.first_h = kNoWindow;
      if (queries.has(row)) {
        const int i = queries.i(row), place = i * static_cast<int>(search.p.grid_width) + queries.j;
        const auto window = query_window(search, tile.b, tile.head, tile.t, tile.top + row,
                                         tile.left + lane, place, slot);
        if (begins && search.p.self_action != kNone)
          lists.pin(Query{tile.b, tile.head, tile.t, i, queries.j}, row, slot, window);
        if (window.finite) {
          w.anchor_h = static_cast<float>(window.anchor_h);
          w.anchor_w = static_cast<float>(window.anchor_w);
          w.offset_h = static_cast<uint8_t>(window.offset_h);
          w.offset_w = static_cast<uint8_t>(window.offset_w);
          w.first_h =
              inside_of(window.anchor_h, window.offset_h, tile.height, w.from_h, w.count_h) -
              (tile.top + row);
          w.first_w = inside_of(window.anchor_w, window.offset_w, tile.width, w.from_w, w.count_w) -
                      (tile.left + lane);
          low_y = min(low_y, w.first_h);
          low_x = min(low_x, w.first_w);
          up_y = min(up_y, -w.first_h);
          up_x = min(up_x, -w.first_w);
        }
      }
      at(row) = w;
    }
    __syncwarp();
    low_h = warp_min(low_y);
    low_w = warp_min(low_x);
    const int most_h = -warp_min(up_y), most_w = -warp_min(up_x);
    high = wide = 0;
    if (low_h >= kNoWindow) return false;
    high = most_h - low_h + reach;
    wide = most_w - low_w + reach;
    return true;
  }

 private:
  const Search search;
  const QueryTile tile;
  const WindowQueries queries;
  const int lane, reach;
  WindowPlace* const places;

  // The first whole position of a window along one axis, and the candidates that are inside.
  __device__ int inside_of(Pos anchor, int64_t offset, int length, uint8_t& from,
                           uint8_t& count) const {
    const int ws = static_cast<int>(search.p.ws);
    from = 0;
    count = static_cast<uint8_t>(ws);
    const Pos start = search.position(anchor, 0, offset),
              end = search.position(anchor, ws - 1, offset);
    if (start < Pos(0) || end > static_cast<Pos>(length - 1))
      count_inside(search, anchor, offset, ws, length, from, count);
    if constexpr (std::is_floating_point<Pos>::value) return static_cast<int>(floorf(start));
    return static_cast<int>(start);
  }
};

}  // namespace stnls
