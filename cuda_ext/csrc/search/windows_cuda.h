// The search for all that tiles_cuda.h does not serve: real positions, many channels, small
// patches. A warp walks the union of the windows of a tile of queries, in whole pixels; a lane
// holds a column of the tile's pixels.
//
// On the real grid a window's candidates lie between whole displacements. With bilinear weights u
// (columns) and v (rows), the squared difference of a patch q to the interpolated key k follows
// from those at the whole displacements around it and from sums over the key alone:
//
//   E(r)  = (1 - u) D(r, c) + u D(r, c + 1) - u (1 - u) X(r, c)
//   G(r)  = (1 - u) Y(r, c) + u Y(r, c + 1) - u (1 - u) M(r, c)
//   dist  = (1 - v) E(r) + v E(r + 1) - v (1 - v) G(r)
//
// where D is the distance at a whole displacement and X, Y, M are the patch sums of the squared
// differences of k along rows, along columns, and along both. Products are linear in k: there
// X, Y and M are nil. D of two columns of displacements is kept in shared memory; the candidates
// between them are compared when the second is complete.
#pragma once

#include "../common/cuda_launch.h"
#include "box_sums_cuda.h"
#include "direct.h"
#include "key_slopes.h"
#include "match_key_cuda.h"

namespace stnls {

constexpr int kWindowWarps = 2;          // warps of a block, one below the other
constexpr int kWindowRows = 4;           // rows of queries in a tile
constexpr int kWindowWhole = 24 * 1024;  // bytes that the distances of whole windows may take
constexpr int kWindowUnion = 3000;       // displacements from which on single queries are cheaper
constexpr int kWindowQueue = 8;          // candidates that a lane puts aside
constexpr int kWindowMostShared = 56 * 1024;  // bytes for each warp

// Whether the tile's pixels stay in registers: large patches of 1 or 3 channels.
STNLS_HD bool window_in_registers(const SearchProblem& p) {
  return p.ps >= 3 && !p.product && p.float_grid && (p.channels == 1 || p.channels == 3);
}

// Whether one match is all that is wanted.
STNLS_HD bool window_single(const SearchProblem& p) {
  return window_in_registers(p) && p.k == 1 && p.self_action == kNone;
}

// Columns of queries in a tile.
STNLS_HD int window_columns(const SearchProblem& p) { return 33 - static_cast<int>(p.ps); }

STNLS_HD int64_t window_tile_count(const SearchProblem& p) {
  const int64_t rows = kWindowWarps * kWindowRows, columns = window_columns(p);
  return p.batch * p.heads * p.frames * ((p.height + rows - 1) / rows) * kWindowWarps *
         ((p.width + columns - 1) / columns);
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
  const int most = window_single(p) ? kWindowWhole : kWindowWhole / 3;  // lists need room, too
  if (reach * reach * kWindowRows * 32 * 4 <= most) return reach;
  return p.float_grid ? 2 : 1;
}

// Shared memory of a warp, in 8-byte words: lists of matches, the worst of each, candidates put
// aside, columns of distances, windows, pinned candidates.
struct WindowShared {
  int lists, worst, queue, columns, places, pinned, words;

