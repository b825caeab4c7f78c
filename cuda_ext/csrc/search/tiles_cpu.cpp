#include "tiles_cpu.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "../common/parallel.h"
#include "../common/simd.h"
#include "direct.h"
#include "tiles_demand_cpu.h"
#include "tiles_keep_cpu.h"
#include "tiles_plan_cpu.h"
#include "tiles_sums_cpu.h"
#include "tiles_surface_cpu.h"

namespace stnls {
namespace {

// A tile is cut in two where that costs less. What it takes to begin a walk, in vectors for each
// displacement, and the number of windows in a union from which a tile is cut in any case.
constexpr int64_t kWalkOverhead = 8;
constexpr double kManyWindows = 6.0;

// Distances that are kept of a rectangle at most, to place matches between positions: 4 MiB.
constexpr int64_t kMostSurface = 1 << 20;

// Strides between queries up to which tiles of pixels pay, at most: single patches cost the less
// the smaller they are, and lists are kept and sorted for all places of a tile.
constexpr int64_t kMostStride = 16;
bool stride_pays(const SearchProblem& p) {
  if (p.stride0 == 1) return true;
  return p.stride0 <= kMostStride && p.stride0 * p.stride0 <= 24 + 3 * p.ps * p.ps * p.channels &&
         (p.keep == kEvery || p.k * p.stride0 <= 512);
}

template <bool kFloatGrid, bool kProduct>
class TileSearch {
  using Direct = DirectSearch<float, kFloatGrid, kProduct>;
  using Index = typename Direct::Index;
  using Pos = typename Direct::Pos;

 public:
  // moved: null, or where the best matches go as they lie between positions (search_tiles).
  TileSearch(const SearchProblem& problem, float* moved)
      : p(problem),
        direct(problem),
        moved(moved),
        phases(phases_of(problem)),
        plan(problem, phases),
        excluded(kTileQueries),
        self(kTileQueries),
        to_direct(kTileQueries),
        to_move(kTileQueries) {}

  // Queries at the pixels (tile_y, tile_x) .. of one frame of one head.
  void run(int64_t b, int64_t head, int64_t t, int64_t tile_y, int64_t tile_x) {
    origin = Query{b, head, t, tile_y, tile_x};
    height = std::min(kTileHeight, pixels(p.grid_height) - tile_y);
    width = std::min(kTileWidth, pixels(p.grid_width) - tile_x);
    find_self();
    query_block.fetch(frame_of(p.query, p.query_stride, t, p.query_height, p.query_width),
                      tile_y + p.offset_height + p.patch_offset,
                      tile_x + p.offset_width + p.patch_offset, height + p.ps - 1,
                      kTileWidth + round_up_to_lanes(p.ps - 1));
    for (int64_t slot = p.first_slot; slot <= 2 * p.wt; ++slot) {
      plan.make(slot, origin, height, width, to_direct.data());
      if (p.keep == kEvery) {
        start_every(slot);
        const Rect whole{0, 0, height, width};
        scan(slot, whole, plan.union_of(whole));
        continue;
      }
      find_excluded(slot);
      if (slot == p.first_slot || p.keep == kBestOfEach) start_lists(slot);
      if (lists.capacity > 0) {
        const Rect whole{0, 0, height, width};
        scan(slot, whole, plan.union_of(whole));
      }
      if (slot == 2 * p.wt || p.keep == kBestOfEach) write_lists(slot);
    }
    for_each_query([&](int64_t n, const Query&, int64_t index) {
      if (to_direct[n]) {
        direct.run(index);
        const Index* best = inds() + index * p.k * p.components;
        if (moved != nullptr)
          leave(n, index, static_cast<float>(best[0]), static_cast<float>(best[1]));
      }
      if (to_move[n]) left.push_back(index);
    });
  }

  // Queries of which `moved` has the position on the grid: what is around it is not known here.
  std::vector<int64_t> left;

 private:
  const SearchProblem& p;
  const Direct direct;
  float* const moved;
  const int64_t phases;
  int64_t more = 0;  // displacements that are wanted beyond the last candidate: bilinear, one

