// The taps of a query's patch and of the patch that one of its entries points to (CPU).
#pragma once

#include "neighbour.h"

namespace stnls {

class QueryTaps {
 public:
  explicit QueryTaps(const PatchProblem& problem)
      : p(problem),
        low(p.dilation * p.patch_offset),
        high(p.dilation * (p.ps - 1 + p.patch_offset)) {}

  // Whether a patch of the queries in row i lies on any of the rows top .. bottom - 1.
  bool reaches(int64_t i, int64_t top, int64_t bottom) const {
    return i * p.stride0 + high >= top && i * p.stride0 + low < bottom;
  }

  // Calls visit(own row, own column, h, w, count) for the taps that count on own rows
  // top .. bottom - 1: so many side by side, the first of which lies at (h, w), with equal
  // fractions.
  template <class Near, class Visit>
  void for_each(int64_t i, int64_t j, const Near& n, int64_t top, int64_t bottom,
                const Visit& visit) const {
    using Pos = typename Near::Pos;
    const int64_t x0 = j * p.stride0;
    const bool whole = p.dilation == 1 && x0 + low >= 0 && x0 + high < p.width &&
                       n.h + static_cast<Pos>(low) >= Pos(0) &&
                       n.w + static_cast<Pos>(low) >= Pos(0) &&
                       n.h + static_cast<Pos>(high) < static_cast<Pos>(p.height - 1) &&
                       n.w + static_cast<Pos>(high) < static_cast<Pos>(p.width - 1);
    for (int64_t pi = 0; pi < p.ps; ++pi) {
      const int64_t tap_h = p.dilation * (pi + p.patch_offset), y = i * p.stride0 + tap_h;
      Pos h, w;
      if (y < top || y >= bottom) continue;
      if (whole) {
        visit(y, x0 + low, n.h + static_cast<Pos>(tap_h), n.w + static_cast<Pos>(low), p.ps);
        continue;
      }
      if (!move(n.h, tap_h, p.height, p.reflect_bounds != 0, &h)) continue;
      for (int64_t pj = 0; pj < p.ps; ++pj) {
        const int64_t tap_w = p.dilation * (pj + p.patch_offset), x = x0 + tap_w;
        if (!inside(x, p.width)) continue;
        if (!move(n.w, tap_w, p.width, p.reflect_bounds != 0, &w)) continue;
        visit(y, x, h, w, int64_t(1));
      }
    }
  }

 private:
  const PatchProblem& p;
  const int64_t low, high;
};

}  // namespace stnls
