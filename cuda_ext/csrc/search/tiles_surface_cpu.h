// Where between the positions of the grid the best matches of a tile's queries lie (CPU): from the
// distances that the search has computed at the positions around them, as subpixel.h asks for.
#pragma once

#include <cstdint>
#include <vector>

#include "subpixel.h"
#include "tiles_keep_cpu.h"
#include "tiles_plan_cpu.h"

namespace stnls {

// Values that are stored as they come, at the columns of a row.
template <class Value>
struct StoredValue {
  Value value;
  float* to;
  int64_t stride;

  FloatV next() {
    const FloatV here = value.next();
    store(to, here);
    to += stride;
    return here;
  }
};

// The distances of a rectangle of queries at all displacements of their union.
struct Surface {
  const float*
      distances;  // (rows and columns of displacements, between them rows of queries; queries)
  int64_t height, span, columns;

  // From one row and one column of displacements to the next.
  int64_t row_stride() const { return height * span * columns; }
  int64_t column_stride() const { return columns; }

  // Distances at the nine displacements around (dy, dx), of the query at (y, x). Returns whether
  // all are finite: on the real grid some are not that read a pixel with weight zero.
  bool nine(int64_t dy, int64_t dx, int64_t y, int64_t x, float* d) const {
    const float* middle = distances + dy * row_stride() + (y * span + dx) * columns + x;
    bool finite = true;
    for (int n = 0; n < 9; ++n) {
      d[n] = middle[(n / 3 - 1) * row_stride() + (n % 3 - 1) * column_stride()];
      finite = finite && is_finite(d[n]);
    }
    return finite;
  }
};

// Of a vector of queries, how far the best candidates lie from the first position of the union
// along one axis; and which of them have neighbours on both sides in their own windows.
struct BestAlong {
  IntV place, inner;

  BestAlong(const AxisPlan& plan, int64_t n, IntV candidate, int64_t low) {
    const IntV displacement = candidate - load(&plan.start[n]);
    place = displacement - static_cast<int32_t>(low);
    inner = (displacement > load(&plan.low[n])) & (displacement < load(&plan.last[n]));
  }
};

}  // namespace stnls
