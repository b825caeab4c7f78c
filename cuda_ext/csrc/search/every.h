// Where a candidate goes if every one is returned.
#pragma once

#include "../common/macros.h"
#include "problem.h"

namespace stnls {

// Its entry among those of its query, in raster order (slot, window row, window column), or -1 if
// it is removed. The anchor has changed places with the first candidate (of its slot). `anchor`:
// the query's own place, or the one that the flow predicts in the slot; not asked for where neither
// is treated apart.
STNLS_HD int64_t entry_of_every(const SearchProblem& p, int64_t slot, int64_t candidate,
                                int64_t anchor) {
  const int64_t area = p.ws * p.ws, first = p.first_slot * area;
  if (p.self_action == kNone) return candidate - first;
  const int64_t head = p.self_action == kAnchorEach ? slot * area : first;
  const int64_t place = candidate == anchor ? head : candidate == head ? anchor : candidate;
  if (p.self_action != kRemove) return place - first;
  return place == head ? -1 : place - first - 1;
}

}  // namespace stnls
