#include "tiles_cpu.h"

#include <algorithm>
#include <climits>
#include <cmath>
#include <memory>
#include <vector>

#include "../common/parallel.h"
#include "../common/simd.h"
#include "direct.h"

namespace stnls {
namespace {

// Queries in a tile. Larger tiles waste less on patch borders, smaller ones share a motion better.
constexpr int64_t kTileHeight = 16, kTileWidth = 64;
// A tile is cut in two where that costs less. What it takes to begin a walk, in vectors for each
// displacement, and the number of windows in a union from which a tile is cut in any case.
constexpr int64_t kWalkOverhead = 8;
constexpr double kManyWindows = 6.0;

constexpr int64_t kMaxPhases = 4;

// Fractions of a pixel on which the candidates of one query lie: 1 / stride1, or 0 if it is none.
int64_t phases_of(const SearchProblem& p) {
  if (p.stride1 == 1.0) return 1;
  if (!p.float_grid) return 0;
  for (int64_t n = 2; n <= kMaxPhases; ++n)
    if (p.stride1 * static_cast<double>(n) == 1.0) return n;
  return 0;
}

// Displacement of what does not exist: beyond every frame, and safe to subtract from.
constexpr int32_t kNowhere = 1 << 30;

// Along one axis and for one phase: the valid candidates i = first, first + n, first + 2 n, ... lie
// at the integer displacements low, low + 1, ..., high - 1 (relative to the query), plus a
// fraction.
struct AxisPlan {
  std::vector<int32_t> low, high, first;
  std::vector<float> fraction;
  void resize(size_t n) {
    low.resize(n);
    high.resize(n);
    first.resize(n);
    fraction.resize(n);
  }
};

struct Box {
  int64_t low = INT_MAX, high = INT_MIN;  // displacements low .. high - 1
  void include(int64_t a, int64_t b) {
    low = std::min(low, a);
    high = std::max(high, b);
  }
  int64_t size() const { return high > low ? high - low : 0; }
};

struct Rect {
  int64_t y, x, height, width;  // in the tile
};

// Sum of ps neighbours starting at each element, pairwise for the usual sizes.
template <int kPatch, class At>
inline FloatV sum_of(int64_t ps, At&& at) {
  if constexpr (kPatch == 1) return at(0);
  if constexpr (kPatch == 3) return (at(0) + at(1)) + at(2);
  if constexpr (kPatch == 5) return ((at(0) + at(1)) + (at(2) + at(3))) + at(4);
  if constexpr (kPatch == 7) return ((at(0) + at(1)) + (at(2) + at(3))) + ((at(4) + at(5)) + at(6));
  FloatV sum = at(0);
  for (int64_t i = 1; i < ps; ++i) sum += at(i);
  return sum;
}

// A block of pixels of all channels, copied with reflection at the borders.
struct Block {
  std::vector<float> data;
  int64_t rows = 0, pitch = 0;

  const float* row(int64_t c, int64_t r) const {
    return data.data() + static_cast<size_t>((c * rows + r) * pitch);
  }

  void fetch(const float* image, int64_t channels, int64_t channel_stride, int64_t row_stride,
             int64_t height, int64_t width, int64_t top, int64_t left, int64_t n_rows,
             int64_t n_columns) {
    rows = n_rows;
    pitch = n_columns;
    data.resize(static_cast<size_t>(channels * rows * pitch));
    columns.resize(static_cast<size_t>(n_columns));
    for (int64_t x = 0; x < n_columns; ++x)
      columns[static_cast<size_t>(x)] = reflect(left + x, width);
    const bool whole = left >= 0 && left + n_columns <= width;
    for (int64_t c = 0; c < channels; ++c) {
      for (int64_t r = 0; r < n_rows; ++r) {
        const float* from = image + c * channel_stride + reflect(top + r, height) * row_stride;
        float* to = data.data() + static_cast<size_t>((c * rows + r) * pitch);
        if (whole)
          std::memcpy(to, from + left, static_cast<size_t>(n_columns) * sizeof(float));
        else
          for (int64_t x = 0; x < n_columns; ++x) to[x] = from[columns[static_cast<size_t>(x)]];
      }
    }
  }

