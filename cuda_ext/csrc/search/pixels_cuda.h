// The search for patches of one pixel (attention). Patches do not overlap, so that queries share no
// sums: each thread walks the window of its own query, and no more. What threads share are the
// key's pixels, staged in shared memory with their channels by four, and on the real grid the sums
// over the key from which distances between pixels follow (windows_cuda.h has the formulas).
//
// The windows of a tile may lie apart, at the edge of an object or in torn flow. Then the tile's
// threads are served in rounds, each of which stages the surroundings of one window and serves all
// that lie inside.
#pragma once

#include "../common/cuda_launch.h"
#include "box_sums_cuda.h"
#include "match_key_cuda.h"
#include "pixels_shape_cuda.h"
#include "query_window_cuda.h"

namespace stnls {

constexpr int kPixelRounds = 32;  // a tile that takes more is left

template <int kQuads, int kCells, bool kProduct>
class PixelTile {
 public:
  static constexpr bool kFloat = kCells > 0;
  static constexpr bool kSums = kFloat && !kProduct;
  static constexpr int kPer = kFloat ? kCells : 1;
  static constexpr int kPitch = pixel_pitch(kCells);
  static constexpr int kEntry = 8 * kPixelThreads;  // bytes from one match put aside to the next
  using Search = DirectSearch<float, kFloat, kProduct>;
  using Pos = typename Search::Pos;

  __device__ PixelTile(const SearchProblem& problem, int tile, char* shared)
      : p(problem), search(problem), thread(threadIdx.x), reach(pixel_reach(p)) {
    const int lane = thread % 32, warp = thread / 32;
    row = warp / 2 * 4 + lane / 8;
    column = warp % 2 * 8 + lane % 8;
    const int columns = (static_cast<int>(p.width) + kPixelColumns - 1) / kPixelColumns;
    const int rows = (static_cast<int>(p.height) + kPixelRows - 1) / kPixelRows;
    left = tile % columns * kPixelColumns;
    tile /= columns;
    top = tile % rows * kPixelRows;
    tile /= rows;
    t = tile % static_cast<int>(p.frames);
    tile /= static_cast<int>(p.frames);
    head = tile % static_cast<int>(p.heads);
    b = tile / static_cast<int>(p.heads);
    has_query = top + row < p.height && left + column < p.width;
    aside = shared;
    last_column = reinterpret_cast<float*>(aside + kEntry * kPixelAside) + thread;
    bounds = reinterpret_cast<int*>(aside + pixel_fixed_bytes(p) - 128);
    stage = reinterpret_cast<float4*>(aside + pixel_fixed_bytes(p));
    sums = stage + kQuads * kPitch * pixel_rows(p);
    end = begin = 8 * thread;
    list.clear(static_cast<int>(p.k));
    limit = infinity<float>();
  }

  // False, with nothing written, where the windows of a slot lie too far apart or too few
  // candidates are valid.
  __device__ bool run() {
    read_query();
    for (int slot = static_cast<int>(p.first_slot); slot < static_cast<int>(end_slot(p)); ++slot) {
      place(slot);
      for (int round = 0;; ++round) {
        if (!choose_region()) break;
        if (round == kPixelRounds) return false;
        stage_key(slot);
        if (__any_sync(0xffffffffu, active)) {
          if constexpr (kFloat)
            walk_cells(slot);
          else
            walk_pixels(slot);
        }
        pending = pending && !active;
      }
    }
    settle();
    return write();
  }

 private:
  const SearchProblem& p;
  const Search search;
  const int thread, reach;
  int row, column;  // of the query in its tile
  int top, left, t, head, b;
  bool has_query;
  char* aside;
  float* last_column;
  int* bounds;
  float4* stage;
  float4* sums;    // for each pixel: X, Y, the difference of Y to the next column, M
  int begin, end;  // bytes to the first and to the next match put aside
  float limit;     // the distance of the worst match
  SortedList list;
  float query[4 * kQuads];

