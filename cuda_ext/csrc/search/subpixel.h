// Where between the positions of the grid a match lies: at the lowest point of the paraboloid
// through the distances at its position and around it.
#pragma once

#include "../common/geometry.h"
#include "problem.h"

#if defined(__CUDA_ARCH__)
#define STNLS_UNROLL _Pragma("unroll")
#define STNLS_NO_UNROLL _Pragma("unroll 1")
#else
#define STNLS_UNROLL
#define STNLS_NO_UNROLL
#endif

namespace stnls {

// Where the best match of each query lies is asked of the search itself, which knows most
// distances.
struct SubpixelSearchProblem {
  SearchProblem search;  // between pairs of frames, for each pixel, by squared differences;
                         // channels of a frame follow each other, and lines of a channel
  void* moved;           // (batch, height, width, 2: dh dw), of the type of the videos
};

struct SubpixelProblem {
  const void* query;    // (batch, channels, height, width), frames of a batch query_stride apart
  const void* key;      // (batch, channels, height, width)
  const void* offsets;  // (batch, height, width, 2: dh dw), of the matches' positions
  void* moved;          // the same, between positions; may be `offsets`
  int64_t query_stride;
  int64_t batch, channels, height, width;
  int64_t ps, dtype;
  double stride1;
};

template <class Real>
struct Shift {
  Real dh, dw;
};

// The part of the way down, from a distance `at`, on which a parabola that promises `fall` at its
// end stays at zero or above, as distances do: a perfect match does not move.
template <class Real>
STNLS_HD Real way_to_zero(Real at, Real fall) {
  return fall > at ? Real(1) - std::sqrt(Real(1) - at / fall) : Real(1);
}

// How sharply distances bend along an axis, in steps: 0 where they lie on a line as far as rounding
// lets one tell, or fall to both sides.
template <class Real>
STNLS_HD Real bend_along(Real before, Real at, Real after) {
  const Real bend = before + after - Real(2) * at;
  return bend > Real(1e-4) * (before + after) ? bend : Real(0);
}

// Where the parabola through three values is lowest, from the middle one: within half a step.
template <class Real>
STNLS_HD Real lowest_on_axis(Real before, Real at, Real after) {
  const Real slope = (after - before) / Real(2), bend = bend_along(before, at, after);
  if (!(bend > Real(0))) return Real(0);
  const Real lowest = -slope / bend;
  const Real shift = lowest < Real(-0.5) ? Real(-0.5) : lowest > Real(0.5) ? Real(0.5) : lowest;
  return shift * way_to_zero(at, -shift * (slope + shift * bend / Real(2)));
}

// Where the paraboloid through nine values in raster order is lowest, from the middle one, at most
// 3/4 of a step along an axis: beyond, the neighbour would have been nearer. Where it has no clear
// lowest place each axis answers.
template <class Real>
STNLS_HD Shift<Real> lowest(const Real* d) {
  const Real slope_h = (d[7] - d[1]) / Real(2), slope_w = (d[5] - d[3]) / Real(2);
  const Real bend_h = bend_along(d[1], d[4], d[7]), bend_w = bend_along(d[3], d[4], d[5]);
  const Real twist = (d[0] - d[2] - d[6] + d[8]) / Real(4);
  const Real area = bend_h * bend_w - twist * twist;
  if (bend_h > Real(0) && bend_w > Real(0) && area > Real(0.3) * bend_h * bend_w &&
      is_finite(area)) {
    Real dh = (twist * slope_w - bend_w * slope_h) / area;
    Real dw = (twist * slope_h - bend_h * slope_w) / area;
    const Real far_h = std::fabs(dh), far_w = std::fabs(dw);
    const Real farthest = far_h > far_w ? far_h : far_w;
    if (farthest > Real(0.75)) {
      const Real less = Real(0.75) / farthest;
      dh *= less;
      dw *= less;
    }
    const Real part =
        way_to_zero(d[4], -(dh * (slope_h + dh * bend_h / Real(2)) +
                            dw * (slope_w + dw * bend_w / Real(2)) + twist * dh * dw));
    if (is_finite(dh) && is_finite(dw)) return {part * dh, part * dw};
  }
  return {lowest_on_axis(d[1], d[4], d[7]), lowest_on_axis(d[3], d[4], d[5])};
}

// The nine positions from (top, left) on, a step apart, of which those outside the frame are none.
template <class Real>
struct NinePlaces {
  Real top, left, step;