 private:
  std::vector<int64_t> columns;
};

template <bool kFloatGrid, bool kProduct, int kPatch>
class TileSearch {
  using Direct = DirectSearch<float, kFloatGrid, kProduct>;
  using Pos = typename Direct::Pos;
  using Index = typename Direct::Index;

 public:
  explicit TileSearch(const SearchProblem& problem)
      : p(problem), direct(problem), phases(phases_of(problem)) {
    // Vectors that begin at the last query of the tile reach beyond it.
    const size_t n = static_cast<size_t>(kTileHeight * kTileWidth + kLanes);
    for (int64_t phase = 0; phase < phases; ++phase) {
      plan_h[phase].resize(n);
      plan_w[phase].resize(n);
    }
    limit.resize(n);
    code.resize(n);
    excluded_h.resize(n);
    excluded_w.resize(n);
    row_low.resize(n);
    row_high.resize(n);
    row_excluded.resize(n);
    to_direct.resize(n);
    self.resize(n);
    lists.resize(n);
  }

  // Queries (tile_y, tile_x) .. of one frame of one head.
  void run(int64_t b, int64_t head, int64_t t, int64_t tile_y, int64_t tile_x) {
    origin = Query{b, head, t, tile_y, tile_x};
    height = std::min(kTileHeight, p.grid_height - tile_y);
    width = std::min(kTileWidth, p.grid_width - tile_x);
    std::fill(to_direct.begin(), to_direct.end(), char(0));
    const bool has_self = p.self_action == kAnchor || p.self_action == kRemove;
    for (int64_t y = 0; y < height; ++y) {
      for (int64_t x = 0; x < width; ++x) {
        const size_t n = at(y, x);
        self[n] = has_self ? direct.self_candidate(query(y, x)) : -1;
        if (direct.swaps_slots(self[n])) to_direct[n] = 1;
      }
    }
    query_block.fetch(query_plane(), p.channels, p.query_stride[3], p.query_stride[4],
                      p.query_height, p.query_width, tile_y + p.offset_height + p.patch_offset,
                      tile_x + p.offset_width + p.patch_offset, height + p.ps - 1,
                      round_up_to_lanes(kTileWidth + p.ps - 1) + 2 * kLanes);
    for (int64_t slot = p.first_slot; slot <= 2 * p.wt; ++slot) {
      plan(slot);
      if (slot == p.first_slot || p.keep == kBestOfEach) {
        if (slot != p.first_slot) finish_lists();
        start_lists(slot);
      }
      if (capacity_of_any > 0) {
        const Rect whole{0, 0, height, width};
        scan(slot, whole, union_of(whole));
      }
    }
    finish_lists();
    for (int64_t y = 0; y < height; ++y)
      for (int64_t x = 0; x < width; ++x) finish(y, x);
  }

 private:
  const SearchProblem& p;
  const Direct direct;
  const int64_t phases;
  Query origin{};
  int64_t height = 0, width = 0;

  // Per query of the tile (row pitch kTileWidth).
  AxisPlan plan_h[kMaxPhases], plan_w[kMaxPhases];
  std::vector<BestList<float, Index>> lists;
  std::vector<float> limit;   // keys below this one enter the list
  std::vector<int32_t> code;  // displacement of the best so far in this slot (one entry lists)
  std::vector<int32_t> excluded_h, excluded_w;  // (row, column) of the pinned or removed candidate
  std::vector<int32_t> row_low, row_high, row_excluded;
  std::vector<char> to_direct;
  std::vector<int64_t> self;
  int64_t capacity_of_any = 0;
  int64_t box_low_h = 0, box_low_w = 0, code_span = 1;  // the union that is being walked
  int64_t columns = 0;                                  // of `rows`: the rectangle and its border
  bool any_excluded = false;

  Block query_block, key_block;
  std::vector<float> line, rows, sums, corrections;

  static size_t at(int64_t y, int64_t x) { return static_cast<size_t>(y * kTileWidth + x); }
  Query query(int64_t y, int64_t x) const {
    return Query{origin.b, origin.head, origin.t, origin.i + y, origin.j + x};
  }
  int64_t query_index(int64_t y, int64_t x) const {
    return (((origin.b * p.heads + origin.head) * p.frames + origin.t) * p.grid_height + origin.i +
            y) *
               p.grid_width +
           origin.j + x;
  }
  const float* query_plane() const {
    return static_cast<const float*>(p.query) + origin.b * p.query_stride[0] +
           origin.head * p.query_stride[1] + origin.t * p.query_stride[2];
  }

