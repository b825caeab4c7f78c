// The search on the integer grid for small patches of few channels (alignment): a warp walks the
// union of the windows of a tile of queries, row by row. For one displacement the distances of all
// patches of the tile are box sums of one difference image, so that a pixel of it is computed once
// instead of ps^2 times.
//
// A lane holds a row of the tile's pixels (queries and the border of their patches) in registers.
// Sums along the row stay in registers, sums over rows go over shuffles. The key's pixels are
// staged in shared memory, from which a step to the right needs one new value for each row and
// channel.
#pragma once

#include <cuda_pipeline.h>

#include "../common/cuda_launch.h"
#include "box_sums_cuda.h"
#include "direct.h"
#include "match_key_cuda.h"
#include "sorted_list_cuda.h"

namespace stnls {

constexpr int kTileWarps = 2;  // warps of a block
constexpr int kTileSteps = 2;  // displacements along a row that share one shift of registers
constexpr int kTileMostOffset = 2000;  // larger offsets do not fit the code of a match
constexpr int kTileUnion = 2000;       // displacements from which on single queries are cheaper
constexpr int kTileSpare = 4;          // entries of a list beyond K, see TileLists

// Queries along a row: fewer where lists of matches take up shared memory.
STNLS_HD constexpr int tile_columns(int64_t k) { return k > 1 ? 4 : 8; }

// Floats of shared memory in which a warp stages the key.
STNLS_HD constexpr int tile_stage(int64_t k) { return k > 1 ? 3072 : 4352; }

// Bytes of shared memory for each warp: the stage, the windows, the lists.
STNLS_HD constexpr int tile_shared(int64_t k) {
  const int lists = k > 1 ? static_cast<int>(k + kTileSpare) * tile_columns(k) * 33 * 8 : 0;
  return 4 * (tile_stage(k) + 32 * tile_columns(k)) + lists;
}

// Rows of queries in a tile.
STNLS_HD constexpr int tile_rows(int ps) { return 33 - ps; }

STNLS_HD int64_t tile_count(const SearchProblem& p) {
  const int64_t rows =
      (p.height + tile_rows(static_cast<int>(p.ps)) - 1) / tile_rows(static_cast<int>(p.ps));
  const int columns = tile_columns(p.k);
  return p.batch * p.heads * p.frames * rows * ((p.width + columns - 1) / columns);
}

// Whether a tile can serve the problem at all.
inline bool tiles_apply_cuda(const SearchProblem& p) {
  return p.prior == nullptr && p.dtype == kFloat32 && !p.float_grid && p.reflect_bounds &&
         p.dilation == 1 && p.stride0 == 1 && p.stride_query == 1 && p.keep == kBestOfAll &&
         p.k >= 1 && p.k <= kListMost && p.self_action == kNone && p.query_height == p.height &&
         p.query_width == p.width && static_cast<int64_t>(p.stride1) == 1 && !p.product &&
         (p.ps == 3 || p.ps == 5 || p.ps == 7 || p.ps == 9) &&
         (p.channels == 1 || p.channels == 3) && 2 * p.wt + 1 <= 100 &&
         tile_count(p) < (int64_t(1) << 31);
}

// The best match of every query of a lane, in registers.
template <int kColumns>
struct TileBest {
  float worst[kColumns];
  int code[kColumns];

  __device__ TileBest(uint64_t*, int64_t, int) {
#pragma unroll
    for (int x = 0; x < kColumns; ++x) {
      worst[x] = infinity<float>();
      code[x] = -1;
    }
  }
  // Where candidates come in raster order the first of equals stays; elsewhere the lowest.
  template <bool kRaster>
  __device__ __forceinline__ bool wants(int x, float found, int id) const {
    return kRaster ? found < worst[x] : found < worst[x] || (found == worst[x] && id < code[x]);
  }
  __device__ __forceinline__ void offer(int x, float found, int id) {
    worst[x] = found;
    code[x] = id;
  }
  __device__ __forceinline__ void make_room() {}
};

// The K best matches of every query of a lane, sorted, in shared memory. What is better than the
// K-th best known so far is appended; when the spare places run short, all lanes sort in what they
// have there at once.
template <int kColumns>
struct TileLists {
  static constexpr int kStride = kColumns * 33;
  float worst[kColumns];
  uint64_t* end[kColumns];
  uint64_t* const lists;
  const int k;