  STNLS_HD Real h(int n) const { return top + step * static_cast<Real>(n / 3); }
  STNLS_HD Real w(int n) const { return left + step * static_cast<Real>(n % 3); }
};

// Moves the match of one query. Distances::nine(b, i, j, places, d) gives the patch distances at
// nine places, infinite where there is none.
template <class Distances>
STNLS_HD void move(const SubpixelProblem& p, const Distances& distances, int64_t b, int64_t i,
                   int64_t j) {
  using Real = typename Distances::Real;
  const int64_t index = (b * p.height + i) * p.width + j;
  const Real* position = static_cast<const Real*>(p.offsets) + 2 * index;
  const Real step = static_cast<Real>(p.stride1), dh = position[0], dw = position[1];
  const NinePlaces<Real> places{reflect(static_cast<Real>(i) + dh, p.height) - step,
                                reflect(static_cast<Real>(j) + dw, p.width) - step, step};
  Real d[9];
  distances.nine(b, i, j, places, d);
  const Shift<Real> place = lowest(d);
  Real* moved = static_cast<Real*>(p.moved) + 2 * index;
  moved[0] = dh + step * place.dh;
  moved[1] = dw + step * place.dw;
}

// reflect() for places within some patches of a frame: in 32 bits, where a GPU divides faster.
STNLS_HD int64_t reflect_small(int64_t place, int32_t length) {
  int32_t x = static_cast<int32_t>(place);
  const int32_t last = length - 1;
  if (x >= 0 && x <= last) return x;
  if (last == 0) return 0;
  if (x < 0) x = -x;
  x %= 2 * last;
  return x <= last ? x : 2 * last - x;
}

// Patch distances tap by tap. kPs is the patch's size, or 0 for any.
template <class Number, int kPs>
struct PatchDistances {
  using Real = Number;

  const SubpixelProblem& p;

  STNLS_HD const Real* query(int64_t b) const {
    return static_cast<const Real*>(p.query) + b * p.query_stride;
  }
  STNLS_HD const Real* key(int64_t b) const {
    return static_cast<const Real*>(p.key) + b * p.channels * p.height * p.width;
  }

  STNLS_HD void nine(int64_t b, int64_t i, int64_t j, const NinePlaces<Real>& places,
                     Real* d) const {
    if constexpr (kPs > 0) {
      if (places.step == Real(1) && std::fabs(places.top) < Real(1 << 22) &&
          std::fabs(places.left) < Real(1 << 22)) {
        together(b, i, j, places, d);
        drop_outside(places, d);
        return;
      }
    }
    STNLS_UNROLL
    for (int n = 0; n < 9; ++n) {
      const Real h = places.h(n), w = places.w(n);
      // Elsewhere, where a place may be no number, nothing can be read.
      const bool valid = inside(h, p.height) && inside(w, p.width);
      d[n] = valid ? one(b, i, j, h, w) : infinity<Real>();
    }
    drop_outside(places, d);
  }

  // Infinite where the place lies outside, or where the distance is no number.
  STNLS_HD void drop_outside(const NinePlaces<Real>& places, Real* d) const {
    STNLS_UNROLL
    for (int n = 0; n < 9; ++n) {
      const bool valid = inside(places.h(n), p.height) && inside(places.w(n), p.width);
      if (!valid || d[n] != d[n]) d[n] = infinity<Real>();
    }
  }

  STNLS_HD Real one(int64_t b, int64_t i, int64_t j, Real h, Real w) const {
    const int64_t first = -(p.ps / 2), plane = p.height * p.width;
    Real sum = Real(0);
    for (int64_t y = first; y < first + p.ps; ++y) {
      const Real* query_row = query(b) + reflect(i + y, p.height) * p.width;
      const Corners<Real> ch =
          bilinear_corners(reflect(h + static_cast<Real>(y), p.height), p.height);
      for (int64_t x = first; x < first + p.ps; ++x) {
        const Corners<Real> cw =
            bilinear_corners(reflect(w + static_cast<Real>(x), p.width), p.width);
        const Real* low = key(b) + ch.low * p.width;
        const Real* high = key(b) + ch.high * p.width;
        const int64_t at = reflect(j + x, p.width);
        for (int64_t c = 0; c < p.channels; ++c) {
          const int64_t o = c * plane;
          const Real upper =
              multiply_add(cw.weight_high, low[o + cw.high] - low[o + cw.low], low[o + cw.low]);
          const Real lower =
              multiply_add(cw.weight_high, high[o + cw.high] - high[o + cw.low], high[o + cw.low]);
          const Real difference =
              query_row[o + at] - multiply_add(ch.weight_high, lower - upper, upper);
          sum = multiply_add(difference, difference, sum);
        }
      }
    }
    return sum;
  }

