// The search on the integer grid for small patches of few channels (alignment): a warp walks the
// union of the windows of a tile of pixels, row by row. For one displacement the distances of all
// patches of the tile are box sums of one difference image, so that a pixel of it is computed once
// instead of ps^2 times.
//
// A lane holds a row of the tile's pixels (queries and the border of their patches) in registers.
// Sums along the row stay in registers, sums over rows go over shuffles. The key's lines are staged
// in shared memory, as a ring that advances with the rows of displacements; from it a step to the
// right needs one new value for each row and channel.
#pragma once

#include <cuda_pipeline.h>

#include "../common/cuda_launch.h"
#include "box_sums_cuda.h"
#include "direct.h"
#include "tile_best_cuda.h"
#include "tile_every_cuda.h"
#include "tile_lists_cuda.h"
#include "tile_shape_cuda.h"

namespace stnls {

// Out of the way: a window that is moved, or of which the anchor is mirrored, is rare.
__device__ __noinline__ inline int first_of_moved(const SearchProblem& p, int place, float flow,
                                                  int length, bool* fits) {
  const int64_t anchor = reflect(place + round_offset(flow), length);
  const int64_t first =
      anchor - window_offset(anchor, int64_t(1), p.ws, length, p.full_window != 0);
  *fits = *fits && first >= 0 && first + p.ws <= length;
  return static_cast<int>(first) - place;
}

// Likewise for a pixel beyond the frame.
__device__ __noinline__ inline int mirror_far(int x, int length) {
  return static_cast<int>(reflect(static_cast<int64_t>(x), length));
}

// Likewise for queries that lie apart.
__device__ __noinline__ inline int query_at_pixel(int pixel, int stride) { return pixel / stride; }

template <int kPs, int kChannels, TileKeep kKeep>
class Tile {
 public:
  static constexpr bool kLists = kKeep == TileKeep::kLists, kAll = kKeep == TileKeep::kEvery;
  using Matches = typename std::conditional<
      kLists, TileLists<tile_rows(kPs)>,
      typename std::conditional<kAll, TileEvery<tile_rows(kPs)>, TileBest>::type>::type;
  static constexpr int kWidth = kTileColumns + kPs - 1;
  static constexpr int kRows = tile_rows(kPs);
  static constexpr int kAhead = tile_ahead(kKeep), kRing = tile_ring(kKeep);
  // Displacements along a row that the stage has room for.
  static constexpr int kWidest =
      (tile_pitch(kKeep, kPs, kChannels) - kWidth) / kTileSteps * kTileSteps;
  static constexpr int kNever = 1 << 20;  // a window that no displacement reaches
  static constexpr int kNoRow = 32000;    // the same as a short
  static constexpr int kTogether = 2;     // rows of lists that are written at once

  __device__ Tile(const SearchProblem& problem, int64_t tile, char* memory)
      : p(problem),
        shared(memory),
        stage(reinterpret_cast<float*>(memory)),
        windows(reinterpret_cast<ushort2*>(memory + tile_stage(kKeep, kPs, kChannels))),
        lane(threadIdx.x) {
    const int64_t columns = tiles_along(p, p.grid_width, kTileColumns);
    const int64_t rows = tiles_along(p, p.grid_height, kRows);
    left = static_cast<int>(tile % columns) * kTileColumns;
    tile /= columns;
    top = static_cast<int>(tile % rows) * kRows;
    tile /= rows;
    t = tile % p.frames;
    tile /= p.frames;
    head = tile % p.heads;
    b = tile / p.heads;
    apart = between();
  }

  // False, with nothing written that counts, where the windows of a slot lie too far apart or too
  // few candidates are valid.
  __device__ bool run() {
    read_query();
    char* const kept = shared + tile_windows(kKeep, kPs, kChannels);
    if constexpr (kLists) matches.open(p, output_index(0, 0), rows(), columns(), kept);
    if constexpr (kAll) matches.open(p, output_index(0, 0), kept);
    for (int slot = static_cast<int>(p.first_slot); slot < static_cast<int>(end_slot(p)); ++slot) {
      if (!place(slot)) return false;
      if (high > 0) walk(slot);
    }
    if constexpr (kLists)
      return write_lists();
    else if constexpr (kAll)
      return true;
    else
      return write();
  }

