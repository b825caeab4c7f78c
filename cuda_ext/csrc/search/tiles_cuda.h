// The search on the integer grid for small patches of few channels (alignment): a warp walks the
// union of the windows of a tile of queries. For one displacement the distances of all patches of
// the tile are box sums of one difference image, so that a pixel of it is computed once instead of
// ps^2 times.
//
// A lane holds a row of the tile's pixels (queries and the border of their patches) in registers.
// Sums along the row stay in registers, sums over rows go over shuffles. The key's pixels are
// staged in shared memory, from which a step to the right needs one new value for each row and
// channel.
#pragma once

#include <cuda_pipeline.h>

#include "direct.h"

namespace stnls {

constexpr int kTileColumns = 8;   // queries along a row
constexpr int kTileStage = 4096;  // floats of shared memory for each warp
constexpr int kTileShared = kTileStage + 32 * kTileColumns;  // with the windows
constexpr int kTileWarps = 4;                                // warps of a block
constexpr int kTileSteps = 2;    // displacements along a row that share one shift of registers
constexpr int kTileUnion = 570;  // displacements from which on single queries are cheaper
constexpr int kTileMostOffset = 2000;  // larger offsets do not fit the code of a match

// Rows of queries in a tile.
STNLS_HD constexpr int tile_rows(int ps) { return 33 - ps; }

STNLS_HD int64_t tile_count(const SearchProblem& p) {
  const int64_t rows =
      (p.height + tile_rows(static_cast<int>(p.ps)) - 1) / tile_rows(static_cast<int>(p.ps));
  return p.batch * p.heads * p.frames * rows * ((p.width + kTileColumns - 1) / kTileColumns);
}

// Whether a tile can serve the problem at all.
inline bool tiles_apply_cuda(const SearchProblem& p) {
  return p.prior == nullptr && p.dtype == kFloat32 && !p.float_grid && p.reflect_bounds &&
         p.dilation == 1 && p.stride0 == 1 && p.stride_query == 1 && p.keep == kBestOfAll &&
         p.k == 1 && p.self_action == kNone && p.query_height == p.height &&
         p.query_width == p.width && static_cast<int64_t>(p.stride1) == 1 &&
         (p.ps == 3 || p.ps == 5 || p.ps == 7 || p.ps == 9) &&
         (p.channels == 1 || p.channels == 3) && 2 * p.wt + 1 <= 100 &&
         tile_count(p) < (int64_t(1) << 31);
}

// Sum over kPs lanes, this one and those after it; right for the first 33 - kPs lanes.
template <int kPs>
__device__ __forceinline__ float sum_rows(float v) {
  constexpr unsigned all = 0xffffffffu;
  const float second = __shfl_down_sync(all, v, 1);
  const float two = v + second;
  if constexpr (kPs == 3) return two + __shfl_down_sync(all, v, 2);
  const float next = __shfl_down_sync(all, two, 2);
  const float four = two + next;
  if constexpr (kPs == 5) return four + __shfl_down_sync(all, v, 4);
  if constexpr (kPs == 7) return four + __shfl_down_sync(all, second + next, 3);
  return four + __shfl_down_sync(all, four, 4) + __shfl_down_sync(all, v, 8);
}

// Sums over kPs neighbours along the row, from sums that start and end at the borders of blocks.
template <int kPs>
__device__ __forceinline__ void sum_columns(const float (&v)[kTileColumns + kPs - 1],
                                            float (&sums)[kTileColumns]) {
  constexpr int kWidth = kTileColumns + kPs - 1;
  float before[kWidth], after[kWidth];
#pragma unroll
  for (int i = 0; i < kWidth; ++i) before[i] = i % kPs == 0 ? v[i] : before[i - 1] + v[i];
#pragma unroll
  for (int i = kWidth - 1; i >= 0; --i)
    after[i] = i % kPs == kPs - 1 || i == kWidth - 1 ? v[i] : v[i] + after[i + 1];
#pragma unroll
  for (int i = 0; i < kTileColumns; ++i)
    sums[i] = i % kPs == 0 ? before[i + kPs - 1] : after[i] + before[i + kPs - 1];
}

__device__ __forceinline__ int warp_min(int v) {
#pragma unroll
  for (int lane = 16; lane > 0; lane /= 2) v = min(v, __shfl_xor_sync(0xffffffffu, v, lane));
  return v;
}

template <int kPs, int kChannels, bool kProduct>
class Tile {
 public:
  static constexpr int kWidth = kTileColumns + kPs - 1;
  static constexpr int kRows = tile_rows(kPs);
  static constexpr int kNever = 1 << 20;  // a window that no displacement reaches
  static constexpr int kNoRow = 32000;    // the same as a short

