// A tile of queries in the pixel form of the search (pixels_cuda.h): in rounds, its threads choose
// what is staged of the key, and walk the windows of their queries that lie inside.
#pragma once

#include "../common/geometry.h"
#include "box_sums_cuda.h"
#include "direct.h"
#include "interpolation_cuda.h"
#include "match_key_cuda.h"
#include "pixel_matches_cuda.h"
#include "pixel_stage_cuda.h"
#include "pixels_shape_cuda.h"
#include "query_tile_cuda.h"
#include "query_window_cuda.h"

namespace stnls {

constexpr int kPixelRounds = 32;  // a tile that takes more is left

// The window of a query in one slot: position and index of its anchor, its first pixel, and the
// rows and columns of candidates that are inside the frame.
template <class Pos>
struct PixelWindow {
  Pos anchor_h, anchor_w;
  int offset_h, offset_w, first_h, first_w, from_h, count_h, from_w, count_w;
  bool pending;  // whether it waits to be served
};

template <int kQuads, int kCells, bool kProduct>
class PixelTile {
 public:
  static constexpr bool kFloat = kCells > 0;
  static constexpr bool kSums = kFloat && !kProduct;
  static constexpr int kPer = kFloat ? kCells : 1;
  static constexpr int kPitch = pixel_pitch(kCells);
  using Search = DirectSearch<float, kFloat, kProduct>;
  using Pos = typename Search::Pos;