  // Where every query's candidates lie in this slot.
  void plan(int64_t slot) {
    any_excluded = false;
    for (int64_t y = 0; y < height; ++y) {
      for (int64_t x = 0; x < width; ++x) {
        const size_t n = at(y, x);
        const Query q = query(y, x);
        const Window<Pos> w = direct.window(q, slot);
        if (!w.finite) to_direct[n] = 1;
        plan_axis(plan_h, n, w.anchor_h, w.offset_h, q.i, p.height, !to_direct[n]);
        plan_axis(plan_w, n, w.anchor_w, w.offset_w, q.j, p.width, !to_direct[n]);
        int64_t out = self[n];
        if (p.self_action == kAnchorEach && (p.keep == kBestOfEach || slot == p.first_slot))
          out = direct.candidate(slot, w.offset_h, w.offset_w);
        const int64_t first = direct.candidate(slot, 0, 0);
        const bool here = out >= first && out < first + p.ws * p.ws;
        excluded_h[n] = here ? static_cast<int32_t>((out - first) / p.ws) : -1;
        excluded_w[n] = here ? static_cast<int32_t>((out - first) % p.ws) : -1;
        any_excluded |= here;
      }
    }
  }

  void plan_axis(AxisPlan* plans, size_t n, Pos anchor, int64_t offset, int64_t place,
                 int64_t length, bool used) const {
    for (int64_t phase = 0; phase < phases; ++phase) {
      AxisPlan& a = plans[phase];
      int64_t first = phase, end = p.ws;
      if (!used) first = end;
      while (first < end && !inside(direct.position(anchor, first, offset), length))
        first += phases;
      int64_t count = first < end ? (end - first + phases - 1) / phases : 0;
      while (count > 0 &&
             !inside(direct.position(anchor, first + (count - 1) * phases, offset), length))
        --count;
      if (count == 0) {
        a.low[n] = kNowhere;
        a.high[n] = -kNowhere;
        a.first[n] = 0;
        a.fraction[n] = 0;
        continue;
      }
      const Pos start = direct.position(anchor, first, offset);
      if constexpr (kFloatGrid) {
        const float whole = std::floor(start);
        a.low[n] = static_cast<int32_t>(static_cast<int64_t>(whole) - place);
        a.fraction[n] = start - whole;
      } else {
        a.low[n] = static_cast<int32_t>(start - place);
        a.fraction[n] = 0;
      }
      a.high[n] = a.low[n] + static_cast<int32_t>(count);
      a.first[n] = static_cast<int32_t>(first);
    }
  }

  void start_lists(int64_t slot) {
    const int64_t entries = entry_count(p);
    const int64_t skip = p.keep == kBestOfEach ? (slot - p.first_slot) * p.k : 0;
    capacity_of_any = 0;
    for (int64_t y = 0; y < height; ++y) {
      for (int64_t x = 0; x < width; ++x) {
        const size_t n = at(y, x);
        const int64_t place = query_index(y, x) * entries + skip;
        BestList<float, Index>& list = lists[n];
        list = BestList<float, Index>{static_cast<float*>(p.dists) + place,
                                      static_cast<Index*>(p.inds) + place * p.components,
                                      p.components, p.k};
        int64_t pinned = -1;
        if (p.self_action == kAnchorEach)
          pinned = direct.candidate(slot, excluded_h[n], excluded_w[n]);
        if (p.self_action == kAnchor && slot == p.first_slot) pinned = self[n];
        if (pinned >= 0) {
          list.keys[0] = direct.key_of_candidate(query(y, x), pinned);
          list.ids[0] = static_cast<Index>(pinned);
          ++list.keys;
          list.ids += p.components;
          --list.capacity;
        }
        if (list.capacity == 0)
          for (int64_t phase = 0; phase < phases; ++phase) plan_h[phase].high[n] = -kNowhere;
        limit[n] = Direct::worst_key();
        capacity_of_any = std::max(capacity_of_any, list.capacity);
      }
    }
  }

  // A list that found too few valid candidates is filled with invalid ones by the direct form.
  void finish_lists() {
    for (int64_t y = 0; y < height; ++y)
      for (int64_t x = 0; x < width; ++x)
        if (lists[at(y, x)].size < lists[at(y, x)].capacity) to_direct[at(y, x)] = 1;
  }

