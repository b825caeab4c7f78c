// The window of a query in one slot, as DirectSearch::window finds it, in few instructions where it
// lies inside the frame; and where it does not, which candidates are inside.
#pragma once

#include "direct.h"

namespace stnls {

template <class Pos>
struct QueryWindow {
  Pos anchor_h, anchor_w;
  int offset_h, offset_w;
  bool finite;
};

// Out of the way: mirrored anchors and moved windows are rare.
template <class Search>
__device__ __noinline__ Window<typename Search::Pos> place_anywhere(const SearchProblem& p,
                                                                    typename Search::Pos h,
                                                                    typename Search::Pos w) {
  Window<typename Search::Pos> window{};
  Search(p).place(h, w, &window);
  return window;
}

// Of the query at pixel (y, x), which is number `place` of the grid, in float32. Slots have flow,
// or none.
template <class Search>
__device__ __forceinline__ QueryWindow<typename Search::Pos> query_window(const Search& search,
                                                                          int b, int head, int t,
                                                                          int y, int x, int place,
                                                                          int slot) {
  using Pos = typename Search::Pos;
  const SearchProblem& p = search.p;
  const int flow_slot = slot - (p.flow_slots == 2 * p.wt + 1 ? 0 : 1);
  float dy = 0.0f, dx = 0.0f;
  if (p.flow != nullptr && flow_slot >= 0) {
    const int heads = static_cast<int>(p.flow_heads), frames = static_cast<int>(p.frames);
    const int line = (b * heads + head % heads) * frames + t;
    const int64_t plane = p.grid_height * p.grid_width;
    const float* flow =
        static_cast<const float*>(p.flow) + (line * p.flow_slots + flow_slot) * 2 * plane + place;
    dx = flow[0];
    dy = flow[plane];
  }
  const int half = static_cast<int>(p.ws - 1) / 2;
  const bool finite = is_finite(dx) && is_finite(dy);
  if (!finite) dx = dy = 0.0f;  // a window around the query, without a valid candidate
  Pos h = static_cast<Pos>(y), w = static_cast<Pos>(x);
  if constexpr (std::is_floating_point<Pos>::value) {
    h += dy;
    w += dx;
  } else {
    h += round_offset(dy);
    w += round_offset(dx);
  }
  const Pos before = search.step() * static_cast<Pos>(half);
  const Pos after = search.step() * static_cast<Pos>(static_cast<int>(p.ws) - 1 - half);
  if (h - before >= Pos(0) && w - before >= Pos(0) && h + after <= static_cast<Pos>(p.height - 1) &&
      w + after <= static_cast<Pos>(p.width - 1))
    return {h, w, half, half, finite};
  const Window<Pos> moved = place_anywhere<Search>(p, h, w);
  return {moved.anchor_h, moved.anchor_w, static_cast<int>(moved.offset_h),
          static_cast<int>(moved.offset_w), finite};
}

// Of a window that leaves a frame along one axis: the candidates that are inside, `count` of them
// from number `from` on, which is zero before.
template <class Search, class Count>
__device__ void count_inside(const Search& search, typename Search::Pos anchor, int64_t offset,
                             int ws, int length, Count& from, Count& count) {
  using Pos = typename Search::Pos;
  count = 0;
  for (int i = 0; i < ws; ++i) {
    const Pos at = search.position(anchor, i, offset);
    if (at < Pos(0)) ++from;
    if (at >= Pos(0) && at <= static_cast<Pos>(length - 1)) ++count;
  }
}

}  // namespace stnls