  // The window of the query in one slot: position and index of its anchor, its first pixel, and
  // the rows and columns of candidates that are inside the frame.
  Pos anchor_h, anchor_w;
  int offset_h, offset_w, first_h, first_w, from_h, count_h, from_w, count_w;
  bool pending, active;
  int region_h, region_w, region_rows, region_columns;  // of the key, what is staged

  __device__ const float* plane_of(const void* video, const int64_t (&stride)[5],
                                   int64_t frame) const {
    return static_cast<const float*>(video) + b * stride[0] + head * stride[1] + frame * stride[2];
  }

  __device__ void read_query() {
    const int64_t y =
        reflect(static_cast<int64_t>(top + row) + p.patch_offset + p.offset_height, p.height);
    const int64_t x =
        reflect(static_cast<int64_t>(left + column) + p.patch_offset + p.offset_width, p.width);
    const float* at = plane_of(p.query, p.query_stride, t) + y * p.query_stride[4] + x;
#pragma unroll
    for (int c = 0; c < 4 * kQuads; ++c)
      query[c] = c < p.channels ? at[c * p.query_stride[3]] : 0.0f;
  }

  __device__ QueryWindow<Pos> window_of(int slot) const {
    if (!has_query) return {};
    return query_window(search, b, head, t, top + row, left + column, slot);
  }

  __device__ void place(int slot) {
    const QueryWindow<Pos> w = window_of(slot);
    anchor_h = w.anchor_h;
    anchor_w = w.anchor_w;
    offset_h = w.offset_h;
    offset_w = w.offset_w;
    pending = w.finite;
    first_h = inside_of(anchor_h, offset_h, static_cast<int>(p.height), from_h, count_h);
    first_w = inside_of(anchor_w, offset_w, static_cast<int>(p.width), from_w, count_w);
  }

  // The first pixel of a window along one axis, and the candidates that are inside.
  __device__ int inside_of(Pos anchor, int offset, int length, int& from, int& count) const {
    const int ws = static_cast<int>(p.ws);
    from = 0;
    count = ws;
    const Pos start = search.position(anchor, 0, offset);
    if (start < Pos(0) || search.position(anchor, ws - 1, offset) > static_cast<Pos>(length - 1)) {
      count = 0;
      for (int i = 0; i < ws; ++i) {
        const Pos at = search.position(anchor, i, offset);
        if (at < Pos(0)) ++from;
        if (at >= Pos(0) && at <= static_cast<Pos>(length - 1)) ++count;
      }
    }
    if constexpr (kFloat) return static_cast<int>(floorf(start));
    return static_cast<int>(start);
  }

  // Chooses what to stage, and with it the windows that are served; false where none is left.
  __device__ bool choose_region() {
    constexpr int kNever = 1 << 28, kWarps = kPixelThreads / 32;
    const int lane = thread % 32, warp = thread / 32;
    const int most_rows = pixel_rows(p);
    // The least and the largest place (negated) of the windows, and the first that waits.
    const int own[5] = {first_h, first_w, -first_h, -first_w, thread};
    int least[5];
#pragma unroll
    for (int i = 0; i < 5; ++i) least[i] = warp_min(pending ? own[i] : kNever);
    __syncthreads();  // of the last round, all have been read
    if (lane == 0) {
#pragma unroll
      for (int i = 0; i < 5; ++i) bounds[5 * warp + i] = least[i];
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 5; ++i) {
      least[i] = bounds[i];
#pragma unroll
      for (int other = 1; other < kWarps; ++other) least[i] = min(least[i], bounds[5 * other + i]);
    }
    const int leader = least[4];
    active = pending;
    if (leader == kNever) return false;
    region_h = least[0];
    region_w = least[1];
    region_rows = reach - least[2] - least[0];
    region_columns = reach - least[3] - least[1];
    if (region_rows <= most_rows && region_columns <= kPitch) return true;
    // As if all others moved like the first: the tile around it, as far as it goes.
    if (thread == leader) {
      bounds[5 * kWarps] = first_h - row;
      bounds[5 * kWarps + 1] = first_w - column;
      bounds[5 * kWarps + 2] = first_h;
      bounds[5 * kWarps + 3] = first_w;
    }
    __syncthreads();
    region_rows = min(region_rows, most_rows);
    region_columns = min(region_columns, kPitch);
    region_h = around(bounds[5 * kWarps], bounds[5 * kWarps + 2], kPixelRows, region_rows, least[0],
                      -least[2]);
    region_w = around(bounds[5 * kWarps + 1], bounds[5 * kWarps + 3], kPixelColumns, region_columns,
                      least[1], -least[3]);
    active = pending && first_h >= region_h && first_h + reach <= region_h + region_rows &&
             first_w >= region_w && first_w + reach <= region_w + region_columns;
    return true;
  }

