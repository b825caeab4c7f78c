// Where the candidates of the queries of a tile lie (CPU).
#pragma once

#include <algorithm>
#include <climits>
#include <cstdint>
#include <vector>

#include "../common/simd.h"
#include "direct.h"

namespace stnls {

// Queries in a tile. Larger tiles waste less on patch borders, smaller ones share a motion better.
constexpr int64_t kTileHeight = 16, kTileWidth = 64;
constexpr int64_t kTileQueries = kTileHeight * kTileWidth;
static_assert(kTileWidth % kLanes == 0, "rows of a tile are whole vectors");

inline int64_t tile_index(int64_t y, int64_t x) { return y * kTileWidth + x; }

// A tile has a place for every pixel; queries may be on some of them only. This is the query at
// pixel (i, j).
inline Query query_of_pixel(const SearchProblem& p, const Query& pixel) {
  return Query{pixel.b, pixel.head, pixel.t, pixel.i / p.stride0, pixel.j / p.stride0};
}

// The first of the pixels from `from` on that has a query.
inline int64_t next_query(const SearchProblem& p, int64_t from) {
  return (from + p.stride0 - 1) / p.stride0 * p.stride0;
}

constexpr int64_t kMaxPhases = 4;

// Fractions of a pixel on which the candidates of one query lie: 1 / stride1, or 0 if it is none.
inline int64_t phases_of(const SearchProblem& p) {
  if (p.stride1 == 1.0) return 1;
  if (!p.float_grid) return 0;
  for (int64_t n = 2; n <= kMaxPhases; ++n)
    if (p.stride1 * static_cast<double>(n) == 1.0) return n;
  return 0;
}

// A candidate's slot and its row and column in the window, in one number; the numbers are in raster
// order.
struct Candidate {
  static constexpr int kColumnBits = 11, kRowBits = 11;
  static constexpr int64_t kMaxWindow = (1 << kColumnBits) - 1;
  static constexpr int64_t kMaxSlots = (1 << (31 - kColumnBits - kRowBits)) - 1;

  static int32_t pack(int64_t slot, int64_t row, int64_t column) {
    return static_cast<int32_t>(((slot << kRowBits) + row) * (1 << kColumnBits) + column);
  }
  static int64_t slot(int32_t id) { return id >> (kColumnBits + kRowBits); }
  static int64_t row(int32_t id) { return (id >> kColumnBits) & ((1 << kRowBits) - 1); }
  static int64_t column(int32_t id) { return id & ((1 << kColumnBits) - 1); }
  static IntV rows(IntV ids) { return ids >> kColumnBits & ((1 << kRowBits) - 1); }
  static IntV columns(IntV ids) { return ids & ((1 << kColumnBits) - 1); }
};

struct Rect {
  int64_t y, x, height, width;  // in the tile

  // The vectors that it touches.
  int64_t begin() const { return x / kLanes * kLanes; }
  int64_t end() const { return round_up_to_lanes(x + width); }
  // Which lanes of the vector at column `at` belong to it.
  IntV lanes(int64_t at) const {
    const IntV column = lane_numbers() + static_cast<int32_t>(at);
    return (column >= static_cast<int32_t>(x)) & (column < static_cast<int32_t>(x + width));
  }
};

// Displacements low .. high - 1.
struct Range {
  int64_t low = kNone, high = -kNone;
  int64_t size() const { return high > low ? high - low : 0; }
  void include(int64_t a, int64_t b) {
    low = std::min(low, a);
    high = std::max(high, b);
  }
  static constexpr int32_t kNone = 1 << 30;  // beyond every frame
};

// The box around the windows of some queries.
struct Union {
  Range h, w;
  bool empty() const { return h.size() == 0 || w.size() == 0; }
};

// Along one axis and for one phase: the valid candidates start + phases * d of a window lie at the
// integer displacements d = low .. last from the query, plus a fraction.
struct AxisPlan {
  std::vector<int32_t> low, last, start;
  std::vector<float> fraction;

