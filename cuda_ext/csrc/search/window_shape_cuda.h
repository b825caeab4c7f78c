// Sizes of the window form of the search (windows_cuda.h), for the host and the kernels alike.
#pragma once

#include "direct.h"
#include "window_every_cuda.h"
#include "window_matches_cuda.h"

namespace stnls {

constexpr int kWindowWhole = 24 * 1024;  // bytes that the distances of whole windows may take
constexpr int kWindowUnion = 3000;       // displacements from which on single queries are cheaper
constexpr int kWindowMostShared = 56 * 1024;  // bytes of shared memory
constexpr int kWindowSmall = 13 * 1024;       // of which 16 fit a multiprocessor of 228 KiB

// How many matches are kept in registers: 0: they are kept in memory; kListEvery: all are returned.
STNLS_HD int window_list(const SearchProblem& p) {
  if (p.keep == kEvery) return kListEvery;
  const bool pins = p.self_action == kAnchor || p.self_action == kAnchorEach;
  // Tiles that keep one match have four rows: too many where one of them has queries.
  if (p.k == 1 && p.self_action == kNone && p.stride0 < 4) return 1;
  return p.k - (pins ? 1 : 0) <= kListMost ? kListMost : 0;
}

// Whether the tile's pixels stay in registers: large patches of few channels (on the integer grid
// three; what is not charged for there belongs to tiles_cuda.h where queries lie side by side).
STNLS_HD bool window_few_channels(const SearchProblem& p) {
  const bool whole = p.charge != 0 || (p.stride0 > 1 && p.channels == 3);
  const int list = window_list(p);
  return p.ps >= 3 && !p.product && (p.float_grid || whole) && p.channels >= 1 && p.channels <= 4 &&
         (list > 0 || (list == 0 && p.charge != 0));
}

// Whether there are kernels that charge for leaving the flow.
STNLS_HD bool window_charges(const SearchProblem& p) {
  return window_few_channels(p) && p.channels == 3;
}

// Whether one match is all that is kept: the other kernels have lists only.
STNLS_HD bool window_single(const SearchProblem& p) {
  return window_few_channels(p) && window_list(p) == 1;
}

// Rows of pixels that a tile's queries can lie on: few where lists of matches need room, too.
STNLS_HD constexpr int window_rows(bool single) { return single ? 4 : 2; }
STNLS_HD int window_rows(const SearchProblem& p) { return window_rows(window_single(p)); }

// Columns of displacements that are walked at once: they share what is read of the key.
STNLS_HD constexpr int window_abreast(int64_t ps, bool few_channels) {
  return few_channels ? 1 : ps == 1 ? 4 : 2;
}

// Queries of a tile, which lie on every stride0-th of its pixels, and tiles of a frame.
struct WindowGrid {
  int rows, columns, down, across;

  explicit WindowGrid(const SearchProblem& p) {
    const int stride = static_cast<int>(p.stride0);
    rows = (window_rows(p) - 1) / stride + 1;
    columns = (32 - static_cast<int>(p.ps)) / stride + 1;
    down = (static_cast<int>(p.grid_height) + rows - 1) / rows;
    across = (static_cast<int>(p.grid_width) + columns - 1) / columns;
  }
};
inline int64_t window_tile_count(const SearchProblem& p) {
  const WindowGrid grid(p);
  return p.batch * p.heads * p.frames * grid.down * grid.across;
}

// Whole displacements along one axis that the candidates of a query lie between.
STNLS_HD int window_reach(const SearchProblem& p) {
  const double steps =
      static_cast<double>(p.ws - 1) * (p.float_grid ? p.stride1 : std::floor(p.stride1));
  return static_cast<int>(std::ceil(steps)) + 1 + (p.float_grid ? 1 : 0);
}

// Columns of distances that are kept for each query: all of them if there is room, else the last
// ones, so that candidates are compared while the union of the windows is walked.
STNLS_HD int window_kept(const SearchProblem& p) {
  const int reach = window_reach(p);
  const int most = window_single(p) ? kWindowWhole : kWindowWhole / 2;  // lists need room, too
  if (reach * reach * window_rows(p) * 32 * 4 <= most) return reach;
  return window_abreast(p.ps, window_few_channels(p)) + (p.float_grid ? 1 : 0);
}

// Whether all candidates of a window are gathered before they are written.
STNLS_HD bool window_gathers(const SearchProblem& p) {
  return p.keep == kEvery && p.ws * p.ws <= kWindowEveryMost && window_kept(p) == window_reach(p);
}

// Where things lie in shared memory, in 8-byte words: lists of matches, candidates put aside or
// gathered, columns of distances, windows, pinned candidates.
struct WindowShared {
  int lists, queue, columns, places, pinned, words;

  STNLS_HD explicit WindowShared(const SearchProblem& p) {
    const bool every = p.keep == kEvery;
    const int rows = window_rows(p);
    lists = 0;
    queue = lists + (every ? 0 : static_cast<int>(p.k) * rows * 33);
    columns = queue;
    if (window_gathers(p)) columns += static_cast<int>(p.ws * p.ws) * 33 / 2 + 1;
    if (!every && !window_single(p)) columns += 32 * kWindowQueue;
    places = columns + window_reach(p) * window_kept(p) * rows * 16;
    pinned = places + rows * 32 * 3;
    words = pinned + (p.self_action != kNone ? rows * 16 : 0);
  }
};

// Strides between queries up to which tiles of pixels pay. Patches of one pixel on the integer grid
// share nothing.
inline bool window_stride_pays(const SearchProblem& p) {
  if (p.stride0 == 1) return true;
  return p.stride0 <= 32 && (p.ps > 1 || p.float_grid);
}

inline bool windows_apply_cuda(const SearchProblem& p) {
  const bool lists = p.keep == kEvery ? p.self_action == kNone
                                      : p.k >= 1 && p.k < (1 << 16) &&
                                            (p.keep == kBestOfAll || p.self_action == kNone ||
                                             p.self_action == kAnchorEach);
  const bool size = p.ps == 1 || p.ps == 3 || p.ps == 5 || p.ps == 7 || p.ps == 9;
  if (p.charge != 0 && !window_charges(p)) return false;
  constexpr int64_t most = int64_t(1) << 31, pixels = most / 8;  // of a plane, 16 bytes each
  return p.prior == nullptr && p.dtype == kFloat32 && p.reflect_bounds && p.dilation == 1 &&
         window_stride_pays(p) && p.stride_query == p.stride0 &&
         (p.grid_height - 1) * p.stride0 < p.height && (p.grid_width - 1) * p.stride0 < p.width &&
         lists && size && p.channels > 0 &&
         // A step to the next channel in bytes fits 32 bits.
         (window_few_channels(p) ||
          (p.key_stride[3] < 4 * pixels && p.query_stride[3] < 4 * pixels)) &&
         p.query_height == p.height && p.query_width == p.width && p.stride1 <= 2 && p.ws < 128 &&
         (2 * p.wt + 1) * p.ws * p.ws < most && (p.height + 1) * p.key_stride[4] < pixels &&
         (p.height + 1) * p.query_stride[4] < pixels && p.height * p.width < pixels &&
         // Slopes of the key, where there are any, are summed by a block for each four rows.
         p.height <= 4 * 65535 && p.width < (1 << 24) &&
         8 * WindowShared(p).words <= kWindowMostShared && window_tile_count(p) < most;
}

}  // namespace stnls