 private:
  const SearchProblem& p;
  char* const shared;
  float* const stage;
  ushort2* const windows;  // of every column and row: the first position in the union (row, column)
  const int lane;
  int left, top;
  unsigned apart;  // pixels of the lane that have no queries
  int64_t t, head, b;
  float query[kChannels][kWidth];
  Matches matches;               // with codes of slot and offset
  int low_h, low_w, high, wide;  // the union of the windows

  // Those inside the frame.
  __device__ int rows() const { return min(kRows, static_cast<int>(p.height) - top); }
  __device__ int columns() const { return min(kTileColumns, static_cast<int>(p.width) - left); }

  __device__ bool has_query(int x) const {
    const bool inside = lane < kRows && top + lane < p.height && left + x < p.width;
    if (kKeep != TileKeep::kBest) return inside;
    return inside && (apart & 1u << x) == 0;
  }
  // Of pixels between queries that lie apart: a bit for each of the lane's.
  __device__ unsigned between() const {
    const int stride = static_cast<int>(p.stride0), y = top + lane;
    if (stride == 1) return 0;
    unsigned found = 0;
    for (int x = 0; x < kTileColumns; ++x)
      if (y % stride != 0 || (left + x) % stride != 0) found |= 1u << x;
    return found;
  }
  // Number of a row or column of the grid.
  __device__ int on_grid(int pixel) const {
    const int stride = static_cast<int>(p.stride0);
    return kKeep != TileKeep::kBest || stride == 1 ? pixel : query_at_pixel(pixel, stride);
  }

  // Finds the windows of one slot and their union; false where the tile cannot serve them.
  __device__ bool place(int slot) {
    const int ws = static_cast<int>(p.ws);
    int low_y = kNever, low_x = kNever, up_y = kNever, up_x = kNever;  // the last two negated
    bool fits = true;
    float flow_h[kTileColumns], flow_w[kTileColumns];
    read_flow(slot, flow_h, flow_w);
    int first_h[kTileColumns], first_w[kTileColumns];
#pragma unroll
    for (int x = 0; x < kTileColumns; ++x) {
      first_h[x] = first_w[x] = kNever;
      if (has_query(x) && is_finite(flow_h[x]) && is_finite(flow_w[x])) {
        first_h[x] = first_position(top + lane, flow_h[x], static_cast<int>(p.height), &fits);
        first_w[x] = first_position(left + x, flow_w[x], static_cast<int>(p.width), &fits);
        low_y = min(low_y, first_h[x]);
        low_x = min(low_x, first_w[x]);
        up_y = min(up_y, -first_h[x]);
        up_x = min(up_x, -first_w[x]);
      }
    }
    low_h = warp_min(low_y);
    low_w = warp_min(low_x);
    const int most_h = -warp_min(up_y), most_w = -warp_min(up_x);
    high = wide = 0;
    if (low_h < kNever) {
      high = most_h + ws - low_h;
      wide = most_w + ws - low_w;
      fits = fits && low_h > -kTileMostOffset && most_h + ws < kTileMostOffset &&
             low_w > -kTileMostOffset && most_w + ws < kTileMostOffset && high * wide <= kTileUnion;
    }
    if (lane < kRows) {
#pragma unroll
      for (int x = 0; x < kTileColumns; ++x)
        windows[x * kRows + lane] = make_ushort2(
            static_cast<unsigned short>(first_h[x] == kNever ? kNoRow : first_h[x] - low_h),
            static_cast<unsigned short>(first_w[x] - low_w));
    }
    return __all_sync(0xffffffffu, fits);
  }