  void finish(int64_t y, int64_t x) {
    const size_t n = at(y, x);
    const int64_t index = query_index(y, x), entries = entry_count(p);
    if (to_direct[n]) {
      direct.run(index);
      return;
    }
    const Query q = query(y, x);
    float* keys = static_cast<float*>(p.dists) + index * entries;
    Index* inds = static_cast<Index*>(p.inds) + index * entries * p.components;
    for (int64_t e = 0; e < entries; ++e) {
      const int64_t id = static_cast<int64_t>(inds[e * p.components]);
      keys[e] = Direct::key_to_distance(keys[e]);
      direct.write_offsets(q, id, direct.is_exact_self(id, self[n]), inds + e * p.components);
    }
  }

  // The union of the windows of a rectangle of queries.
  struct Union {
    Box h, w;
    bool empty() const { return h.size() == 0 || w.size() == 0; }
  };

  Union union_of(Rect r) const {
    Union u;
    for (int64_t y = r.y; y < r.y + r.height; ++y) {
      for (int64_t x = r.x; x < r.x + r.width; ++x) {
        const size_t n = at(y, x);
        Box h, w;  // candidates pair every phase of the rows with every one of the columns
        for (int64_t phase = 0; phase < phases; ++phase) {
          h.include(plan_h[phase].low[n], plan_h[phase].high[n]);
          w.include(plan_w[phase].low[n], plan_w[phase].high[n]);
        }
        if (h.low >= h.high || w.low >= w.high) continue;
        u.h.include(h.low, h.high);
        u.w.include(w.low, w.high);
      }
    }
    return u;
  }

  // Vectors of differences that walking a union takes, its patch border included.
  double cost(Rect r, const Union& u) const {
    if (u.empty()) return 0;
    const int64_t more = kFloatGrid ? 1 : 0;
    const int64_t vectors = round_up_to_lanes(round_up_to_lanes(r.width) + p.ps - 1) / kLanes;
    return static_cast<double>((u.h.size() + more) * (u.w.size() + more)) *
           static_cast<double>((r.height + p.ps - 1) * vectors + kWalkOverhead);
  }

  void scan(int64_t slot, Rect r, const Union& u) {
    if (u.empty()) return;
    Rect a = r, b = r;
    if (r.height > 1 && (r.height * 2 >= r.width || r.width <= kLanes)) {
      a.height = r.height / 2;
      b.y += a.height;
      b.height -= a.height;
    } else {
      a.width = r.width > kLanes ? round_up_to_lanes(r.width / 2) : (r.width + 1) / 2;
      b.x += a.width;
      b.width -= a.width;
    }
    if (r.height * r.width > 1) {
      const Union ua = union_of(a), ub = union_of(b);
      // One query that looks elsewhere can make both of two parts large for some rounds, so that a
      // union of many windows is cut without asking whether the first cut pays.
      const double window = static_cast<double>((p.ws + phases - 1) / phases + (phases > 1));
      const bool huge =
          static_cast<double>(u.h.size() * u.w.size()) > kManyWindows * window * window;
      if (huge || cost(a, ua) + cost(b, ub) < cost(r, u)) {
        scan(slot, a, ua);
        scan(slot, b, ub);
        return;
      }
    }
    scan_union(slot, r, u.h, u.w);
  }

  void offer(size_t n, float key, int64_t id) {
    lists[n].offer(key, id);
    limit[n] = lists[n].worst;
  }

