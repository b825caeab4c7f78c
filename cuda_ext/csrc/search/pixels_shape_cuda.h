// Sizes of the pixel form of the search (pixels_cuda.h), for the host and the kernels alike.
#pragma once

#include "direct.h"
#include "sorted_list_cuda.h"

namespace stnls {

constexpr int kPixelColumns = 16, kPixelRows = 8;  // queries of a tile
constexpr int kPixelThreads = kPixelColumns * kPixelRows;
constexpr int kPixelMostChannels = 32;
constexpr int kPixelMostSlots = 16;
constexpr int kPixelAside = 8;               // matches that a query puts aside
constexpr int kPixelMostShared = 62 * 1024;  // bytes of shared memory
constexpr int kPixelSpread = 4;  // rows by which the windows of a tile may differ at no cost

// Candidates along one axis between two pixels; 0 on the integer grid.
STNLS_HD int pixel_cells(const SearchProblem& p) {
  return !p.float_grid ? 0 : p.stride1 == 0.5 ? 2 : p.stride1 == 1.0 ? 1 : -1;
}

// Channels are staged by four; so many fours.
STNLS_HD int pixel_quads(const SearchProblem& p) {
  return p.channels <= 8 ? 2 : p.channels <= 16 ? 4 : 8;
}

// Pixels of a staged row, at most.
STNLS_HD constexpr int pixel_pitch(int cells) { return cells == 2 ? 24 : 32; }

// Pixels along one axis that the candidates of a query lie between.
STNLS_HD int pixel_reach(const SearchProblem& p) {
  const int cells = pixel_cells(p), ws = static_cast<int>(p.ws);
  if (cells == 0) return (ws - 1) * static_cast<int>(p.stride1) + 1;
  return (ws - 1 + cells - 1) / cells + 2;
}

// Bytes of shared memory: what was put aside, distances of the last column, a place for each warp
// to tell its bounds, and the staged rows with the sums over the key.
STNLS_HD int pixel_row_bytes(const SearchProblem& p) {
  const int sums = p.float_grid && !p.product ? 16 : 0;
  return pixel_pitch(pixel_cells(p)) * (16 * pixel_quads(p) + sums);
}
STNLS_HD int pixel_fixed_bytes(const SearchProblem& p) {
  const int column = p.float_grid ? 4 * kPixelThreads * pixel_reach(p) : 0;
  return 8 * kPixelThreads * kPixelAside + column + 128;
}
STNLS_HD int pixel_rows(const SearchProblem& p) {
  const int most = (kPixelMostShared - pixel_fixed_bytes(p)) / pixel_row_bytes(p);
  const int wanted = kPixelRows - 1 + pixel_reach(p) + kPixelSpread;
  return wanted < most ? wanted : most;
}
STNLS_HD int pixel_shared(const SearchProblem& p) {
  const int stage = pixel_rows(p) * pixel_row_bytes(p);
  // The results are written from where the stage was: lists, and the windows of all slots.
  const int results = kPixelThreads * (8 * kListMost + 12 * static_cast<int>(slot_count(p)));
  return pixel_fixed_bytes(p) + (stage > results ? stage : results);
}

STNLS_HD int64_t pixel_tile_count(const SearchProblem& p) {
  return p.batch * p.heads * p.frames * ((p.height + kPixelRows - 1) / kPixelRows) *
         ((p.width + kPixelColumns - 1) / kPixelColumns);
}

inline bool pixels_apply_cuda(const SearchProblem& p) {
  if (p.charge != 0) return false;
  constexpr int64_t most = int64_t(1) << 31;
  return p.prior == nullptr && p.dtype == kFloat32 && p.ps == 1 && p.dilation == 1 &&
         p.reflect_bounds && p.stride0 == 1 && p.stride_query == 1 && p.keep == kBestOfAll &&
         p.self_action == kNone && p.k >= 1 && p.k <= kListMost && p.channels >= 1 &&
         p.channels <= kPixelMostChannels && p.query_height == p.height &&
         p.query_width == p.width && pixel_cells(p) >= 0 && p.stride1 <= 2 && p.ws < 128 &&
         slot_count(p) <= kPixelMostSlots && p.height < (1 << 24) && p.width < (1 << 24) &&
         (p.height + 1) * p.key_stride[4] < most && (p.height + 1) * p.query_stride[4] < most &&
         pixel_reach(p) <= pixel_pitch(pixel_cells(p)) && pixel_rows(p) >= pixel_reach(p) &&
         pixel_shared(p) <= kPixelMostShared && pixel_tile_count(p) < most;
}

}  // namespace stnls