  // Flow of the lane's queries, all loads under way at once; zero where a slot has none.
  __device__ void read_flow(int slot, float (&flow_h)[kTileColumns],
                            float (&flow_w)[kTileColumns]) const {
    const int flow_slot = p.flow_slots == 2 * p.wt + 1 ? slot : slot - 1;
    const int64_t plane = p.grid_height * p.grid_width;
    const int64_t flow_head = p.flow_heads > 0 ? head % p.flow_heads : 0;
    const float* flow =
        static_cast<const float*>(p.flow) +
        (((b * p.flow_heads + flow_head) * p.frames + t) * p.flow_slots + flow_slot) * 2 * plane +
        on_grid(top + lane) * p.grid_width;
    const bool has = p.flow != nullptr && flow_slot >= 0;
#pragma unroll
    for (int x = 0; x < kTileColumns; ++x) {
      const bool reads = has && has_query(x);
      const int at = on_grid(left + x);
      flow_w[x] = reads ? flow[at] : 0.0f;
      flow_h[x] = reads ? flow[at + plane] : 0.0f;
    }
  }

  // Offset of the window's first position along one axis; clears `fits` if the window leaves the
  // frame.
  __device__ int first_position(int place, float flow, int length, bool* fits) const {
    const int half = static_cast<int>(p.ws - 1) / 2;
    const float rounded = rintf(flow);
    if (fabsf(rounded) < 1e6f) {
      const int first = place + static_cast<int>(rounded) - half;
      if (first >= 0 && first + p.ws <= length) return first - place;
    }
    return first_of_moved(p, place, flow, length, fits);
  }

  // Floats between lines of the stage, for so many displacements in whole steps: odd, so that lanes
  // meet different banks.
  STNLS_HD static constexpr int pitch(int displacements) {
    return (kWidth - 1 + (displacements + kTileSteps - 1) / kTileSteps * kTileSteps) | 1;
  }

  __device__ static int mirror(int x, int length) {
    return x >= 0 && x < length ? x : mirror_far(x, length);
  }

  __device__ void read_query() {
    const float* plane = static_cast<const float*>(p.query) + b * p.query_stride[0] +
                         head * p.query_stride[1] + t * p.query_stride[2];
    const int y = top + lane + static_cast<int>(p.patch_offset + p.offset_height);
    plane += mirror(y, static_cast<int>(p.height)) * p.query_stride[4];
#pragma unroll
    for (int x = 0; x < kWidth; ++x) {
      const int at = mirror(left + x + static_cast<int>(p.patch_offset + p.offset_width),
                            static_cast<int>(p.width));
#pragma unroll
      for (int c = 0; c < kChannels; ++c) query[c][x] = plane[c * p.query_stride[3] + at];
    }
  }

  // Begins to stage a line of the key, `offset` pixels after `from`, the lane's pixels in row 0.
  static constexpr int kReads = (tile_pitch(kKeep, kPs, kChannels) + 31) / 32;
  __device__ __forceinline__ void read_line(const float* const (&from)[kReads], int64_t offset,
                                            float* to, int width) const {
#pragma unroll
    for (int i = 0; i < kReads; ++i) {
      if (lane + 32 * i >= width) return;
      const float* at = from[i] + offset;
#pragma unroll
      for (int c = 0; c < kChannels; ++c, at += p.key_stride[3])
        __pipeline_memcpy_async(to + 32 * i + c * kRing * width, at, sizeof(float));
    }
  }