  STNLS_HD explicit WindowShared(const SearchProblem& p) {
    const int queries = kWindowRows * 33;
    lists = 0;
    worst = lists + static_cast<int>(p.k) * queries;
    queue = worst + queries;
    columns = queue + (window_single(p) ? 0 : 32 * kWindowQueue);
    places = columns + window_reach(p) * window_kept(p) * kWindowRows * 16;
    pinned = places + kWindowRows * 32 * 3;
    words = pinned + (p.self_action != kNone ? kWindowRows * 16 : 0);
  }
};

inline bool windows_apply_cuda(const SearchProblem& p) {
  const bool lists =
      p.keep == kBestOfAll ||
      (p.keep == kBestOfEach && (p.self_action == kNone || p.self_action == kAnchorEach));
  const bool size =
      p.ps == 1 || p.ps == 3 || p.ps == 5 || p.ps == 7 || (p.ps == 9 && window_in_registers(p));
  constexpr int64_t most = int64_t(1) << 31;
  return p.prior == nullptr && p.dtype == kFloat32 && p.reflect_bounds && p.dilation == 1 &&
         p.stride0 == 1 && p.stride_query == 1 && lists && p.k >= 1 && size && p.channels > 0 &&
         p.query_height == p.height && p.query_width == p.width && p.stride1 <= 2 && p.ws < 128 &&
         (2 * p.wt + 1) * p.ws * p.ws < most && (p.height + 1) * p.key_stride[4] < most &&
         (p.height + 1) * p.query_stride[4] < most && p.height < (1 << 24) && p.width < (1 << 24) &&
         8 * WindowShared(p).words <= kWindowMostShared && window_tile_count(p) < most;
}

template <int kPs, int kChannels, bool kProduct, bool kFloat, bool kSingle>
class WindowTile {
 public:
  using Search = DirectSearch<float, kFloat, kProduct>;
  using Pos = typename Search::Pos;
  static constexpr int kRows = kWindowRows;      // of queries
  static constexpr int kHigh = kRows + kPs - 1;  // of pixels
  static constexpr int kColumns = 33 - kPs;
  static constexpr int kNever = 1 << 28;
  static constexpr int kSteps = kChannels > 0 ? 2 : 4;  // displacements that share what is read

  __device__ WindowTile(const SearchProblem& problem, int64_t tile, uint64_t* shared,
                        const float* slopes)
      : p(problem), search(problem), slopes(slopes), lane(threadIdx.x % 32) {
    const WindowShared at(p);
    lists = shared + at.lists;
    worst = shared + at.worst;
    queue = shared + at.queue + lane;
    sums = reinterpret_cast<float*>(shared + at.columns);
    places = reinterpret_cast<Place*>(shared + at.places);
    pinned = reinterpret_cast<int*>(shared + at.pinned) + lane;
    reach = window_reach(p);
    kept = window_kept(p);
    const int64_t columns = (p.width + kColumns - 1) / kColumns;
    const int64_t rows = (p.height + kRows * kWindowWarps - 1) / (kRows * kWindowWarps);
    const int warp = static_cast<int>(tile % kWindowWarps);
    tile /= kWindowWarps;
    left = static_cast<int>(tile % columns) * kColumns;
    tile /= columns;
    top = (static_cast<int>(tile % rows) * kWindowWarps + warp) * kRows;
    tile /= rows;
    t = static_cast<int>(tile % p.frames);
    tile /= p.frames;
    head = static_cast<int>(tile % p.heads);
    b = static_cast<int>(tile / p.heads);
  }

  // False, with nothing written that counts, where the windows of a slot lie too far apart or too
  // few candidates are valid.
  __device__ bool run() {
    if (top >= p.height) return true;
    for (int64_t slot = p.first_slot; slot < end_slot(p); ++slot) {
      const bool begins = slot == p.first_slot || p.keep == kBestOfEach;
      if (begins) clear();
      if (!place(slot, begins)) return false;
      if (high > 0) walk(slot);
      if ((p.keep == kBestOfEach || slot + 1 == end_slot(p)) && !write(slot)) return false;
    }
    return true;
  }

 private:
  class Offers;

  // The window of a query: position of its anchor, index of the anchor, first whole displacement.
  struct Place {
    float anchor_h, anchor_w;  // on the integer grid the numbers are whole
    short offset_h, offset_w;
    int first_h, first_w;
    int next;  // the first of the window's columns that is not yet compared
  };
  static_assert(sizeof(Place) == 24, "WindowShared counts on it");

  const SearchProblem& p;
  const Search search;
  const float* const slopes;
  const int lane;
  uint64_t *lists, *worst, *queue;
  float* sums;
  Place* places;
  int* pinned;      // of every row: the candidate that is not chosen by its distance
  int reach, kept;  // displacements along one axis; columns of them that are kept
  int left, top;
  int t, head, b;
  int low_h, low_w, high, wide;  // the union of the windows

