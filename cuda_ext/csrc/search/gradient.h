// Gradients of the search, from its definition: the distance of every entry that was returned is
// differentiated with respect to the pixels of both patches and to the place of the match. Which
// entries were chosen, the window's shift and the pixels that interpolation uses count as constant.
// Entries outside the frame (infinite distance) have no gradient.
#pragma once

#include "direct.h"

namespace stnls {

template <class Real, bool kFloatGrid, bool kProduct>
struct SearchGradient {
  using Pos = typename Position<Real, kFloatGrid>::type;
  using Index = typename OffsetType<Real, kFloatGrid>::type;

  const SearchGradProblem& g;
  const SearchProblem& p;
  int64_t entries, used;

  STNLS_HD explicit SearchGradient(const SearchGradProblem& problem)
      : g(problem), p(problem.search), entries(entry_count(problem.search)) {
    used = g.k_agg > 0 && g.k_agg < entries ? g.k_agg : entries;
  }

  // An entry with a gradient: where it lies and what the loss says of its distance.
  struct Entry {
    Pos h, w;
    int64_t frame;
    Real weight;
  };

  // False for an entry that takes no part.
  STNLS_HD bool entry(const Query& q, int64_t at, Entry* out) const {
    const Real distance = static_cast<const Real*>(p.dists)[at];
    if (!is_finite(distance)) return false;
    const Index* inds = static_cast<const Index*>(p.inds) + at * p.components;
    out->frame = q.t;
    if (p.components == 3) out->frame += static_cast<int64_t>(*inds++);
    out->h = static_cast<Pos>(q.i * p.stride0) + inds[0];
    out->w = static_cast<Pos>(q.j * p.stride0) + inds[1];
    out->weight = g.grad_dists != nullptr ? static_cast<const Real*>(g.grad_dists)[at] : Real(0);
    return true;
  }

  STNLS_HD int64_t query_row(const Query& q) const {
    return (q.i * p.stride_query) % p.query_height + p.offset_height;
  }
  STNLS_HD int64_t query_column(const Query& q) const {
    return (q.j * p.stride_query) % p.query_width + p.offset_width;
  }

  // Moves a position by a tap of the patch; false where the pair of taps is left out.
  template <class T>
  STNLS_HD bool tap(T centre, int64_t tap, int64_t length, T* at) const {
    *at = centre + static_cast<T>(tap);
    if (p.reflect_bounds) *at = reflect(*at, length);
    return inside(*at, length);
  }

  // The pixels of the key frame that a tap reads, at weights that sum to one.
  struct Taps {
    int64_t row[2], column[2];
    Real row_weight[2], column_weight[2];
  };

  STNLS_HD static void spread(Real at, int64_t length, int64_t* pixel, Real* weight) {
    const Corners<Real> c = bilinear_corners(at, length);
    pixel[0] = c.low;
    pixel[1] = c.high;
    weight[0] = Real(1) - c.weight_high;
    weight[1] = c.weight_high;
  }

  STNLS_HD static void spread(int64_t at, int64_t, int64_t* pixel, Real* weight) {
    pixel[0] = pixel[1] = at;
    weight[0] = Real(1);
    weight[1] = Real(0);
  }

  STNLS_HD Real read(const Real* plane, const Taps& t) const {
    const int64_t pitch = p.key_stride[4];
    if constexpr (!kFloatGrid) return plane[t.row[0] * pitch + t.column[0]];
    const Real* low = plane + t.row[0] * pitch;
    const Real* high = plane + t.row[1] * pitch;
    Real v = t.row_weight[0] * t.column_weight[0] * low[t.column[0]];
    v = multiply_add(t.row_weight[0] * t.column_weight[1], low[t.column[1]], v);
    v = multiply_add(t.row_weight[1] * t.column_weight[0], high[t.column[0]], v);
    return multiply_add(t.row_weight[1] * t.column_weight[1], high[t.column[1]], v);
  }

