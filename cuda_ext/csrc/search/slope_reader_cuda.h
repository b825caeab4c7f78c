// How the sums over the key (key_slopes.h) are read where distances are interpolated.
#pragma once

#include "key_slopes.h"

namespace stnls {

// Goes down a column of pixels. What lies beyond the frame is not used.
template <bool kProduct>
class SlopeReader {
 public:
  // slopes: of one frame, of which the size is height x width; (y, x): the first pixel.
  __device__ __forceinline__ SlopeReader(const KeySlopes& slopes, int y, int x, int height,
                                         int width)
      : slopes(slopes),
        x(min(max(x, 0), width - 1)),
        after(this->x + 1 < width ? 1 : 0),
        width(width),
        last(height - 1),
        y(y) {}

  // Of the next pixel: X, Y, Y of the next column, M. For products, zeros. They are on their way:
  // BetweenColumns wants what `arrived` makes of them.
  __device__ __forceinline__ float4 next() {
    float4 sums{};
    if constexpr (!kProduct) {
      const unsigned at = static_cast<unsigned>(min(max(y, 0), last) * width + x);
      const float2 across = read(slopes.across + at);
      const float down = read(slopes.down + at), right = read(slopes.down + at + after);
      sums = make_float4(across.x, down, right, across.y);
      ++y;
    }
    return sums;
  }

  // X, Y, the difference of Y to the next column, M.
  __device__ __forceinline__ static float4 arrived(const float4& sums) {
    return make_float4(sums.x, sums.y, sums.z - sums.y, sums.w);
  }

 private:
  const KeySlopes slopes;
  const int x, after, width, last;
  int y;

  // Compilers put such a read off until its result is needed; it is to be a line ahead.
  __device__ __forceinline__ static float read(const float* from) {
    float value;
    asm volatile("ld.global.nc.f32 %0, [%1];" : "=f"(value) : "l"(from));
    return value;
  }
  __device__ __forceinline__ static float2 read(const float2* from) {
    float2 value;
    asm volatile("ld.global.nc.v2.f32 {%0, %1}, [%2];" : "=f"(value.x), "=f"(value.y) : "l"(from));
    return value;
  }
};

}  // namespace stnls
