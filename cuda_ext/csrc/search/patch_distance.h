// The distance of a candidate from its definition, tap by tap, and what it costs to leave the flow.
#pragma once

#include "window.h"

namespace stnls {

template <class Real, bool kFloatGrid, bool kProduct>
struct PatchDistance : SearchWindows<Real, kFloatGrid> {
  using Windows = SearchWindows<Real, kFloatGrid>;
  using typename Windows::Pos;
  using Windows::candidate;
  using Windows::p;
  using Windows::position;
  using Windows::valid;
  using Windows::window;
  using Windows::Windows;

  // Distances are compared as keys of which the smallest is best.
  STNLS_HD static Real worst_key() { return infinity<Real>(); }
  // Rounding can leave a sum of squares below zero, between pixels or where a charge is taken off.
  // What is not a number stays that.
  STNLS_HD static Real key_to_distance(Real key) {
    return kProduct ? -key : key < Real(0) ? Real(0) : key;
  }

  // Sum over the patch of squared differences (or of products); pairs of taps of which one lies
  // outside its frame after reflection are left out.
  STNLS_HD Real patch_distance(const Query& q, int64_t frame, Pos centre_h, Pos centre_w) const {
    const Real* query = static_cast<const Real*>(p.query) + q.b * p.query_stride[0] +
                        q.head * p.query_stride[1] + q.t * p.query_stride[2];
    const Real* key = static_cast<const Real*>(p.key) + q.b * p.key_stride[0] +
                      q.head * p.key_stride[1] + frame * p.key_stride[2];
    const int64_t query_h = (q.i * p.stride_query) % p.query_height + p.offset_height;
    const int64_t query_w = (q.j * p.stride_query) % p.query_width + p.offset_width;
    if constexpr (!kFloatGrid) {
      const int64_t first = p.dilation * p.patch_offset;
      if (holds(query_h + first, p.query_height) && holds(query_w + first, p.query_width) &&
          holds(centre_h + first, p.height) && holds(centre_w + first, p.width)) {
        const Real sum = sum_inside(query + (query_h + first) * p.query_stride[4] + query_w + first,
                                    key + (centre_h + first) * p.key_stride[4] + centre_w + first);
        return kProduct ? -sum : sum;
      }
    }
    Real sum = Real(0);
    for (int64_t pi = 0; pi < p.ps; ++pi) {
      const int64_t tap_h = p.dilation * (pi + p.patch_offset);
      int64_t qh = query_h + tap_h;
      Pos kh = centre_h + static_cast<Pos>(tap_h);
      if (p.reflect_bounds) {
        qh = reflect(qh, p.query_height);
        kh = reflect(kh, p.height);
      } else if (!inside(qh, p.query_height) || !inside(kh, p.height)) {
        continue;
      }
      const Real* query_row = query + qh * p.query_stride[4];
      for (int64_t pj = 0; pj < p.ps; ++pj) {
        const int64_t tap_w = p.dilation * (pj + p.patch_offset);
        int64_t qw = query_w + tap_w;
        Pos kw = centre_w + static_cast<Pos>(tap_w);
        if (p.reflect_bounds) {
          qw = reflect(qw, p.query_width);
          kw = reflect(kw, p.width);
        } else if (!inside(qw, p.query_width) || !inside(kw, p.width)) {
          continue;
        }
        sum += channel_sum(query_row + qw, key, kh, kw);
      }
    }
    return kProduct ? -sum : sum;
  }

  // Whether a patch that starts there lies inside, along one axis.
  STNLS_HD bool holds(int64_t first, int64_t length) const {
    return first >= 0 && first + p.dilation * (p.ps - 1) < length;
  }

  // The same sum where no tap needs a look at its place.
  STNLS_HD Real sum_inside(const Real* query, const Real* key) const {
    const int ps = static_cast<int>(p.ps), channels = static_cast<int>(p.channels);
    Real sum = Real(0);
    for (int pi = 0; pi < ps; ++pi) {
      for (int pj = 0; pj < ps; ++pj) {
        const Real *q = query + pj * p.dilation, *k = key + pj * p.dilation;
        Real tap = Real(0);
        for (int c = 0; c < channels; ++c, q += p.query_stride[3], k += p.key_stride[3])
          tap = add_term(*q, *k, tap);
        sum += tap;
      }
      query += p.dilation * p.query_stride[4];
      key += p.dilation * p.key_stride[4];
    }
    return sum;
  }

