// The part of a video's gradient that one thread adds to (CPU).
#pragma once

#include "gradient.h"

namespace stnls {

// Rows top .. bottom - 1 of all frames of one batch and head.
struct GradientBand {
  int64_t b, head, top, bottom;
  bool holds(int64_t row) const { return row >= top && row < bottom; }
  // Whether rows low .. high, all inside the frame, lie outside the band; rows that are reflected
  // may come anywhere.
  bool misses(int64_t low, int64_t high, int64_t height) const {
    return low >= 0 && high < height && (high < top || low >= bottom);
  }
};

// Calls visit(query, entry) for the entries of a band's batch and head that have a gradient, in
// raster order. Gradient: a SearchGradient.
template <class Gradient, class Visit>
void for_entries(const Gradient& gradient, const GradientBand& band, const Visit& visit) {
  const SearchProblem& p = gradient.p;
  const int64_t grid = p.grid_height * p.grid_width;
  for (int64_t t = 0; t < p.frames; ++t) {
    for (int64_t place = 0; place < grid; ++place) {
      const Query q{band.b, band.head, t, place / p.grid_width, place % p.grid_width};
      const int64_t index = ((band.b * p.heads + band.head) * p.frames + t) * grid + place;
      for (int64_t k = 0; k < gradient.used; ++k) {
        typename Gradient::Entry e;
        if (gradient.entry(q, index * gradient.entries + k, &e) && e.weight != 0) visit(q, e);
      }
    }
  }
}

}  // namespace stnls