  __device__ bool has_query(int row) const {
    return lane < kColumns && top + row < p.height && left + lane < p.width;
  }
  __device__ Query query_of(int row, int column) const {
    return Query{b, head, t, top + row, left + column};
  }
  __device__ uint64_t& entry(int e, int row, int column) const {
    return lists[(e * kRows + row) * 33 + column];
  }
  // Whether the first entry of a list is not chosen by its distance.
  __device__ bool pins() const { return p.self_action == kAnchor || p.self_action == kAnchorEach; }

  __device__ void clear() {
    for (int row = 0; row < kRows; ++row) {
      for (int e = 0; e < p.k; ++e) entry(e, row, lane) = ~uint64_t(0);
      worst[row * 33 + lane] = p.k > (pins() ? 1 : 0) ? ~uint64_t(0) : 0;
    }
  }

  // Finds the windows of one slot and their union; false where it is too large.
  __device__ bool place(int64_t slot, bool begins) {
    int low_y = kNever, low_x = kNever, up_y = kNever, up_x = kNever;  // the last two negated
    for (int row = 0; row < kRows; ++row) {
      Place w{};
      w.first_h = kNever;
      if (has_query(row)) {
        const Query q = query_of(row, lane);
        const auto window = search.window(q, slot);
        if (begins) pin(q, row, slot, window);
        if (window.finite) {
          w.anchor_h = static_cast<float>(window.anchor_h);
          w.anchor_w = static_cast<float>(window.anchor_w);
          w.offset_h = static_cast<short>(window.offset_h);
          w.offset_w = static_cast<short>(window.offset_w);
          w.first_h = whole(search.position(window.anchor_h, 0, window.offset_h)) - (top + row);
          w.first_w = whole(search.position(window.anchor_w, 0, window.offset_w)) - (left + lane);
          low_y = min(low_y, w.first_h);
          low_x = min(low_x, w.first_w);
          up_y = min(up_y, -w.first_h);
          up_x = min(up_x, -w.first_w);
        }
      }
      places[row * 32 + lane] = w;
    }
    low_h = warp_min(low_y);
    low_w = warp_min(low_x);
    const int most_h = -warp_min(up_y), most_w = -warp_min(up_x);
    high = wide = 0;
    if (low_h >= kNever) return true;
    high = most_h - low_h + reach;
    wide = most_w - low_w + reach;
    return static_cast<int64_t>(high) * wide <= kWindowUnion;
  }

  // The entry that comes first whatever its distance; left open until its candidate comes along.
  template <class Window>
  __device__ void pin(const Query& q, int row, int64_t slot, const Window& window) {
    int64_t id = -1;
    if (p.self_action == kAnchor || p.self_action == kRemove) id = search.self_candidate(q);
    if (p.self_action == kAnchorEach) id = search.candidate(slot, window.offset_h, window.offset_w);
    if (id < 0) return;
    if (pins()) entry(0, row, lane) = ordered_key(infinity<float>(), static_cast<int>(id));
    pinned[row * 32] = static_cast<int>(id);
  }
  __device__ int pinned_of(int row) const { return p.self_action != kNone ? pinned[row * 32] : -1; }

  __device__ static int whole(Pos position) {
    if constexpr (kFloat) return static_cast<int>(floorf(position));
    return static_cast<int>(position);
  }

  __device__ const float* plane_of(const void* video, const int64_t (&stride)[5],
                                   int64_t frame) const {
    return static_cast<const float*>(video) + b * stride[0] + head * stride[1] + frame * stride[2];
  }
  __device__ int query_column() const {
    return reflect_int(left + lane + static_cast<int>(p.patch_offset + p.offset_width), p.width);
  }
  __device__ static int reflect_int(int x, int64_t length) {
    return x >= 0 && x < length ? x : static_cast<int>(reflect(static_cast<int64_t>(x), length));
  }