  __device__ PixelTile(const SearchProblem& problem, int number, char* shared)
      : p(problem),
        search(problem),
        thread(threadIdx.x),
        reach(pixel_reach(p)),
        row(thread / 32 / 2 * 4 + thread % 32 / 8),
        column(thread / 32 % 2 * 8 + thread % 32 % 8),
        tile(p, number, (static_cast<int>(p.width) + kPixelColumns - 1) / kPixelColumns,
             (static_cast<int>(p.height) + kPixelRows - 1) / kPixelRows, kPixelRows, kPixelColumns,
             1),
        stage(p, tile, thread) {
    has_query = tile.top + row < p.height && tile.left + column < p.width;
    last_column = reinterpret_cast<float*>(shared + PixelMatches::kEntry * kPixelAside) + thread;
    bounds = reinterpret_cast<int*>(shared + pixel_fixed_bytes(p) - 128);
    stage.open(shared);
    matches.open(shared, thread, static_cast<int>(p.k));
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
        stage.fill(slot);
        if (__any_sync(0xffffffffu, active)) {
          if constexpr (kFloat)
            walk_cells(slot);
          else
            walk_pixels(slot);
        }
        window.pending = window.pending && !active;
      }
    }
    matches.settle();
    return write();
  }

 private:
  const SearchProblem& p;
  const Search search;
  const int thread, reach;
  const int row, column;  // of the query in its tile
  const QueryTile tile;
  bool has_query;
  float* last_column;
  int* bounds;  // of the windows of each warp
  PixelMatches matches;
  float query[4 * kQuads];
  PixelWindow<Pos> window;
  bool active;  // whether it is served
  PixelStage<kQuads, kCells, kProduct> stage;

  __device__ void read_query() {
    const int64_t y =
        reflect(static_cast<int64_t>(tile.top + row) + p.patch_offset + p.offset_height, p.height);
    const int64_t x = reflect(
        static_cast<int64_t>(tile.left + column) + p.patch_offset + p.offset_width, p.width);
    const float* at = tile.plane_of(p.query, p.query_stride, tile.t) + y * p.query_stride[4] + x;
#pragma unroll
    for (int c = 0; c < 4 * kQuads; ++c)
      query[c] = c < p.channels ? at[c * p.query_stride[3]] : 0.0f;
  }

  __device__ QueryWindow<Pos> window_of(int slot) const {
    if (!has_query) return {};
    const int y = tile.top + row, x = tile.left + column;
    const int place = y * static_cast<int>(p.grid_width) + x;
    return query_window(search, tile.b, tile.head, tile.t, y, x, place, slot);
  }

  __device__ void place(int slot) {
    const QueryWindow<Pos> w = window_of(slot);
    window.anchor_h = w.anchor_h;
    window.anchor_w = w.anchor_w;
    window.offset_h = w.offset_h;
    window.offset_w = w.offset_w;
    window.pending = w.finite;
    window.first_h = inside_of(window.anchor_h, window.offset_h, static_cast<int>(p.height),
                               window.from_h, window.count_h);
    window.first_w = inside_of(window.anchor_w, window.offset_w, static_cast<int>(p.width),
                               window.from_w, window.count_w);
  }

  // The first pixel of a window along one axis, and the candidates that are inside.
  __device__ int inside_of(Pos anchor, int offset, int length, int& from, int& count) const {
    const int ws = static_cast<int>(p.ws);
    from = 0;
    count = ws;
    const Pos start = search.position(anchor, 0, offset);
    if (start < Pos(0) || search.position(anchor, ws - 1, offset) > static_cast<Pos>(length - 1))
      count_inside(search, anchor, offset, ws, length, from, count);
    if constexpr (kFloat) return static_cast<int>(floorf(start));
    return static_cast<int>(start);
  }

  // Chooses what to stage, and with it the windows that are served; false where none is left.
  __device__ bool choose_region() {
    constexpr int kNever = 1 << 28, kWarps = kPixelThreads / 32;
    const int lane = thread % 32, warp = thread / 32;
    const int most_rows = pixel_rows(p);
    // The least and the largest place (negated) of the windows, and the first that waits.
    const int own[5] = {window.first_h, window.first_w, -window.first_h, -window.first_w, thread};
    int least[5];
#pragma unroll
    for (int i = 0; i < 5; ++i) least[i] = warp_min(window.pending ? own[i] : kNever);
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
    active = window.pending;
    if (leader == kNever) return false;
    stage.top = least[0];
    stage.left = least[1];
    stage.rows = reach - least[2] - least[0];
    stage.columns = reach - least[3] - least[1];
    if (stage.rows <= most_rows && stage.columns <= kPitch) return true;
    // As if all others moved like the first: the tile around it, as far as it goes.
    if (thread == leader) {
      bounds[5 * kWarps] = window.first_h - row;
      bounds[5 * kWarps + 1] = window.first_w - column;
      bounds[5 * kWarps + 2] = window.first_h;
      bounds[5 * kWarps + 3] = window.first_w;
    }
    __syncthreads();
    stage.rows = min(stage.rows, most_rows);
    stage.columns = min(stage.columns, kPitch);
    stage.top = around(bounds[5 * kWarps], bounds[5 * kWarps + 2], kPixelRows, stage.rows, least[0],
                       -least[2]);
    stage.left = around(bounds[5 * kWarps + 1], bounds[5 * kWarps + 3], kPixelColumns,
                        stage.columns, least[1], -least[3]);
    active = window.pending && window.first_h >= stage.top &&
             window.first_h + reach <= stage.top + stage.rows && window.first_w >= stage.left &&
             window.first_w + reach <= stage.left + stage.columns;
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
    const float4* own = stage.pixels;
    if (active) own += (window.first_h - stage.top) * kQuads * kPitch + window.first_w - stage.left;
    const unsigned rows = active ? window.count_h : 0, columns = window.count_w;
    int id = slot * ws * ws;
    for (int i = 0; i < ws; ++i, own += step * kQuads * kPitch) {
      const bool inside = static_cast<unsigned>(i - window.from_h) < rows;
      for (int j = 0; j < ws; j += 2) {
        matches.make_room();
        const float found = distance(own + j * step);
        if (inside && static_cast<unsigned>(j - window.from_w) < columns)
          matches.offer(found, id + j);
        if (j + 1 >= ws) break;
        const float other = distance(own + (j + 1) * step);
        if (inside && static_cast<unsigned>(j + 1 - window.from_w) < columns)
          matches.offer(other, id + j + 1);
      }
      id += ws;
    }
  }

  // Real grid: a cell, between two columns and two rows of pixels, holds kPer x kPer places; those
  // that are no candidates of the window have a distance of NaN.
  __device__ void walk_cells(int slot) {
    constexpr float kStep = 1.0f / kPer;
    const int ws = static_cast<int>(p.ws);
    const int at = active ? (window.first_h - stage.top) * kPitch + window.first_w - stage.left : 0;
    const float4* own =
        stage.pixels +
        (active ? (window.first_h - stage.top) * kQuads * kPitch + window.first_w - stage.left : 0);
    // Places of the first cell that lie before the first candidate.
    float nth = -static_cast<float>(window.offset_h), mth = -static_cast<float>(window.offset_w);
    const float x = static_cast<float>(window.first_w);
    int skip_h = 0, skip_w = 0;
    if constexpr (kPer > 1) {
      skip_h = static_cast<int>(
          (window.anchor_h + kStep * nth - static_cast<float>(window.first_h)) * kPer);
      skip_w = static_cast<int>((window.anchor_w + kStep * mth - x) * kPer);
      nth -= static_cast<float>(skip_h);
      mth -= static_cast<float>(skip_w);
    }
    const unsigned rows = active ? window.count_h : 0, columns = window.count_w;
    for (int line = 0; line < reach; ++line)
      last_column[line * kPixelThreads] = distance(own + line * kQuads * kPitch);
    for (int cell = 0; cell < reach - 1; ++cell) {
      ++own;
      BetweenColumns<kProduct> places[kPer];
      float e[kPer];
#pragma unroll
      for (int m = 0; m < kPer; ++m) {
        const float w = window.anchor_w + kStep * (mth + static_cast<float>(kPer * cell + m));
        const bool has = static_cast<unsigned>(kPer * cell + m - skip_w - window.from_w) < columns;
        places[m] =
            BetweenColumns<kProduct>(has ? w - x - static_cast<float>(cell) : no_distance());
      }
      int i = -skip_h - window.from_h, id = slot * ws * ws + kPer * cell - skip_w - skip_h * ws;
      float n_of = nth, y = static_cast<float>(window.first_h);
      float4 low{};
#pragma unroll 1
      for (int line = 0; line < reach; ++line) {
        const float right = distance(own + line * kQuads * kPitch);
        const float before = last_column[line * kPixelThreads];
        last_column[line * kPixelThreads] = right;
        float4 high{};
        if constexpr (kSums) high = stage.sums[at + line * kPitch + cell];
        float next[kPer];
#pragma unroll
        for (int m = 0; m < kPer; ++m) {
          // As along() has it, which the compiler would put together otherwise.
          next[m] = fmaf(places[m].u, right - before, before);
          if constexpr (kSums) next[m] = fmaf(-places[m].uu, high.x, next[m]);
        }
        if (line > 0) {
          float across[kPer];
#pragma unroll
          for (int m = 0; m < kPer; ++m) across[m] = places[m].across(low);
#pragma unroll 1
          for (int n = 0; n < kPer; ++n) {
            matches.make_room();
            const bool has = static_cast<unsigned>(i) < rows;
            const float v = has ? window.anchor_h + kStep * n_of - y : no_distance(),
                        vv = fmaf(-v, v, v);
#pragma unroll
            for (int m = 0; m < kPer; ++m)
              matches.offer(between_lines<kProduct>(e[m], next[m] - e[m], across[m], v, vv),
                            id + m);
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

  // False, with nothing written, where too few of a query's candidates are valid.
  __device__ bool write() {
    // All have left the stage.
    if (__syncthreads_or(has_query && !matches.full())) return false;
    const unsigned k = static_cast<unsigned>(p.k), ws = static_cast<unsigned>(p.ws);
    const unsigned area = ws * ws;
    uint64_t* lists = reinterpret_cast<uint64_t*>(stage.pixels);
    float2* anchors = reinterpret_cast<float2*>(lists + kListMost * kPixelThreads);
    const int slots = static_cast<int>(slot_count(p)), first_slot = static_cast<int>(p.first_slot);
    short2* offsets = reinterpret_cast<short2*>(anchors + slots * kPixelThreads);
    const int place = row * kPixelColumns + column;
    matches.store(lists + place * k, static_cast<int>(k));
    for (int slot = 0; slot < slots; ++slot) {
      const QueryWindow<Pos> w = window_of(first_slot + slot);
      // On the integer grid, too, places of a frame are exact as floats.
      anchors[slot * kPixelThreads + place] =
          make_float2(static_cast<float>(w.anchor_h), static_cast<float>(w.anchor_w));
      offsets[slot * kPixelThreads + place] =
          make_short2(static_cast<short>(w.offset_h), static_cast<short>(w.offset_w));
    }
    __syncthreads();
    const unsigned wide = min(kPixelColumns, static_cast<int>(p.width) - tile.left) * k;
    const int64_t plane = (static_cast<int64_t>(tile.b) * p.heads + tile.head) * p.frames + tile.t;
    const float step = static_cast<float>(search.step());
    for (int line = thread / 32; line < kPixelRows && tile.top + line < p.height;
         line += kPixelThreads / 32) {
      const int64_t start =
          ((plane * p.grid_height + tile.top + line) * p.grid_width + tile.left) * k;
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
          *inds++ = static_cast<Index>(slot_frame(tile.t, slot, p.wt, p.frames) - tile.t);
        inds[0] = static_cast<Index>(anchor.x + step * static_cast<float>(i - offset.x) -
                                     static_cast<float>(tile.top + line));
        inds[1] = static_cast<Index>(anchor.y + step * static_cast<float>(j - offset.y) -
                                     static_cast<float>(tile.left + x));
      }
    }
    return true;
  }
};

}  // namespace stnls
