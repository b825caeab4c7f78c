// The search for what neither tiles_cuda.h nor pixels_cuda.h serves: real positions, many channels,
// small patches. A warp walks the union of the windows of a tile of queries, in whole pixels; a
// lane holds a column of the tile's pixels.
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
// X, Y and M are nil. D of a query's whole window is kept in shared memory, or, where that takes
// too much of it, D of the last columns, and the candidates between two columns are compared when
// the second is complete.
#pragma once

#include "../common/cuda_launch.h"
#include "box_sums_cuda.h"
#include "key_slopes.h"
#include "query_window_cuda.h"
#include "window_shape_cuda.h"

namespace stnls {

template <int kPs, int kChannels, bool kProduct, bool kFloat, int kList, bool kCharge>
class WindowTile {
 public:
  using Search = DirectSearch<float, kFloat, kProduct>;
  using Pos = typename Search::Pos;
  using Index = typename Search::Index;
  static constexpr int kRows = window_rows(kList == 1);  // of queries
  static constexpr int kHigh = kRows + kPs - 1;          // of pixels
  static constexpr int kColumns = 33 - kPs;
  static constexpr int kNever = 1 << 28;
  // Displacements that share what is read: along a column, and columns.
  static constexpr int kSteps = kChannels > 0 ? 2 : 4;
  static constexpr int kAbreast = window_abreast(kPs, kChannels > 0);
  static constexpr int kTogether = 4;       // candidates of a column in one go
  static constexpr int kLine = kRows * 32;  // from one line of distances to the next

  __device__ WindowTile(const SearchProblem& problem, int tile, uint64_t* shared,
                        const KeySlopes& slopes)
      : p(problem),
        search(problem),
        slopes(slopes),
        lane(threadIdx.x),
        height(static_cast<int>(p.height)),
        width(static_cast<int>(p.width)) {
    const WindowShared at(p);
    lists = shared + at.lists;
    queue = reinterpret_cast<float2*>(shared + at.queue) + lane;
    sums = reinterpret_cast<float*>(shared + at.columns);
    places = reinterpret_cast<Place*>(shared + at.places);
    pinned = reinterpret_cast<int*>(shared + at.pinned) + lane;
    reach = window_reach(p);
    kept = window_kept(p);
    const int columns = (width + kColumns - 1) / kColumns, rows = (height + kRows - 1) / kRows;
    left = tile % columns * kColumns;
    tile /= columns;
    top = tile % rows * kRows;
    tile /= rows;
    t = tile % static_cast<int>(p.frames);
    tile /= static_cast<int>(p.frames);
    head = tile % static_cast<int>(p.heads);
    b = tile / static_cast<int>(p.heads);
    // What lies right of the last patch is not needed.
    column = min(left + lane, width + kPs - 2) + static_cast<int>(p.patch_offset);
  }

  // False, with nothing written that counts, where the windows of a slot lie too far apart or too
  // far outside, or too few candidates are valid.
  __device__ bool run() {
    const int own = top + static_cast<int>(p.patch_offset + p.offset_height);
    if (!near(own, own + kHigh - 1, height)) return false;
    for (int slot = static_cast<int>(p.first_slot); slot < end_slot(p); ++slot) {
      const bool begins = slot == p.first_slot || p.keep == kBestOfEach;
      if (begins) clear();
      if (!place(slot, begins)) return false;
      if (high > 0) walk(slot);
      if ((p.keep == kBestOfEach || slot + 1 == end_slot(p)) && !write(slot)) return false;
    }
    return true;
  }

 private:
  using List = Matches<kList>;

  // The window of a query: position and index of its anchor, first whole displacement. On the
  // integer grid the numbers are whole.
  struct Place {
    float anchor_h, anchor_w;
    int first_h, first_w;
    uint8_t offset_h, offset_w;
    uint8_t from_h, count_h, from_w, count_w;  // rows and columns that are inside the frame
    uint8_t next;                              // the first column that is not yet compared
  };
  static_assert(sizeof(Place) == 24, "WindowShared counts on it");

  const SearchProblem& p;
  const Search search;
  const KeySlopes slopes;
  const int lane, height, width;
  uint64_t* lists;
  float2* queue;
  float* sums;
  Place* places;
  int* pinned;      // of every row: the candidate that is not chosen by its distance
  int reach, kept;  // displacements along one axis; columns of them that are kept
  int left, top, column;
  int t, head, b;
  int low_h, low_w, high, wide;  // the union of the windows

  __device__ bool has_query(int row) const {
    return lane < kColumns && top + row < height && left + lane < width;
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
    for (int row = 0; row < kRows; ++row)
      for (int e = 0; e < p.k; ++e) entry(e, row, lane) = kNoMatch;
  }