  // All displacements of one slot, column by column.
  __device__ void walk(int64_t slot) {
    const int64_t frame = slot_frame(t, slot, p.wt, p.frames);
    const float* key = plane_of(p.key, p.key_stride, frame);
    const float* slope =
        slopes + ((b * p.heads + head) * p.frames + frame) * 3 * p.height * p.width;
    const bool whole = kept == reach;
    for (int dx = low_w; dx < low_w + wide; ++dx) {
      // First row displacement of the windows that dx is in, and where its distances go.
      int first[kRows], to[kRows];
      int begin = kNever, end = kNever;  // the latter negated
#pragma unroll
      for (int row = 0; row < kRows; ++row) {
        const Place& w = places[row * 32 + lane];
        const int column = dx - w.first_w;
        const bool in =
            w.first_h < kNever && static_cast<unsigned>(column) < static_cast<unsigned>(reach);
        first[row] = in ? w.first_h : kNever;
        to[row] = (whole ? column : kFloat ? dx & 1 : 0) * reach * kRows * 32 + row * 32 + lane;
        begin = min(begin, first[row]);
        end = min(end, in ? -first[row] : kNever);
      }
      begin = warp_min(begin);
      end = -warp_min(end) + reach;
      if (begin >= end) continue;
      walk_column(key, dx, begin, end, first, to);
      if (whole) continue;
      for (int row = 0; row < kRows; ++row) {
        const int column = dx - places[row * 32 + lane].first_w - (kFloat ? 1 : 0);
        compare(slot, row, column, kFloat ? dx + 1 & 1 : 0, kFloat ? dx & 1 : 0, slope);
      }
    }
    if (!whole) return;
    for (int row = 0; row < kRows; ++row) {
      for (int column = 0; column < reach - (kFloat ? 1 : 0); ++column)
        compare(slot, row, column, column, column + (kFloat ? 1 : 0), slope);
    }
  }

  // The distances of all queries at displacements (begin .. end - 1, dx).
  __device__ void walk_column(const float* key, int dx, int begin, int end,
                              const int (&first)[kRows], const int (&to)[kRows]) {
    const float* at =
        key + reflect_int(left + lane + dx + static_cast<int>(p.patch_offset), p.width);
    const int y0 = top + static_cast<int>(p.patch_offset);
    const float* own = plane_of(p.query, p.query_stride, t) + query_column();
    if constexpr (kChannels > 0) {
      float query[kChannels][kHigh];  // read again for every column: little beside what follows
#pragma unroll
      for (int r = 0; r < kHigh; ++r) {
        const float* from =
            own + row_offset(y0 + r + static_cast<int>(p.offset_height), p.query_stride[4]);
#pragma unroll
        for (int c = 0; c < kChannels; ++c) query[c][r] = from[c * p.query_stride[3]];
      }
      float k[kChannels][kHigh - 1 + kSteps];
#pragma unroll
      for (int r = 0; r < kHigh - 1; ++r) read_row(at, y0 + begin + r, k, r);
      for (int dy = begin; dy < end; dy += kSteps) {
#pragma unroll
        for (int s = 0; s < kSteps; ++s) read_row(at, y0 + dy + kHigh - 1 + s, k, kHigh - 1 + s);
#pragma unroll
        for (int s = 0; s < kSteps; ++s) {
          float terms[kHigh];
#pragma unroll
          for (int r = 0; r < kHigh; ++r) {
            float sum = 0.0f;
#pragma unroll
            for (int c = 0; c < kChannels; ++c) sum = add(query[c][r], k[c][r + s], sum);
            terms[r] = sum;
          }
          keep(terms, dy + s, first, to);
        }
#pragma unroll
        for (int c = 0; c < kChannels; ++c)
#pragma unroll
          for (int r = 0; r < kHigh - 1; ++r) k[c][r] = k[c][r + kSteps];
      }
    } else {
      int own_row[kHigh];
#pragma unroll
      for (int r = 0; r < kHigh; ++r)
        own_row[r] = row_offset(y0 + r + static_cast<int>(p.offset_height), p.query_stride[4]);
      for (int dy = begin; dy < end; dy += kSteps) {
        int row[kHigh - 1 + kSteps];
#pragma unroll
        for (int r = 0; r < kHigh - 1 + kSteps; ++r)
          row[r] = row_offset(y0 + dy + r, p.key_stride[4]);
        float terms[kSteps][kHigh] = {};
        const float *q = own, *from = at;
#pragma unroll 2
        for (int c = 0; c < p.channels; ++c, q += p.query_stride[3], from += p.key_stride[3]) {
          float a[kHigh], k[kHigh - 1 + kSteps];
#pragma unroll
          for (int r = 0; r < kHigh; ++r) a[r] = q[own_row[r]];
#pragma unroll
          for (int r = 0; r < kHigh - 1 + kSteps; ++r) k[r] = from[row[r]];
#pragma unroll
          for (int s = 0; s < kSteps; ++s)
#pragma unroll
            for (int r = 0; r < kHigh; ++r) terms[s][r] = add(a[r], k[r + s], terms[s][r]);
        }
#pragma unroll
        for (int s = 0; s < kSteps; ++s) keep(terms[s], dy + s, first, to);
      }
    }
  }