  // All displacements of one slot. A union that is too wide for the stage is cut into pieces. Of
  // the key's lines those are staged that a row of displacements needs, and a few that follow.
  __device__ void walk(int slot) {
    static_assert(pitch(kWidest) <= tile_pitch(kKeep, kPs, kChannels), "a line fits the stage");
    static_assert(pitch(kWidest) <= 32 * kReads && kWidest < 32, "and what reads and asks for it");
    const int64_t frame = slot_frame(t, slot, p.wt, p.frames);
    const float* plane = static_cast<const float*>(p.key) + b * p.key_stride[0] +
                         head * p.key_stride[1] + frame * p.key_stride[2];
    const int first = top + low_h + static_cast<int>(p.patch_offset), lines = high + 31;
    const int height = static_cast<int>(p.height);
    const bool inside = first >= 0 && first + lines <= height;  // so that no line is mirrored
    for (int piece = 0; piece < wide; piece += kWidest) {
      const int until = min(wide, piece + kWidest), width = pitch(until - piece);
      const float* from[kReads];
#pragma unroll
      for (int i = 0; i < kReads; ++i) {
        const int x = left + lane + 32 * i + low_w + piece + static_cast<int>(p.patch_offset);
        from[i] = plane + mirror(x, static_cast<int>(p.width));
      }
      float* to = stage + lane;
      if (inside) {
        int64_t offset = first * p.key_stride[4];
        const int most = min(lines, kRing);
        for (int line = 0; line < most; ++line, offset += p.key_stride[4], to += width) {
          read_line(from, offset, to, width);
          if (line >= 31) __pipeline_commit();
        }
        for (int line = most; line < kRing; ++line) __pipeline_commit();
      } else {
        for (int line = 0; line < kRing; ++line, to += width) {
          if (line < lines)
            read_line(from, mirror(first + line, height) * p.key_stride[4], to, width);
          if (line >= 31) __pipeline_commit();
        }
      }
      int line = 0, own = lane;  // of the stage: the first that is used, the lane's
      for (int row = 0; row < high; ++row) {
        __pipeline_wait_prior(kAhead);
        __syncwarp();
        if (kLists || wide <= kWidest)
          walk_row<true>(slot, row, stage + own * width, width, piece, until);
        else
          walk_row<false>(slot, row, stage + own * width, width, piece, until);
        __syncwarp();
        if (row + kRing < lines) {
          int y = first + row + kRing;
          if (!inside) y = mirror(y, height);
          read_line(from, y * p.key_stride[4], stage + line * width + lane, width);
        }
        __pipeline_commit();
        line = line + 1 == kRing ? 0 : line + 1;
        own = own + 1 == kRing ? 0 : own + 1;
      }
    }
  }

  // The displacements `piece` .. `until` - 1 of row `row` of the union. `key`: pixels of the lane's
  // row, `width`: floats between lines.
  template <bool kRaster>
  __device__ void walk_row(int slot, int row, const float* key, int width, int piece, int until) {
    const unsigned ws = static_cast<unsigned>(p.ws);
    const int plane = kRing * width;
    // Of each query the displacements of the piece that lie in its window, a bit for each: so what
    // is asked for each displacement takes one instruction.
    const ushort2* const own = windows + min(lane, kRows - 1);
    unsigned wanted[kTileColumns], any = 0;
    if (wide <= kWidest) {
      const unsigned whole = lane < kRows ? (1u << ws) - 1 : 0;
#pragma unroll
      for (int x = 0; x < kTileColumns; ++x) {
        const ushort2 window = own[x * kRows];
        const bool in = static_cast<unsigned>(row - static_cast<int>(window.x)) < ws;
        wanted[x] = in ? whole << window.y : 0;
        any |= wanted[x];
      }
    } else {
      const unsigned inside = lane < kRows ? (1u << (until - piece)) - 1 : 0;
#pragma unroll
      for (int x = 0; x < kTileColumns; ++x) {
        const ushort2 window = own[x * kRows];
        const bool in = static_cast<unsigned>(row - static_cast<int>(window.x)) < ws;
        const int begin = static_cast<int>(window.y) - piece;
        const int low = min(max(begin, 0), 31), up = min(max(begin + static_cast<int>(ws), 0), 31);
        wanted[x] = in ? ((1u << up) - (1u << low)) & inside : 0;
        any |= wanted[x];
      }
    }
    const bool own_any = any != 0;
    any = warp_or(any);
    if (any == 0) return;
    if constexpr (kAll) {
#pragma unroll
      for (int x = 0; x < kTileColumns; ++x) {
        const ushort2 window = own[x * kRows];
        matches.begin_row(p, x, slot, row - static_cast<int>(window.x), static_cast<int>(window.y));
      }
    }
    // Whole steps from the beginning of the piece, so that none is walked twice.
    const int begin = piece + (__ffs(static_cast<int>(any)) - 1) / kTileSteps * kTileSteps;
    const int end = piece + 32 - __clz(static_cast<int>(any));
    key += begin - piece;
    float k[kChannels][kWidth + kTileSteps - 1];
#pragma unroll
    for (int c = 0; c < kChannels; ++c)
#pragma unroll
      for (int x = 0; x < kWidth - 1; ++x) k[c][x] = key[c * plane + x];
    const int base = kAll ? 0 : ((slot << 12 | (low_h + row + 2048)) << 12) | (low_w + 2048);
    unsigned bit = 1u << (begin - piece);
    for (int step = begin; step < end; step += kTileSteps, key += kTileSteps, bit <<= kTileSteps) {
#pragma unroll
      for (int c = 0; c < kChannels; ++c)
#pragma unroll
        for (int s = 0; s < kTileSteps; ++s) k[c][kWidth - 1 + s] = key[c * plane + kWidth - 1 + s];
#pragma unroll
      for (int s = 0; s < kTileSteps; ++s) {
        int code = base + step + s;
        // Once for all queries: compilers would add it up again for each that is put aside.
        if constexpr (kLists) asm volatile("" : "+r"(code));
        float terms[kWidth], sums[kTileColumns];
#pragma unroll
        for (int x = 0; x < kWidth; ++x) {
          float sum = 0;
#pragma unroll
          for (int c = 0; c < kChannels; ++c) {
            const float d = query[c][x] - k[c][x + s];
            sum = c == 0 ? d * d : fmaf(d, d, sum);
          }
          terms[x] = sum;
        }
        sum_columns<kPs, kTileColumns>(terms, sums);
#pragma unroll
        for (int x = 0; x < kTileColumns; ++x) {
          const float found = sum_rows<kPs>(sums[x]);
          if ((wanted[x] & (bit << s)) != 0 && matches.template wants<kRaster>(x, found, code))
            matches.offer(x, found, code);
        }
      }
      matches.template make_room<kTileSteps>();
#pragma unroll
      for (int c = 0; c < kChannels; ++c)
#pragma unroll
        for (int x = 0; x < kWidth - 1; ++x) k[c][x] = k[c][x + kTileSteps];
    }
    if constexpr (kAll) matches.end_row(own_any);
  }