  Query origin{};
  int64_t height = 0, width = 0;
  TilePlan<kFloatGrid, kProduct> plan;
  TileLists lists;
  std::vector<int32_t> excluded;  // the candidate that is pinned or removed in this slot, or -1
  std::vector<int64_t> self;
  std::vector<char> to_direct;
  std::vector<char> to_move;  // by others, see `left`
  bool any_excluded = false;

  Block query_block, key_block;
  Demand demand;
  NeighbourSums near;
  std::vector<float> scratch, sums, stored, found;

  // Pixels that so many queries along an axis reach over.
  int64_t pixels(int64_t queries) const { return (queries - 1) * p.stride0 + 1; }
  Query pixel(int64_t y, int64_t x) const {
    return Query{origin.b, origin.head, origin.t, origin.i + y, origin.j + x};
  }
  int64_t query_index(int64_t y, int64_t x) const {
    const Query q = query_of_pixel(p, pixel(y, x));
    const int64_t plane = (q.b * p.heads + q.head) * p.frames + q.t;
    return (plane * p.grid_height + q.i) * p.grid_width + q.j;
  }
  Block::Frame frame_of(const void* video, const int64_t* stride, int64_t t, int64_t frame_height,
                        int64_t frame_width) const {
    const float* pixels = static_cast<const float*>(video) + origin.b * stride[0] +
                          origin.head * stride[1] + t * stride[2];
    return {pixels, p.channels, stride[3], stride[4], frame_height, frame_width};
  }

  template <class Work>
  void for_each_query(const Work& work) const {
    const int64_t first_y = next_query(p, origin.i) - origin.i;
    const int64_t first_x = next_query(p, origin.j) - origin.j;
    for (int64_t y = first_y; y < height; y += p.stride0)
      for (int64_t x = first_x; x < width; x += p.stride0)
        work(tile_index(y, x), query_of_pixel(p, pixel(y, x)), query_index(y, x));
  }

  bool has_self() const { return p.self_action == kAnchor || p.self_action == kRemove; }

  void find_self() {
    std::fill(to_direct.begin(), to_direct.end(), char(0));
    std::fill(to_move.begin(), to_move.end(), char(0));
    if (!has_self()) return;
    for_each_query([&](int64_t n, const Query& q, int64_t) {
      self[n] = direct.self_candidate(q);
      to_direct[n] = direct.swaps_slots(self[n]);
    });
  }

  // The candidate of this slot that does not take part.
  void find_excluded(int64_t slot) {
    const bool of_slot =
        p.self_action == kAnchorEach && (p.keep == kBestOfEach || slot == p.first_slot);
    any_excluded = has_self() || of_slot;
    if (!any_excluded) return;
    const int64_t first = direct.candidate(slot, 0, 0);
    for_each_query([&](int64_t n, const Query& q, int64_t) {
      int64_t out = has_self() ? self[n] : -1;
      if (of_slot) {
        const auto w = direct.window(q, slot);
        out = direct.candidate(slot, w.offset_h, w.offset_w);
      }
      const bool here = out >= first && out < first + p.ws * p.ws;
      out -= first;
      excluded[n] = here ? Candidate::pack(slot, out / p.ws, out % p.ws) : -1;
    });
  }

  // Entries that are given, not searched for, in the lists that begin with this slot.
  int64_t pinned_entries(int64_t slot) const {
    return p.self_action == kAnchorEach || (p.self_action == kAnchor && slot == p.first_slot);
  }

  // Every candidate of a slot, in raster order: as if none were valid, until they are found.
  void start_every(int64_t slot) {
    const float none = Direct::key_to_distance(Direct::worst_key());
    for_each_query([&](int64_t n, const Query& q, int64_t index) {
      const auto w = direct.window(q, slot);
      if (p.self_action == kAnchorEach) self[n] = direct.candidate(slot, w.offset_h, w.offset_w);
      const int64_t first = index * entry_count(p);
      for (int64_t i = 0; i < p.ws; ++i) {
        for (int64_t j = 0; j < p.ws; ++j) {
          const int64_t id = direct.candidate(slot, i, j);
          const int64_t place = entry_of_every(p, slot, id, self[n]);
          if (place < 0) continue;
          dists()[first + place] = none;
          direct.write_offsets(q, w, i, j, direct.is_exact_self(id, self[n]),
                               inds() + (first + place) * p.components);
        }
      }
    });
  }