  // Derivatives of one term of the distance with respect to the query's and the key's value.
  STNLS_HD static Real query_slope(Real weight, Real query, Real key) {
    return kProduct ? weight * key : Real(2) * weight * (query - key);
  }
  STNLS_HD static Real key_slope(Real weight, Real query, Real key) {
    return kProduct ? weight * query : Real(-2) * weight * (query - key);
  }

  STNLS_HD const Real* query_plane(const Query& q) const {
    return static_cast<const Real*>(p.query) + q.b * p.query_stride[0] +
           q.head * p.query_stride[1] + q.t * p.query_stride[2];
  }
  STNLS_HD const Real* key_plane(const Query& q, int64_t frame) const {
    return static_cast<const Real*>(p.key) + q.b * p.key_stride[0] + q.head * p.key_stride[1] +
           frame * p.key_stride[2];
  }

  // Calls visit(query row, query column, taps) for every pair of taps that counts, from row
  // `first` of the patch on; wanted(query row, key rows) says early which rows are of interest.
  template <class Wanted, class Visit>
  STNLS_HD void for_taps(const Query& q, const Entry& e, Wanted&& wanted, Visit&& visit) const {
    const int64_t query_h = query_row(q), query_w = query_column(q);
    for (int64_t pi = 0; pi < p.ps; ++pi) {
      const int64_t tap_h = p.dilation * (pi + p.patch_offset);
      int64_t qh, qw;
      Pos kh, kw;
      if (!tap(query_h, tap_h, p.query_height, &qh) || !tap(e.h, tap_h, p.height, &kh)) continue;
      Taps t;
      spread(kh, p.height, t.row, t.row_weight);
      if (!wanted(qh, t)) continue;
      for (int64_t pj = 0; pj < p.ps; ++pj) {
        const int64_t tap_w = p.dilation * (pj + p.patch_offset);
        if (!tap(query_w, tap_w, p.query_width, &qw) || !tap(e.w, tap_w, p.width, &kw)) continue;
        spread(kw, p.width, t.column, t.column_weight);
        visit(qh, qw, t);
      }
    }
  }

  // Derivative of an entry's distance with respect to its place.
  STNLS_HD void place_slope(const Query& q, const Entry& e, Real* slope_h, Real* slope_w) const {
    const Real* query = query_plane(q);
    const Real* key = key_plane(q, e.frame);
    const int64_t query_h = query_row(q), query_w = query_column(q);
    Real sum_h = Real(0), sum_w = Real(0);
    for (int64_t pi = 0; pi < p.ps; ++pi) {
      const int64_t tap_h = p.dilation * (pi + p.patch_offset);
      int64_t qh, qw;
      Pos kh, kw;
      if (!tap(query_h, tap_h, p.query_height, &qh) || !tap(e.h, tap_h, p.height, &kh)) continue;
      const Real sign_h = reflect_sign(static_cast<Real>(e.h + static_cast<Pos>(tap_h)), p.height);
      const Corners<Real> ch = bilinear_corners(static_cast<Real>(kh), p.height);
      const Corners<Real> sh = slope_corners(static_cast<Real>(kh), p.height);
      for (int64_t pj = 0; pj < p.ps; ++pj) {
        const int64_t tap_w = p.dilation * (pj + p.patch_offset);
        if (!tap(query_w, tap_w, p.query_width, &qw) || !tap(e.w, tap_w, p.width, &kw)) continue;
        const Real sign_w = reflect_sign(static_cast<Real>(e.w + static_cast<Pos>(tap_w)), p.width);
        const Corners<Real> cw = bilinear_corners(static_cast<Real>(kw), p.width);
        const Corners<Real> sw = slope_corners(static_cast<Real>(kw), p.width);
        Real to_h = Real(0), to_w = Real(0);
        for (int64_t c = 0; c < p.channels; ++c) {
          const Real* plane = key + c * p.key_stride[3];
          const Real* low = plane + ch.low * p.key_stride[4];
          const Real* high = plane + ch.high * p.key_stride[4];
          const Real* mirrored = plane + sh.high * p.key_stride[4];
          const Real u = cw.weight_high, v = ch.weight_high;
          // The rows' values at this column, and the columns' at this row.
          const Real at_low = (Real(1) - u) * low[cw.low] + u * low[cw.high];
          const Real at_high = (Real(1) - u) * high[cw.low] + u * high[cw.high];
          const Real at_mirrored = (Real(1) - u) * mirrored[cw.low] + u * mirrored[cw.high];
          const Real at_left = (Real(1) - v) * low[cw.low] + v * high[cw.low];
          const Real at_right = (Real(1) - v) * low[sw.high] + v * high[sw.high];
          const Real value = (Real(1) - v) * at_low + v * at_high;
          const Real slope = key_slope(
              e.weight, query[c * p.query_stride[3] + qh * p.query_stride[4] + qw], value);
          to_h += slope * (at_mirrored - at_low);
          to_w += slope * (at_right - at_left);
        }
        sum_h += sign_h * to_h;
        sum_w += sign_w * to_w;
      }
    }
    *slope_h = sum_h;
    *slope_w = sum_w;
  }