  void scan_union(int64_t slot, Rect r, Box box_h, Box box_w) {
    const int64_t more = kFloatGrid ? 1 : 0;  // bilinear: one more displacement on the high side
    const int64_t span_w = box_w.size() + more;
    const int64_t lanes_width = round_up_to_lanes(r.width);
    const Query first = query(r.y, r.x);
    const float* key = static_cast<const float*>(p.key) + first.b * p.key_stride[0] +
                       first.head * p.key_stride[1] +
                       slot_frame(first.t, slot, p.wt, p.frames) * p.key_stride[2];
    key_block.fetch(key, p.channels, p.key_stride[3], p.key_stride[4], p.height, p.width,
                    first.i + p.patch_offset + box_h.low, first.j + p.patch_offset + box_w.low,
                    r.height + p.ps - 1 + box_h.size() - 1 + 2 * more,
                    round_up_to_lanes(lanes_width + p.ps - 1) + span_w + more + kLanes);
    columns = round_up_to_lanes(lanes_width + p.ps - 1);
    line.resize(static_cast<size_t>((r.height + p.ps - 1) * kLanes));
    rows.resize(static_cast<size_t>(r.height * columns));
    const int64_t area = r.height * lanes_width;
    if constexpr (kFloatGrid) sums.resize(static_cast<size_t>(2 * span_w * area));
    if constexpr (kFloatGrid && !kProduct) make_corrections(r, box_h, box_w, lanes_width);
    const bool one_entry = capacity_of_any == 1;
    if (one_entry) std::fill(code.begin(), code.end(), -1);
    box_low_h = box_h.low;
    box_low_w = box_w.low;
    code_span = span_w;

    for (int64_t dy = 0; dy < box_h.size() + more; ++dy) {
      if constexpr (kFloatGrid) {
        float* row = sums.data() + (dy % 2) * span_w * area;
        for (int64_t dx = 0; dx < span_w; ++dx) {
          column_sums_any(r, dy, dx);
          const int64_t ps = p.ps;
          for (int64_t y = 0; y < r.height; ++y) {
            const float* from = rows.data() + y * columns;
            float* to = row + dx * area + y * lanes_width;
            for (int64_t x = 0; x < lanes_width; x += kLanes)
              store(to + x, patch_sum(from + x, ps));
          }
        }
        if (dy == 0) continue;
        const float* low = sums.data() + ((dy - 1) % 2) * span_w * area;
        for (int64_t phase_h = 0; phase_h < phases; ++phase_h) {
          for (int64_t phase_w = 0; phase_w < phases; ++phase_w) {
            plan_row(r, phase_h, phase_w, box_h.low + dy - 1, box_w.low);
            for (int64_t dx = 0; dx + 1 < span_w; ++dx) {
              const auto value = [&](int64_t y) {
                return interpolation(r, phase_h, phase_w, dy - 1, dx, y, lanes_width, low, row,
                                     area);
              };
              keep(slot, r, phase_h, phase_w, dy - 1, dx, one_entry, value);
            }
          }
        }
      } else {
        plan_row(r, 0, 0, box_h.low + dy, box_w.low);
        for (int64_t dx = 0; dx < span_w; ++dx) {
          column_sums_any(r, dy, dx);
          const auto value = [&](int64_t y) {
            const float* from = rows.data() + y * columns;
            const int64_t ps = p.ps;
            return [from, ps](int64_t x) { return patch_sum(from + x, ps); };
          };
          keep(slot, r, 0, 0, dy, dx, one_entry, value);
        }
      }
    }
    if (one_entry) take_codes(slot, r);
  }

  // Sums over the rows of the patch, for all columns of the rectangle and its border, at
  // displacement (dy, dx) of the union; `patch_sum` adds the columns.
  template <int kChannels>
  void column_sums(Rect r, int64_t dy, int64_t dx) {
    const int64_t ps = kPatch ? kPatch : p.ps;
    const int64_t channels = kChannels ? kChannels : p.channels;
    const int64_t n_rows = r.height + ps - 1;
    const float* queries = query_block.row(0, r.y) + r.x;
    const float* keys = key_block.row(0, dy) + dx;
    const int64_t query_plane_size = query_block.rows * query_block.pitch;
    const int64_t key_plane_size = key_block.rows * key_block.pitch;
    const int64_t query_pitch = query_block.pitch, key_pitch = key_block.pitch;
    const int64_t pitch = columns, n_queries = r.height;
    float *scratch = line.data(), *out = rows.data();
    for (int64_t x = 0; x < pitch; x += kLanes) {
      const float* a = queries + x;
      const float* b = keys + x;
      for (int64_t row = 0; row < n_rows; ++row) {
        FloatV sum{};
        for (int64_t c = 0; c < channels; ++c) {
          const FloatV va = load(a + c * query_plane_size), vb = load(b + c * key_plane_size);
          if constexpr (kProduct)
            sum = multiply_add(-va, vb, sum);
          else
            sum = multiply_add(va - vb, va - vb, sum);
        }
        store(scratch + row * kLanes, sum);
        a += query_pitch;
        b += key_pitch;
      }
      const float* terms = scratch;
      float* to = out + x;
      for (int64_t y = 0; y < n_queries; ++y, terms += kLanes, to += pitch)
        store(to, sum_of<kPatch>(ps, [&](int64_t i) { return load(terms + i * kLanes); }));
    }
  }

