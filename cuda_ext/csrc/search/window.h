// The window of a query in each of its slots: where its candidates lie, how they are numbered, and
// what their offsets are.
#pragma once

#include "../common/geometry.h"
#include "../common/query.h"
#include "problem.h"

namespace stnls {

// Windows of one query: one for each slot, or one for each entry that is refined.
STNLS_HD int64_t end_slot(const SearchProblem& p) {
  return p.prior != nullptr ? p.windows : 2 * p.wt + 1;
}
STNLS_HD int64_t slot_count(const SearchProblem& p) { return end_slot(p) - p.first_slot; }

template <class Real, bool kFloatGrid>
struct Position;
template <class Real>
struct Position<Real, true> {
  using type = Real;
};
template <class Real>
struct Position<Real, false> {
  using type = int64_t;
};

// Type of the offsets that are returned.
template <class Real, bool kFloatGrid>
struct OffsetType {
  using type = Real;
};
template <class Real>
struct OffsetType<Real, false> {
  using type = int32_t;
};

// The window of one query in one slot.
template <class Pos>
struct Window {
  Pos anchor_h, anchor_w;
  int64_t offset_h, offset_w;
  int64_t frame;
  bool finite;  // false: no place was given (NaN, infinite, empty): every candidate is invalid
};

// Offsets of an entry that is empty, and the size from which on those of an entry to refine count
// as empty.
constexpr int64_t kEmptyEntry = -100000000;
template <class Index>
STNLS_HD bool is_place(Index offset) {
  if constexpr (std::is_floating_point<Index>::value)
    return std::fabs(offset) < static_cast<Index>(-kEmptyEntry);
  return offset > -100000 && offset < 100000;
}

template <class Real, bool kFloatGrid>
struct SearchWindows {
  using Pos = typename Position<Real, kFloatGrid>::type;
  using Index = typename OffsetType<Real, kFloatGrid>::type;

  const SearchProblem& p;

  STNLS_HD explicit SearchWindows(const SearchProblem& problem) : p(problem) {}

  STNLS_HD Pos step() const { return static_cast<Pos>(p.stride1); }

  STNLS_HD Pos position(Pos anchor, int64_t i, int64_t offset) const {
    return anchor + step() * static_cast<Pos>(i - offset);
  }

  STNLS_HD Window<Pos> window(const Query& q, int64_t slot) const {
    if (p.prior != nullptr) return window_of_prior(q, slot);
    Window<Pos> w;
    w.frame = slot_frame(q.t, slot, p.wt, p.frames);
    w.finite = true;
    Pos h = static_cast<Pos>(q.i * p.stride0), v = static_cast<Pos>(q.j * p.stride0);
    const int64_t flow_slot = p.flow_slots == 2 * p.wt + 1 ? slot : slot - 1;
    if (p.flow != nullptr && flow_slot >= 0) {
      const int64_t plane = p.grid_height * p.grid_width;
      const int64_t flow_head = q.head < p.flow_heads ? q.head : q.head % p.flow_heads;
      const int64_t at =
          (((q.b * p.flow_heads + flow_head) * p.frames + q.t) * p.flow_slots + flow_slot) * 2 *
              plane +
          q.i * p.grid_width + q.j;
      const Real* flow = static_cast<const Real*>(p.flow);
      const Real dx = flow[at], dy = flow[at + plane];
      w.finite = is_finite(dx) && is_finite(dy);
      if (w.finite) {
        if constexpr (kFloatGrid) {
          h += dy;
          v += dx;
        } else {
          h += round_offset(dy);
          v += round_offset(dx);
        }
      }
    }
    place(h, v, &w);
    return w;
  }

  STNLS_HD const Index* prior_of(const Query& q, int64_t entry) const {
    const int64_t query =
        (((q.b * p.heads + q.head) * p.frames + q.t) * p.grid_height + q.i) * p.grid_width + q.j;
    return static_cast<const Index*>(p.prior) + (query * p.prior_entries + entry) * p.components;
  }