  template <class Rows>
  __device__ void read_row(const float* at, int y, Rows& k, int r) const {
    const float* from = at + row_offset(y, p.key_stride[4]);
#pragma unroll
    for (int c = 0; c < kChannels; ++c) k[c][r] = from[c * p.key_stride[3]];
  }
  __device__ int row_offset(int y, int64_t pitch) const {
    return reflect_int(y, p.height) * static_cast<int>(pitch);
  }
  __device__ static float add(float q, float k, float sum) { return Search::add_term(q, k, sum); }

  // Sums the pixels' terms over the patches, and stores those that a window needs.
  __device__ void keep(const float (&terms)[kHigh], int dy, const int (&first)[kRows],
                       const int (&to)[kRows]) const {
    float down[kRows];
    sum_columns<kPs, kRows>(terms, down);
#pragma unroll
    for (int row = 0; row < kRows; ++row) {
      const float sum = sum_rows<kPs>(down[row]);
      const int r = dy - first[row];
      if (static_cast<unsigned>(r) < static_cast<unsigned>(reach))
        sums[to[row] + r * kRows * 32] = sum;
    }
  }

  // Compares the candidates of the lanes' queries in one row that lie at (integer grid) or right of
  // a column of displacements; that column and the next are the `before`th and `now`th that are
  // kept.
  __device__ void compare(int64_t slot, int row, int column, int before, int now,
                          const float* slope) {
    Place& w = places[row * 32 + lane];
    const int last = reach - (kFloat ? 2 : 1);
    const bool active = w.first_h < kNever && column >= 0 && column <= last;
    Cell cell;
    cell.id = static_cast<int>(slot * p.ws * p.ws);
    cell.y = active ? top + row + w.first_h : 0;
    cell.x = active ? left + lane + w.first_w + column : 0;
    cell.before = sums + before * reach * kRows * 32 + row * 32 + lane;
    cell.now = sums + now * reach * kRows * 32 + row * 32 + lane;
    cell.slope = slope;
    Offers offers(*this, row, active ? pinned_of(row) : -1);
    if constexpr (!kFloat) {
      compare_whole(w, cell, column, active, offers);
    } else {
      const float step = static_cast<float>(p.stride1), edge = static_cast<float>(cell.x + 1);
      const int ws = static_cast<int>(p.ws);
      int j = active ? w.next : ws;
      while (true) {
        // Rounded, the last column can lie a hair beyond the last displacement.
        const float w0 = w.anchor_w + step * static_cast<float>(j - w.offset_w);
        const float w1 = w.anchor_w + step * static_cast<float>(j + 1 - w.offset_w);
        const bool has = j < ws && (column == last || w0 < edge);
        const bool two = step < 1.0f && has && j + 1 < ws && (column == last || w1 < edge);
        if (!__any_sync(0xffffffffu, has)) break;
        if (step < 1.0f)
          compare_columns<true>(w, cell, j, has, two, w0, w1, offers);
        else
          compare_columns<false>(w, cell, j, has, false, w0, w1, offers);
        j += two ? 2 : has ? 1 : 0;
      }
      if (active) w.next = j;
    }
    offers.finish();
  }

  // A place among the displacements of a query: the distances of the column there and the one
  // before, and the sums over the key.
  struct Cell {
    int id, y, x;
    const float *before, *now, *slope;
  };

