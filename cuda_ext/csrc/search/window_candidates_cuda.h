// The candidates of a tile's queries: the distance of each, at or between the whole displacements
// (window_distances_cuda.h, interpolation_cuda.h), is offered to its query's matches.
#pragma once

#include "direct.h"
#include "interpolation_cuda.h"
#include "query_tile_cuda.h"
#include "slope_reader_cuda.h"
#include "window_memory_cuda.h"
#include "window_places_cuda.h"

namespace stnls {

// The windows of the lanes' queries in one row.
struct WindowRow {
  const WindowPlace w;
  const bool active;
  const int row, y, x, id;  // first whole position; first candidate
  const KeySlopes slopes;   // of the frame

  __device__ WindowRow(const SearchProblem& p, const QueryTile& tile, int lane,
                       const WindowPlace& place, int slot, int row, const KeySlopes& slopes)
      : w(place),
        active(w.first_h < kNoWindow),
        row(row),
        y(active ? tile.top + row + w.first_h : 0),
        x(active ? tile.left + lane + w.first_w : 0),
        id(slot * static_cast<int>(p.ws * p.ws)),
        slopes(slopes) {}
};

// List: what candidates are offered to (Matches).
template <bool kProduct, bool kFloat, bool kCharge, int kRows, class List>
class WindowCandidates {
 public:
  using Search = DirectSearch<float, kFloat, kProduct>;
  using Row = WindowRow;
  static constexpr int kTogether = 4;       // candidates of a column in one go
  static constexpr int kLine = kRows * 32;  // from one line of distances to the next

  __device__ WindowCandidates(const SearchProblem& problem, const QueryTile& tile, int lane,
                              int reach, const WindowMemory& memory)
      : p(problem),
        search(problem),
        tile(tile),
        lane(lane),
        reach(reach),
        sums(memory.sums),
        places(memory.places) {}

  // Compares the candidates that lie at (integer grid) or right of a column of displacements; that
  // column and the next are the `before`th and `now`th that are kept.
  __device__ __forceinline__ void compare(const Row& r, int column, bool active, int before,
                                          int now, List& list) {
    const float* left_sums = sums + before * reach * kLine + r.row * 32 + lane;
    const float* right_sums = sums + now * reach * kLine + r.row * 32 + lane;
    if constexpr (!kFloat) {
      compare_whole(r, column, active, right_sums, list);
    } else if (p.stride1 == 1.0) {
      compare_cells<1>(r, column, active, left_sums, right_sums, list);
    } else if (p.stride1 == 0.5) {
      compare_cells<2>(r, column, active, left_sums, right_sums, list);
    } else {
      compare_columns(r, column, active, left_sums, right_sums, list);
    }
    list.end_column();
  }

 private:
  using Between = BetweenColumns<kProduct>;
  using Slopes = SlopeReader<kProduct>;

  const SearchProblem& p;
  const Search search;
  const QueryTile tile;
  const int lane, reach;
  const float* const sums;
  WindowPlace* const places;

  __device__ Slopes slopes_at(const Row& r, int column) const {
    return Slopes(r.slopes, r.y, r.x + column, tile.height, tile.width);
  }

  __device__ void compare_whole(const Row& r, int column, bool active, const float* from,
                                List& list) const {
    const int ws = static_cast<int>(p.ws), step = static_cast<int>(search.step());
    const int j = column / step;
    active = active && j * step == column && j >= r.w.from_w && j < r.w.from_w + r.w.count_w;
    const unsigned count = active ? r.w.count_h : 0;
    int id = r.id + j;
    const int steps_w = j - r.w.offset_w, before = r.w.offset_h - r.w.from_h;
    for (int i = -r.w.from_h, end = i + ws; __any_sync(0xffffffffu, i < end); i += kTogether) {
      list.make_room(kTogether);
#pragma unroll
      for (int n = 0; n < kTogether; ++n) {
        const bool has = static_cast<unsigned>(i + n) < count;
        float found = has ? *from : no_distance();
        if constexpr (kCharge) found += search.charge_at(i + n - before, steps_w);
        list.offer(found, id);
        if (i + n + 1 < end) from += step * kLine;
        id += ws;
      }
    }
  }

