// Dots of a query's own patch with those of its entries, and the gradients that follow from them.
#pragma once

#include "entries_cuda.h"

namespace stnls {

// Sums over the channels of one thread: the value, and the slopes along rows and columns.
struct Dots {
  float value, down, right;
};

// Adds up the dots of the threads that share an entry.
template <bool kFloatGrid>
__device__ __forceinline__ Dots sum_of_lanes(const Packing& packing, Dots dots) {
  const auto add_other = [&](int step) {
    dots.value += __shfl_xor_sync(0xffffffffu, dots.value, step);
    if constexpr (kFloatGrid) {
      dots.down += __shfl_xor_sync(0xffffffffu, dots.down, step);
      dots.right += __shfl_xor_sync(0xffffffffu, dots.right, step);
    }
  };
  if (packing.lane_bits > 1) add_other(2);
  if (packing.lane_bits > 0) add_other(1);
  return dots;
}

// Writes, or adds if there is more, the gradients of an entry of a query at (y, x).
template <bool kFloatGrid>
__device__ __forceinline__ void write_dots(const PackedPatchProblem& p, const Dots& dots,
                                           const Entry<kFloatGrid>& e, int64_t entry, int y, int x,
                                           bool more) {
  if (p.grad_weights != nullptr) {
    float* to = static_cast<float*>(p.grad_weights) + entry;
    *to = more ? *to + dots.value : dots.value;
  }
  if constexpr (kFloatGrid) {
    if (p.grad_inds == nullptr) return;
    const float* inds = static_cast<const float*>(p.inds) + 3 * entry;
    float* to = static_cast<float*>(p.grad_inds) + 3 * entry;
    float down = 0.0f, right = 0.0f;
    if (e.at != kUnused) {
      down = e.weight * dots.down * reflect_sign(static_cast<float>(y) + inds[1], p.height);
      right = e.weight * dots.right * reflect_sign(static_cast<float>(x) + inds[2], p.width);
    }
    to[0] = 0.0f;
    to[1] = more ? to[1] + down : down;
    to[2] = more ? to[2] + right : right;
  }
}

}  // namespace stnls
