// Where one entry of a search points to, and how a pixel is read there: shared by both backends.
#pragma once

#include "../common/geometry.h"
#include "problem.h"

namespace stnls {

template <class Real, bool kFloatGrid>
struct Neighbour {
  using Pos = Real;
  Real h, w;
  int64_t frame;
  bool used;
};

template <class Real>
struct Neighbour<Real, false> {
  using Pos = int64_t;
  int64_t h, w;
  int64_t frame;
  bool used;
};

// Offsets at least this large are the mark of an entry that a search left empty.
constexpr double kEmptyOffset = 1e7;

template <class Real, bool kFloatGrid>
STNLS_HD Neighbour<Real, kFloatGrid> neighbour(const PatchProblem& p, int64_t entry, int64_t t,
                                               int64_t i, int64_t j) {
  using Pos = typename Neighbour<Real, kFloatGrid>::Pos;
  Neighbour<Real, kFloatGrid> n;
  int64_t dt;
  if constexpr (kFloatGrid) {
    const Real* inds = static_cast<const Real*>(p.inds) + 3 * entry;
    n.used = std::fabs(inds[1]) < Real(kEmptyOffset) && std::fabs(inds[2]) < Real(kEmptyOffset) &&
             is_finite(inds[0]);
    if (!n.used) return n;
    dt = round_offset(inds[0]);
    n.h = reflect(static_cast<Pos>(i * p.stride0) + inds[1], p.height);
    n.w = reflect(static_cast<Pos>(j * p.stride0) + inds[2], p.width);
  } else {
    const int32_t* inds = static_cast<const int32_t*>(p.inds) + 3 * entry;
    const int32_t empty = static_cast<int32_t>(kEmptyOffset);
    n.used = inds[1] < empty && inds[1] > -empty && inds[2] < empty && inds[2] > -empty;
    if (!n.used) return n;
    dt = inds[0];
    n.h = reflect(i * p.stride0 + inds[1], p.height);
    n.w = reflect(j * p.stride0 + inds[2], p.width);
  }
  n.frame = reflect(t + dt, p.frames);
  return n;
}

// Moves a source position by a tap; false if it leaves the frame.
template <class Pos>
STNLS_HD bool move(Pos centre, int64_t tap, int64_t length, bool reflect_bounds, Pos* position) {
  *position = centre + static_cast<Pos>(tap);
  if (reflect_bounds) *position = reflect(*position, length);
  return inside(*position, length);
}

// The four pixels around a position and their weights (one pixel on the integer grid).
template <class Real>
struct Sample {
  int64_t at00, at01, at10, at11;
  Real w00, w01, w10, w11;
};

template <class Real>
STNLS_HD Sample<Real> sample_at(Real h, Real w, int64_t height, int64_t width, int64_t pitch) {
  const Corners<Real> ch = bilinear_corners(h, height), cw = bilinear_corners(w, width);
  const Real low_h = Real(1) - ch.weight_high, low_w = Real(1) - cw.weight_high;
  return Sample<Real>{ch.low * pitch + cw.low,
                      ch.low * pitch + cw.high,
                      ch.high * pitch + cw.low,
                      ch.high * pitch + cw.high,
                      low_h * low_w,
                      low_h * cw.weight_high,
                      ch.weight_high * low_w,
                      ch.weight_high * cw.weight_high};
}

template <class Real>
STNLS_HD Real read(const Real* image, const Sample<Real>& s) {
  Real v = s.w00 * image[s.at00];
  v = multiply_add(s.w01, image[s.at01], v);
  v = multiply_add(s.w10, image[s.at10], v);
  return multiply_add(s.w11, image[s.at11], v);
}

}  // namespace stnls