  // Mirrors at most once: where all of `low` .. `high` can be mirrored so.
  __device__ static bool near(int low, int high, int length) {
    return low > -length && high < 2 * length - 1;
  }
  __device__ static int mirror(int x, int length) { return length - 1 - abs(length - 1 - abs(x)); }

  // Finds the windows of one slot and their union; false where it is too large or too far outside.
  __device__ bool place(int slot, bool begins) {
    int low_y = kNever, low_x = kNever, up_y = kNever, up_x = kNever;  // the last two negated
    // What is read beyond the last distances, and not used, may lie in other lanes' windows.
    __syncwarp();
    for (int row = 0; row < kRows; ++row) {
      Place w{};
      w.first_h = kNever;
      if (has_query(row)) {
        const auto window = query_window(search, b, head, t, top + row, left + lane, slot);
        if (begins && p.self_action != kNone) pin(query_of(row, lane), row, slot, window);
        if (window.finite) {
          w.anchor_h = static_cast<float>(window.anchor_h);
          w.anchor_w = static_cast<float>(window.anchor_w);
          w.offset_h = static_cast<uint8_t>(window.offset_h);
          w.offset_w = static_cast<uint8_t>(window.offset_w);
          w.first_h = inside_of(window.anchor_h, window.offset_h, height, w.from_h, w.count_h) -
                      (top + row);
          w.first_w = inside_of(window.anchor_w, window.offset_w, width, w.from_w, w.count_w) -
                      (left + lane);
          low_y = min(low_y, w.first_h);
          low_x = min(low_x, w.first_w);
          up_y = min(up_y, -w.first_h);
          up_x = min(up_x, -w.first_w);
        }
      }
      places[row * 32 + lane] = w;
    }
    __syncwarp();
    low_h = warp_min(low_y);
    low_w = warp_min(low_x);
    const int most_h = -warp_min(up_y), most_w = -warp_min(up_x);
    high = wide = 0;
    if (low_h >= kNever) return true;
    high = most_h - low_h + reach;
    wide = most_w - low_w + reach;
    if (static_cast<int64_t>(high) * wide > kWindowUnion) return false;
    const int above = top + low_h + static_cast<int>(p.patch_offset);
    const int before = left + low_w + static_cast<int>(p.patch_offset);
    const int last = __shfl_sync(0xffffffffu, column, 31);
    return near(above, above + high + kHigh + kSteps, height) &&
           near(before, last + low_w + wide + kAbreast, width);
  }