  STNLS_HD Real channel_sum(const Real* query, const Real* key, Pos kh, Pos kw) const {
    Real sum = Real(0);
    if constexpr (kFloatGrid) {
      const Corners<Real> ch = bilinear_corners(kh, p.height);
      const Corners<Real> cw = bilinear_corners(kw, p.width);
      const Real high_h = ch.weight_high, low_h = Real(1) - high_h;
      const Real high_w = cw.weight_high, low_w = Real(1) - high_w;
      const Real w00 = low_h * low_w, w01 = low_h * high_w;
      const Real w10 = high_h * low_w, w11 = high_h * high_w;
      const Real* low = key + ch.low * p.key_stride[4];
      const Real* high = key + ch.high * p.key_stride[4];
      for (int64_t c = 0; c < p.channels; ++c) {
        const int64_t at = c * p.key_stride[3];
        Real v1 = w00 * low[at + cw.low];
        v1 = multiply_add(w01, low[at + cw.high], v1);
        v1 = multiply_add(w10, high[at + cw.low], v1);
        v1 = multiply_add(w11, high[at + cw.high], v1);
        sum = add_term(query[c * p.query_stride[3]], v1, sum);
      }
    } else {
      const Real* at = key + kh * p.key_stride[4] + kw;
      for (int64_t c = 0; c < p.channels; ++c)
        sum = add_term(query[c * p.query_stride[3]], at[c * p.key_stride[3]], sum);
    }
    return sum;
  }

  STNLS_HD static Real add_term(Real a, Real b, Real sum) {
    if constexpr (kProduct) return multiply_add(a, b, sum);
    return multiply_add(a - b, a - b, sum);
  }

  // Key of window position (i, j); infinite when its centre lies outside the frame. A NaN distance
  // counts as invalid, so that it never displaces a real match.
  STNLS_HD Real key_at(const Query& q, const Window<Pos>& w, int64_t i, int64_t j) const {
    const Pos h = position(w.anchor_h, i, w.offset_h), v = position(w.anchor_w, j, w.offset_w);
    if (!w.finite || !valid(h, v)) return worst_key();
    const Real key = patch_distance(q, w.frame, h, v);
    return key == key ? key : worst_key();
  }

  STNLS_HD Real key_of_candidate(const Query& q, int64_t candidate) const {
    const int64_t area = p.ws * p.ws, at = candidate % area;
    return key_at(q, window(q, candidate / area), at / p.ws, at % p.ws);
  }

  // What a candidate costs beside its distance, so many steps from the anchor of its window.
  STNLS_HD Real charge_at(int64_t steps_h, int64_t steps_w) const {
    const Real away_h = static_cast<Real>(p.stride1) * static_cast<Real>(steps_h);
    const Real away_w = static_cast<Real>(p.stride1) * static_cast<Real>(steps_w);
    return static_cast<Real>(p.charge) * (away_h * away_h + away_w * away_w);
  }
  STNLS_HD Real charge_of_candidate(const Query& q, int64_t candidate) const {
    if (p.charge == 0) return Real(0);
    const int64_t area = p.ws * p.ws, at = candidate % area;
    const Window<Pos> w = window(q, candidate / area);
    return charge_at(at / p.ws - w.offset_h, at % p.ws - w.offset_w);
  }

  // By what candidates are compared: distance and charge.
  STNLS_HD Real cost_at(const Query& q, const Window<Pos>& w, int64_t i, int64_t j) const {
    const Real key = key_at(q, w, i, j);
    return p.charge == 0 ? key : key + charge_at(i - w.offset_h, j - w.offset_w);
  }
  STNLS_HD Real cost_of_candidate(const Query& q, int64_t candidate) const {
    return key_of_candidate(q, candidate) + charge_of_candidate(q, candidate);
  }
  // The distance of a candidate of which the cost is known.
  STNLS_HD static Real cost_to_distance(Real cost, Real charge) {
    if (charge == Real(0)) return key_to_distance(cost);
    return key_to_distance(cost - charge);
  }
};

}  // namespace stnls