  // Where a list is written to that begins with this slot.
  int64_t place_of_list(int64_t index, int64_t slot) const {
    const int64_t skip = p.keep == kBestOfEach ? (slot - p.first_slot) * p.k : 0;
    return index * entry_count(p) + skip;
  }

  void start_lists(int64_t slot) {
    const int64_t pinned = pinned_entries(slot);
    lists.start(p.k - pinned);
    if (pinned == 0) return;
    for_each_query([&](int64_t n, const Query& q, int64_t index) {
      const int64_t id = has_self() ? self[n] : candidate(excluded[n]);
      const int64_t place = place_of_list(index, slot);
      dists()[place] = Direct::key_to_distance(direct.key_of_candidate(q, id));
      direct.write_offsets(q, id, direct.is_exact_self(id, self[n]), inds() + place * p.components);
    });
  }

  int64_t candidate(int32_t id) const {
    return direct.candidate(Candidate::slot(id), Candidate::row(id), Candidate::column(id));
  }

  float* dists() const { return static_cast<float*>(p.dists); }
  Index* inds() const { return static_cast<Index*>(p.inds); }

  // Lists that found too few valid candidates are filled with invalid ones by the direct form.
  void write_lists(int64_t last_slot) {
    const int64_t slot = p.keep == kBestOfEach ? last_slot : p.first_slot;
    const int64_t capacity = lists.capacity, components = p.components, entries = entry_count(p);
    if (capacity == 0) return;
    int64_t frame_offset[Candidate::kMaxSlots];
    for (int64_t any = slot; any <= last_slot; ++any)
      frame_offset[any] = slot_frame(origin.t, any, p.wt, p.frames) - origin.t;
    for (int64_t y = next_query(p, origin.i) - origin.i; y < height; y += p.stride0) {
      for (int64_t x = 0; x < width; x += kLanes) {
        const int64_t n = tile_index(y, x), lanes = std::min<int64_t>(kLanes, width - x);
        const int64_t first = next_query(p, origin.j + x) - (origin.j + x);
        if (first >= lanes) continue;
        const float* keys = lists.keys(n);
        const int32_t* ids = lists.ids(n);
        for (int64_t lane = first; lane < lanes; lane += p.stride0)
          if (ids[(capacity - 1) * kLanes + lane] < 0) to_direct[n + lane] = 1;
        const int64_t place = place_of_list(query_index(y, x + first), slot) + pinned_entries(slot);
        for (int64_t k = 0; k < capacity; ++k, keys += kLanes, ids += kLanes) {
          // What the direct form will write again may be any candidate here.
          const IntV id = maximum(load(ids), broadcast(Candidate::pack(slot, 0, 0)));
          Index offset_h[kLanes], offset_w[kLanes];
          plan.offsets(pixel(y, x), n, id, slot == last_slot, offset_h, offset_w);
          float* to_dists = dists() + place + k;
          Index* to_inds = inds() + (place + k) * components;
          for (int64_t lane = first; lane < lanes; lane += p.stride0) {
            const float charge = p.charge == 0 ? 0.0f : plan.charge(id[lane], n + lane);
            *to_dists = Direct::cost_to_distance(keys[lane], charge);
            Index* to = to_inds;
            if (components == 3)
              *to++ = static_cast<Index>(frame_offset[Candidate::slot(id[lane])]);
            to[0] = offset_h[lane];
            to[1] = offset_w[lane];
            to_dists += entries;
            to_inds += entries * components;
          }
        }
      }
    }
  }

  // Vectors of differences that walking a union takes, its patch border included.
  double cost(Rect r, const Union& u) const {
    if (u.empty()) return 0;
    const int64_t vectors = round_up_to_lanes(r.end() - r.begin() + p.ps - 1) / kLanes;
    const int64_t between = plan.between_pixels() ? 1 : 0;
    return static_cast<double>((u.h.size() + between) * (u.w.size() + between)) *
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
      const Union ua = plan.union_of(a), ub = plan.union_of(b);
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
    walk(slot, r, u);
  }