  // Gradient of the flow, or of the entries that were refined, for one query: each of its entries
  // moves with the window that it was found in.
  STNLS_HD void run_places(int64_t index) const {
    const Query q = query_at(p, index);
    const DirectSearch<Real, kFloatGrid, kProduct> search(p);
    for (int64_t k = 0; k < used; ++k) {
      const int64_t at = index * entries + k;
      Entry e;
      if (!entry(q, at, &e)) continue;
      Real slope_h = Real(0), slope_w = Real(0);
      if (e.weight != Real(0)) place_slope(q, e, &slope_h, &slope_w);
      if (g.grad_inds != nullptr) {
        const Real* grad = static_cast<const Real*>(g.grad_inds) + (at + 1) * p.components - 2;
        slope_h += grad[0];
        slope_w += grad[1];
      }
      if (p.prior != nullptr)
        add_to_prior(q, static_cast<const int32_t*>(p.source)[at], slope_h, slope_w, search);
      else
        add_to_flow(q, e.frame, slope_h, slope_w);
    }
  }

  STNLS_HD void add_to_flow(const Query& q, int64_t frame, Real slope_h, Real slope_w) const {
    const int64_t slot = frame_slot(q.t, frame, p.wt, p.frames);
    const int64_t flow_slot = p.flow_slots == 2 * p.wt + 1 ? slot : slot - 1;
    if (flow_slot < 0) return;  // the own frame has no flow
    const int64_t plane = p.grid_height * p.grid_width, place = q.i * p.grid_width + q.j;
    const auto first = [&](int64_t heads, int64_t head) {
      return (((q.b * heads + head) * p.frames + q.t) * p.flow_slots + flow_slot) * 2 * plane +
             place;
    };
    const Real* flow =
        static_cast<const Real*>(p.flow) + first(p.flow_heads, q.head % p.flow_heads);
    Real* grad = static_cast<Real*>(g.grad_flow) + first(p.heads, q.head);
    grad[0] += slope_w * reflect_sign(static_cast<Real>(q.j * p.stride0) + flow[0], p.width);
    grad[plane] +=
        slope_h * reflect_sign(static_cast<Real>(q.i * p.stride0) + flow[plane], p.height);
  }

  STNLS_HD void add_to_prior(const Query& q, int64_t entry, Real slope_h, Real slope_w,
                             const DirectSearch<Real, kFloatGrid, kProduct>& search) const {
    const Index* from = search.prior_of(q, entry) + p.components - 2;
    Real* grad = static_cast<Real*>(g.grad_prior) +
                 (search.prior_of(q, entry) - static_cast<const Index*>(p.prior)) + p.components -
                 2;
    grad[0] +=
        slope_h *
        reflect_sign(static_cast<Real>(q.i * p.stride0) + static_cast<Real>(from[0]), p.height);
    grad[1] +=
        slope_w *
        reflect_sign(static_cast<Real>(q.j * p.stride0) + static_cast<Real>(from[1]), p.width);
  }
};

}  // namespace stnls