  // All nine, a pixel apart: they share the samples of one patch of kPs + 2 pixels.
  STNLS_HD void together(int64_t b, int64_t i, int64_t j, const NinePlaces<Real>& places,
                         Real* d) const {
    constexpr int kSize = kPs > 0 ? kPs : 1, kWide = kSize + 2, kFirst = -(kSize / 2);
    const Real floor_h = std::floor(places.top), floor_w = std::floor(places.left);
    const Real share_h = places.top - floor_h, share_w = places.left - floor_w;
    const int64_t top = static_cast<int64_t>(floor_h) + kFirst;
    const int64_t left = static_cast<int64_t>(floor_w) + kFirst;
    STNLS_UNROLL
    for (int n = 0; n < 9; ++n) d[n] = Real(0);
    const bool whole = top >= 0 && top + kWide < p.height && left >= 0 && left + kWide < p.width &&
                       i + kFirst >= 0 && i + kFirst + kSize <= p.height && j + kFirst >= 0 &&
                       j + kFirst + kSize <= p.width;
    if (whole)
      sum<true>(b, i, j, top, left, share_h, share_w, d);
    else
      sum<false>(b, i, j, top, left, share_h, share_w, d);
  }

  // kWhole: all pixels lie inside the frames.
  template <bool kWhole>
  STNLS_HD void sum(int64_t b, int64_t i, int64_t j, int64_t top, int64_t left, Real share_h,
                    Real share_w, Real* d) const {
    constexpr int kSize = kPs > 0 ? kPs : 1, kWide = kSize + 2, kFirst = -(kSize / 2);
    const int32_t height = static_cast<int32_t>(p.height), width = static_cast<int32_t>(p.width);
    const auto row_at = [&](int64_t row) { return kWhole ? row : reflect_small(row, height); };
    const auto column_at = [&](int64_t column) {
      return kWhole ? column : reflect_small(column, width);
    };
    const int64_t plane = p.height * p.width;
    for (int64_t c = 0; c < p.channels; ++c) {
      const Real* q = query(b) + c * plane;
      const Real* k = key(b) + c * plane;
      Real before[kWide] = {}, sample[kWide] = {};
      Real value[3][kSize] = {};  // rows of the query, each needed for three rows of samples
      STNLS_NO_UNROLL             // by more than these three, or too many reads are under way
          for (int three = 0; three <= kWide; three += 3) {
        STNLS_UNROLL
        for (int s = 0; s < 3; ++s) {
          const int r = three + s;
          if (r > kWide) break;
          const Real* row = k + row_at(top + r) * p.width;
          Real low = row[column_at(left)];
          STNLS_UNROLL
          for (int x = 0; x < kWide; ++x) {
            const Real high = row[column_at(left + x + 1)];
            const Real line = multiply_add(share_w, high - low, low);
            sample[x] = multiply_add(share_h, line - before[x], before[x]);
            before[x] = line;
            low = high;
          }
          if (r >= 1 && r <= kSize) {
            const Real* line = q + row_at(i + kFirst + r - 1) * p.width;
            STNLS_UNROLL
            for (int x = 0; x < kSize; ++x) value[(s + 2) % 3][x] = line[column_at(j + kFirst + x)];
          }
          STNLS_UNROLL
          for (int dy = 0; dy < 3; ++dy) {
            const int y = r - 1 - dy;
            if (y < 0 || y >= kSize) continue;
            STNLS_UNROLL
            for (int x = 0; x < kSize; ++x) {
              STNLS_UNROLL
              for (int dx = 0; dx < 3; ++dx) {
                const Real difference = value[(s + 2 - dy + 3) % 3][x] - sample[x + dx];
                d[3 * dy + dx] = multiply_add(difference, difference, d[3 * dy + dx]);
              }
            }
          }
        }
      }
    }
  }
};

}  // namespace stnls

#undef STNLS_UNROLL
#undef STNLS_NO_UNROLL