  void column_sums_any(Rect r, int64_t dy, int64_t dx) {
    switch (p.channels) {
      case 1:
        return column_sums<1>(r, dy, dx);
      case 3:
        return column_sums<3>(r, dy, dx);
      default:
        return column_sums<0>(r, dy, dx);
    }
  }

  // Patch distances from a row of column_sums.
  static FloatV patch_sum(const float* from, int64_t ps) {
    return sum_of<kPatch>(ps, [&](int64_t i) { return load(from + i); });
  }

  // Patch sums of squared differences between neighbouring key pixels: right, below, and both
  // diagonals added, at every place of the union.
  void make_corrections(Rect r, Box box_h, Box box_w, int64_t lanes_width) {
    const int64_t n_rows = r.height + box_h.size();
    const int64_t pitch = lanes_width + round_up_to_lanes(box_w.size() + 1);
    corrections.assign(static_cast<size_t>(3 * n_rows * pitch), 0.0f);
    const int64_t term_rows = n_rows + p.ps - 1, terms_wide = key_block.pitch - 1;
    std::vector<float> terms(static_cast<size_t>(term_rows * terms_wide));
    std::vector<float> row_sums(static_cast<size_t>(term_rows * pitch));
    for (int kind = 0; kind < 3; ++kind) {
      for (int64_t y = 0; y < term_rows; ++y) {
        float* to = terms.data() + y * terms_wide;
        std::fill(to, to + terms_wide, 0.0f);
        for (int64_t c = 0; c < p.channels; ++c) {
          const float* a = key_block.row(c, y);
          const float* b = kind == 0 || y + 1 >= key_block.rows ? a : key_block.row(c, y + 1);
          for (int64_t x = 0; x < terms_wide; ++x) {
            const float right = a[x + 1] - a[x], below = b[x] - a[x];
            const float down = b[x + 1] - a[x], up = b[x] - a[x + 1];
            to[x] += kind == 0 ? right * right : kind == 1 ? below * below : down * down + up * up;
          }
        }
      }
      const int64_t usable = std::min(pitch, terms_wide - p.ps + 1);
      for (int64_t y = 0; y < term_rows; ++y) {
        for (int64_t x = 0; x < usable; ++x) {
          float sum = 0;
          for (int64_t i = 0; i < p.ps; ++i)
            sum += terms[static_cast<size_t>(y * terms_wide + x + i)];
          row_sums[static_cast<size_t>(y * pitch + x)] = sum;
        }
      }
      float* out = corrections.data() + kind * n_rows * pitch;
      for (int64_t y = 0; y < n_rows; ++y)
        for (int64_t i = 0; i < p.ps; ++i)
          for (int64_t x = 0; x < usable; ++x)
            out[y * pitch + x] += row_sums[static_cast<size_t>((y + i) * pitch + x)];
    }
    correction_pitch = pitch;
    correction_plane = n_rows * pitch;
  }
  int64_t correction_pitch = 0, correction_plane = 0;

  // Patch distances at fractional displacements, from those around them.
  struct Interpolation {
    const float *fraction_h, *fraction_w;
    const float *d00, *d01, *d10, *d11;
    const float *right, *below, *diagonals;
    int64_t pitch;

    FloatV operator()(int64_t x) const {
      const FloatV fy = load(fraction_h + x), fx = load(fraction_w + x);
      const FloatV gy = 1.0f - fy, gx = 1.0f - fx;
      const FloatV upper = multiply_add(gx, load(d00 + x), fx * load(d01 + x));
      const FloatV lower = multiply_add(gx, load(d10 + x), fx * load(d11 + x));
      FloatV value = multiply_add(gy, upper, fy * lower);
      if constexpr (!kProduct) {
        const FloatV across =
            multiply_add(gy * gy, load(right + x), fy * fy * load(right + pitch + x));
        const FloatV along =
            multiply_add(gx * gx, load(below + x),
                         multiply_add(fx * fx, load(below + x + 1), fx * gx * load(diagonals + x)));
        value -= multiply_add(fx * gx, across, fy * gy * along);
        // Rounding can leave a tiny negative; not a number must stay one.
        value = select(value < 0.0f, FloatV{}, value);
      }
      return value;
    }
  };

