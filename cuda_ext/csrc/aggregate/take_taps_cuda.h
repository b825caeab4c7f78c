// Scatter and dot of one entry, tap by tap: for any dilation and size, and where taps leave the
// frame.
#pragma once

#include "entry_dots_cuda.h"
#include "own_pixels_cuda.h"
#include "tap_places_cuda.h"
#include "vectors_cuda.h"

namespace stnls {

// One tap of an entry: what it is with the query's own pixel g, and what g adds there.
template <bool kFloatGrid>
__device__ __forceinline__ void take_tap(const Place& at, const float4& g, float weight, int groups,
                                         const float4* video, float4* sums, Dots* dots) {
  const int64_t low = static_cast<int64_t>(at.at) * groups;
  if constexpr (kFloatGrid) {
    const int down = at.down * groups, right = at.right * groups;
    const float v = at.v, u = at.u;
    if (video != nullptr) {
      const int slope_down = at.slope_down * groups, slope_right = at.slope_right * groups;
      const float4* from = video + low;
      const auto project = [&](int offset) { return dot(g, __ldg(from + offset), 0.0f); };
      const float d00 = project(0), d01 = project(right);
      const float d10 = project(down), d11 = project(down + right);
      const float at_low = (1.0f - u) * d00 + u * d01, at_high = (1.0f - u) * d10 + u * d11;
      const float at_left = (1.0f - v) * d00 + v * d10;
      float below = at_high, beside = (1.0f - v) * d01 + v * d11;
      if (slope_down != down)
        below = (1.0f - u) * project(slope_down) + u * project(slope_down + right);
      if (slope_right != right)
        beside = (1.0f - v) * project(slope_right) + v * project(down + slope_right);
      dots->value += (1.0f - v) * at_low + v * at_high;
      dots->down += at.sign_h * (below - at_low);
      dots->right += at.sign_w * (beside - at_left);
    }
    if (sums != nullptr) {
      float4* to = sums + low;
      const float w01 = (1.0f - v) * u, w10 = v * (1.0f - u), w11 = v * u;
      atomic_add(to, scaled((1.0f - v) * (1.0f - u) * weight, g));
      if (w01 != 0.0f) atomic_add(to + right, scaled(w01 * weight, g));
      if (w10 != 0.0f) atomic_add(to + down, scaled(w10 * weight, g));
      if (w11 != 0.0f) atomic_add(to + down + right, scaled(w11 * weight, g));
    }
  } else {
    if (video != nullptr) dots->value = dot(g, __ldg(video + low), dots->value);
    if (sums != nullptr) atomic_add(sums + low, scaled(weight, g));
  }
}

// All taps of one entry of the query at (y, x). own(tap row, tap column) is its own pixel.
template <bool kFloatGrid, class Own>
__device__ __forceinline__ Dots take_taps(const PackedPatchProblem& p, const Packing& packing,
                                          const Entry<kFloatGrid>& e, int y, int x,
                                          const float4* video, float4* sums, Own&& own) {
  Dots dots{};
  const int dilation = static_cast<int>(p.dilation), low = first_tap(p), high = last_tap(p);
  for (int tap_h = low; tap_h <= high; tap_h += dilation) {
    if (p.mirrors_own == 0 && !inside(int64_t{y} + tap_h, p.height)) continue;
    for (int tap_w = low; tap_w <= high; tap_w += dilation) {
      if (p.mirrors_own == 0 && !inside(int64_t{x} + tap_w, p.width)) continue;
      Place place = place_of(packing, e, tap_h, tap_w);
      if constexpr (kFloatGrid)
        if (e.leaves() && !locate(p, packing, e, tap_h, tap_w, &place)) continue;
      take_tap<kFloatGrid>(place, own(tap_h, tap_w), e.weight, packing.groups, video, sums, &dots);
    }
  }
  return dots;
}

}  // namespace stnls
