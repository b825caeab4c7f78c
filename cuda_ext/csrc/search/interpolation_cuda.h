// Distances to places between pixels.
//
// With bilinear weights u (columns) and v (rows), the squared difference of a patch q to the
// interpolated key k follows from those at the whole displacements (r, c) around it and from sums
// over the key alone:
//
//   E(r)  = (1 - u) D(r, c) + u D(r, c + 1) - u (1 - u) X(r, c)
//   G(r)  = (1 - u) Y(r, c) + u Y(r, c + 1) - u (1 - u) M(r, c)
//   dist  = (1 - v) E(r) + v E(r + 1) - v (1 - v) G(r)
//
// where D is the distance at a whole displacement and X, Y, M are the patch sums of the squared
// differences of k along rows, along columns, and along both. Products are linear in k: there
// X, Y and M are nil. The window form keeps Y and M, which lie between two lines, with the lower
// one (key_slopes.h).
#pragma once

namespace stnls {

// The distance of a place that is no candidate: NaN.
__device__ __forceinline__ float no_distance() { return __int_as_float(0x7fffffff); }

// A place between two columns. Of a line: X, Y, the difference of Y to the next column, M.
template <bool kProduct>
struct BetweenColumns {
  float u, uu;

  BetweenColumns() = default;
  __device__ __forceinline__ explicit BetweenColumns(float u) : u(u), uu(fmaf(-u, u, u)) {}
  // E, of the distances to the left and to the right.
  __device__ __forceinline__ float along(float left, float right, const float4& slope) const {
    const float e = fmaf(u, right - left, left);
    return kProduct ? e : fmaf(-uu, slope.x, e);
  }
  // G.
  __device__ __forceinline__ float across(const float4& slope) const {
    return kProduct ? 0.0f : fmaf(-uu, slope.w, fmaf(u, slope.z, slope.y));
  }
};

// The distance between two lines: E, its rise and G; vv = v (1 - v).
template <bool kProduct>
__device__ __forceinline__ float between_lines(float e, float rise, float g, float v, float vv) {
  const float found = fmaf(v, rise, e);
  return kProduct ? found : fmaf(-vv, g, found);
}

}  // namespace stnls