  void walk(int64_t slot, Rect r, const Union& u) {
    const int64_t columns = r.end() - r.begin(), ps = p.ps;
    constexpr int64_t kMost = kFloatGrid ? 1 : 0;
    key_block.fetch(
        frame_of(p.key, p.key_stride, slot_frame(origin.t, slot, p.wt, p.frames), p.height,
                 p.width),
        origin.i + r.y + p.patch_offset + u.h.low, origin.j + r.begin() + p.patch_offset + u.w.low,
        r.height + ps - 1 + u.h.size() + kMost - 1,
        round_up_to_lanes(round_up_to_lanes(columns + u.w.size() + kMost) + ps - 1) + 1);
    // A pixel that is no number is one of four also where its weight is zero.
    more = kFloatGrid && (plan.between_pixels() || !key_block.finite()) ? 1 : 0;
    const int64_t span_h = u.h.size() + more, span_w = u.w.size() + more;
    if (kFloatGrid && !kProduct && more > 0)
      near.make(key_block, ps, r.height + span_h - 2, round_up_to_lanes(columns + span_w));
    scratch.resize(static_cast<size_t>(PatchSums::scratch_size(ps, r.height, columns)));
    const int64_t row_of_sums = span_w * columns, plane = r.height * row_of_sums;
    // Rows of sums that are kept: what is compared, or all, if the distances are these sums.
    const bool surface = moved != nullptr && u.h.size() * plane <= kMostSurface;
    const int64_t kept = surface && more == 0 ? span_h : 1 + more;
    sums.resize(static_cast<size_t>(kept * plane));
    const bool stores = surface && more > 0;
    if (stores) stored.resize(static_cast<size_t>(u.h.size() * plane));
    PatchSums s{};
    s.query_pitch = query_block.pitch;
    s.key_pitch = key_block.pitch;
    s.channels = p.channels;
    s.ps = ps;
    s.height = r.height;
    s.width = columns;
    s.scratch = scratch.data();
    s.sums_pitch = row_of_sums;
    const PatchSumFunctions sum = patch_sum_functions(
        ps, p.channels, kProduct,
        s.query_pitch == Block::kUsualPitch && s.key_pitch == Block::kUsualPitch);
    // One patch costs about as much as one and a half vectors of a rectangle for each of its rows.
    const int64_t vectors = (r.height + ps - 1) * (columns / kLanes + 1);
    demand.count(plan.reach_h, plan.reach_w, r, u, more, 3 * vectors / 2 / (ps + 1));
    for (int64_t dy = 0; dy < span_h; ++dy) {
      float* of_row = sums.data() + dy % kept * plane;
      const Range many = demand.rows[dy].many;
      s.query = query_block.at(r.y, r.begin());
      for (int64_t dx = many.low; dx < many.high; ++dx) {
        s.key = key_block.at(dy, dx);
        s.sums = of_row + dx * columns;
        const bool two = dx + 1 < many.high;
        two ? sum.at_two(s) : sum.at_one(s);
        dx += two;
      }
      for_others(r, u, dy, many, [&](int64_t y, int64_t x, int64_t dx) {
        s.query = query_block.at(r.y + y, r.begin() + x);
        s.key = key_block.at(y + dy, x + dx);
        of_row[y * row_of_sums + dx * columns + x] = sum.of_first(s);
      });
      if (dy < more) continue;
      const float* before = sums.data() + (dy - more) % kept * plane;
      Range across = demand.rows[dy - more].wanted;
      across.high -= more;
      if (across.size() == 0) continue;
      float* const to = stores ? stored.data() + (dy - more) * plane : nullptr;
      for (int64_t phase_h = 0; phase_h < phases; ++phase_h) {
        for (int64_t phase_w = 0; phase_w < phases; ++phase_w) {
          const Row row{
              slot, dy - more, phase_h, phase_w, across, u.h.low + dy - more, u.w.low + across.low};
          any_excluded ? keep_row<true>(r, u, row, before, of_row, to)
                       : keep_row<false>(r, u, row, before, of_row, to);
        }
      }
    }
    if (moved == nullptr) return;
    move_best(slot, r, u, surface,
              Surface{stores ? stored.data() : sums.data(), r.height, span_w, columns});
  }