  Interpolation interpolation(Rect r, int64_t phase_h, int64_t phase_w, int64_t dy, int64_t dx,
                              int64_t y, int64_t lanes_width, const float* low, const float* high,
                              int64_t area) const {
    const size_t n = at(r.y + y, r.x);
    const int64_t place = dx * area + y * lanes_width;
    const float* g = kProduct ? nullptr : corrections.data() + (y + dy) * correction_pitch + dx;
    return Interpolation{plan_h[phase_h].fraction.data() + n,
                         plan_w[phase_w].fraction.data() + n,
                         low + place,
                         low + place + area,
                         high + place,
                         high + place + area,
                         g,
                         kProduct ? nullptr : g + correction_plane,
                         kProduct ? nullptr : g + 2 * correction_plane,
                         correction_pitch};
  }

  // The columns of the union that each query may use in this row of displacements.
  void plan_row(Rect r, int64_t phase_h, int64_t phase_w, int64_t dy, int64_t base) {
    const AxisPlan &h = plan_h[phase_h], &w = plan_w[phase_w];
    const IntV row = broadcast(static_cast<int32_t>(dy)),
               left = broadcast(static_cast<int32_t>(base));
    const int64_t end = round_up_to_lanes(r.width);
    for (int64_t y = 0; y < r.height; ++y) {
      const size_t start = at(r.y + y, r.x);
      const int32_t *low_h = h.low.data() + start, *high_h = h.high.data() + start;
      const int32_t *low_w = w.low.data() + start, *high_w = w.high.data() + start;
      int32_t *low = row_low.data() + start, *high = row_high.data() + start;
      for (int64_t x = 0; x < end; x += kLanes) {
        const IntV in = (row >= load(low_h + x)) & (row < load(high_h + x));
        const IntV first = load(low_w + x), last = load(high_w + x);
        store(low + x, select(in & (first < last), first - left, broadcast(INT_MAX)));
        store(high + x, last - left);
      }
      // Lanes beyond the rectangle belong to another one, or to no query.
      for (int64_t x = r.width; x < end; ++x) low[x] = INT_MAX;
    }
    if (any_excluded) plan_excluded(r, h, w, dy, base);
  }

  void plan_excluded(Rect r, const AxisPlan& h, const AxisPlan& w, int64_t dy, int64_t base) {
    for (int64_t y = r.y; y < r.y + r.height; ++y) {
      for (int64_t x = r.x; x < r.x + r.width; ++x) {
        const size_t n = at(y, x);
        row_excluded[n] = INT_MIN;
        if (row_low[n] == INT_MAX || excluded_h[n] < 0) continue;
        const int64_t i = h.first[n] + phases * (dy - h.low[n]);
        const int64_t j = excluded_w[n] - w.first[n];
        if (i == excluded_h[n] && j >= 0 && j % phases == 0)
          row_excluded[n] = static_cast<int32_t>(w.low[n] + j / phases - base);
      }
    }
  }

  // Takes the value of every query at column dx of the row planned last into its list.
  template <class Value>
  void keep(int64_t slot, Rect r, int64_t phase_h, int64_t phase_w, int64_t dy, int64_t dx,
            bool one_entry, const Value& value) {
    const IntV column = broadcast(static_cast<int32_t>(dx));
    const IntV here = broadcast(
        static_cast<int32_t>(((dy * code_span + dx) * phases + phase_h) * phases + phase_w));
    const bool exclude = any_excluded;
    for (int64_t y = 0; y < r.height; ++y) {
      // Plain pointers: what is stored through one must not make the compiler read the others
      // again.
      const size_t start = at(r.y + y, r.x);
      const int32_t *low = row_low.data() + start, *high = row_high.data() + start;
      const int32_t* excluded = row_excluded.data() + start;
      float* bounds = limit.data() + start;
      int32_t* codes = code.data() + start;
      const auto value_at = value(y);
      for (int64_t x = 0; x < r.width; x += kLanes) {
        IntV use = (column >= load(low + x)) & (column < load(high + x));
        if (exclude) use &= column != load(excluded + x);
        const FloatV key = value_at(x);
        const FloatV bound = load(bounds + x);
        use &= key < bound;
        if (one_entry) {
          store(bounds + x, select(use, key, bound));
          store(codes + x, select(use, here, load(codes + x)));
        } else if (any(use)) {
          float keys[kLanes];
          int32_t uses[kLanes];
          store(keys, key);
          store(uses, use);
          for (size_t lane = 0; lane < kLanes; ++lane) {
            const size_t n = start + static_cast<size_t>(x) + lane;
            if (uses[lane])
              offer(n, keys[lane],
                    candidate(slot, n, phase_h, phase_w, box_low_h + dy, box_low_w + dx));
          }
        }
      }
    }
  }