  // Where a region begins: the tile whose window begin at `start` is in its middle, the window that
  // begins at `must` is in it, and nothing beyond the windows that begin at `low` .. `high`.
  __device__ int around(int start, int must, int queries, int length, int low, int high) const {
    const int room = length - reach;
    int from = start - (room - (queries - 1)) / 2;
    from = max(min(from, high - room), low);
    return max(min(from, must), must - room);
  }

  // Stages the key's pixels of the region, and the sums over them.
  __device__ void stage_key(int slot) {
    const float* plane = plane_of(p.key, p.key_stride, slot_frame(t, slot, p.wt, p.frames));
    const int count = region_rows * kPitch;
    for (int i = thread; i < count; i += kPixelThreads) {
      const int r = i / kPitch, c = i - r * kPitch;
      if (c >= region_columns) continue;
      const int y = pixel_of(region_h + r, p.height), x = pixel_of(region_w + c, p.width);
      const float* at = plane + y * static_cast<int>(p.key_stride[4]) + x;
      float4* to = stage + r * kQuads * kPitch + c;
#pragma unroll
      for (int j = 0; j < kQuads; ++j) {
        float four[4];
#pragma unroll
        for (int n = 0; n < 4; ++n)
          four[n] = 4 * j + n < p.channels ? at[(4 * j + n) * p.key_stride[3]] : 0.0f;
        to[j * kPitch] = make_float4(four[0], four[1], four[2], four[3]);
      }
    }
    __syncthreads();
    for (int i = thread; kSums && i < count; i += kPixelThreads) {
      const int r = i / kPitch, c = i - r * kPitch;
      if (c >= region_columns) continue;
      // What lies beyond the region is not needed.
      const int right = c + 1 < region_columns ? 1 : 0;
      const int below = r + 1 < region_rows ? kQuads * kPitch : 0;
      const float4* at = stage + r * kQuads * kPitch + c;
      float along = 0.0f, down = 0.0f, next = 0.0f, both = 0.0f;
#pragma unroll
      for (int j = 0; j < kQuads; ++j, at += kPitch) {
        const float4 k00 = at[0], k01 = at[right], k10 = at[below], k11 = at[below + right];
        add_slopes(k00.x, k01.x, k10.x, k11.x, along, down, next, both);
        add_slopes(k00.y, k01.y, k10.y, k11.y, along, down, next, both);
        add_slopes(k00.z, k01.z, k10.z, k11.z, along, down, next, both);
        add_slopes(k00.w, k01.w, k10.w, k11.w, along, down, next, both);
      }
      sums[i] = make_float4(along, down, next - down, both);
    }
    if (kSums) __syncthreads();
  }
  __device__ static int pixel_of(int x, int64_t length) {
    return x >= 0 && x < length ? x : static_cast<int>(reflect(static_cast<int64_t>(x), length));
  }
  __device__ static void add_slopes(float k00, float k01, float k10, float k11, float& along,
                                    float& down, float& next, float& both) {
    const float to_right = k01 - k00, to_bottom = k10 - k00, right_to_bottom = k11 - k01;
    const float mixed = right_to_bottom - to_bottom;
    along = fmaf(to_right, to_right, along);
    down = fmaf(to_bottom, to_bottom, down);
    next = fmaf(right_to_bottom, right_to_bottom, next);
    both = fmaf(mixed, mixed, both);
  }