  // Places the best matches of a rectangle between positions; left are those at the rim of their
  // windows or beside a pixel that is no number, and all if there is no surface.
  void move_best(int64_t slot, const Rect& r, const Union& u, bool known, const Surface& surface) {
    for (int64_t y = 0; y < r.height; ++y) {
      for (int64_t x = r.begin(); x < r.end(); x += kLanes) {
        const int64_t n = tile_index(r.y + y, x);
        const IntV id = load(lists.ids(n)), found = r.lanes(x) & (id >= 0);
        if (!any(found)) continue;
        const IntV best = maximum(id, broadcast(Candidate::pack(slot, 0, 0)));
        Index offset_h[kLanes], offset_w[kLanes];
        plan.offsets(pixel(r.y + y, x), n, best, true, offset_h, offset_w);
        const BestAlong h(plan.h[0], n, Candidate::rows(best), u.h.low);
        const BestAlong w(plan.w[0], n, Candidate::columns(best), u.w.low);
        const int64_t first = query_index(r.y + y, x);
        for (int lane = 0; lane < kLanes; ++lane) {
          if (!found[lane]) continue;
          const float dh = static_cast<float>(offset_h[lane]);
          const float dw = static_cast<float>(offset_w[lane]);
          float d[9];
          if (!known || !h.inner[lane] || !w.inner[lane] ||
              !surface.nine(h.place[lane], w.place[lane], y, x - r.begin() + lane, d)) {
            leave(n + lane, first + lane, dh, dw);
            continue;
          }
          const Shift<float> shift = lowest(d);
          moved[2 * (first + lane)] = dh + shift.dh;
          moved[2 * (first + lane) + 1] = dw + shift.dw;
        }
      }
    }
  }

  // Query n of the tile, which is `index` of all. It may come here twice, but must be moved once.
  void leave(int64_t n, int64_t index, float dh, float dw) {
    moved[2 * index] = dh;
    moved[2 * index + 1] = dw;
    to_move[n] = 1;
  }

  // Calls work(y, x, dx) for every query of the rectangle and displacement (dy, dx) of the union
  // that it wants but not many.
  template <class Work>
  void for_others(const Rect& r, const Union& u, int64_t dy, const Range& many, const Work& work) {
    const int32_t row = static_cast<int32_t>(u.h.low + dy);
    const int32_t beyond = static_cast<int32_t>(more);
    const int32_t left = static_cast<int32_t>(u.w.low + many.low);
    const int32_t right = static_cast<int32_t>(u.w.low + many.high) - beyond;
    const int32_t *low_h = plan.reach_h.low.data(), *high_h = plan.reach_h.high.data();
    const int32_t *low_w = plan.reach_w.low.data(), *high_w = plan.reach_w.high.data();
    for (int64_t y = 0; y < r.height; ++y) {
      for (int64_t x = r.begin(); x < r.end(); x += kLanes) {
        const int64_t n = tile_index(r.y + y, x);
        const IntV low = load(low_w + n), high = load(high_w + n);
        const IntV wanting = (row >= load(low_h + n)) & (row < load(high_h + n) + beyond) &
                             ((low < left) | (high > right));
        if (!any(wanting)) continue;
        const IntV wants = wanting & r.lanes(x);
        for (int lane = 0; lane < kLanes; ++lane) {
          if (!wants[lane]) continue;
          const int64_t begin = low[lane] - u.w.low, end = high[lane] - u.w.low + more;
          for (int64_t dx = begin; dx < std::min(end, many.low); ++dx)
            work(y, x - r.begin() + lane, dx);
          for (int64_t dx = std::max(begin, many.high); dx < end; ++dx)
            work(y, x - r.begin() + lane, dx);
        }
      }
    }
  }

  // A row of displacements in the union.
  struct Row {
    int64_t slot, dy, phase_h, phase_w;
    Range columns;
    int64_t top, left;  // the first displacement of `columns`
  };