  int64_t candidate(int64_t slot, size_t n, int64_t phase_h, int64_t phase_w, int64_t dy,
                    int64_t dx) const {
    const AxisPlan &h = plan_h[phase_h], &w = plan_w[phase_w];
    return direct.candidate(slot, h.first[n] + phases * (dy - h.low[n]),
                            w.first[n] + phases * (dx - w.low[n]));
  }

  // Lists of one entry: from the place in the union to the number of the candidate.
  void take_codes(int64_t slot, Rect r) {
    for (int64_t y = r.y; y < r.y + r.height; ++y) {
      for (int64_t x = r.x; x < r.x + r.width; ++x) {
        const size_t n = at(y, x);
        if (code[n] < 0) continue;
        int64_t rest = code[n];
        const int64_t phase_w = rest % phases, phase_h = rest / phases % phases;
        rest /= phases * phases;
        BestList<float, Index>& list = lists[n];
        list.keys[0] = list.worst = limit[n];
        list.ids[0] = static_cast<Index>(candidate(
            slot, n, phase_h, phase_w, box_low_h + rest / code_span, box_low_w + rest % code_span));
        list.size = 1;
      }
    }
  }
};

template <bool kFloatGrid, bool kProduct, int kPatch>
void run_tiles(const SearchProblem& p, int64_t threads) {
  using Search = TileSearch<kFloatGrid, kProduct, kPatch>;
  const int64_t tiles_h = (p.grid_height + kTileHeight - 1) / kTileHeight;
  const int64_t tiles_w = (p.grid_width + kTileWidth - 1) / kTileWidth;
  std::vector<std::unique_ptr<Search>> searches(static_cast<size_t>(threads));
  parallel_for(p.batch * p.heads * p.frames * tiles_h * tiles_w, threads,
               [&](int64_t item, int64_t thread) {
                 std::unique_ptr<Search>& search = searches[static_cast<size_t>(thread)];
                 if (!search) search = std::make_unique<Search>(p);
                 const int64_t tile_w = item % tiles_w, tile_h = item / tiles_w % tiles_h;
                 const int64_t plane = item / (tiles_w * tiles_h);
                 search->run(plane / (p.heads * p.frames), plane / p.frames % p.heads,
                             plane % p.frames, tile_h * kTileHeight, tile_w * kTileWidth);
               });
}

template <bool kFloatGrid, bool kProduct>
void run_patch_size(const SearchProblem& p, int64_t threads) {
  switch (p.ps) {
    case 1:
      return run_tiles<kFloatGrid, kProduct, 1>(p, threads);
    case 3:
      return run_tiles<kFloatGrid, kProduct, 3>(p, threads);
    case 5:
      return run_tiles<kFloatGrid, kProduct, 5>(p, threads);
    case 7:
      return run_tiles<kFloatGrid, kProduct, 7>(p, threads);
    default:
      return run_tiles<kFloatGrid, kProduct, 0>(p, threads);
  }
}

}  // namespace

bool tiles_apply(const SearchProblem& p) {
  return p.prior == nullptr && p.dtype == kFloat32 && p.reflect_bounds && p.dilation == 1 &&
         p.stride0 == 1 && p.stride_query == 1 && p.keep != kEvery && p.channels > 0 &&
         phases_of(p) > 0 && p.query_height == p.height && p.query_width == p.width;
}

void search_tiles(const SearchProblem& p, int64_t threads) {
  if (p.float_grid)
    p.product ? run_patch_size<true, true>(p, threads) : run_patch_size<true, false>(p, threads);
  else
    p.product ? run_patch_size<false, true>(p, threads) : run_patch_size<false, false>(p, threads);
}

}  // namespace stnls