  // The distance to a pixel of the stage.
  __device__ __forceinline__ float distance(const float4* at) const {
    float sum = 0.0f;
#pragma unroll
    for (int j = 0; j < kQuads; ++j) {
      const float4 k = at[j * kPitch];
      sum = Search::add_term(query[4 * j], k.x, sum);
      sum = Search::add_term(query[4 * j + 1], k.y, sum);
      sum = Search::add_term(query[4 * j + 2], k.z, sum);
      sum = Search::add_term(query[4 * j + 3], k.w, sum);
    }
    return kProduct ? -sum : sum;
  }

  // Integer grid: the candidates are pixels.
  __device__ void walk_pixels(int slot) {
    const int ws = static_cast<int>(p.ws), step = static_cast<int>(p.stride1);
    const float4* own = stage;
    if (active) own += (first_h - region_h) * kQuads * kPitch + first_w - region_w;
    const unsigned rows = active ? count_h : 0, columns = count_w;
    int id = slot * ws * ws;
    for (int i = 0; i < ws; ++i, own += step * kQuads * kPitch) {
      const bool inside = static_cast<unsigned>(i - from_h) < rows;
      for (int j = 0; j < ws; j += 2) {
        make_room();
        const float found = distance(own + j * step);
        if (inside && static_cast<unsigned>(j - from_w) < columns) offer(found, id + j);
        if (j + 1 >= ws) break;
        const float other = distance(own + (j + 1) * step);
        if (inside && static_cast<unsigned>(j + 1 - from_w) < columns) offer(other, id + j + 1);
      }
      id += ws;
    }
  }

  // A distance that is none.
  __device__ static float nothing() { return __int_as_float(0x7fffffff); }

  // Real grid: a cell, between two columns and two rows of pixels, holds kPer x kPer places; those
  // that are no candidates of the window have a distance of NaN.
  __device__ void walk_cells(int slot) {
    constexpr float kStep = 1.0f / kPer;
    const int ws = static_cast<int>(p.ws);
    const int at = active ? (first_h - region_h) * kPitch + first_w - region_w : 0;
    const float4* own =
        stage + (active ? (first_h - region_h) * kQuads * kPitch + first_w - region_w : 0);
    // Places of the first cell that lie before the first candidate.
    float nth = -static_cast<float>(offset_h), mth = -static_cast<float>(offset_w);
    const float x = static_cast<float>(first_w);
    int skip_h = 0, skip_w = 0;
    if constexpr (kPer > 1) {
      skip_h = static_cast<int>((anchor_h + kStep * nth - static_cast<float>(first_h)) * kPer);
      skip_w = static_cast<int>((anchor_w + kStep * mth - x) * kPer);
      nth -= static_cast<float>(skip_h);
      mth -= static_cast<float>(skip_w);
    }
    const unsigned rows = active ? count_h : 0, columns = count_w;
    for (int line = 0; line < reach; ++line)
      last_column[line * kPixelThreads] = distance(own + line * kQuads * kPitch);
    for (int cell = 0; cell < reach - 1; ++cell) {
      ++own;
      float u[kPer], uu[kPer], e[kPer];
#pragma unroll
      for (int m = 0; m < kPer; ++m) {
        const float w = anchor_w + kStep * (mth + static_cast<float>(kPer * cell + m));
        const bool has = static_cast<unsigned>(kPer * cell + m - skip_w - from_w) < columns;
        u[m] = has ? w - x - static_cast<float>(cell) : nothing();
        uu[m] = fmaf(-u[m], u[m], u[m]);
      }
      int i = -skip_h - from_h, id = slot * ws * ws + kPer * cell - skip_w - skip_h * ws;
      float n_of = nth, y = static_cast<float>(first_h);
      float4 low{};
#pragma unroll 1
      for (int line = 0; line < reach; ++line) {
        const float right = distance(own + line * kQuads * kPitch);
        const float before = last_column[line * kPixelThreads];
        last_column[line * kPixelThreads] = right;
        float4 high{};
        if constexpr (kSums) high = sums[at + line * kPitch + cell];
        float next[kPer];
#pragma unroll
        for (int m = 0; m < kPer; ++m) {
          next[m] = fmaf(u[m], right - before, before);
          if constexpr (kSums) next[m] = fmaf(-uu[m], high.x, next[m]);
        }
        if (line > 0) {
          float across[kPer];
#pragma unroll
          for (int m = 0; m < kPer; ++m)
            across[m] = kSums ? fmaf(-uu[m], low.w, fmaf(u[m], low.z, low.y)) : 0.0f;
#pragma unroll 1
          for (int n = 0; n < kPer; ++n) {
            make_room();
            const bool has = static_cast<unsigned>(i) < rows;
            const float v = has ? anchor_h + kStep * n_of - y : nothing(), vv = fmaf(-v, v, v);
#pragma unroll
            for (int m = 0; m < kPer; ++m) {
              const float found = fmaf(v, next[m] - e[m], e[m]);
              offer_if(kSums ? fmaf(-vv, across[m], found) : found, id + m);
            }
            id += ws;
            n_of += 1.0f;
            ++i;
          }
          y += 1.0f;
        }
#pragma unroll
        for (int m = 0; m < kPer; ++m) e[m] = next[m];
        low = high;
      }
    }
  }

