// Composition of optical flow along a path of frames, shared by both backends.
#pragma once

#include "../common/geometry.h"
#include "problem.h"

namespace stnls {

template <class Real>
struct Point {
  Real h, w;
};

template <class Real>
struct FlowSample {
  int64_t low, high;
  Real weight_high;
};

// Corners around a position that may lie outside: each corner is reflected by itself.
template <class Real>
STNLS_HD FlowSample<Real> flow_corners(Real x, int64_t length) {
  if (!(std::fabs(x) < Real(1e6))) x = reflect(x, length);  // wild: fold before rounding
  const Real floor_x = std::floor(x);
  const int64_t low = static_cast<int64_t>(floor_x);
  return FlowSample<Real>{reflect(low, length), reflect(low + 1, length), x - floor_x};
}

// One step: adds to the point the flow that is found there. `flow` holds (2, height, width).
// A NaN or infinite position stays NaN, which the search takes for an invalid slot.
template <class Real>
STNLS_HD Point<Real> advance(const Real* flow, int64_t height, int64_t width, Point<Real> p) {
  if (!is_finite(p.h) || !is_finite(p.w)) {
    p.h = p.w = p.h - p.h + (p.w - p.w);
    return p;
  }
  const FlowSample<Real> h = flow_corners(p.h, height), w = flow_corners(p.w, width);
  const Real low_h = Real(1) - h.weight_high, low_w = Real(1) - w.weight_high;
  const Real w00 = low_h * low_w, w01 = low_h * w.weight_high;
  const Real w10 = h.weight_high * low_w, w11 = h.weight_high * w.weight_high;
  const int64_t low = h.low * width, high = h.high * width, plane = height * width;
  const Real dx = w00 * flow[low + w.low] + w01 * flow[low + w.high] + w10 * flow[high + w.low] +
                  w11 * flow[high + w.high];
  flow += plane;
  const Real dy = w00 * flow[low + w.low] + w01 * flow[low + w.high] + w10 * flow[high + w.low] +
                  w11 * flow[high + w.high];
  p.h += dy;
  p.w += dx;
  return p;
}

// All slots of the query at (i, j) of frame t of batch b.
template <class Real>
STNLS_HD void compose_slots(const FlowProblem& f, int64_t index) {
  const int64_t j = index % f.grid_width, i = index / f.grid_width % f.grid_height;
  const int64_t frame = index / (f.grid_width * f.grid_height);  // b * frames + t
  const int64_t t = frame % f.frames, first = frame - t;
  const int64_t plane = f.height * f.width, grid = f.grid_height * f.grid_width;
  const Real* forward = static_cast<const Real*>(f.forward);
  const Real* backward = static_cast<const Real*>(f.backward);
  Real* out = static_cast<Real*>(f.out) + frame * f.slots * 2 * grid + i * f.grid_width + j;
  const Point<Real> start{static_cast<Real>(i * f.stride0), static_cast<Real>(j * f.stride0)};
  Point<Real> p = start;
  int64_t previous = t;
  for (int64_t slot = 1; slot <= f.slots; ++slot) {
    const int64_t target = slot_frame(t, slot, f.wt, f.frames);
    if (target < t && previous > t) {  // the first frame before t starts again at the query
      p = start;
      previous = t;
    }
    const Real* flow = target > t ? forward : backward;
    p = advance(flow + (first + previous) * 2 * plane, f.height, f.width, p);
    previous = target;
    out[(slot - 1) * 2 * grid] = p.w - start.w;
    out[(slot - 1) * 2 * grid + grid] = p.h - start.h;
  }
}

template <class Real>
STNLS_HD void compose_chain(const ChainProblem& f, int64_t index) {
  const int64_t j = index % f.grid_width, i = index / f.grid_width % f.grid_height;
  const int64_t b = index / (f.grid_width * f.grid_height);
  const int64_t plane = f.height * f.width, grid = f.grid_height * f.grid_width;
  const Real* steps = static_cast<const Real*>(f.steps) + b * f.frames * 2 * plane;
  Real* out = static_cast<Real*>(f.out) + b * f.frames * 2 * grid + i * f.grid_width + j;
  const Point<Real> start{static_cast<Real>(i * f.stride0), static_cast<Real>(j * f.stride0)};
  Point<Real> p = start;
  for (int64_t n = 0; n < f.frames; ++n) {
    p = advance(steps + n * 2 * plane, f.height, f.width, p);
    out[n * 2 * grid] = p.w - start.w;
    out[n * 2 * grid + grid] = p.h - start.h;
  }
}

STNLS_HD int64_t query_count(const FlowProblem& f) {
  return f.batch * f.frames * f.grid_height * f.grid_width;
}
STNLS_HD int64_t query_count(const ChainProblem& f) {
  return f.batch * f.grid_height * f.grid_width;
}

}  // namespace stnls