  __device__ int64_t output_index(int row, int x) const {
    const int64_t plane = (b * p.heads + head) * p.frames + t;
    return (plane * p.grid_height + on_grid(top + row)) * p.grid_width + on_grid(left + x);
  }

  // False, with nothing written, where a query has too few valid matches to fill its list: invalid
  // ones fill it then, as everywhere.
  __device__ bool write() const {
    bool full = true;
#pragma unroll
    for (int x = 0; x < kTileColumns; ++x) full = full && (!has_query(x) || matches.code[x] >= 0);
    if (!__all_sync(0xffffffffu, full)) return false;
#pragma unroll
    for (int x = 0; x < kTileColumns; ++x) {
      if (has_query(x)) write_entry(output_index(lane, x), matches.worst[x], matches.code[x]);
    }
    return true;
  }

  // The same, row by row of the tile, so that what is written lies side by side. A row's lists lie
  // where its offsets are to be: they are read before any of these is written.
  __device__ bool write_lists() {
    const int high = rows();
    if (!__all_sync(0xffffffffu, matches.close(lane < high ? columns() : 0))) return false;
    if (p.components == 3)
      write_rows<3>(high);
    else
      write_rows<2>(high);
    return true;
  }

  // The number of slots that are frames from the query's own on; then come those before it.
  __device__ int slots_after() const {
    return static_cast<int>(last_forward_frame(t, p.wt, p.frames) - t);
  }

  template <int kComponents>
  __device__ __forceinline__ void write_rows(int high) {
    const int after = slots_after();
    constexpr int kItems = (kTileColumns * kListMost + 31) / 32;  // of a lane, of a row
    const int k = static_cast<int>(p.k), items = columns() * k;
    int from[kItems];
#pragma unroll
    for (int i = 0; i < kItems; ++i) {
      const int item = lane + 32 * i, x = item / k;
      from[i] = item < items ? matches.at(item - x * k, x) : -1;
    }
    const int64_t entry = output_index(0, 0) * k + lane, line = p.grid_width * k;
    float* dists = static_cast<float*>(p.dists) + entry;
    int32_t* inds = static_cast<int32_t*>(p.inds) + entry * kComponents;
    for (int row = 0; row < high; row += kTogether) {
      double keys[kTogether][kItems];
#pragma unroll
      for (int n = 0; n < kTogether; ++n) {
        const double* list = matches.row_of(row + n);
#pragma unroll
        for (int i = 0; i < kItems; ++i)
          if (row + n < high && from[i] >= 0) keys[n][i] = list[from[i]];
      }
      __syncwarp();
#pragma unroll
      for (int n = 0; n < kTogether; ++n, dists += line, inds += line * kComponents) {
        if (row + n >= high) break;
#pragma unroll
        for (int i = 0; i < kItems; ++i) {
          if (from[i] < 0) continue;
          dists[32 * i] = __int_as_float(__double2hiint(keys[n][i]));
          write_offset<kComponents>(inds + kComponents * 32 * i, __double2loint(keys[n][i]), after);
        }
      }
    }
  }