  // The window around an entry of an earlier search.
  STNLS_HD Window<Pos> window_of_prior(const Query& q, int64_t entry) const {
    Window<Pos> w;
    const Index* at = prior_of(q, entry);
    const Index dt = p.components == 3 ? *at++ : Index(0);
    w.finite = is_place(at[0]) && is_place(at[1]) && is_place(dt);
    w.frame = q.t;
    Pos h = static_cast<Pos>(q.i * p.stride0), v = static_cast<Pos>(q.j * p.stride0);
    if (w.finite) {
      if constexpr (kFloatGrid)
        w.frame = reflect(q.t + static_cast<int64_t>(std::floor(dt + Real(0.5))), p.frames);
      else
        w.frame = reflect(q.t + dt, p.frames);
      h += at[0];
      v += at[1];
    }
    place(h, v, &w);
    return w;
  }

  STNLS_HD void place(Pos h, Pos v, Window<Pos>* window) const {
    Window<Pos>& w = *window;
    w.anchor_h = reflect(h, p.height);
    w.anchor_w = reflect(v, p.width);
    if constexpr (kFloatGrid) {
      w.offset_h = window_offset_real(w.anchor_h, step(), p.ws, p.height, p.full_window != 0);
      w.offset_w = window_offset_real(w.anchor_w, step(), p.ws, p.width, p.full_window != 0);
    } else {
      w.offset_h = window_offset(w.anchor_h, step(), p.ws, p.height, p.full_window != 0);
      w.offset_w = window_offset(w.anchor_w, step(), p.ws, p.width, p.full_window != 0);
    }
  }

  STNLS_HD bool valid(Pos h, Pos w) const { return inside(h, p.height) && inside(w, p.width); }

  // Candidates are numbered in raster order over (slot, window row, window column).
  STNLS_HD int64_t candidate(int64_t slot, int64_t i, int64_t j) const {
    return (slot * p.ws + i) * p.ws + j;
  }

  // The candidate at the query's own place and time: on the integer grid the exact one, or the
  // first candidate if there is none; on the real grid the nearest in the L1 sense.
  STNLS_HD int64_t self_candidate(const Query& q) const {
    int64_t best = candidate(p.first_slot, 0, 0);
    double best_distance = infinity<double>();
    for (int64_t slot = p.first_slot; slot < end_slot(p); ++slot) {
      const Window<Pos> w = window(q, slot);
      const double time = static_cast<double>(w.frame > q.t ? w.frame - q.t : q.t - w.frame);
      if (time >= best_distance) continue;
      double h_distance = 0, w_distance = 0;
      const int64_t i = nearest(w.anchor_h, w.offset_h, q.i * p.stride0, &h_distance);
      const int64_t j = nearest(w.anchor_w, w.offset_w, q.j * p.stride0, &w_distance);
      const double distance = time + h_distance + w_distance;
      if (!kFloatGrid && distance > 0) continue;
      if (distance < best_distance) {
        best_distance = distance;
        best = candidate(slot, i, j);
      }
    }
    return best;
  }

  STNLS_HD int64_t nearest(Pos anchor, int64_t offset, int64_t target, double* distance) const {
    int64_t best = 0;
    *distance = infinity<double>();
    for (int64_t i = 0; i < p.ws; ++i) {
      const double d =
          std::fabs(static_cast<double>(position(anchor, i, offset)) - static_cast<double>(target));
      if (d < *distance) {
        *distance = d;
        best = i;
      }
    }
    return best;
  }

  // Offsets of a candidate relative to its query, written to an entry of the output.
  STNLS_HD void write_offsets(const Query& q, int64_t candidate, bool exactly_self,
                              Index* out) const {
    const int64_t area = p.ws * p.ws, at = candidate % area;
    write_offsets(q, window(q, candidate / area), at / p.ws, at % p.ws, exactly_self, out);
  }
  // The same for row i and column j of a window of the query.
  STNLS_HD void write_offsets(const Query& q, const Window<Pos>& w, int64_t i, int64_t j,
                              bool exactly_self, Index* out) const {
    Index dt = static_cast<Index>(w.frame - q.t);
    Index dh =
        static_cast<Index>(position(w.anchor_h, i, w.offset_h) - static_cast<Pos>(q.i * p.stride0));
    Index dw =
        static_cast<Index>(position(w.anchor_w, j, w.offset_w) - static_cast<Pos>(q.j * p.stride0));
    if (exactly_self) dt = dh = dw = Index(0);
    if (p.prior != nullptr && !w.finite) dt = dh = dw = static_cast<Index>(kEmptyEntry);
    if (p.components == 3) *out++ = dt;
    out[0] = dh;
    out[1] = dw;
  }
};

}  // namespace stnls
