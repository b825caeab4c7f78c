// Where one tap of an entry's patch lies in a packed video.
#pragma once

#include "entries_cuda.h"

namespace stnls {

__device__ __forceinline__ PackedPosition position_of(const Packing& packing, int at) {
  const int line = at / packing.width, frame = line / packing.height;
  return PackedPosition{frame, line - frame * packing.height, at - line * packing.width};
}

// Where one tap of an entry's patch lies: the pixel, the steps to its neighbours below and to the
// right and to those that the slope is taken from, and the signs of the slope.
struct Place {
  int at, down, right, slope_down, slope_right;
  float v, u, sign_h, sign_w;
};

// One tap by the rules for the frame itself, without the margins; false if it does not count.
__device__ __forceinline__ bool locate(const PackedPatchProblem& p, const Packing& packing,
                                       const Entry<true>& e, int tap_h, int tap_w, Place* place) {
  const int height = static_cast<int>(p.height), width = static_cast<int>(p.width);
  const PackedPosition centre = position_of(packing, e.at);
  const float centre_h = static_cast<float>(centre.row - packing.margin) + e.v();
  const float centre_w = static_cast<float>(centre.column - packing.margin) + e.u;
  const bool reflects = p.reflect_bounds != 0;
  float h, w;
  if (!move(centre_h, tap_h, height, reflects, &h) || !move(centre_w, tap_w, width, reflects, &w))
    return false;
  const int row = static_cast<int>(h), column = static_cast<int>(w), pitch = packing.width;
  const bool last_row = row + 1 >= height, last_column = column + 1 >= width;
  place->at =
      (centre.frame * packing.height + row + packing.margin) * pitch + column + packing.margin;
  place->down = last_row ? 0 : pitch;
  place->right = last_column ? 0 : 1;
  place->slope_down = !last_row ? pitch : height > 1 ? -pitch : 0;
  place->slope_right = !last_column ? 1 : width > 1 ? -1 : 0;
  place->v = h - static_cast<float>(row);
  place->u = w - static_cast<float>(column);
  place->sign_h = reflect_sign(centre_h + static_cast<float>(tap_h), height);
  place->sign_w = reflect_sign(centre_w + static_cast<float>(tap_w), width);
  return true;
}

// The same where the margins serve.
template <bool kFloatGrid>
__device__ __forceinline__ Place place_of(const Packing& packing, const Entry<kFloatGrid>& e,
                                          int tap_h, int tap_w) {
  Place place{};
  place.at = e.at + tap_h * packing.width + tap_w;
  if constexpr (kFloatGrid)
    place = Place{place.at, packing.width, 1, packing.width, 1, e.v(), e.u, 1.0f, 1.0f};
  return place;
}

}  // namespace stnls