  __device__ void write_entry(int64_t entry, float found, int code) const {
    static_cast<float*>(p.dists)[entry] = found;
    int32_t* inds = static_cast<int32_t*>(p.inds) + entry * p.components;
    if (p.components == 3)
      write_offset<3>(inds, code, slots_after());
    else
      write_offset<2>(inds, code, 0);
  }
  template <int kComponents>
  __device__ __forceinline__ void write_offset(int32_t* inds, int code, int after) const {
    const int slot = code >> 24;
    if (kComponents == 3) inds[0] = slot <= after ? slot : after - slot;  // as slot_frame finds it
    inds[kComponents - 2] = (code >> 12 & 4095) - 2048;
    inds[kComponents - 1] = (code & 4095) - 2048;
  }
};

// Searches tile by tile; those that it leaves are counted and listed for `left_kernel`.
template <int kPs, int kChannels, TileKeep kKeep>
__global__ void __launch_bounds__(32, tile_blocks(kKeep, kPs, kChannels))
    tiles_kernel(const __grid_constant__ SearchProblem p, int32_t* leftover) {
  extern __shared__ __align__(16) char shared[];
  const int64_t tile = blockIdx.x;
  Tile<kPs, kChannels, kKeep> one(p, tile, shared);
  if (!one.run() && threadIdx.x == 0)
    leftover[1 + atomicAdd(leftover, 1)] = static_cast<int32_t>(tile);
}

template <int kPs, int kChannels, TileKeep kKeep>
cudaError_t launch_tiles(const SearchProblem& p, cudaStream_t stream) {
  const auto kernel = tiles_kernel<kPs, kChannels, kKeep>;
  const unsigned tiles = static_cast<unsigned>(tile_count(p));
  int bytes = tile_windows(kKeep, kPs, kChannels);
  if (kKeep == TileKeep::kLists) bytes += TileLists<tile_rows(kPs)>::kShared;
  if (kKeep == TileKeep::kEvery) bytes += TileEvery<tile_rows(kPs)>::shared(p);
  kernel<<<tiles, 32, bytes, stream>>>(p, p.scratch);
  return cudaSuccess;
}

// One patch size; each is compiled in a source of its own, side by side.
template <int kPs, int kChannels>
cudaError_t launch_tiles(const SearchProblem& p, cudaStream_t stream) {
  switch (tile_keep(p)) {
    case TileKeep::kBest:
      return launch_tiles<kPs, kChannels, TileKeep::kBest>(p, stream);
    case TileKeep::kLists:
      return launch_tiles<kPs, kChannels, TileKeep::kLists>(p, stream);
    default:
      return launch_tiles<kPs, kChannels, TileKeep::kEvery>(p, stream);
  }
}
template <int kPs>
cudaError_t launch_tiles(const SearchProblem& p, cudaStream_t stream) {
  switch (p.channels) {
    case 1:
      return launch_tiles<kPs, 1>(p, stream);
    case 2:
      return launch_tiles<kPs, 2>(p, stream);
    case 3:
      return launch_tiles<kPs, 3>(p, stream);
    default:
      return launch_tiles<kPs, 4>(p, stream);
  }
}

extern template cudaError_t launch_tiles<3>(const SearchProblem& p, cudaStream_t stream);
extern template cudaError_t launch_tiles<5>(const SearchProblem& p, cudaStream_t stream);
extern template cudaError_t launch_tiles<7>(const SearchProblem& p, cudaStream_t stream);
extern template cudaError_t launch_tiles<9>(const SearchProblem& p, cudaStream_t stream);

}  // namespace stnls
