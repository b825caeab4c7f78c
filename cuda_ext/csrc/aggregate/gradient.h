// The transpose of the patch sum, and the gradients of its weights and offsets.
#pragma once

#include "../common/query.h"
#include "neighbour.h"

namespace stnls {

template <class Real, bool kFloatGrid>
struct PatchGradient {
  using Near = Neighbour<Real, kFloatGrid>;
  using Pos = typename Near::Pos;

  const PatchProblem& p;

  STNLS_HD explicit PatchGradient(const PatchProblem& problem) : p(problem) {}

  STNLS_HD const Real* own_plane(const Query& q, int64_t k) const {
    return static_cast<const Real*>(p.own) + q.b * p.own_stride[0] + q.head * p.own_stride[1] +
           q.t * p.own_stride[2] + (p.stacked ? k * p.own_entry_stride : 0);
  }

  STNLS_HD int64_t video_plane(const Query& q, int64_t frame) const {
    return q.b * p.video_stride[0] + q.head * p.video_stride[1] + frame * p.video_stride[2];
  }

  // Calls visit(own row, own column, tap row, tap column, h, w) for every pair of taps that counts;
  // (h, w) is the place in the video. wanted(h) says early which rows there are of interest.
  template <class Wanted, class Visit>
  STNLS_HD void for_taps(const Query& q, const Near& n, Wanted&& wanted, Visit&& visit) const {
    for (int64_t pi = 0; pi < p.ps; ++pi) {
      const int64_t tap_h = p.dilation * (pi + p.patch_offset), y = q.i * p.stride0 + tap_h;
      Pos h, w;
      if (!inside(y, p.height) || !move(n.h, tap_h, p.height, p.reflect_bounds != 0, &h)) continue;
      if (!wanted(h)) continue;
      for (int64_t pj = 0; pj < p.ps; ++pj) {
        const int64_t tap_w = p.dilation * (pj + p.patch_offset), x = q.j * p.stride0 + tap_w;
        if (!inside(x, p.width) || !move(n.w, tap_w, p.width, p.reflect_bounds != 0, &w)) continue;
        visit(y, x, tap_h, tap_w, h, w);
      }
    }
  }

  // Gradients of the weight and the offset of entry k of a query.
  STNLS_HD void run_dot(int64_t index, int64_t k) const {
    const Query q = query_at(p, index);
    const int64_t entry = index * p.k + k;
    const Near n = neighbour<Real, kFloatGrid>(p, entry, q.t, q.i, q.j);
    Real to_weight = Real(0), to_h = Real(0), to_w = Real(0);
    if (n.used) {
      const Real* own = own_plane(q, k);
      const Real* video = static_cast<const Real*>(p.video) + video_plane(q, n.frame);
      for_taps(
          q, n, [](Pos) { return true; },
          [&](int64_t y, int64_t x, int64_t tap_h, int64_t tap_w, Pos h, Pos w) {
            const Real* at = own + y * p.own_stride[4] + x;
            if constexpr (kFloatGrid) {
              const Slopes s(p, h, w);
              Real slope_h = Real(0), slope_w = Real(0);
              for (int64_t c = 0; c < p.channels; ++c) {
                const Real g = at[c * p.own_stride[3]];
                s.add(video + c * p.video_stride[3], g, &to_weight, &slope_h, &slope_w);
              }
              to_h += slope_h * reflect_sign(n.h + static_cast<Pos>(tap_h), p.height);
              to_w += slope_w * reflect_sign(n.w + static_cast<Pos>(tap_w), p.width);
            } else {
              for (int64_t c = 0; c < p.channels; ++c)
                to_weight += at[c * p.own_stride[3]] *
                             video[c * p.video_stride[3] + h * p.video_stride[4] + w];
            }
          });
    }
    if (p.grad_weights != nullptr) static_cast<Real*>(p.grad_weights)[entry] = to_weight;
    if constexpr (kFloatGrid) {
      if (p.grad_inds == nullptr) return;
      const Real* inds = static_cast<const Real*>(p.inds) + 3 * entry;
      Real* grad = static_cast<Real*>(p.grad_inds) + 3 * entry;
      grad[0] = grad[1] = grad[2] = Real(0);
      if (!n.used) return;
      const Real weight = static_cast<const Real*>(p.weights)[entry];
      grad[1] =
          weight * to_h * reflect_sign(static_cast<Real>(q.i * p.stride0) + inds[1], p.height);
      grad[2] = weight * to_w * reflect_sign(static_cast<Real>(q.j * p.stride0) + inds[2], p.width);
    }
  }

  // Interpolation at one place and its derivatives.
  struct Slopes {
    int64_t low, high, mirrored, left, right, mirrored_w;
    Real v, u;

    STNLS_HD Slopes(const PatchProblem& p, Real h, Real w) {
      const Corners<Real> ch = bilinear_corners(h, p.height), cw = bilinear_corners(w, p.width);
      const int64_t pitch = p.video_stride[4];
      low = ch.low * pitch;
      high = ch.high * pitch;
      mirrored = slope_corners(h, p.height).high * pitch;
      left = cw.low;
      right = cw.high;
      mirrored_w = slope_corners(w, p.width).high;
      v = ch.weight_high;
      u = cw.weight_high;
    }

    STNLS_HD void add(const Real* image, Real g, Real* value, Real* slope_h, Real* slope_w) const {
      const Real* l = image + low;
      const Real* h = image + high;
      const Real* m = image + mirrored;
      const Real at_low = (Real(1) - u) * l[left] + u * l[right];
      const Real at_high = (Real(1) - u) * h[left] + u * h[right];
      const Real at_mirrored = (Real(1) - u) * m[left] + u * m[right];
      const Real at_left = (Real(1) - v) * l[left] + v * h[left];
      const Real at_right = (Real(1) - v) * l[mirrored_w] + v * h[mirrored_w];
      *value += g * ((Real(1) - v) * at_low + v * at_high);
      *slope_h += g * (at_mirrored - at_low);
      *slope_w += g * (at_right - at_left);
    }
  };
};

// The pixels over which a place is spread.
template <class Real>
struct Spread {
  int64_t row[2], column[2];
  Real row_weight[2], column_weight[2];

  STNLS_HD Spread(const PatchProblem& p, Real h, Real w) {
    const Corners<Real> ch = bilinear_corners(h, p.height), cw = bilinear_corners(w, p.width);
    row[0] = ch.low;
    row[1] = ch.high;
    column[0] = cw.low;
    column[1] = cw.high;
    row_weight[0] = Real(1) - ch.weight_high;
    row_weight[1] = ch.weight_high;
    column_weight[0] = Real(1) - cw.weight_high;
    column_weight[1] = cw.weight_high;
  }
  STNLS_HD Spread(const PatchProblem&, int64_t h, int64_t w) {
    row[0] = row[1] = h;
    column[0] = column[1] = w;
    row_weight[0] = column_weight[0] = Real(1);
    row_weight[1] = column_weight[1] = Real(0);
  }
};

}  // namespace stnls