  // The first whole position of a window along one axis, and the candidates that are inside.
  __device__ int inside_of(Pos anchor, int64_t offset, int length, uint8_t& from,
                           uint8_t& count) const {
    const int ws = static_cast<int>(p.ws);
    from = 0;
    count = static_cast<uint8_t>(ws);
    const Pos start = search.position(anchor, 0, offset),
              end = search.position(anchor, ws - 1, offset);
    if (start < Pos(0) || end > static_cast<Pos>(length - 1)) {
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

  // The entry that comes first whatever its distance; left open until its candidate comes along.
  template <class Window>
  __device__ void pin(const Query& q, int row, int slot, const Window& window) {
    int64_t id = -1;
    if (p.self_action == kAnchor || p.self_action == kRemove) id = search.self_candidate(q);
    if (p.self_action == kAnchorEach) id = search.candidate(slot, window.offset_h, window.offset_w);
    if (id < 0) return;
    if (pins()) entry(0, row, lane) = ordered_key(infinity<float>(), static_cast<int>(id));
    pinned[row * 32] = static_cast<int>(id);
  }

  __device__ const float* plane_of(const void* video, const int64_t (&stride)[5],
                                   int64_t frame) const {
    return static_cast<const float*>(video) + b * stride[0] + head * stride[1] + frame * stride[2];
  }
  // A place of a plane, so many bytes from its beginning.
  __device__ static const float* place_of(const float* plane, unsigned bytes) {
    return reinterpret_cast<const float*>(reinterpret_cast<const char*>(plane) + bytes);
  }
  // Bytes to a place of a plane.
  __device__ unsigned at(int y, int x, int64_t pitch) const {
    return 4u * static_cast<unsigned>(mirror(y, height) * static_cast<int>(pitch) + x);
  }
  __device__ int query_column() const {
    return static_cast<int>(reflect(column + p.offset_width, p.width));
  }

  // All displacements of one slot, column by column.
  __device__ void walk(int slot) {
    const int64_t frame = slot_frame(t, slot, p.wt, p.frames);
    const float* key = plane_of(p.key, p.key_stride, frame);
    const int64_t plane = ((b * p.heads + head) * p.frames + frame) * height * width;
    const KeySlopes slope{slopes.across + plane, slopes.down + plane};
    const bool whole = kept == reach;
    for (int dx = low_w; dx < low_w + wide; dx += kAbreast) {
      int first_h[kRows], first_w[kRows];
      int begin = kNever, end = kNever;  // the latter negated
#pragma unroll
      for (int row = 0; row < kRows; ++row) {
        first_h[row] = places[row * 32 + lane].first_h;
        first_w[row] = places[row * 32 + lane].first_w;
        const bool in =
            first_h[row] < kNever && static_cast<unsigned>(dx + kAbreast - 1 - first_w[row]) <
                                         static_cast<unsigned>(reach + kAbreast - 1);
        begin = min(begin, in ? first_h[row] : kNever);
        end = min(end, in ? -first_h[row] : kNever);
      }
      begin = warp_min(begin);
      end = -warp_min(end) + reach;
      if (begin >= end) continue;
      walk_columns(key, dx, begin, end, first_h, first_w);
      if (whole) continue;
      for (int row = 0; row < kRows; ++row) {
        const Row r(*this, slot, row, slope);
        List list = list_of(row, r);
        for (int n = 0; n < kAbreast; ++n) {
          const int column = dx + n - r.w.first_w - (kFloat ? 1 : 0);
          const bool active = r.active && column >= 0 && column < reach - (kFloat ? 1 : 0);
          compare(r, active ? column : 0, active, kept_at(dx + n - 1), kept_at(dx + n), list);
        }
        list.store();
      }
    }
    if (!whole) return;
    for (int row = 0; row < kRows; ++row) {
      const Row r(*this, slot, row, slope);
      List list = list_of(row, r);
      for (int column = 0; column < reach - (kFloat ? 1 : 0); ++column)
        compare(r, column, r.active, column, column + (kFloat ? 1 : 0), list);
      list.store();
    }
  }

  // Where the distances of a column of displacements are, if not all are kept.
  __device__ int kept_at(int dx) const { return (dx - low_w + kept) % kept; }

  // First row displacement of the windows that column dx is in, and where its distances go.
  __device__ __forceinline__ void aim(int dx, const int (&first_h)[kRows],
                                      const int (&first_w)[kRows], int (&first)[kRows],
                                      int (&to)[kRows]) const {
    const bool whole = kept == reach;
    const int place = whole ? 0 : kept_at(dx);
#pragma unroll
    for (int row = 0; row < kRows; ++row) {
      const int column = dx - first_w[row];
      const bool in = static_cast<unsigned>(column) < static_cast<unsigned>(reach);
      first[row] = in ? first_h[row] : kNever;
      to[row] = (whole ? column : place) * reach * kLine + row * 32 + lane;
    }
  }

  // The distances of all queries at displacements (begin .. end - 1, dx .. dx + kAbreast - 1).
  __device__ void walk_columns(const float* key, int dx, int begin, int end,
                               const int (&first_h)[kRows], const int (&first_w)[kRows]) {
    const int y0 = top + static_cast<int>(p.patch_offset);
    const int own_y0 = y0 + static_cast<int>(p.offset_height), own_x = query_column();
    const float* own = plane_of(p.query, p.query_stride, t);
    int first[kRows], to[kRows];
    if constexpr (kChannels > 0) {
      const int x = mirror(column + dx, width);
      aim(dx, first_h, first_w, first, to);
      float query[kChannels][kHigh];  // read again for every column: little beside what follows
#pragma unroll
      for (int r = 0; r < kHigh; ++r) {
        const unsigned from = at(own_y0 + r, own_x, p.query_stride[4]);
#pragma unroll
        for (int c = 0; c < kChannels; ++c)
          query[c][r] = *place_of(own + c * p.query_stride[3], from);
      }
      float k[kChannels][kHigh - 1 + kSteps];
#pragma unroll
      for (int r = 0; r < kHigh - 1; ++r) read_row(key, y0 + begin + r, x, k, r);
      for (int dy = begin; dy < end; dy += kSteps) {
#pragma unroll
        for (int s = 0; s < kSteps; ++s)
          read_row(key, y0 + dy + kHigh - 1 + s, x, k, kHigh - 1 + s);
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
      unsigned own_row[kHigh];
#pragma unroll
      for (int r = 0; r < kHigh; ++r) own_row[r] = at(own_y0 + r, own_x, p.query_stride[4]);
      for (int dy = begin; dy < end; dy += kSteps) {
        float terms[kAbreast][kSteps][kHigh] = {};
        add_channels(own, own_row, key, y0 + dy, column + dx, terms);
#pragma unroll
        for (int n = 0; n < kAbreast; ++n) {
          aim(dx + n, first_h, first_w, first, to);
#pragma unroll
          for (int s = 0; s < kSteps; ++s) keep(terms[n][s], dy + s, first, to);
        }
      }
    }
  }

  // Adds the terms of all channels: of the tile's pixels in one column, at displacements that begin
  // at pixel (y, x) of the key.
  __device__ __forceinline__ void add_channels(const float* query, const unsigned (&own)[kHigh],
                                               const float* key, int y, int x,
                                               float (&terms)[kAbreast][kSteps][kHigh]) const {
    unsigned row[kHigh - 1 + kSteps], across[kAbreast];
#pragma unroll
    for (int r = 0; r < kHigh - 1 + kSteps; ++r) row[r] = at(y + r, 0, p.key_stride[4]);
#pragma unroll
    for (int n = 0; n < kAbreast; ++n) across[n] = 4u * static_cast<unsigned>(mirror(x + n, width));
    // A channel is read while the one before it is summed.
    Channel one, other;
    const int channels = static_cast<int>(p.channels);
    one.read(query, own, key, row, across);
    for (int c = 1;; c += 2) {
      if (c < channels) {
        query += p.query_stride[3];
        key += p.key_stride[3];
        other.read(query, own, key, row, across);
      }
      one.add_to(terms);
      if (c >= channels) return;
      if (c + 1 < channels) {
        query += p.query_stride[3];
        key += p.key_stride[3];
        one.read(query, own, key, row, across);
      }
      other.add_to(terms);
      if (c + 1 >= channels) return;
    }
  }

  // What one channel adds to the terms.
  struct Channel {
    float a[kHigh], k[kAbreast][kHigh - 1 + kSteps];

    __device__ __forceinline__ void read(const float* query, const unsigned (&own)[kHigh],
                                         const float* key,
                                         const unsigned (&row)[kHigh - 1 + kSteps],
                                         const unsigned (&across)[kAbreast]) {
#pragma unroll
      for (int r = 0; r < kHigh; ++r) a[r] = *place_of(query, own[r]);
#pragma unroll
      for (int n = 0; n < kAbreast; ++n)
#pragma unroll
        for (int r = 0; r < kHigh - 1 + kSteps; ++r) k[n][r] = *place_of(key, row[r] + across[n]);
    }
    __device__ __forceinline__ void add_to(float (&terms)[kAbreast][kSteps][kHigh]) const {
#pragma unroll
      for (int n = 0; n < kAbreast; ++n)
#pragma unroll
        for (int s = 0; s < kSteps; ++s)
#pragma unroll
          for (int r = 0; r < kHigh; ++r)
            terms[n][s][r] = Search::add_term(a[r], k[n][r + s], terms[n][s][r]);
    }
  };

  template <class Rows>
  __device__ void read_row(const float* key, int y, int x, Rows& k, int r) const {
    const unsigned from = at(y, x, p.key_stride[4]);
#pragma unroll
    for (int c = 0; c < kChannels; ++c) k[c][r] = *place_of(key + c * p.key_stride[3], from);
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
        sums[to[row] + r * kLine] = kProduct ? -sum : sum;
    }
  }

  // The windows of the lanes' queries in one row.
  struct Row {
    const Place w;
    const bool active;
    const int row, y, x, id;  // first whole position; first candidate
    const KeySlopes slope;

    __device__ Row(const WindowTile& tile, int slot, int row, const KeySlopes& slope)
        : w(tile.places[row * 32 + tile.lane]),
          active(w.first_h < kNever),
          row(row),
          y(active ? tile.top + row + w.first_h : 0),
          x(active ? tile.left + tile.lane + w.first_w : 0),
          id(slot * static_cast<int>(tile.p.ws * tile.p.ws)),
          slope(slope) {}
  };
  __device__ List list_of(int row, const Row& r) const {
    const int self = p.self_action != kNone && r.active ? pinned[row * 32] : -1;
    return List(&entry(0, row, lane), kRows * 33, queue, static_cast<int>(p.k), self, pins());
  }

  // The distance of a candidate that is none.
  __device__ static float nothing() { return __int_as_float(0x7fffffff); }

  // Compares the candidates that lie at (integer grid) or right of a column of displacements; that
  // column and the next are the `before`th and `now`th that are kept.
  __device__ __forceinline__ void compare(const Row& r, int column, bool active, int before,
                                          int now, List& list) {
    const float* left_sums = sums + before * reach * kLine + r.row * 32 + lane;
    const float* right_sums = sums + now * reach * kLine + r.row * 32 + lane;
    if constexpr (!kFloat) {
      compare_whole(r, column, active, right_sums, list);
    } else if (p.stride1 == 1.0) {
      compare_cells<1>(r, column, active, left_sums, right_sums, list);
    } else if (p.stride1 == 0.5) {
      compare_cells<2>(r, column, active, left_sums, right_sums, list);
    } else {
      compare_columns(r, column, active, left_sums, right_sums, list);
    }
    list.end_column();
  }

  __device__ void compare_whole(const Row& r, int column, bool active, const float* from,
                                List& list) const {
    const int ws = static_cast<int>(p.ws), step = static_cast<int>(search.step());
    const int j = column / step;
    active = active && j * step == column && j >= r.w.from_w && j < r.w.from_w + r.w.count_w;
    const unsigned count = active ? r.w.count_h : 0;
    int id = r.id + j;
    const int steps_w = j - r.w.offset_w, before = r.w.offset_h - r.w.from_h;
    for (int i = -r.w.from_h, end = i + ws; __any_sync(0xffffffffu, i < end); i += kTogether) {
      list.make_room(kTogether);
#pragma unroll
      for (int n = 0; n < kTogether; ++n) {
        const bool has = static_cast<unsigned>(i + n) < count;
        float found = has ? *from : nothing();
        if constexpr (kCharge) found += search.charge_at(i + n - before, steps_w);
        list.offer(found, id);
        if (i + n + 1 < end) from += step * kLine;
        id += ws;
      }
    }
  }

  // The candidates of the cells right of a column of displacements, for a step of 1 / kPer. A cell,
  // between two columns and two lines of displacements, holds kPer x kPer places; those that are no
  // candidates of the window have a distance of NaN.
  template <int kPer>
  __device__ __forceinline__ void compare_cells(const Row& r, int column, bool active,
                                                const float* left_sums, const float* right_sums,
                                                List& list) const {
    constexpr float kStep = 1.0f / kPer;
    const int ws = static_cast<int>(p.ws);
    float nth = -static_cast<float>(r.w.offset_h), y = static_cast<float>(r.y);
    float mth = -static_cast<float>(r.w.offset_w), x = static_cast<float>(r.x + column);
    // Places of the first cell that lie before the first candidate.
    int skip_h = 0, skip_w = 0;
    if (kPer > 1) {
      const float u = r.w.anchor_w + kStep * mth - static_cast<float>(r.x);
      skip_h = static_cast<int>((r.w.anchor_h + kStep * nth - y) * kPer);
      skip_w = static_cast<int>(u * kPer);
      nth -= static_cast<float>(skip_h);
      mth -= static_cast<float>(skip_w);
    }
    Column columns[kPer];
    const float charge = static_cast<float>(p.charge) * kStep * kStep;  // of a squared step
    float of_column[kPer] = {};
    const int j = kPer * column - skip_w;
#pragma unroll
    for (int m = 0; m < kPer; ++m) {
      const float steps = mth + static_cast<float>(kPer * column + m);
      const float w = r.w.anchor_w + kStep * steps;
      const bool has = active && static_cast<unsigned>(j + m - r.w.from_w) < r.w.count_w;
      columns[m] = Column(has ? w - x : nothing());
      if constexpr (kCharge) of_column[m] = charge * steps * steps;
    }
    int i = -skip_h - r.w.from_h, id = r.id + j - skip_h * ws;
    const unsigned count = r.w.count_h;
    const int lines = reach - 1;
    Slopes at(r, column, *this);
    float4 low = at.next();
    float left_low = *left_sums, right_low = *right_sums;
    float e[kPer];
#pragma unroll
    for (int m = 0; m < kPer; ++m) e[m] = columns[m].along(left_low, right_low, low);
    float4 high = at.next();
    float left_high = *(left_sums += kLine), right_high = *(right_sums += kLine);
    for (int line = 0; line < lines; ++line) {
      // Read early; what comes after the last line is not used.
      const float4 after = at.next();
      const float left_after = *(left_sums += kLine), right_after = *(right_sums += kLine);
      list.make_room(kPer * kPer);
      float next[kPer], rise[kPer], across[kPer];
#pragma unroll
      for (int m = 0; m < kPer; ++m) {
        next[m] = columns[m].along(left_high, right_high, high);
        rise[m] = next[m] - e[m];
        across[m] = columns[m].across(low);
      }
#pragma unroll
      for (int n = 0; n < kPer; ++n) {
        const bool has = static_cast<unsigned>(i + n) < count;
        const float v = has ? r.w.anchor_h + kStep * nth - y : nothing(), vv = fmaf(-v, v, v);
        const float of_line = kCharge ? charge * nth * nth : 0.0f;
#pragma unroll
        for (int m = 0; m < kPer; ++m) {
          const float found = between(e[m], rise[m], across[m], v, vv);
          list.offer(kCharge ? found + (of_line + of_column[m]) : found, id + m);
        }
        id += ws;
        nth += 1.0f;
      }
#pragma unroll
      for (int m = 0; m < kPer; ++m) e[m] = next[m];
      i += kPer;
      y += 1.0f;
      low = high;
      high = after;
      left_high = left_after;
      right_high = right_after;
    }
  }

  // The same for any step.
  __device__ void compare_columns(const Row& r, int column, bool active, const float* left_sums,
                                  const float* right_sums, List& list) {
    const int ws = static_cast<int>(p.ws), last = reach - 2;
    const float step = static_cast<float>(p.stride1), x = static_cast<float>(r.x + column);
    const int each = step < 1.0f ? static_cast<int>(ceilf(1.0f / step)) : 1;
    uint8_t& done = places[r.row * 32 + lane].next;
    int j = active ? done : ws;
    while (true) {
      // Rounded, the last column can lie a hair beyond the last displacement.
      const float at = r.w.anchor_w + step * static_cast<float>(j - r.w.offset_w);
      const bool has = j < ws && (column == last || at < x + 1.0f);
      if (!__any_sync(0xffffffffu, has)) break;
      const bool inside = has && j >= r.w.from_w && j < r.w.from_w + r.w.count_w;
      const Column between_columns(inside ? at - x : nothing());
      const int steps_w = j - r.w.offset_w;
      int id = r.id + j, i = has ? 0 : ws;
      float y = static_cast<float>(r.y);
      Slopes slopes_at(r, column, *this);
      float4 low = slopes_at.next();
      float e = between_columns.along(left_sums[0], right_sums[0], low);
      for (int line = 0; line <= last; ++line, y += 1.0f) {
        const float4 above = slopes_at.next();
        const int to = (line + 1) * kLine;
        const float next = between_columns.along(left_sums[to], right_sums[to], above);
        const float across = between_columns.across(low);
        bool more = false;
        for (int n = 0; n < each || more; ++n) {
          const float h = r.w.anchor_h + step * static_cast<float>(i - r.w.offset_h);
          const bool here = i < ws && (line == last || h < y + 1.0f);
          const bool valid = here && i >= r.w.from_h && i < r.w.from_h + r.w.count_h;
          const float v = valid ? h - y : nothing();
          list.make_room(1);
          const float found = between(e, next - e, across, v, fmaf(-v, v, v));
          list.offer(kCharge ? found + search.charge_at(i - r.w.offset_h, steps_w) : found, id);
          i += here ? 1 : 0;
          id += here ? ws : 0;
          // Rounded, a line can hold one more.
          more = n + 1 >= each && line == last && __any_sync(0xffffffffu, i < ws);
        }
        low = above;
        e = next;
      }
      j += has ? 1 : 0;
      list.end_column();
    }
    if (active) done = static_cast<uint8_t>(j);
  }

  // Reads the sums over the key down a column, a line ahead of where they are needed: X, Y, the
  // difference of Y to the next column, M.
  struct Slopes {
    const KeySlopes slope;
    const int x, after, width, last;
    int y;

    __device__ Slopes(const Row& r, int column, const WindowTile& tile)
        : slope(r.slope),
          x(min(max(r.x + column, 0), tile.width - 1)),
          after(x + 1 < tile.width ? 1 : 0),
          width(tile.width),
          last(tile.height - 1),
          y(r.y) {}
    __device__ __forceinline__ float4 next() {
      float4 sums{};
      if constexpr (!kProduct) {
        const unsigned at = static_cast<unsigned>(min(max(y, 0), last) * width + x);
        const float2 across = read(slope.across + at);
        const float down = read(slope.down + at), right = read(slope.down + at + after);
        sums = make_float4(across.x, down, right - down, across.y);
        ++y;
      }
      return sums;
    }

    // Compilers put such a read off until its result is needed.
    __device__ __forceinline__ static float read(const float* from) {
      float value;
      asm volatile("ld.global.nc.f32 %0, [%1];" : "=f"(value) : "l"(from));
      return value;
    }
    __device__ __forceinline__ static float2 read(const float2* from) {
      float2 value;
      asm volatile("ld.global.nc.v2.f32 {%0, %1}, [%2];"
                   : "=f"(value.x), "=f"(value.y)
                   : "l"(from));
      return value;
    }
  };

  // E and G of the formulas above.
  struct Column {
    float u, uu;
    Column() = default;
    __device__ explicit Column(float u) : u(u), uu(fmaf(-u, u, u)) {}
    __device__ float along(float left, float right, const float4& slope) const {
      const float e = fmaf(u, right - left, left);
      return kProduct ? e : fmaf(-uu, slope.x, e);
    }
    __device__ float across(const float4& slope) const {
      return kProduct ? 0.0f : fmaf(-uu, slope.w, fmaf(u, slope.z, slope.y));
    }
  };

  // The distance between two lines: E, its rise and G.
  __device__ __forceinline__ static float between(float e, float rise, float g, float v, float vv) {
    const float found = fmaf(v, rise, e);
    return kProduct ? found : fmaf(-vv, g, found);
  }

  // Distance and offsets of a match of the query at (y, x).
  __device__ void write_match(int y, int x, uint64_t key, bool exactly_self, float* distance,
                              Index* out) const {
    const int id = static_cast<int>(static_cast<unsigned>(key));
    const unsigned ws = static_cast<unsigned>(p.ws), area = ws * ws, candidate = id;
    const int slot = static_cast<int>(candidate / area);
    const unsigned at = candidate % area;
    const auto w = query_window(search, b, head, t, y, x, slot);
    float charge = 0.0f;
    if constexpr (kCharge)
      charge = search.charge_at(static_cast<int>(at / ws) - w.offset_h,
                                static_cast<int>(at % ws) - w.offset_w);
    *distance = Search::cost_to_distance(distance_of_key(key), charge);
    Index dt = static_cast<Index>(slot_frame(t, slot, p.wt, p.frames) - t);
    Index dh =
        static_cast<Index>(search.position(w.anchor_h, at / ws, w.offset_h) - static_cast<Pos>(y));
    Index dw =
        static_cast<Index>(search.position(w.anchor_w, at % ws, w.offset_w) - static_cast<Pos>(x));
    if (exactly_self) dt = dh = dw = Index(0);
    if (p.components == 3) *out++ = dt;
    out[0] = dh;
    out[1] = dw;
  }

  // Writes the lists, row by row of the tile, so that what is written lies side by side.
  // False where too few of a query's candidates are valid to fill its list.
  __device__ bool write(int slot) {
    const unsigned k = static_cast<unsigned>(p.k);
    const int first = pins() ? 1 : 0;
    bool full = true;
    for (int row = 0; row < kRows; ++row) {
      for (int e = first + 1; kList == 0 && e < static_cast<int>(k);
           ++e) {  // the others are sorted
        const uint64_t key = entry(e, row, lane);
        int to = e;
        for (; to > first && entry(to - 1, row, lane) > key; --to)
          entry(to, row, lane) = entry(to - 1, row, lane);
        entry(to, row, lane) = key;
      }
      full = full && (!has_query(row) || entry(k - 1, row, lane) != kNoMatch);
    }
    if (!__all_sync(0xffffffffu, full)) return false;
    __syncwarp();
    const int columns = min(kColumns, width - left);
    const int64_t entries = entry_count(p);
    const int64_t start = p.keep == kBestOfEach ? (slot - p.first_slot) * p.k : 0;
    for (int row = 0; row < kRows && top + row < height; ++row) {
      const int64_t line =
          (((static_cast<int64_t>(b) * p.heads + head) * p.frames + t) * p.grid_height + top +
           row) *
              p.grid_width +
          left;
      for (int item = lane; item < columns * static_cast<int>(k); item += 32) {
        const int column = static_cast<int>(static_cast<unsigned>(item) / k);
        const int e = item - column * static_cast<int>(k);
        const uint64_t key = entry(e, row, column);
        const int id = static_cast<int>(static_cast<unsigned>(key));
        const int64_t at = (line + column) * entries + start + e;
        const bool exactly =
            p.self_action == kAnchor && e == 0 && id != search.candidate(p.first_slot, 0, 0);
        write_match(top + row, left + column, key, exactly, static_cast<float*>(p.dists) + at,
                    static_cast<Index*>(p.inds) + at * p.components);
      }
    }
    __syncwarp();
    return true;
  }
};

// kBlocks: how many are to fit a multiprocessor, as far as registers go.
template <int kPs, int kChannels, bool kProduct, bool kFloat, int kList, bool kCharge, int kBlocks>
__global__ void __launch_bounds__(32, kBlocks)
    windows_kernel(const __grid_constant__ SearchProblem p, int32_t* leftover,
                   const KeySlopes slopes) {
  extern __shared__ uint64_t shared[];
  const int tile = static_cast<int>(blockIdx.x);
  WindowTile<kPs, kChannels, kProduct, kFloat, kList, kCharge> one(p, tile, shared, slopes);
  if (!one.run() && threadIdx.x == 0) leftover[1 + atomicAdd(leftover, 1)] = tile;
}

template <int kPs, int kChannels, bool kProduct, bool kFloat, int kList, bool kCharge, int kBlocks>
cudaError_t launch_windows(const SearchProblem& p, const KeySlopes& slopes, cudaStream_t stream) {
  const auto kernel = windows_kernel<kPs, kChannels, kProduct, kFloat, kList, kCharge, kBlocks>;
  const int bytes = 8 * WindowShared(p).words;
  const cudaError_t error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  if (error != cudaSuccess) return error;
  kernel<<<static_cast<unsigned>(window_tile_count(p)), 32, bytes, stream>>>(p, p.scratch, slopes);
  return cudaSuccess;
}

// Small windows leave shared memory for more warps, which then get fewer registers each.
template <int kPs, int kChannels, bool kProduct, bool kFloat, int kList, bool kCharge = false>
cudaError_t launch_windows(const SearchProblem& p, const KeySlopes& slopes, cudaStream_t stream) {
  if constexpr (kList == 1) {
    return launch_windows<kPs, kChannels, kProduct, kFloat, kList, kCharge, 16>(p, slopes, stream);
  } else {
    if constexpr (kPs == 3 && kChannels == 0 && kList > 1) {
      if (8 * WindowShared(p).words <= kWindowSmall)
        return launch_windows<kPs, 0, kProduct, kFloat, kList, kCharge, 16>(p, slopes, stream);
    }
    return launch_windows<kPs, kChannels, kProduct, kFloat, kList, kCharge, 12>(p, slopes, stream);
  }
}

// One patch size; each is compiled in sources of its own, side by side.
template <int kPs, bool kProduct, bool kFloat>
cudaError_t launch_any_list(const SearchProblem& p, const KeySlopes& slopes, cudaStream_t stream) {
  return window_list(p) > 0 ? launch_windows<kPs, 0, kProduct, kFloat, kListMost>(p, slopes, stream)
                            : launch_windows<kPs, 0, kProduct, kFloat, 0>(p, slopes, stream);
}
template <int kPs>
cudaError_t launch_any_channels(const SearchProblem& p, const KeySlopes& slopes,
                                cudaStream_t stream) {
  if (p.product)
    return p.float_grid ? launch_any_list<kPs, true, true>(p, slopes, stream)
                        : launch_any_list<kPs, true, false>(p, slopes, stream);
  return p.float_grid ? launch_any_list<kPs, false, true>(p, slopes, stream)
                      : launch_any_list<kPs, false, false>(p, slopes, stream);
}

template <int kPs>
cudaError_t launch_few_channels(const SearchProblem& p, const KeySlopes& slopes,
                                cudaStream_t stream) {
  if (p.channels == 1)
    return window_single(p) ? launch_windows<kPs, 1, false, true, 1>(p, slopes, stream)
                            : launch_windows<kPs, 1, false, true, kListMost>(p, slopes, stream);
  return window_single(p) ? launch_windows<kPs, 3, false, true, 1>(p, slopes, stream)
                          : launch_windows<kPs, 3, false, true, kListMost>(p, slopes, stream);
}

// Where leaving the flow is charged for: 3 channels.
template <int kPs, bool kFloat>
cudaError_t launch_charged(const SearchProblem& p, const KeySlopes& slopes, cudaStream_t stream) {
  return window_single(p)
             ? launch_windows<kPs, 3, false, kFloat, 1, true>(p, slopes, stream)
             : launch_windows<kPs, 3, false, kFloat, kListMost, true>(p, slopes, stream);
}
template <int kPs>
cudaError_t launch_charged(const SearchProblem& p, const KeySlopes& slopes, cudaStream_t stream) {
  return p.float_grid ? launch_charged<kPs, true>(p, slopes, stream)
                      : launch_charged<kPs, false>(p, slopes, stream);
}

extern template cudaError_t launch_any_channels<1>(const SearchProblem&, const KeySlopes&,
                                                   cudaStream_t);
extern template cudaError_t launch_any_channels<3>(const SearchProblem&, const KeySlopes&,
                                                   cudaStream_t);
extern template cudaError_t launch_any_channels<5>(const SearchProblem&, const KeySlopes&,
                                                   cudaStream_t);
extern template cudaError_t launch_any_channels<7>(const SearchProblem&, const KeySlopes&,
                                                   cudaStream_t);
extern template cudaError_t launch_few_channels<3>(const SearchProblem&, const KeySlopes&,
                                                   cudaStream_t);
extern template cudaError_t launch_few_channels<5>(const SearchProblem&, const KeySlopes&,
                                                   cudaStream_t);
extern template cudaError_t launch_few_channels<7>(const SearchProblem&, const KeySlopes&,
                                                   cudaStream_t);
extern template cudaError_t launch_few_channels<9>(const SearchProblem&, const KeySlopes&,
                                                   cudaStream_t);
extern template cudaError_t launch_charged<3>(const SearchProblem&, const KeySlopes&, cudaStream_t);
extern template cudaError_t launch_charged<5>(const SearchProblem&, const KeySlopes&, cudaStream_t);
extern template cudaError_t launch_charged<7>(const SearchProblem&, const KeySlopes&, cudaStream_t);
extern template cudaError_t launch_charged<9>(const SearchProblem&, const KeySlopes&, cudaStream_t);

}  // namespace stnls
