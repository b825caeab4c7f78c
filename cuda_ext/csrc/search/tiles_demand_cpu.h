// How many queries of a rectangle want the patch sum at each displacement of their union (CPU).
#pragma once

#include <cstdint>
#include <vector>

#include "tiles_plan_cpu.h"

namespace stnls {

// Motion that is uneven, or rounded to either side, leaves displacements at the border of a union
// to a few queries. There these are summed one by one, instead of the whole rectangle.
class Demand {
 public:
  struct Row {
    Range wanted;      // columns that any query wants, and those between them
    Range many{0, 0};  // those that many want; the others are left to single queries
  };
  std::vector<Row> rows;

  // more: how much further than the last candidate of a window sums are wanted. `few` is the
  // largest number of queries that are summed one by one.
  void count(const AxisReach& reach_h, const AxisReach& reach_w, const Rect& r, const Union& u,
             int64_t more, int64_t few) {
    const int64_t height = u.h.size() + more, width = u.w.size() + more, pitch = width + 1;
    counts.assign(static_cast<size_t>((height + 1) * pitch), 0);
    count_corners(reach_h, reach_w, r, u, static_cast<int32_t>(more), static_cast<int32_t>(pitch));
    rows.assign(static_cast<size_t>(height), Row{});
    for (int64_t dy = 0; dy < height; ++dy) {
      int32_t* line = counts.data() + dy * pitch;
      for (int64_t dx = 0, windows = 0; dx < width; ++dx) {
        // From the corners of the windows to how many of them lie over this place.
        windows += line[dx];
        line[dx] = static_cast<int32_t>(windows);
        if (dy > 0) line[dx] += line[dx - pitch];
        if (line[dx] > 0) rows[dy].wanted.include(dx, dx + 1);
        if (line[dx] > few) {
          if (rows[dy].many.size() == 0) rows[dy].many.low = dx;
          rows[dy].many.high = dx + 1;
        }
      }
    }
  }

 private:
  std::vector<int32_t> counts;

  void count_corners(const AxisReach& reach_h, const AxisReach& reach_w, const Rect& r,
                     const Union& u, int32_t more, int32_t pitch) {
    for (int64_t y = r.y; y < r.y + r.height; ++y) {
      for (int64_t x = r.begin(); x < r.end(); x += kLanes) {
        const int64_t n = tile_index(y, x);
        const IntV low = load(&reach_h.low[n]);
        const IntV used = r.lanes(x) & (low != Range::kNone);
        // Windows that do not count have all their corners at one place.
        const auto place = [&](IntV displacement, const Range& all) {
          return select(used, displacement - static_cast<int32_t>(all.low), IntV{});
        };
        const IntV top = place(low, u.h) * pitch, left = place(load(&reach_w.low[n]), u.w);
        const IntV bottom = place(load(&reach_h.high[n]) + more, u.h) * pitch;
        const IntV right = place(load(&reach_w.high[n]) + more, u.w);
        int32_t corners[4][kLanes];
        store(corners[0], top + left);
        store(corners[1], top + right);
        store(corners[2], bottom + left);
        store(corners[3], bottom + right);
        for (int lane = 0; lane < kLanes; ++lane) {
          ++counts[corners[0][lane]];
          --counts[corners[1][lane]];
          --counts[corners[2][lane]];
          ++counts[corners[3][lane]];
        }
      }
    }
  }
};

}  // namespace stnls