  void resize(size_t n) {
    low.resize(n);
    last.resize(n);
    start.resize(n);
    fraction.resize(n);
  }
  void set(int64_t n, int64_t low_, int64_t last_, int64_t start_, float fraction_) {
    low[n] = static_cast<int32_t>(low_);
    last[n] = static_cast<int32_t>(last_);
    start[n] = static_cast<int32_t>(start_);
    fraction[n] = fraction_;
  }
  void clear(int64_t n) { set(n, Range::kNone, Range::kNone - 1, 0, 0.0f); }
};

// Displacements of all phases together.
struct AxisReach {
  std::vector<int32_t> low, high;
  void resize(size_t n) {
    low.resize(n);
    high.resize(n);
  }
};

// What it takes to know where a candidate lies.
template <bool kFloatGrid>
struct AxisAnchor {
  using Place = typename std::conditional<kFloatGrid, float, int32_t>::type;
  std::vector<Place> anchor;
  std::vector<int32_t> offset;
  void resize(size_t n) {
    anchor.resize(n);
    offset.resize(n);
  }
};

// The windows of a tile's queries in one slot.
template <bool kFloatGrid, bool kProduct>
class TilePlan {
  using Direct = DirectSearch<float, kFloatGrid, kProduct>;
  using Pos = typename Direct::Pos;
  using Place = typename AxisAnchor<kFloatGrid>::Place;

 public:
  AxisPlan h[kMaxPhases], w[kMaxPhases];
  AxisReach reach_h, reach_w;

  TilePlan(const SearchProblem& problem, int64_t n_phases)
      : p(problem), direct(problem), phases(n_phases), anchors(2 * problem.wt + 1) {
    for (int64_t phase = 0; phase < phases; ++phase) {
      h[phase].resize(kTileQueries);
      w[phase].resize(kTileQueries);
    }
    reach_h.resize(kTileQueries);
    reach_w.resize(kTileQueries);
    for (Anchors& a : anchors) {
      a.h.resize(kTileQueries);
      a.w.resize(kTileQueries);
    }
  }

  // Queries at the pixels from `first` on. Those whose place is not finite are marked in
  // `to_direct`. What is planned for those that are marked does not matter.
  void make(int64_t slot, const Query& first, int64_t height, int64_t width, char* to_direct) {
    fractions = false;
    float flow_h[kTileWidth] = {}, flow_w[kTileWidth] = {};
    for (int64_t y = 0; y < height; ++y) {
      Query q = first;
      q.i += y;
      if (q.i % p.stride0 != 0) {
        for (int64_t x = 0; x < kTileWidth; ++x) clear(tile_index(y, x));
        continue;
      }
      fetch_flow(slot, q, width, flow_h, flow_w);
      for (int64_t x = 0; x < kTileWidth; x += kLanes) {
        const int64_t n = tile_index(y, x);
        const IntV column = lane_numbers() + static_cast<int32_t>(first.j + x);
        const IntV row = broadcast(static_cast<int32_t>(q.i));
        const IntV usual =
            plan_inside(h, reach_h, anchors[slot].h, n, row, load(flow_h + x), p.height) &
            plan_inside(w, reach_w, anchors[slot].w, n, column, load(flow_w + x), p.width);
        const bool whole = x + kLanes <= width && p.stride0 == 1;
        if (whole && !any(usual == 0)) continue;
        for (int64_t lane = 0; lane < kLanes; ++lane) {
          q.j = first.j + x + lane;
          if (x + lane >= width || q.j % p.stride0 != 0 || to_direct[n + lane])
            clear(n + lane);
          else if (!usual[lane])
            plan_any(slot, q, n + lane, &to_direct[n + lane]);
        }
      }
    }
  }

  // Whether any candidate may lie between pixels.
  bool between_pixels() const { return fractions; }

  // Nothing is to be found for this query.
  void clear(int64_t n) {
    for (int64_t phase = 0; phase < phases; ++phase) {
      h[phase].clear(n);
      w[phase].clear(n);
    }
    reach_h.low[n] = reach_w.low[n] = Range::kNone;
    reach_h.high[n] = reach_w.high[n] = -Range::kNone;
  }

  Union union_of(Rect r) const {
    IntV low_h = broadcast(Range::kNone), high_h = -low_h, low_w = low_h, high_w = high_h;
    for (int64_t y = r.y; y < r.y + r.height; ++y) {
      for (int64_t x = r.begin(); x < r.end(); x += kLanes) {
        const int64_t n = tile_index(y, x);
        const IntV in = r.lanes(x), none = broadcast(Range::kNone);
        low_h = minimum(low_h, select(in, load(&reach_h.low[n]), none));
        low_w = minimum(low_w, select(in, load(&reach_w.low[n]), none));
        high_h = maximum(high_h, select(in, load(&reach_h.high[n]), -none));
        high_w = maximum(high_w, select(in, load(&reach_w.high[n]), -none));
      }
    }
    Union u;
    for (int lane = 0; lane < kLanes; ++lane) {
      u.h.include(low_h[lane], high_h[lane]);
      u.w.include(low_w[lane], high_w[lane]);
    }
    return u;
  }