  // Writes the distances of a row of displacements, of a vector of queries.
  template <class Value>
  void write_values(const Rect& r, const Row& d, int64_t y, int64_t x, IntV in, Value value) {
    const AxisPlan &h = plan.h[d.phase_h], &w = plan.w[d.phase_w];
    const int64_t top = r.y + y, begin = r.begin() + x, n = tile_index(top, begin);
    const int64_t count = d.columns.size(), left = d.left;
    found.resize(static_cast<size_t>(count * kLanes));
    for (int64_t at = 0; at < count; ++at) store(found.data() + at * kLanes, value.next());
    for (int lane = 0; lane < kLanes; ++lane) {
      if (!in[lane]) continue;
      const int64_t low = std::max<int64_t>(w.low[n + lane], left);
      const int64_t last = std::min<int64_t>(w.last[n + lane], left + count - 1);
      const int64_t row = h.start[n + lane] + phases * d.top, column = w.start[n + lane];
      const int64_t id = direct.candidate(d.slot, row, column);
      float* to = dists() + query_index(top, begin + lane) * entry_count(p);
      for (int64_t at = low; at <= last; ++at) {
        const float key = found[static_cast<size_t>((at - left) * kLanes + lane)];
        const int64_t place = entry_of_every(p, d.slot, id + at * phases, self[n + lane]);
        if (place < 0) continue;
        to[place] = Direct::key_to_distance(
            key == key ? key : key_near_nan(top, begin + lane, id + at * phases));
      }
    }
  }

  // The key of a candidate whose distance is not a number. On the real grid a weight of zero may
  // have met a pixel that is not one, and that the candidate does not reach.
  float key_near_nan(int64_t y, int64_t x, int64_t id) const {
    if constexpr (kFloatGrid) return direct.key_of_candidate(query_of_pixel(p, pixel(y, x)), id);
    return Direct::worst_key();
  }