  __device__ void compare_whole(const Place& w, const Cell& cell, int column, bool active,
                                Offers& offers) const {
    const int ws = static_cast<int>(p.ws), step = static_cast<int>(search.step());
    const int j = column / step;
    const bool valid = active && column % step == 0 && cell.x >= 0 && cell.x < p.width;
    for (int i = 0, line = 0; i < ws; ++i, line += step) {
      const float found = active ? cell.now[line * kRows * 32] : 0.0f;
      const int y = cell.y + line;
      offers.offer(valid && y >= 0 && y < p.height, kProduct ? -found : found,
                   cell.id + i * ws + j);
      offers.make_room(1);
    }
  }

  // The columns j (if `has`) and j + 1 (if `two`) of a window, at w0 and w1.
  template <bool kTwo>
  __device__ void compare_columns(const Place& w, const Cell& cell, int j, bool has, bool two,
                                  float w0, float w1, Offers& offers) const {
    const int ws = static_cast<int>(p.ws), last = reach - 2;
    const float right = static_cast<float>(p.width - 1), bottom = static_cast<float>(p.height - 1);
    const float step = static_cast<float>(p.stride1), x = static_cast<float>(cell.x);
    const bool valid0 = has && w0 >= 0.0f && w0 <= right;
    const bool valid1 = two && w1 >= 0.0f && w1 <= right;
    const Column c0(has ? w0 - x : 0.0f), c1(two ? w1 - x : 0.0f);
    const int each = kTwo ? static_cast<int>(ceilf(1.0f / step)) : 1;
    int id = cell.id + j, i = has ? 0 : ws;
    float nth = static_cast<float>(-w.offset_h), y = static_cast<float>(cell.y);
    Line low = line_at(cell, 0);
    float e0 = c0.along(low), e1 = c1.along(low);
    for (int r = 0; r <= last; ++r, y += 1.0f) {
      const Line above = line_at(cell, r + 1);
      const float next0 = c0.along(above), next1 = c1.along(above);
      const float rise0 = next0 - e0, rise1 = next1 - e1;
      const float s0 = c0.across(low), s1 = c1.across(low);
      bool more = false;
      for (int n = 0; n < each || more; ++n) {
        const float h = w.anchor_h + step * nth;
        const bool here = i < ws && (r == last || h < y + 1.0f);
        const float v = h - y, vv = fmaf(-v, v, v);
        float found0 = fmaf(-vv, s0, fmaf(v, rise0, e0));
        float found1 = fmaf(-vv, s1, fmaf(v, rise1, e1));
        const bool valid = here && h >= 0.0f && h <= bottom;
        if constexpr (kProduct) {
          found0 = -found0;
          found1 = -found1;
        }
        offers.offer(valid && valid0, found0, id);
        if constexpr (kTwo) offers.offer(valid && valid1, found1, id + 1);
        if (here) {
          ++i;
          id += ws;
          nth += 1.0f;
        }
        // Rounded, a line can hold one more.
        more = n + 1 >= each && r == last && __any_sync(0xffffffffu, i < ws);
        offers.make_room(kTwo ? 2 : 1);
      }
      low = above;
      e0 = next0;
      e1 = next1;
    }
  }

  // Distances and slopes of a line of displacements, left and right of the candidates.
  struct Line {
    float d0, d1, x, y0, y1, m;
  };
  __device__ __forceinline__ Line line_at(const Cell& cell, int r) const {
    Line line{};
    line.d0 = cell.before[r * kRows * 32];
    line.d1 = cell.now[r * kRows * 32];
    if constexpr (!kProduct) {
      const int height = static_cast<int>(p.height), width = static_cast<int>(p.width);
      const int x = min(max(cell.x, 0), width - 1);
      const float* at = cell.slope + (min(max(cell.y + r, 0), height - 1) * width + x);
      const int64_t plane = static_cast<int64_t>(height) * width;
      line.x = at[0];
      line.y0 = at[plane];
      line.y1 = at[plane + (x + 1 < width ? 1 : 0)];
      line.m = at[2 * plane];
    }
    return line;
  }

  // E and G of the formulas above.
  struct Column {
    float u, uu;
    __device__ explicit Column(float u) : u(u), uu(fmaf(-u, u, u)) {}
    __device__ float along(const Line& line) const {
      const float e = fmaf(u, line.d1 - line.d0, line.d0);
      return kProduct ? e : fmaf(-uu, line.x, e);
    }
    __device__ float across(const Line& line) const {
      return kProduct ? 0.0f : fmaf(-uu, line.m, fmaf(u, line.y1 - line.y0, line.y0));
    }
  };

