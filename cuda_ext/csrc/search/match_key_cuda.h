// Distance and candidate of a match as one number.
#pragma once

#include <climits>
#include <cstdint>

namespace stnls {

// A number of which the order is that of the floats; equal ones in the order of their codes.
__device__ __forceinline__ uint64_t ordered_key(float distance, int code) {
  const int bits = __float_as_int(distance + 0.0f);  // one zero, not two
  const unsigned order = static_cast<unsigned>(bits ^ (bits >> 31 | INT_MIN));
  return static_cast<uint64_t>(order) << 32 | static_cast<unsigned>(code);
}
__device__ __forceinline__ float distance_of_key(uint64_t key) {
  const int order = static_cast<int>(key >> 32) ^ INT_MIN;
  return __int_as_float(order ^ (order >> 31 & INT_MAX));
}

}  // namespace stnls