  // Offsets of candidates of a vector of queries, the first at pixel q, number n of the tile;
  // one_slot: they are all of the same slot.
  void offsets(const Query& q, int64_t n, IntV ids, bool one_slot, Place* to_h, Place* to_w) const {
    if (one_slot) {
      const Anchors& a = anchors[Candidate::slot(ids[0])];
      const IntV here = broadcast(static_cast<int32_t>(q.j)) + lane_numbers();
      const IntV row = broadcast(static_cast<int32_t>(q.i));
      store(to_h, offsets_along(a.h, n, Candidate::rows(ids), row));
      store(to_w, offsets_along(a.w, n, Candidate::columns(ids), here));
      return;
    }
    for (int lane = 0; lane < kLanes; ++lane) {
      const Anchors& a = anchors[Candidate::slot(ids[lane])];
      to_h[lane] = offset(a.h, n + lane, Candidate::row(ids[lane]), q.i);
      to_w[lane] = offset(a.w, n + lane, Candidate::column(ids[lane]), q.j + lane);
    }
  }

  // From the anchors of a vector of queries, the first number n of the tile, to positions of their
  // windows, in pixels.
  FloatV away_h(int64_t slot, int64_t n, IntV i) const { return away(anchors[slot].h, n, i); }
  FloatV away_w(int64_t slot, int64_t n, IntV j) const { return away(anchors[slot].w, n, j); }

  // What a candidate of query n costs beside its distance.
  float charge(int32_t id, int64_t n) const {
    const Anchors& a = anchors[Candidate::slot(id)];
    return direct.charge_at(Candidate::row(id) - a.h.offset[n],
                            Candidate::column(id) - a.w.offset[n]);
  }

 private:
  struct Anchors {
    AxisAnchor<kFloatGrid> h, w;
  };

  const SearchProblem& p;
  const Direct direct;
  const int64_t phases;
  std::vector<Anchors> anchors;  // of every slot
  bool fractions = false;

  FloatV away(const AxisAnchor<kFloatGrid>& a, int64_t n, IntV i) const {
    return static_cast<float>(p.stride1) * to_float(i - load(&a.offset[n]));
  }
  Place offset(const AxisAnchor<kFloatGrid>& a, int64_t n, int64_t i, int64_t place) const {
    return static_cast<Place>(direct.position(static_cast<Pos>(a.anchor[n]), i, a.offset[n]) -
                              static_cast<Pos>(place));
  }
  auto offsets_along(const AxisAnchor<kFloatGrid>& a, int64_t n, IntV i, IntV place) const {
    const IntV steps = i - load(&a.offset[n]);
    if constexpr (kFloatGrid)
      return load(&a.anchor[n]) + direct.step() * to_float(steps) - to_float(place);
    else
      return load(&a.anchor[n]) + steps - place;  // step 1
  }

  void fetch_flow(int64_t slot, const Query& pixel, int64_t width, float* flow_h,
                  float* flow_w) const {
    const Query q = query_of_pixel(p, pixel);
    const int64_t flow_slot = p.flow_slots == 2 * p.wt + 1 ? slot : slot - 1;
    if (p.flow == nullptr || flow_slot < 0) return;  // zeros
    const int64_t plane = p.grid_height * p.grid_width;
    const int64_t frame = (q.b * p.flow_heads + q.head % p.flow_heads) * p.frames + q.t;
    const float* flow = static_cast<const float*>(p.flow) +
                        (frame * p.flow_slots + flow_slot) * 2 * plane + q.i * p.grid_width + q.j;
    if (p.stride0 > 1) {
      for (int64_t j = next_query(p, pixel.j); j < pixel.j + width; j += p.stride0) {
        const int64_t at = j / p.stride0 - q.j;
        flow_w[j - pixel.j] = flow[at];
        flow_h[j - pixel.j] = flow[at + plane];
      }
      return;
    }
    const size_t bytes = static_cast<size_t>(width) * sizeof(float);
    std::memcpy(flow_w, flow, bytes);
    std::memcpy(flow_h, flow + plane, bytes);
  }