  // Takes the candidates of a row into the lists. `low_sums` and `high_sums` are those of this row
  // and of the next one; their distances are stored behind `to`, unless that is null.
  template <bool kExclude>
  void keep_row(const Rect& r, const Union& u, const Row& d, const float* low_sums,
                const float* high_sums, float* to) {
    const AxisPlan &h = plan.h[d.phase_h], &w = plan.w[d.phase_w];
    const int64_t columns = r.end() - r.begin(), span_w = u.w.size() + more;
    const int64_t top = d.top, left = d.left;
    const IntV row = broadcast(static_cast<int32_t>(top));
    const UIntV bottom = UIntV{} + 0x80000000u;
    const UIntV id =
        UIntV{} + static_cast<uint32_t>(Candidate::pack(d.slot, phases * top, phases * left));
    // A rectangle narrower than a vector has the rest of it masked out.
    const IntV lanes = columns > kLanes ? broadcast(-1) : r.lanes(r.begin());
    const int64_t first_n = tile_index(r.y, r.begin());
    RowOfCandidates c;
    c.count = d.columns.size();
    c.id_step = static_cast<uint32_t>(phases);
    for (int64_t y = 0; y < r.height; ++y) {
      for (int64_t x = 0; x < columns; x += kLanes) {
        const int64_t n = first_n + tile_index(y, x);
        const IntV in = lanes & (row >= load(&h.low[n])) & (row <= load(&h.last[n]));
        if (!any(in)) continue;
        // Lanes that have no candidates in this row begin far behind their windows.
        const IntV low = load(&w.low[n]), length = load(&w.last[n]) - low;
        const IntV place = select(in, static_cast<int32_t>(left) - low, broadcast(Range::kNone));
        c.place = (UIntV)place + bottom;
        c.last = (IntV)((UIntV)maximum(length, IntV{}) + bottom);
        c.id = id + ((UIntV)load(&h.start[n]) << Candidate::kColumnBits) + (UIntV)load(&w.start[n]);
        if constexpr (kExclude) c.excluded = load(&excluded[n]);
        const int64_t at = (y * span_w + d.columns.low) * columns + x;
        const auto keep_values = [&](auto value) {
          if (lists.capacity == 1)
            keep_best<kExclude>(c, lists.keys(n), lists.ids(n), value);
          else
            keep_several<kExclude>(c, lists.capacity, lists.keys(n), lists.ids(n), value);
        };
        const auto keep = [&](const auto& value) {
          if (p.keep == kEvery) return write_values(r, d, y, x, in, value);
          if (p.charge == 0) return keep_values(value);
          const IntV i = load(&h.start[n]) + static_cast<int32_t>(phases * top);
          const IntV j = load(&w.start[n]) + static_cast<int32_t>(phases * left);
          const FloatV away_h = plan.away_h(d.slot, n, i), away_w = plan.away_w(d.slot, n, j);
          keep_values(ChargedValue(value, static_cast<float>(p.charge), away_h, away_w));
        };
        if constexpr (kFloatGrid) {
          if (more > 0) {
            const BilinearValue<kProduct> value(load(&h.fraction[n]), load(&w.fraction[n]),
                                                low_sums + at, high_sums + at, columns, near,
                                                (y + d.dy) * near.pitch + x + d.columns.low);
            if constexpr (!kProduct && !kExclude) {
              if (to != nullptr) {
                keep(StoredValue<BilinearValue<false>>{value, to + at, columns});
                continue;
              }
            }
            keep(value);
            continue;
          }
        }
        keep(WholeValue{low_sums + at, columns});
      }
    }
  }
};

template <bool kFloatGrid, bool kProduct>
std::vector<int64_t> run_tiles(const SearchProblem& p, int64_t threads, float* moved) {
  using Search = TileSearch<kFloatGrid, kProduct>;
  const int64_t tiles_h = ((p.grid_height - 1) * p.stride0 + kTileHeight) / kTileHeight;
  const int64_t tiles_w = ((p.grid_width - 1) * p.stride0 + kTileWidth) / kTileWidth;
  std::vector<std::unique_ptr<Search>> searches(static_cast<size_t>(threads));
  parallel_for(p.batch * p.heads * p.frames * tiles_h * tiles_w, threads,
               [&](int64_t item, int64_t thread) {
                 std::unique_ptr<Search>& search = searches[static_cast<size_t>(thread)];
                 if (!search) search = std::make_unique<Search>(p, moved);
                 const int64_t tile_w = item % tiles_w, tile_h = item / tiles_w % tiles_h;
                 const int64_t plane = item / (tiles_w * tiles_h);
                 search->run(plane / (p.heads * p.frames), plane / p.frames % p.heads,
                             plane % p.frames, tile_h * kTileHeight, tile_w * kTileWidth);
               });
  std::vector<int64_t> left;
  for (const std::unique_ptr<Search>& search : searches)
    if (search) left.insert(left.end(), search->left.begin(), search->left.end());
  return left;
}

}  // namespace

bool tiles_apply(const SearchProblem& p) {
  return p.prior == nullptr && p.dtype == kFloat32 && p.reflect_bounds && p.dilation == 1 &&
         stride_pays(p) && p.stride_query == p.stride0 &&
         (p.grid_height - 1) * p.stride0 < p.height && (p.grid_width - 1) * p.stride0 < p.width &&
         p.channels > 0 && phases_of(p) > 0 && p.query_height == p.height &&
         p.query_width == p.width && p.ws <= Candidate::kMaxWindow &&
         2 * p.wt + 1 <= Candidate::kMaxSlots;
}

bool tiles_move(const SearchProblem& p) {
  return tiles_apply(p) && phases_of(p) == 1 && !p.product && p.stride0 == 1 && p.wt == 0 &&
         p.first_slot == 0 && p.keep == kBestOfAll && p.self_action == kNone && p.components == 2 &&
         p.heads == 1 && p.frames == 1;
}

std::vector<int64_t> search_tiles(const SearchProblem& p, int64_t threads, float* moved) {
  if (p.float_grid)
    return p.product ? run_tiles<true, true>(p, threads, moved)
                     : run_tiles<true, false>(p, threads, moved);
  return p.product ? run_tiles<false, true>(p, threads, moved)
                   : run_tiles<false, false>(p, threads, moved);
}

}  // namespace stnls
