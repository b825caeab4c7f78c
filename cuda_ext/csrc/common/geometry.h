// The rules of position that every operator and both backends share: reflection at the border,
// bilinear corners, temporal slots and the spatial search window.
#pragma once

#include <cmath>
#include <cstdint>
#include <type_traits>

#include "macros.h"

namespace stnls {

// Reflects x at the first and the last pixel (0 and length - 1, not repeated) until it is inside.
STNLS_HD int64_t reflect(int64_t x, int64_t length) {
  const int64_t last = length - 1;
  if (x >= 0 && x <= last) return x;
  if (last == 0) return 0;
  if (x < 0) x = -x;
  if (x <= last) return x;
  if (x > 2 * last) x %= 2 * last;
  return x <= last ? x : 2 * last - x;
}

// The same where most pixels are inside.
STNLS_HD int reflect_near(int64_t x, int length) {
  return static_cast<int>(x >= 0 && x < length ? x : reflect(x, int64_t{length}));
}

template <class Real>
STNLS_HD Real reflect(Real x, int64_t length) {
  static_assert(std::is_floating_point<Real>::value, "integers have a form of their own");
  const Real last = static_cast<Real>(length - 1);
  if (x >= Real(0) && x <= last) return x;
  if (length == 1) return Real(0);
  if (x < Real(0)) x = -x;
  if (x <= last) return x;
  const Real period = Real(2) * last;
  if (x > period) x = std::fmod(x, period);
  return x <= last ? x : period - x;
}

// Derivative of reflect(x) with respect to x: -1 where an odd number of reflections is needed; 0
// along an axis of one pixel.
template <class Real>
STNLS_HD Real reflect_sign(Real x, int64_t length) {
  const Real last = static_cast<Real>(length - 1);
  if (length == 1) return Real(0);
  if (x >= Real(0) && x <= last) return Real(1);
  const Real sign = x < Real(0) ? Real(-1) : Real(1);
  const Real rest = std::fmod(std::fabs(x), Real(2) * last);
  return rest <= last ? sign : -sign;
}

STNLS_HD bool inside(int64_t x, int64_t length) { return x >= 0 && x < length; }

template <class Real>
STNLS_HD bool inside(Real x, int64_t length) {
  static_assert(std::is_floating_point<Real>::value, "integers have a form of their own");
  return x >= Real(0) && x <= static_cast<Real>(length - 1);
}

// The two pixels around a position in [0, length - 1] and the weight of the upper one. At the last
// pixel the upper corner would lie outside; its weight is zero, so it is clamped.
template <class Real>
struct Corners {
  int64_t low, high;
  Real weight_high;
};

template <class Real>
STNLS_HD Corners<Real> bilinear_corners(Real x, int64_t length) {
  Corners<Real> c;
  const Real floor_x = std::floor(x);
  c.low = static_cast<int64_t>(floor_x);
  c.high = c.low + 1 < length ? c.low + 1 : length - 1;
  c.weight_high = x - floor_x;
  return c;
}

// The same for the derivative of the interpolation, the difference between the two pixels: at the
// last pixel the upper corner is its mirror image, so that the derivative is that of the image
// mirrored at the border.
template <class Real>
STNLS_HD Corners<Real> slope_corners(Real x, int64_t length) {
  Corners<Real> c = bilinear_corners(x, length);
  if (c.low + 1 >= length) c.high = length > 1 ? length - 2 : 0;
  return c;
}

// Temporal slots: slot 0 is the query's own frame, then come the frames after it, then those
// before it in falling order; the 2 wt + 1 frames slide inward at the ends of the sequence.
STNLS_HD int64_t last_forward_frame(int64_t t, int64_t wt, int64_t frames) {
  const int64_t before = t - wt < 0 ? t - wt : 0;
  const int64_t after = t + wt - (frames - 1) > 0 ? t + wt - (frames - 1) : 0;
  const int64_t last = t + wt - (before + after);
  return last < frames - 1 ? last : frames - 1;
}

STNLS_HD int64_t slot_frame(int64_t t, int64_t slot, int64_t wt, int64_t frames) {
  const int64_t last = last_forward_frame(t, wt, frames);
  return t + slot <= last ? t + slot : last - slot;
}

// The slot in which a frame of the temporal window stands: the inverse of slot_frame.
STNLS_HD int64_t frame_slot(int64_t t, int64_t frame, int64_t wt, int64_t frames) {
  return frame >= t ? frame - t : last_forward_frame(t, wt, frames) - frame;
}

// Index of the window position that coincides with the anchor. Positions along one axis are
// anchor + step (i - offset), i = 0 .. ws - 1. With full_window the window is moved by whole steps
// so that it lies inside the frame (if it is longer than the frame, its low end leaves it).
STNLS_HD int64_t window_offset(int64_t anchor, int64_t step, int64_t ws, int64_t length,
                               bool full_window) {
  int64_t offset = (ws - 1) / 2;
  if (!full_window) return offset;
  if (anchor - step * offset < 0) offset = anchor / step;
  if (anchor + step * (ws - 1 - offset) > length - 1)
    offset = ws - 1 - (length - 1 - anchor) / step;
  return offset;
}

template <class Real>
STNLS_HD int64_t window_offset_real(Real anchor, Real step, int64_t ws, int64_t length,
                                    bool full_window) {
  int64_t offset = (ws - 1) / 2;
  if (!full_window) return offset;
  const double a = static_cast<double>(anchor), s = static_cast<double>(step);
  if (anchor - step * static_cast<Real>(offset) < Real(0))
    offset = static_cast<int64_t>(std::floor(a / s));
  if (anchor + step * static_cast<Real>(ws - 1 - offset) > static_cast<Real>(length - 1))
    offset = static_cast<int64_t>(
        std::ceil((a - static_cast<double>(length - 1)) / s + static_cast<double>(ws - 1)));
  return offset;
}

// Rounds half to even, as torch.round does; values that no frame can hold are limited, so that the
// conversion to an integer is always defined.
template <class Real>
STNLS_HD int64_t round_offset(Real x) {
  const Real limit = Real(1e9);
  if (x > limit) return 1000000000;
  if (x < -limit) return -1000000000;
  return static_cast<int64_t>(std::rint(x));
}

// a b + c, fused where the hardware can. Everywhere else products and sums are rounded one by one
// (see CMakeLists.txt), so that positions are the same number on every backend.
template <class Real>
STNLS_HD Real multiply_add(Real a, Real b, Real c) {
#if defined(__CUDA_ARCH__) || defined(__FMA__)
  return std::fma(a, b, c);
#else
  return a * b + c;
#endif
}

template <class Real>
STNLS_HD Real infinity() {
  return static_cast<Real>(INFINITY);
}

template <class Real>
STNLS_HD bool is_finite(Real x) {
  return x - x == Real(0);
}

}  // namespace stnls
