// Sums that many threads add to: fast and in any order, or reproducible.
#pragma once

#include <cstdint>

#include "geometry.h"

namespace stnls {

// Where the terms of one gradient go. Floating-point sums depend on their order, sums of integers
// do not: with `fixed`, terms are rounded to integers of which `scale` make a unit (the caller
// chooses it so that nothing overflows), and only terms that are no number go to `grad` itself.
template <class Real>
struct Accumulator {
  Real* grad;
  int64_t* fixed;
  double scale;

  __device__ void add(int64_t at, Real term) const {
    if (fixed == nullptr) {
      atomicAdd(grad + at, term);
    } else if (is_finite(term)) {
      const long long units = __double2ll_rn(static_cast<double>(term) * scale);
      atomicAdd(reinterpret_cast<unsigned long long*>(fixed + at),
                static_cast<unsigned long long>(units));
    } else {
      grad[at] = term - term;  // NaN, whoever writes it
    }
  }
};

}  // namespace stnls