  // The candidates of the lanes' queries in one row. Those better than the worst match known are
  // put aside, and replace it when some lane has no room for more.
  class Offers {
   public:
    __device__ Offers(WindowTile& tile, int row, int self)
        : tile(tile),
          row(row),
          self(self),
          first(tile.pins() ? 1 : 0),
          k(static_cast<int>(tile.p.k)),
          last(tile.worst[row * 33 + tile.lane]),
          limit(limit_of(last)) {}

    __device__ __forceinline__ void offer(bool valid, float found, int id) {
      if constexpr (kSingle) {
        if (valid && found <= limit) {
          const uint64_t key = ordered_key(found, id);
          if (key < last) last = key;
          limit = found;
        }
      } else {
        if (valid && found <= limit && id != self)
          tile.queue[32 * waiting++] = ordered_key(found, id);
        if (valid && id == self && first == 1)
          tile.entry(0, row, tile.lane) = ordered_key(found, id);
      }
    }

    // By all lanes, before each of them offers `count` more.
    __device__ __forceinline__ void make_room(int count) {
      if (!kSingle && __any_sync(0xffffffffu, waiting > kWindowQueue - count)) settle();
    }

    __device__ void finish() {
      if constexpr (kSingle)
        tile.entry(0, row, tile.lane) = last;
      else
        settle();
      tile.worst[row * 33 + tile.lane] = last;
    }

   private:
    WindowTile& tile;
    const int row, self, first, k;
    uint64_t last;
    float limit;
    int waiting = 0;

    __device__ static float limit_of(uint64_t key) {
      return key == ~uint64_t(0) ? infinity<float>() : distance_of_key(key);
    }

    __device__ void settle() {
      for (int i = 0; __any_sync(0xffffffffu, i < waiting); ++i) {
        if (i >= waiting) continue;
        const uint64_t key = tile.queue[32 * i];
        if (key < last) replace(key);
      }
      waiting = 0;
      limit = limit_of(last);
    }

    // The worst match is the first of the list.
    __device__ void replace(uint64_t key) {
      uint64_t most = key;
      int place = first;
#pragma unroll 4
      for (int e = first + 1; e < k; ++e) {
        const uint64_t other = tile.entry(e, row, tile.lane);
        if (other > most) {
          most = other;
          place = e;
        }
      }
      tile.entry(place, row, tile.lane) = key;
      tile.entry(first, row, tile.lane) = last = most;
    }
  };