  // A distance of NaN is no candidate.
  __device__ __forceinline__ void offer_if(float found, int id) {
    if (found <= limit) put_aside(found, id);
  }
  __device__ __forceinline__ void offer(float found, int id) { offer_if(found, id); }
  __device__ __forceinline__ void put_aside(float found, int id) {
    *reinterpret_cast<int2*>(aside + end) = make_int2(id, __float_as_int(found));
    end += kEntry;
  }

  // By all lanes, before each of them offers two.
  __device__ __forceinline__ void make_room() {
    if (__any_sync(0xffffffffu, end > begin + (kPixelAside - 2) * kEntry)) settle();
  }

  // Sorts in what was put aside.
  __device__ void settle() {
    Batch<kPixelAside> batch;
#pragma unroll
    for (int i = 0; i < kPixelAside; ++i) {
      const int2 one = *reinterpret_cast<const int2*>(aside + begin + i * kEntry);
      const uint64_t key = ordered_key(__int_as_float(one.y), one.x);
      batch.keys[i] = begin + i * kEntry < end ? key : kNoMatch;
    }
    list.merge(batch);
    end = begin;
    if (list.last() != kNoMatch) limit = distance_of_key(list.last());
  }

  // False, with nothing written, where too few of a query's candidates are valid.
  __device__ bool write() {
    // All have left the stage.
    if (__syncthreads_or(has_query && list.last() == kNoMatch)) return false;
    const unsigned k = static_cast<unsigned>(p.k), ws = static_cast<unsigned>(p.ws);
    const unsigned area = ws * ws;
    uint64_t* lists = reinterpret_cast<uint64_t*>(stage);
    float2* anchors = reinterpret_cast<float2*>(lists + kListMost * kPixelThreads);
    const int slots = static_cast<int>(slot_count(p)), first_slot = static_cast<int>(p.first_slot);
    short2* offsets = reinterpret_cast<short2*>(anchors + slots * kPixelThreads);
    const int place = row * kPixelColumns + column;
    list.store(lists + place * k, 1, static_cast<int>(k));
    for (int slot = 0; slot < slots; ++slot) {
      const QueryWindow<Pos> w = window_of(first_slot + slot);
      // On the integer grid, too, places of a frame are exact as floats.
      anchors[slot * kPixelThreads + place] =
          make_float2(static_cast<float>(w.anchor_h), static_cast<float>(w.anchor_w));
      offsets[slot * kPixelThreads + place] =
          make_short2(static_cast<short>(w.offset_h), static_cast<short>(w.offset_w));
    }
    __syncthreads();
    const unsigned wide = min(kPixelColumns, static_cast<int>(p.width) - left) * k;
    const int64_t plane = (static_cast<int64_t>(b) * p.heads + head) * p.frames + t;
    const float step = static_cast<float>(search.step());
    for (int line = thread / 32; line < kPixelRows && top + line < p.height;
         line += kPixelThreads / 32) {
      const int64_t start = ((plane * p.grid_height + top + line) * p.grid_width + left) * k;
      for (unsigned item = thread % 32; item < wide; item += 32) {
        const uint64_t key = lists[line * kPixelColumns * k + item];
        const unsigned id = static_cast<unsigned>(key), rest = id % area;
        const int x = static_cast<int>(item / k), of = line * kPixelColumns + x;
        const int slot = static_cast<int>(id / area), i = static_cast<int>(rest / ws),
                  j = static_cast<int>(rest % ws);
        const int at = (slot - first_slot) * kPixelThreads + of;
        const float2 anchor = anchors[at];
        const short2 offset = offsets[at];
        static_cast<float*>(p.dists)[start + item] = Search::key_to_distance(distance_of_key(key));
        using Index = typename Search::Index;
        Index* inds = static_cast<Index*>(p.inds) + (start + item) * p.components;
        if (p.components == 3)
          *inds++ = static_cast<Index>(slot_frame(t, slot, p.wt, p.frames) - t);
        inds[0] = static_cast<Index>(anchor.x + step * static_cast<float>(i - offset.x) -
                                     static_cast<float>(top + line));
        inds[1] = static_cast<Index>(anchor.y + step * static_cast<float>(j - offset.y) -
                                     static_cast<float>(left + x));
      }
    }
    return true;
  }
};

template <int kQuads, int kCells, bool kProduct>
__global__ void __launch_bounds__(kPixelThreads, kQuads == 8 ? 3 : 4)
    pixels_kernel(const __grid_constant__ SearchProblem p, int32_t* leftover) {
  extern __shared__ __align__(16) char shared[];
  const int tile = static_cast<int>(blockIdx.x);
  PixelTile<kQuads, kCells, kProduct> one(p, tile, shared);
  if (!one.run() && threadIdx.x == 0) leftover[1 + atomicAdd(leftover, 1)] = tile;
}

template <int kQuads, int kCells, bool kProduct>
cudaError_t launch_pixels(const SearchProblem& p, cudaStream_t stream) {
  const auto kernel = pixels_kernel<kQuads, kCells, kProduct>;
  const int bytes = pixel_shared(p);
  const cudaError_t error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  if (error != cudaSuccess) return error;
  const unsigned tiles = static_cast<unsigned>(pixel_tile_count(p));
  kernel<<<tiles, kPixelThreads, bytes, stream>>>(p, p.scratch);
  return cudaSuccess;
}

// Distances or products; each is compiled in a source of its own, side by side.
template <int kQuads, bool kProduct>
cudaError_t launch_pixels(const SearchProblem& p, cudaStream_t stream) {
  switch (pixel_cells(p)) {
    case 0:
      return launch_pixels<kQuads, 0, kProduct>(p, stream);
    case 1:
      return launch_pixels<kQuads, 1, kProduct>(p, stream);
    default:
      return launch_pixels<kQuads, 2, kProduct>(p, stream);
  }
}
template <bool kProduct>
cudaError_t launch_pixels(const SearchProblem& p, cudaStream_t stream) {
  switch (pixel_quads(p)) {
    case 2:
      return launch_pixels<2, kProduct>(p, stream);
    case 4:
      return launch_pixels<4, kProduct>(p, stream);
    default:
      return launch_pixels<8, kProduct>(p, stream);
  }
}

extern template cudaError_t launch_pixels<false>(const SearchProblem& p, cudaStream_t stream);
extern template cudaError_t launch_pixels<true>(const SearchProblem& p, cudaStream_t stream);

}  // namespace stnls
