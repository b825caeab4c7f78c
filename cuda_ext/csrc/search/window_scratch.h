// What the window form of the search (windows_cuda.h) keeps in memory besides its results.
//
// The sums over the key (key_slopes.h) are large beside the results of few matches. So they lie in
// the memory of the offsets as far as it reaches, where that saves any: the search then notes the
// candidate of each match, in two bytes, and its offsets are written when nobody reads the sums any
// more (late_offsets.h).
#pragma once

#include "key_slopes.h"
#include "late_offsets.h"
#include "window_shape_cuda.h"

namespace stnls {

struct WindowScratch {
  KeySlopes slopes;
  uint16_t* found;  // candidates of all matches; null: their offsets are written at once
  int32_t* left;    // tiles that are left to the direct form (direct_launch.h)
};

// Sizes in 32-bit words.
struct WindowScratchPlan {
  bool across_borrows = false, down_borrows = false;  // whether they lie in the offsets' memory
  int64_t across, down, found, words;

  explicit WindowScratchPlan(const SearchProblem& p)
      : across(2 * slope_count(p)), down(slope_count(p)), found(0) {
    const int64_t matches = query_count(p) * entry_count(p);
    const int64_t room = late_offsets_apply(p) ? p.components * matches : 0;
    const bool lends_across = across <= room;
    const bool lends_down = down <= room - (lends_across ? across : 0);
    const int64_t saved = (lends_across ? across : 0) + (lends_down ? down : 0);
    if (saved > (matches + 1) / 2) {
      across_borrows = lends_across;
      down_borrows = lends_down;
      found = (matches + 1) / 2;
    }
    words = (across_borrows ? 0 : across) + (down_borrows ? 0 : down) + found + 1 +
            window_tile_count(p);
  }

  // The sums come first, since two are read at once. Both `found` and the number of tiles that are
  // left begin as zeros: they follow each other.
  WindowScratch of(const SearchProblem& p) const {
    float* offsets = static_cast<float*>(p.inds);
    float* own = reinterpret_cast<float*>(p.scratch);
    const auto take = [](float*& from, int64_t size) {
      from += size;
      return from - size;
    };
    WindowScratch s{};
    s.slopes.across = reinterpret_cast<float2*>(take(across_borrows ? offsets : own, across));
    s.slopes.down = take(down_borrows ? offsets : own, down);
    if (found > 0) s.found = reinterpret_cast<uint16_t*>(own);
    s.left = reinterpret_cast<int32_t*>(own + found);
    return s;
  }
};

}  // namespace stnls