  // Writes the lists, row by row of the tile, so that what is written lies side by side.
  // False where too few of a query's candidates are valid to fill its list.
  __device__ bool write(int64_t slot) {
    const int k = static_cast<int>(p.k), first = pins() ? 1 : 0;
    bool full = true;
    for (int row = 0; row < kRows; ++row) {
      full = full && (!has_query(row) || worst[row * 33 + lane] != ~uint64_t(0));
      for (int e = first + 1; e < k; ++e) {
        const uint64_t key = entry(e, row, lane);
        int to = e;
        for (; to > first && entry(to - 1, row, lane) > key; --to)
          entry(to, row, lane) = entry(to - 1, row, lane);
        entry(to, row, lane) = key;
      }
    }
    if (!__all_sync(0xffffffffu, full)) return false;
    __syncwarp();
    const int columns = min(kColumns, static_cast<int>(p.width) - left);
    const int64_t entries = entry_count(p);
    const int64_t start = p.keep == kBestOfEach ? (slot - p.first_slot) * k : 0;
    for (int row = 0; row < kRows && top + row < p.height; ++row) {
      const int64_t line =
          (((static_cast<int64_t>(b) * p.heads + head) * p.frames + t) * p.grid_height + top +
           row) *
              p.grid_width +
          left;
      for (int item = lane; item < columns * k; item += 32) {
        const int column = item / k, e = item - column * k;
        const uint64_t key = entry(e, row, column);
        const int id = static_cast<int>(static_cast<unsigned>(key));
        const int64_t at = (line + column) * entries + start + e;
        static_cast<float*>(p.dists)[at] = Search::key_to_distance(distance_of_key(key));
        const bool exactly =
            p.self_action == kAnchor && e == 0 && id != search.candidate(p.first_slot, 0, 0);
        search.write_offsets(query_of(row, column), id, exactly,
                             static_cast<typename Search::Index*>(p.inds) + at * p.components);
      }
    }
    __syncwarp();
    return true;
  }
};

template <int kPs, int kChannels, bool kProduct, bool kFloat, bool kSingle>
__global__ void __launch_bounds__(32 * kWindowWarps, 6)
    windows_kernel(const __grid_constant__ SearchProblem p, int32_t* leftover,
                   const float* slopes) {
  extern __shared__ uint64_t shared[];
  const int warp = threadIdx.x / 32;
  const int64_t tile = static_cast<int64_t>(blockIdx.x) * (blockDim.x / 32) + warp;
  if (tile >= window_tile_count(p)) return;
  WindowTile<kPs, kChannels, kProduct, kFloat, kSingle> one(
      p, tile, shared + warp * WindowShared(p).words, slopes);
  if (!one.run() && threadIdx.x % 32 == 0)
    leftover[1 + atomicAdd(leftover, 1)] = static_cast<int32_t>(tile);
}

template <int kPs, int kChannels, bool kProduct, bool kFloat, bool kSingle>
cudaError_t launch_windows(const SearchProblem& p, const float* slopes, cudaStream_t stream) {
  const auto kernel = windows_kernel<kPs, kChannels, kProduct, kFloat, kSingle>;
  const int bytes = 8 * WindowShared(p).words;
  const int warps = kWindowWarps * bytes > 64 * 1024 ? 1 : kWindowWarps;  // sm_75 has no more
  const cudaError_t error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, warps * bytes);
  if (error != cudaSuccess) return error;
  kernel<<<blocks_for(window_tile_count(p), warps), 32 * warps, warps * bytes, stream>>>(
      p, p.scratch, slopes);
  return cudaSuccess;
}

// One patch size; each is compiled in sources of its own, side by side.
template <int kPs>
cudaError_t launch_any_channels(const SearchProblem& p, const float* slopes, cudaStream_t stream) {
  if (p.product)
    return p.float_grid ? launch_windows<kPs, 0, true, true, false>(p, slopes, stream)
                        : launch_windows<kPs, 0, true, false, false>(p, slopes, stream);
  return p.float_grid ? launch_windows<kPs, 0, false, true, false>(p, slopes, stream)
                      : launch_windows<kPs, 0, false, false, false>(p, slopes, stream);
}

template <int kPs>
cudaError_t launch_in_registers(const SearchProblem& p, const float* slopes, cudaStream_t stream) {
  if (p.channels == 1)
    return window_single(p) ? launch_windows<kPs, 1, false, true, true>(p, slopes, stream)
                            : launch_windows<kPs, 1, false, true, false>(p, slopes, stream);
  return window_single(p) ? launch_windows<kPs, 3, false, true, true>(p, slopes, stream)
                          : launch_windows<kPs, 3, false, true, false>(p, slopes, stream);
}

extern template cudaError_t launch_any_channels<1>(const SearchProblem&, const float*,
                                                   cudaStream_t);
extern template cudaError_t launch_any_channels<3>(const SearchProblem&, const float*,
                                                   cudaStream_t);
extern template cudaError_t launch_any_channels<5>(const SearchProblem&, const float*,
                                                   cudaStream_t);
extern template cudaError_t launch_any_channels<7>(const SearchProblem&, const float*,
                                                   cudaStream_t);
extern template cudaError_t launch_in_registers<3>(const SearchProblem&, const float*,
                                                   cudaStream_t);
extern template cudaError_t launch_in_registers<5>(const SearchProblem&, const float*,
                                                   cudaStream_t);
extern template cudaError_t launch_in_registers<7>(const SearchProblem&, const float*,
                                                   cudaStream_t);
extern template cudaError_t launch_in_registers<9>(const SearchProblem&, const float*,
                                                   cudaStream_t);

}  // namespace stnls