  __device__ Tile(const SearchProblem& problem, int64_t tile, float* stage)
      : p(problem),
        stage(stage),
        windows(reinterpret_cast<short2*>(stage + kTileStage)),
        lane(threadIdx.x % 32),
        search(problem) {
    const int64_t columns = (p.width + kTileColumns - 1) / kTileColumns;
    const int64_t rows = (p.height + kRows - 1) / kRows;
    left = static_cast<int>(tile % columns) * kTileColumns;
    tile /= columns;
    top = static_cast<int>(tile % rows) * kRows;
    tile /= rows;
    t = tile % p.frames;
    tile /= p.frames;
    head = tile % p.heads;
    b = tile / p.heads;
  }

  // False, with nothing written, where the windows of a slot lie too far apart.
  __device__ bool run() {
    read_query();
#pragma unroll
    for (int x = 0; x < kTileColumns; ++x) {
      best[x] = infinity<float>();
      code[x] = -1;
    }
    for (int slot = static_cast<int>(p.first_slot); slot < static_cast<int>(end_slot(p)); ++slot) {
      if (!place(slot)) return false;
      if (high > 0) walk(slot);
    }
    write();
    return true;
  }

 private:
  const SearchProblem& p;
  float* stage;
  short2* windows;  // of every column and lane: offsets (row, column) of the first position
  const int lane;
  const DirectSearch<float, false, kProduct> search;
  int left, top;
  int64_t t, head, b;
  float query[kChannels][kWidth];
  float best[kTileColumns];
  int code[kTileColumns];        // slot and offset of the best match
  int low_h, low_w, high, wide;  // the union of the windows

  __device__ bool has_query(int x) const {
    return lane < kRows && top + lane < p.height && left + x < p.width;
  }

