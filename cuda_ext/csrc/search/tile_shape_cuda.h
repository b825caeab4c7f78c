// How the tiles of tiles_cuda.h are laid out, and which problems they can serve.
#pragma once

#include "direct.h"
#include "tile_lists_cuda.h"

namespace stnls {

// What is kept of a query's candidates: the best one in registers, lists, or every distance.
enum class TileKeep { kBest, kLists, kEvery };

inline TileKeep tile_keep(const SearchProblem& p) {
  if (p.keep == kEvery) return TileKeep::kEvery;
  return p.k > 1 ? TileKeep::kLists : TileKeep::kBest;
}

constexpr int kTileColumns = 8;     // pixels along a row of a tile
constexpr int kTileEveryMost = 16;  // columns of a window of which every distance is kept
constexpr int kTileSteps = 2;       // displacements along a row that share one shift of registers
constexpr int kTileMostOffset = 2000;  // larger offsets do not fit the code of a match
constexpr int kTileUnion = 2000;       // displacements from which on single queries are cheaper

// Lines of the key that are read while others are used, lines that are staged, and pixels of such a
// line at most: few where matches, or a fourth channel, take up shared memory.
STNLS_HD constexpr int tile_ahead(TileKeep keep) { return keep == TileKeep::kBest ? 2 : 1; }
STNLS_HD constexpr int tile_ring(TileKeep keep) { return 32 + tile_ahead(keep); }
STNLS_HD constexpr int tile_pitch(TileKeep keep, int ps, int channels) {
  if (keep != TileKeep::kBest) return kTileColumns + ps + 12;
  return channels > 3 ? kTileColumns + ps + 15 : 41;
}
// Tiles that are to fit a multiprocessor. A quarter of it has registers for three of them, or,
// where these would be too few, for two; with lists, shared memory holds eleven.
constexpr int tile_blocks(TileKeep keep, int ps, int channels) {
  if (channels > 3 && (keep != TileKeep::kBest || ps > 7)) return 8;
  return keep == TileKeep::kBest ? 12 : 11;
}

// Rows of such pixels in a tile.
STNLS_HD constexpr int tile_rows(int ps) { return 33 - ps; }

// Bytes of shared memory: the stage; with the windows. What is kept comes after these.
STNLS_HD constexpr int tile_stage(TileKeep keep, int ps, int channels) {
  return (4 * channels * tile_ring(keep) * tile_pitch(keep, ps, channels) + 15) / 16 * 16;
}
STNLS_HD constexpr int tile_windows(TileKeep keep, int ps, int channels) {
  return tile_stage(keep, ps, channels) + 4 * tile_rows(ps) * kTileColumns;
}

// Tiles of pixels along an axis with so many queries.
STNLS_HD int64_t tiles_along(const SearchProblem& p, int64_t queries, int pixels) {
  return ((queries - 1) * p.stride0 + pixels) / pixels;
}
STNLS_HD int64_t tile_count(const SearchProblem& p) {
  return p.batch * p.heads * p.frames *
         tiles_along(p, p.grid_height, tile_rows(static_cast<int>(p.ps))) *
         tiles_along(p, p.grid_width, kTileColumns);
}

// Whether it pays to compute all pixels of a tile where not all have queries (one match of each).
inline bool tile_stride_pays(const SearchProblem& p) {
  if (p.stride0 == 1) return true;
  return p.stride0 <= 4 && p.keep == kBestOfAll && p.k == 1 &&
         (p.grid_height - 1) * p.stride0 < p.height && (p.grid_width - 1) * p.stride0 < p.width;
}

// Whether a tile can serve the problem at all.
inline bool tiles_apply_cuda(const SearchProblem& p) {
  return p.prior == nullptr && p.charge == 0 && p.dtype == kFloat32 && !p.float_grid &&
         p.reflect_bounds && p.dilation == 1 && p.stride_query == p.stride0 &&
         tile_stride_pays(p) &&
         (p.keep == kEvery ? p.ws <= kTileEveryMost
                           : p.keep == kBestOfAll && p.k >= 1 && p.k <= kListMost) &&
         p.self_action == kNone && p.query_height == p.height && p.query_width == p.width &&
         static_cast<int64_t>(p.stride1) == 1 && !p.product &&
         (p.ps == 3 || p.ps == 5 || p.ps == 7 || p.ps == 9) && p.channels >= 1 && p.channels <= 4 &&
         2 * p.wt + 1 <= 100 &&
         // Bytes to any row of a tile's offsets fit 32 bits.
         p.width * entry_count(p) * p.components < (int64_t(1) << 25) &&
         tile_count(p) < (int64_t(1) << 31);
}

}  // namespace stnls
