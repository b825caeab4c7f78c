// The candidate of a match, by its number: what it was charged, and its offsets.
#pragma once

#include "query_window_cuda.h"

namespace stnls {

template <class Search>
class FoundCandidate {
 public:
  using Pos = typename Search::Pos;
  using Index = typename Search::Index;

  // Of the query at pixel (y, x), which is number `place` of the grid.
  __device__ __forceinline__ FoundCandidate(const Search& search, int b, int head, int t, int y,
                                            int x, int place, int id)
      : search(search), t(t), y(y), x(x) {
    const unsigned ws = static_cast<unsigned>(search.p.ws), area = ws * ws, candidate = id;
    slot = static_cast<int>(candidate / area);
    i = static_cast<int>(candidate % area / ws);
    j = static_cast<int>(candidate % area % ws);
    w = query_window(search, b, head, t, y, x, place, slot);
  }

  __device__ __forceinline__ float charge() const {
    return search.charge_at(i - w.offset_h, j - w.offset_w);
  }

  // exactly_self: zeros, also where the grid only came near the query's own place.
  __device__ __forceinline__ void write_offsets(bool exactly_self, Index* out) const {
    const SearchProblem& p = search.p;
    Index dt = static_cast<Index>(slot_frame(t, slot, p.wt, p.frames) - t);
    Index dh = static_cast<Index>(search.position(w.anchor_h, i, w.offset_h) - static_cast<Pos>(y));
    Index dw = static_cast<Index>(search.position(w.anchor_w, j, w.offset_w) - static_cast<Pos>(x));
    if (exactly_self) dt = dh = dw = Index(0);
    if (p.components == 3) *out++ = dt;
    out[0] = dh;
    out[1] = dw;
  }

  // Whether a match, number e of its query, stands for the query itself.
  __device__ __forceinline__ static bool is_exactly_self(const Search& search, int e, int id) {
    const SearchProblem& p = search.p;
    return p.self_action == kAnchor && e == 0 && id != search.candidate(p.first_slot, 0, 0);
  }

 private:
  const Search& search;
  const int t, y, x;
  int slot, i, j;  // row and column of its window
  QueryWindow<Pos> w;
};

}  // namespace stnls