  // Finds the windows of one slot and their union; false where the tile cannot serve them.
  __device__ bool place(int slot) {
    const int ws = static_cast<int>(p.ws);
    int low_y = kNever, low_x = kNever, up_y = kNever, up_x = kNever;  // the last two negated
    bool fits = true;
    float flow_h[kTileColumns], flow_w[kTileColumns];
    read_flow(slot, flow_h, flow_w);
#pragma unroll
    for (int x = 0; x < kTileColumns; ++x) {
      int first_h = kNever, first_w = kNever;
      if (has_query(x) && is_finite(flow_h[x]) && is_finite(flow_w[x])) {
        first_h = first_position(top + lane, flow_h[x], static_cast<int>(p.height), &fits);
        first_w = first_position(left + x, flow_w[x], static_cast<int>(p.width), &fits);
        low_y = min(low_y, first_h);
        low_x = min(low_x, first_w);
        up_y = min(up_y, -first_h);
        up_x = min(up_x, -first_w);
      }
      windows[x * 32 + lane] = make_short2(static_cast<short>(first_h == kNever ? kNoRow : first_h),
                                           static_cast<short>(first_w));
    }
    low_h = warp_min(low_y);
    low_w = warp_min(low_x);
    const int most_h = -warp_min(up_y), most_w = -warp_min(up_x);
    high = wide = 0;
    if (low_h < kNever) {
      high = most_h + ws - low_h;
      wide = most_w + ws - low_w;
      fits = fits && low_h > -kTileMostOffset && most_h + ws < kTileMostOffset &&
             low_w > -kTileMostOffset && most_w + ws < kTileMostOffset &&
             32 * pitch() * kChannels <= kTileStage && high * wide <= kTileUnion;
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
        (top + lane) * p.grid_width + left;
    const bool has = p.flow != nullptr && flow_slot >= 0;
#pragma unroll
    for (int x = 0; x < kTileColumns; ++x) {
      const bool reads = has && has_query(x);
      flow_w[x] = reads ? flow[x] : 0.0f;
      flow_h[x] = reads ? flow[x + plane] : 0.0f;
    }
  }

  // Offset of the window's first position along one axis; clears `fits` if the window leaves the
  // frame.
  __device__ int first_position(int place, float flow, int length, bool* fits) const {
    const int64_t anchor = reflect(place + round_offset(flow), length);
    const int64_t first =
        anchor - window_offset(anchor, int64_t(1), p.ws, length, p.full_window != 0);
    *fits = *fits && first >= 0 && first + p.ws <= length;
    return static_cast<int>(first) - place;
  }

  // Floats between rows of the stage: odd, so that lanes meet different banks.
  __device__ int pitch() const { return (kWidth - 1 + wide + kTileSteps - 1) | 1; }

  __device__ int64_t query_pixel(int64_t y, int64_t x) const {
    return reflect(y, p.height) * p.query_stride[4] + reflect(x, p.width);
  }

  __device__ void read_query() {
    const float* plane = static_cast<const float*>(p.query) + b * p.query_stride[0] +
                         head * p.query_stride[1] + t * p.query_stride[2];
    const int64_t y = top + lane + p.patch_offset + p.offset_height;
#pragma unroll
    for (int x = 0; x < kWidth; ++x) {
      const int64_t at = query_pixel(y, left + x + p.patch_offset + p.offset_width);
#pragma unroll
      for (int c = 0; c < kChannels; ++c) query[c][x] = plane[c * p.query_stride[3] + at];
    }
  }

  // Stages the key's pixels for `rows` displacements from row offset `from` on.
  __device__ void read_key(int64_t frame, int from, int rows) {
    const float* plane = static_cast<const float*>(p.key) + b * p.key_stride[0] +
                         head * p.key_stride[1] + frame * p.key_stride[2];
    const int width = pitch(), lines = rows + 31;
    const int height = static_cast<int>(p.height);
    __syncwarp();
    for (int column = lane; column < width; column += 32) {
      const int64_t x =
          reflect(static_cast<int64_t>(left + column + low_w) + p.patch_offset, p.width);
      float* to = stage + column;
      for (int line = 0; line < lines; ++line, to += width) {
        int y = top + line + from + static_cast<int>(p.patch_offset);
        if (y < 0 || y >= height) y = static_cast<int>(reflect(static_cast<int64_t>(y), p.height));
        const float* at = plane + y * p.key_stride[4] + x;
#pragma unroll
        for (int c = 0; c < kChannels; ++c)
          __pipeline_memcpy_async(to + c * lines * width, at + c * p.key_stride[3], sizeof(float));
      }
    }
    __pipeline_commit();
    __pipeline_wait_prior(0);
    __syncwarp();
  }

  __device__ void walk(int slot) {
    const int room = kTileStage / (pitch() * kChannels) - 31;
    for (int from = 0; from < high; from += room) {
      const int rows = min(room, high - from);
      read_key(slot_frame(t, slot, p.wt, p.frames), low_h + from, rows);
      for (int row = 0; row < rows; ++row) walk_row(slot, low_h + from + row, row, rows + 31);
    }
  }

  // All displacements with row offset dh.
  __device__ void walk_row(int slot, int dh, int row, int lines) {
    const int width = pitch();
    const unsigned ws = static_cast<unsigned>(p.ws);
    int first[kTileColumns];  // window's first column offset relative to the walk, where dh is in
                              // it
    bool any = false;
#pragma unroll
    for (int x = 0; x < kTileColumns; ++x) {
      const short2 window = windows[x * 32 + lane];
      const bool in = static_cast<unsigned>(dh - window.x) < ws;
      first[x] = in ? window.y - low_w : kNever;
      any = any || in;
    }
    if (!__any_sync(0xffffffffu, any)) return;
    const float* key = stage + (row + lane) * width;
    float k[kChannels][kWidth + kTileSteps - 1];
#pragma unroll
    for (int c = 0; c < kChannels; ++c)
#pragma unroll
      for (int x = 0; x < kWidth - 1; ++x) k[c][x] = key[c * lines * width + x];
    const int base = ((slot << 12 | (dh + 2048)) << 12) | (low_w + 2048);
    for (int step = 0; step < wide; step += kTileSteps) {
#pragma unroll
      for (int c = 0; c < kChannels; ++c)
#pragma unroll
        for (int s = 0; s < kTileSteps; ++s)
          k[c][kWidth - 1 + s] = key[c * lines * width + step + kWidth - 1 + s];
#pragma unroll
      for (int s = 0; s < kTileSteps; ++s) {
        float terms[kWidth], sums[kTileColumns];
#pragma unroll
        for (int x = 0; x < kWidth; ++x) {
          float sum = 0;
#pragma unroll
          for (int c = 0; c < kChannels; ++c) {
            if constexpr (kProduct) {
              sum = c == 0 ? query[c][x] * k[c][x + s] : fmaf(query[c][x], k[c][x + s], sum);
            } else {
              const float d = query[c][x] - k[c][x + s];
              sum = c == 0 ? d * d : fmaf(d, d, sum);
            }
          }
          terms[x] = sum;
        }
        sum_columns<kPs>(terms, sums);
#pragma unroll
        for (int x = 0; x < kTileColumns; ++x) {
          const float whole = sum_rows<kPs>(sums[x]);
          const float found = kProduct ? -whole : whole;
          if (found < best[x] && static_cast<unsigned>(step + s - first[x]) < ws) {
            best[x] = found;
            code[x] = base + step + s;
          }
        }
      }
#pragma unroll
      for (int c = 0; c < kChannels; ++c)
#pragma unroll
        for (int x = 0; x < kWidth - 1; ++x) k[c][x] = k[c][x + kTileSteps];
    }
  }

  __device__ void write() const {
#pragma unroll
    for (int x = 0; x < kTileColumns; ++x) {
      if (!has_query(x)) continue;
      const Query q{b, head, t, top + lane, left + x};
      const int64_t index =
          (((b * p.heads + head) * p.frames + t) * p.grid_height + q.i) * p.grid_width + q.j;
      static_cast<float*>(p.dists)[index] = kProduct ? -best[x] : best[x];
      int32_t* inds = static_cast<int32_t*>(p.inds) + index * p.components;
      if (code[x] < 0) {  // nothing valid: the first candidate, as everywhere
        search.write_offsets(q, search.candidate(p.first_slot, 0, 0), false, inds);
        continue;
      }
      const int slot = code[x] >> 24;
      if (p.components == 3)
        *inds++ = static_cast<int32_t>(slot_frame(t, slot, p.wt, p.frames) - t);
      inds[0] = (code[x] >> 12 & 4095) - 2048;
      inds[1] = (code[x] & 4095) - 2048;
    }
  }
};

// Searches tile by tile; those that it leaves are counted and listed for `leftover_kernel`.
template <int kPs, int kChannels, bool kProduct>
__global__ void __launch_bounds__(32 * kTileWarps)
    tiles_kernel(const __grid_constant__ SearchProblem p, int32_t* leftover) {
  extern __shared__ float stages[];
  const int warp = threadIdx.x / 32;
  const int64_t tile = static_cast<int64_t>(blockIdx.x) * kTileWarps + warp;
  if (tile >= tile_count(p)) return;
  Tile<kPs, kChannels, kProduct> one(p, tile, stages + warp * kTileShared);
  if (!one.run() && threadIdx.x % 32 == 0)
    leftover[1 + atomicAdd(leftover, 1)] = static_cast<int32_t>(tile);
}

// The tiles that were left, one thread a query.
template <bool kProduct>
__global__ void __launch_bounds__(256)
    leftover_kernel(const __grid_constant__ SearchProblem p, const int32_t* leftover) {
  const DirectSearch<float, false, kProduct> search(p);
  const int rows = tile_rows(static_cast<int>(p.ps));
  const int64_t tile_columns = (p.width + kTileColumns - 1) / kTileColumns;
  const int64_t tile_lines = (p.height + rows - 1) / rows;
  const int count = *leftover;
  for (int item = blockIdx.x; item < count; item += gridDim.x) {
    int64_t tile = leftover[1 + item];
    const int64_t left = tile % tile_columns * kTileColumns;
    tile /= tile_columns;
    const int64_t top = tile % tile_lines * rows, plane = tile / tile_lines;
    for (int place = threadIdx.x; place < rows * kTileColumns; place += blockDim.x) {
      const int64_t i = top + place / kTileColumns, j = left + place % kTileColumns;
      if (i < p.grid_height && j < p.grid_width)
        search.run((plane * p.grid_height + i) * p.grid_width + j);
    }
  }
}

}  // namespace stnls
