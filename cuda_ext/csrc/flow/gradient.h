// Gradient of flow composition. From the last step of a path to the first, the adjoint of the point
// p_n is its own gradient plus (I + slope of f_n at p_n)^T times the adjoint of p_{n + 1}; flow f_n
// gets the adjoint of p_{n + 1} at the pixels that were read at p_n.
#pragma once

#include "compose.h"

namespace stnls {

// One path, and where its parts lie: step n reads frame first_frame + n step_frame of `flow`, and
// writes slot first_slot + n of `out`.
template <class Real>
struct Path {
  const Real* flow;      // frames of (2, height, width)
  const Real* out;       // slots of (2, grid), at the query
  const Real* grad_out;  // the same
  Point<Real> start;
  int64_t steps, first_frame, step_frame, first_slot;
  int64_t height, width, grid;

  STNLS_HD Point<Real> after(const Real* slots, int64_t step) const {
    const Real* at = slots + (first_slot + step) * 2 * grid;
    return Point<Real>{at[grid], at[0]};
  }

  // The point at which step n reads.
  STNLS_HD Point<Real> point(int64_t n) const {
    if (n == 0) return start;
    const Point<Real> moved = after(out, n - 1);
    return Point<Real>{start.h + moved.h, start.w + moved.w};
  }

  // Calls add(frame, pixel in the frame's plane, to dx, to dy) for each pixel that a step reads;
  // only for frame `wanted`, or for all if it is negative.
  template <class Add>
  STNLS_HD void differentiate(int64_t wanted, Add&& add) const {
    Point<Real> adjoint{Real(0), Real(0)};
    for (int64_t n = steps - 1; n >= 0; --n) {
      const Point<Real> p = point(n), next = point(n + 1);
      if (!is_finite(next.h) || !is_finite(next.w)) continue;  // NaN leads nowhere
      const Point<Real> own = after(grad_out, n);
      adjoint.h += own.h;
      adjoint.w += own.w;
      const int64_t frame = first_frame + n * step_frame;
      const FlowSample<Real> h = flow_corners(p.h, height), w = flow_corners(p.w, width);
      const Real low_h = Real(1) - h.weight_high, low_w = Real(1) - w.weight_high;
      const int64_t at00 = h.low * width + w.low, at01 = h.low * width + w.high;
      const int64_t at10 = h.high * width + w.low, at11 = h.high * width + w.high;
      if (wanted < 0 || wanted == frame) {
        add(frame, at00, low_h * low_w * adjoint.w, low_h * low_w * adjoint.h);
        add(frame, at01, low_h * w.weight_high * adjoint.w, low_h * w.weight_high * adjoint.h);
        add(frame, at10, h.weight_high * low_w * adjoint.w, h.weight_high * low_w * adjoint.h);
        add(frame, at11, h.weight_high * w.weight_high * adjoint.w,
            h.weight_high * w.weight_high * adjoint.h);
      }
      if (n == 0 || frame == wanted) break;
      // Slopes of dx and dy, weighted with the adjoint.
      const Real* dx = flow + frame * 2 * height * width;
      const Real* dy = dx + height * width;
      const auto mixed = [&](int64_t at) { return dx[at] * adjoint.w + dy[at] * adjoint.h; };
      const Real m00 = mixed(at00), m01 = mixed(at01), m10 = mixed(at10), m11 = mixed(at11);
      const Real slope_h = low_w * (m10 - m00) + w.weight_high * (m11 - m01);
      const Real slope_w = low_h * (m01 - m00) + h.weight_high * (m11 - m10);
      adjoint.h += slope_h * fold_sign(p.h, height);
      adjoint.w += slope_w * fold_sign(p.w, width);
    }
  }

  // Wild points are folded before their corners are taken (see flow_corners).
  STNLS_HD static Real fold_sign(Real x, int64_t length) {
    return std::fabs(x) < Real(1e6) ? Real(1) : reflect_sign(x, length);
  }
};

// The forward and the backward half of the path of a query of compose_slots.
template <class Real>
STNLS_HD Path<Real> path_of(const FlowGradProblem& g, int64_t index, bool forward) {
  const FlowProblem& f = g.flow;
  const int64_t j = index % f.grid_width, i = index / f.grid_width % f.grid_height;
  const int64_t frame = index / (f.grid_width * f.grid_height);  // b * frames + t
  const int64_t t = frame % f.frames, plane = f.height * f.width;
  Path<Real> path;
  path.grid = f.grid_height * f.grid_width;
  path.height = f.height;
  path.width = f.width;
  const int64_t first = frame * f.slots * 2 * path.grid + i * f.grid_width + j;
  path.flow = static_cast<const Real*>(forward ? f.forward : f.backward) + (frame - t) * 2 * plane;
  path.out = static_cast<const Real*>(f.out) + first;
  path.grad_out = static_cast<const Real*>(g.grad_out) + first;
  path.start = Point<Real>{static_cast<Real>(i * f.stride0), static_cast<Real>(j * f.stride0)};
  const int64_t after = last_forward_frame(t, f.wt, f.frames) - t;  // slots with later frames
  path.steps = forward ? after : f.slots - after;
  path.first_frame = t;
  path.step_frame = forward ? 1 : -1;
  path.first_slot = forward ? 0 : after;
  return path;
}

template <class Real>
STNLS_HD Path<Real> path_of(const ChainGradProblem& g, int64_t index) {
  const ChainProblem& f = g.chain;
  const int64_t j = index % f.grid_width, i = index / f.grid_width % f.grid_height;
  const int64_t b = index / (f.grid_width * f.grid_height), plane = f.height * f.width;
  Path<Real> path;
  path.grid = f.grid_height * f.grid_width;
  path.height = f.height;
  path.width = f.width;
  const int64_t first = b * f.frames * 2 * path.grid + i * f.grid_width + j;
  path.flow = static_cast<const Real*>(f.steps) + b * f.frames * 2 * plane;
  path.out = static_cast<const Real*>(f.out) + first;
  path.grad_out = static_cast<const Real*>(g.grad_out) + first;
  path.start = Point<Real>{static_cast<Real>(i * f.stride0), static_cast<Real>(j * f.stride0)};
  path.steps = f.frames;
  path.first_frame = 0;
  path.step_frame = 1;
  path.first_slot = 0;
  return path;
}

}  // namespace stnls