  __device__ TileLists(uint64_t* lists, int64_t k, int lane)
      : lists(lists + lane), k(static_cast<int>(k)) {
#pragma unroll
    for (int x = 0; x < kColumns; ++x) {
      worst[x] = infinity<float>();
      end[x] = at(x) + this->k * kStride;
      for (int e = 0; e < this->k; ++e) at(x)[e * kStride] = ~uint64_t(0);
    }
  }
  __device__ uint64_t* at(int x) const { return lists + x * 33; }

  template <bool>
  __device__ __forceinline__ bool wants(int x, float found, int) const {
    return found <= worst[x];
  }
  __device__ __forceinline__ void offer(int x, float found, int id) {
    *end[x] = ordered_key(found, id);
    end[x] += kStride;
  }

  // To be called after kTileSteps offers at most.
  __device__ __forceinline__ void make_room() {
#pragma unroll
    for (int x = 0; x < kColumns; ++x) {
      if (__any_sync(0xffffffffu, end[x] > at(x) + (k + kTileSpare - kTileSteps) * kStride))
        shorten(x);
    }
  }

  // Sorts in what was appended to a list.
  __device__ __forceinline__ void shorten(int x) {
    SortedList best;
    best.load(at(x), kStride, k);
    for (uint64_t* from = at(x) + k * kStride; __any_sync(0xffffffffu, from < end[x]);
         from += kStride)
      best.insert(from < end[x] ? *from : ~uint64_t(0));
    best.store(at(x), kStride, k);
    end[x] = at(x) + k * kStride;
    if (best.last() != ~uint64_t(0)) worst[x] = distance_of_key(best.last());
  }

  // Sorts in all that is left; the bits of the lists that are not full.
  __device__ int finish() {
    int short_lists = 0;
#pragma unroll
    for (int x = 0; x < kColumns; ++x) {
      shorten(x);
      if (at(x)[(k - 1) * kStride] == ~uint64_t(0)) short_lists |= 1 << x;
    }
    return short_lists;
  }
};

template <int kPs, int kChannels, bool kLists>
class Tile {
 public:
  static constexpr int kTileColumns = kLists ? 4 : 8;
  using Matches =
      typename std::conditional<kLists, TileLists<kTileColumns>, TileBest<kTileColumns>>::type;
  static constexpr int kWidth = kTileColumns + kPs - 1;
  static constexpr int kRows = tile_rows(kPs);
  static constexpr int kNever = 1 << 20;  // a window that no displacement reaches
  static constexpr int kNoRow = 32000;    // the same as a short