  // Plans a vector of queries along one axis, and tells for which of them that is right: those
  // whose windows lie well inside the frame.
  IntV plan_inside(AxisPlan* plans, AxisReach& reach, AxisAnchor<kFloatGrid>& kept, int64_t n,
                   IntV place, FloatV flow, int64_t length) {
    const int64_t half = (p.ws - 1) / 2;
    const float step = static_cast<float>(p.stride1);
    if constexpr (!kFloatGrid) {
      constexpr float kWhole = 12582912.0f;  // here neighbours are whole numbers: 3 2^22
      flow = (flow + kWhole) - kWhole;
    }
    FloatV anchor = to_float(place) + flow;
    const IntV in =
        (anchor >= step * static_cast<float>(half)) &
        (anchor <= static_cast<float>(length - 1) - step * static_cast<float>(p.ws - 1 - half));
    anchor = select(in, anchor, FloatV{});
    IntV lowest = broadcast(Range::kNone), highest = -lowest;
    for (int64_t phase = 0; phase < phases; ++phase) {
      const FloatV begin = anchor + step * static_cast<float>(phase - half);
      const IntV whole = floor_to_int(begin), low = whole - place;
      const int32_t count = static_cast<int32_t>((p.ws - phase + phases - 1) / phases);
      if (count == 0) {
        for (int lane = 0; lane < kLanes; ++lane) plans[phase].clear(n + lane);
        continue;
      }
      store(&plans[phase].low[n], low);
      store(&plans[phase].last[n], low + (count - 1));
      store(&plans[phase].start[n],
            static_cast<int32_t>(phase) - low * static_cast<int32_t>(phases));
      const FloatV fraction = begin - to_float(whole);
      store(&plans[phase].fraction[n], fraction);
      if (kFloatGrid) fractions = fractions || any(fraction != 0.0f);
      lowest = minimum(lowest, low);
      highest = maximum(highest, low + count);
    }
    store(&reach.low[n], lowest);
    store(&reach.high[n], highest);
    if constexpr (kFloatGrid)
      store(&kept.anchor[n], anchor);
    else
      store(&kept.anchor[n], truncate(anchor));
    store(&kept.offset[n], broadcast(static_cast<int32_t>(half)));
    return in;
  }

  void plan_any(int64_t slot, const Query& pixel, int64_t n, char* to_direct) {
    const Window<Pos> window = direct.window(query_of_pixel(p, pixel), slot);
    if (!window.finite) {
      *to_direct = 1;
      clear(n);
      return;
    }
    Anchors& a = anchors[slot];
    a.h.anchor[n] = static_cast<Place>(window.anchor_h);
    a.w.anchor[n] = static_cast<Place>(window.anchor_w);
    a.h.offset[n] = static_cast<int32_t>(window.offset_h);
    a.w.offset[n] = static_cast<int32_t>(window.offset_w);
    const bool some_h =
        plan_axis(h, reach_h, n, window.anchor_h, window.offset_h, pixel.i, p.height);
    const bool some_w =
        plan_axis(w, reach_w, n, window.anchor_w, window.offset_w, pixel.j, p.width);
    if (!some_h || !some_w) clear(n);
  }

  // False: no candidate is valid.
  bool plan_axis(AxisPlan* plans, AxisReach& reach, int64_t n, Pos anchor, int64_t offset,
                 int64_t place, int64_t length) {
    Range all;
    for (int64_t phase = 0; phase < phases; ++phase) {
      int64_t first = phase;
      while (first < p.ws && !inside(direct.position(anchor, first, offset), length))
        first += phases;
      int64_t count = first < p.ws ? (p.ws - first + phases - 1) / phases : 0;
      while (count > 0 &&
             !inside(direct.position(anchor, first + (count - 1) * phases, offset), length))
        --count;
      if (count == 0) {
        plans[phase].clear(n);
        continue;
      }
      const Pos start = direct.position(anchor, first, offset);
      int64_t low;
      float fraction = 0;
      if constexpr (kFloatGrid) {
        const float whole = std::floor(start);
        low = static_cast<int64_t>(whole) - place;
        fraction = start - whole;
      } else {
        low = start - place;
      }
      plans[phase].set(n, low, low + count - 1, first - phases * low, fraction);
      fractions = fractions || fraction != 0.0f;
      all.include(low, low + count);
    }
    reach.low[n] = static_cast<int32_t>(all.low);
    reach.high[n] = static_cast<int32_t>(all.high);
    return all.size() > 0;
  }
};

}  // namespace stnls