  // The candidates of the cells right of a column of displacements, for a step of 1 / kPer. A cell,
  // between two columns and two lines of displacements, holds kPer x kPer places; those that are no
  // candidates of the window have a distance of NaN.
  template <int kPer>
  __device__ __forceinline__ void compare_cells(const Row& r, int column, bool active,
                                                const float* left_sums, const float* right_sums,
                                                List& list) const {
    constexpr float kStep = 1.0f / kPer;
    const int ws = static_cast<int>(p.ws);
    float nth = -static_cast<float>(r.w.offset_h), y = static_cast<float>(r.y);
    float mth = -static_cast<float>(r.w.offset_w), x = static_cast<float>(r.x + column);
    // Places of the first cell that lie before the first candidate.
    int skip_h = 0, skip_w = 0;
    if (kPer > 1) {
      const float u = r.w.anchor_w + kStep * mth - static_cast<float>(r.x);
      skip_h = static_cast<int>((r.w.anchor_h + kStep * nth - y) * kPer);
      skip_w = static_cast<int>(u * kPer);
      nth -= static_cast<float>(skip_h);
      mth -= static_cast<float>(skip_w);
    }
    Between columns[kPer];
    const float charge = static_cast<float>(p.charge) * kStep * kStep;  // of a squared step
    float of_column[kPer] = {};
    const int j = kPer * column - skip_w;
#pragma unroll
    for (int m = 0; m < kPer; ++m) {
      const float steps = mth + static_cast<float>(kPer * column + m);
      const float w = r.w.anchor_w + kStep * steps;
      const bool has = active && static_cast<unsigned>(j + m - r.w.from_w) < r.w.count_w;
      columns[m] = Between(has ? w - x : no_distance());
      if constexpr (kCharge) of_column[m] = charge * steps * steps;
    }
    int i = -skip_h - r.w.from_h, id = r.id + j - skip_h * ws;
    const unsigned count = r.w.count_h;
    const int lines = reach - 1;
    Slopes at = slopes_at(r, column);
    const float4 low = Slopes::arrived(at.next());
    float e[kPer];
#pragma unroll
    for (int m = 0; m < kPer; ++m) e[m] = columns[m].along(*left_sums, *right_sums, low);
    float4 high = at.next();
    float left_high = *(left_sums += kLine), right_high = *(right_sums += kLine);
    for (int line = 0; line < lines; ++line) {
      const float4 slope = Slopes::arrived(high);
      float next[kPer], rise[kPer], across[kPer];
#pragma unroll
      for (int m = 0; m < kPer; ++m) {
        next[m] = columns[m].along(left_high, right_high, slope);
        rise[m] = next[m] - e[m];
        across[m] = columns[m].across(slope);
      }
      // Read early; what comes after the last line is not used.
      high = at.next();
      left_high = *(left_sums += kLine);
      right_high = *(right_sums += kLine);
      list.make_room(kPer * kPer);
#pragma unroll
      for (int n = 0; n < kPer; ++n) {
        const bool has = static_cast<unsigned>(i + n) < count;
        const float v = has ? r.w.anchor_h + kStep * nth - y : no_distance(), vv = fmaf(-v, v, v);
        const float of_line = kCharge ? charge * nth * nth : 0.0f;
#pragma unroll
        for (int m = 0; m < kPer; ++m) {
          const float found = between_lines<kProduct>(e[m], rise[m], across[m], v, vv);
          list.offer(kCharge ? found + (of_line + of_column[m]) : found, id + m);
        }
        id += ws;
        nth += 1.0f;
      }
#pragma unroll
      for (int m = 0; m < kPer; ++m) e[m] = next[m];
      i += kPer;
      y += 1.0f;
    }
  }

  // The same for any step.
  __device__ void compare_columns(const Row& r, int column, bool active, const float* left_sums,
                                  const float* right_sums, List& list) {
    const int ws = static_cast<int>(p.ws), last = reach - 2;
    const float step = static_cast<float>(p.stride1), x = static_cast<float>(r.x + column);
    const int each = step < 1.0f ? static_cast<int>(ceilf(1.0f / step)) : 1;
    uint8_t& done = places[r.row * 32 + lane].next;
    int j = active ? done : ws;
    while (true) {
      // Rounded, the last column can lie a hair beyond the last displacement.
      const float at = r.w.anchor_w + step * static_cast<float>(j - r.w.offset_w);
      const bool has = j < ws && (column == last || at < x + 1.0f);
      if (!__any_sync(0xffffffffu, has)) break;
      const bool inside = has && j >= r.w.from_w && j < r.w.from_w + r.w.count_w;
      const Between columns(inside ? at - x : no_distance());
      const int steps_w = j - r.w.offset_w;
      int id = r.id + j, i = has ? 0 : ws;
      float y = static_cast<float>(r.y);
      Slopes slopes = slopes_at(r, column);
      float e = columns.along(left_sums[0], right_sums[0], Slopes::arrived(slopes.next()));
      for (int line = 0; line <= last; ++line, y += 1.0f) {
        const float4 lower = Slopes::arrived(slopes.next());
        const int to = (line + 1) * kLine;
        const float next = columns.along(left_sums[to], right_sums[to], lower);
        const float across = columns.across(lower);
        bool more = false;
        for (int n = 0; n < each || more; ++n) {
          const float h = r.w.anchor_h + step * static_cast<float>(i - r.w.offset_h);
          const bool here = i < ws && (line == last || h < y + 1.0f);
          const bool valid = here && i >= r.w.from_h && i < r.w.from_h + r.w.count_h;
          const float v = valid ? h - y : no_distance();
          list.make_room(1);
          const float found = between_lines<kProduct>(e, next - e, across, v, fmaf(-v, v, v));
          list.offer(kCharge ? found + search.charge_at(i - r.w.offset_h, steps_w) : found, id);
          i += here ? 1 : 0;
          id += here ? ws : 0;
          // Rounded, a line can hold one more.
          more = n + 1 >= each && line == last && __any_sync(0xffffffffu, i < ws);
        }
        e = next;
      }
      j += has ? 1 : 0;
      list.end_column();
    }
    if (active) done = static_cast<uint8_t>(j);
  }
};

}  // namespace stnls