  __device__ Tile(const SearchProblem& problem, int64_t tile, uint64_t* shared)
      : p(problem),
        lists(shared),
        stage(reinterpret_cast<float*>(shared) +
              (tile_shared(p.k) / 4 - tile_stage(p.k) - 32 * kTileColumns)),
        windows(reinterpret_cast<short2*>(stage + tile_stage(p.k))),
        lane(threadIdx.x % 32),
        matches(shared, problem.k, static_cast<int>(threadIdx.x % 32)) {
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

  // False, with nothing written, where the windows of a slot lie too far apart or too few
  // candidates are valid.
  __device__ bool run() {
    read_query();
    for (int slot = static_cast<int>(p.first_slot); slot < static_cast<int>(end_slot(p)); ++slot) {
      if (!place(slot)) return false;
      if (high > 0) walk(slot);
    }
    if constexpr (kLists)
      return write_lists();
    else
      return write();
  }

 private:
  const SearchProblem& p;
  uint64_t* const lists;
  float* const stage;
  short2* const windows;  // of every column and lane: offsets (row, column) of the first position
  const int lane;
  int left, top;
  int64_t t, head, b;
  float query[kChannels][kWidth];
  Matches matches;               // with codes of slot and offset
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
             low_w > -kTileMostOffset && most_w + ws < kTileMostOffset && high * wide <= kTileUnion;
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

  // Floats between rows of the stage, for so many displacements: odd, so that lanes meet different
  // banks.
  __device__ static int pitch(int displacements) {
    return (kWidth - 1 + displacements + kTileSteps - 1) | 1;
  }
  // Displacements along a row that the stage has room for.
  __device__ int widest() const {
    return (tile_stage(p.k) / (32 * kChannels) - 1 | 1) - kWidth - kTileSteps + 2;
  }

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
  __device__ void read_key(int64_t frame, int from, int rows, int piece, int width) {
    const float* plane = static_cast<const float*>(p.key) + b * p.key_stride[0] +
                         head * p.key_stride[1] + frame * p.key_stride[2];
    const int lines = rows + 31;
    const int height = static_cast<int>(p.height);
    __syncwarp();
    for (int column = lane; column < width; column += 32) {
      const int64_t x =
          reflect(static_cast<int64_t>(left + column + low_w + piece) + p.patch_offset, p.width);
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

  // All displacements of one slot. A union that is too wide for the stage is cut into pieces.
  __device__ void walk(int slot) {
    const int64_t frame = slot_frame(t, slot, p.wt, p.frames);
    const int most = widest();
    for (int piece = 0; piece < wide; piece += most) {
      const int until = min(wide, piece + most), width = pitch(until - piece);
      const int room = tile_stage(p.k) / (width * kChannels) - 31;
      for (int from = 0; from < high; from += room) {
        const int rows = min(room, high - from);
        read_key(frame, low_h + from, rows, piece, width);
        for (int row = 0; row < rows; ++row) {
          const float* key = stage + (row + lane) * width;
          const int dh = low_h + from + row, plane = (rows + 31) * width;
          if (kLists || wide <= most)
            walk_row<true>(slot, dh, key, plane, piece, until);
          else
            walk_row<false>(slot, dh, key, plane, piece, until);
        }
      }
    }
  }

  // The displacements `piece` .. `until` - 1 of the union with row offset dh. `key`: pixels of the
  // lane's row, `plane`: floats between channels.
  template <bool kRaster>
  __device__ void walk_row(int slot, int dh, const float* key, int plane, int piece, int until) {
    const unsigned ws = static_cast<unsigned>(p.ws);
    // The window's first column offset relative to the union, where dh is in it; and the part of
    // the row that these windows need.
    int first[kTileColumns];
    int begin = kNever, end = kNever;  // the latter negated
#pragma unroll
    for (int x = 0; x < kTileColumns; ++x) {
      const short2 window = windows[x * 32 + lane];
      const bool in = static_cast<unsigned>(dh - window.x) < ws;
      first[x] = in ? window.y - low_w : kNever;
      begin = min(begin, first[x]);
      end = min(end, in ? -first[x] : kNever);
    }
    begin = max(warp_min(begin), piece);
    end = min(-warp_min(end) + static_cast<int>(ws), until);
    if (begin >= end) return;
    key += begin - piece;
    float k[kChannels][kWidth + kTileSteps - 1];
#pragma unroll
    for (int c = 0; c < kChannels; ++c)
#pragma unroll
      for (int x = 0; x < kWidth - 1; ++x) k[c][x] = key[c * plane + x];
    const int base = ((slot << 12 | (dh + 2048)) << 12) | (low_w + 2048);
    for (int step = begin; step < end; step += kTileSteps, key += kTileSteps) {
#pragma unroll
      for (int c = 0; c < kChannels; ++c)
#pragma unroll
        for (int s = 0; s < kTileSteps; ++s) k[c][kWidth - 1 + s] = key[c * plane + kWidth - 1 + s];
#pragma unroll
      for (int s = 0; s < kTileSteps; ++s) {
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
          if (matches.template wants<kRaster>(x, found, base + step + s) &&
              static_cast<unsigned>(step + s - first[x]) < ws && (!kLists || step + s < end))
            matches.offer(x, found, base + step + s);
        }
      }
      matches.make_room();
#pragma unroll
      for (int c = 0; c < kChannels; ++c)
#pragma unroll
        for (int x = 0; x < kWidth - 1; ++x) k[c][x] = k[c][x + kTileSteps];
    }
  }

  __device__ int64_t output_index(int row, int x) const {
    const int64_t plane = (b * p.heads + head) * p.frames + t;
    return (plane * p.grid_height + top + row) * p.grid_width + left + x;
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

  // The same, row by row of the tile, so that what is written lies side by side.
  __device__ bool write_lists() {
    const int short_lists = matches.finish();
    bool full = true;
#pragma unroll
    for (int x = 0; x < kTileColumns; ++x) full = full && !(has_query(x) && (short_lists >> x & 1));
    if (!__all_sync(0xffffffffu, full)) return false;
    const int k = static_cast<int>(p.k);
    const int wide = min(kTileColumns, static_cast<int>(p.width) - left) * k;
    __syncwarp();
    for (int row = 0; row < kRows && top + row < p.height; ++row) {
      for (int item = lane; item < wide; item += 32) {
        const int x = item / k, e = item - x * k;
        const uint64_t key = lists[(e * kTileColumns + x) * 33 + row];
        write_entry(output_index(row, x) * k + e, distance_of_key(key),
                    static_cast<int>(static_cast<unsigned>(key)));
      }
    }
    return true;
  }

  __device__ void write_entry(int64_t entry, float found, int code) const {
    static_cast<float*>(p.dists)[entry] = found;
    int32_t* inds = static_cast<int32_t*>(p.inds) + entry * p.components;
    if (p.components == 3)
      *inds++ = static_cast<int32_t>(slot_frame(t, code >> 24, p.wt, p.frames) - t);
    inds[0] = (code >> 12 & 4095) - 2048;
    inds[1] = (code & 4095) - 2048;
  }
};

// Searches tile by tile; those that it leaves are counted and listed for `leftover_kernel`.
template <int kPs, int kChannels, bool kLists>
__global__ void __launch_bounds__(32 * kTileWarps)
    tiles_kernel(const __grid_constant__ SearchProblem p, int32_t* leftover) {
  extern __shared__ uint64_t shared[];
  const int warp = threadIdx.x / 32;
  const int64_t tile = static_cast<int64_t>(blockIdx.x) * kTileWarps + warp;
  if (tile >= tile_count(p)) return;
  Tile<kPs, kChannels, kLists> one(p, tile, shared + warp * (tile_shared(p.k) / 8));
  if (!one.run() && threadIdx.x % 32 == 0)
    leftover[1 + atomicAdd(leftover, 1)] = static_cast<int32_t>(tile);
}

template <int kPs, int kChannels, bool kLists>
cudaError_t launch_tiles(const SearchProblem& p, cudaStream_t stream) {
  const int shared = kTileWarps * tile_shared(p.k);
  const auto kernel = tiles_kernel<kPs, kChannels, kLists>;
  // More than 48 KiB must be asked for; the setting is the device's, and cheap to repeat.
  const cudaError_t error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared);
  if (error != cudaSuccess) return error;
  kernel<<<blocks_for(tile_count(p), kTileWarps), 32 * kTileWarps, shared, stream>>>(p, p.scratch);
  return cudaSuccess;
}

// One patch size; each is compiled in a source of its own, side by side.
template <int kPs>
cudaError_t launch_tiles(const SearchProblem& p, cudaStream_t stream) {
  if (p.channels == 1)
    return p.k > 1 ? launch_tiles<kPs, 1, true>(p, stream) : launch_tiles<kPs, 1, false>(p, stream);
  return p.k > 1 ? launch_tiles<kPs, 3, true>(p, stream) : launch_tiles<kPs, 3, false>(p, stream);
}

extern template cudaError_t launch_tiles<3>(const SearchProblem& p, cudaStream_t stream);
extern template cudaError_t launch_tiles<5>(const SearchProblem& p, cudaStream_t stream);
extern template cudaError_t launch_tiles<7>(const SearchProblem& p, cudaStream_t stream);
extern template cudaError_t launch_tiles<9>(const SearchProblem& p, cudaStream_t stream);

}  // namespace stnls
