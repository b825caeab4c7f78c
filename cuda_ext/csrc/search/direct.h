// The search from its definition: every candidate's patch is summed tap by tap, the best are kept
// while scanning. Serves every option on both backends, and is what the faster forms fall back to.
#pragma once

#include "../common/geometry.h"
#include "../common/query.h"
#include "problem.h"

namespace stnls {

// Windows of one query: one for each slot, or one for each entry that is refined.
STNLS_HD int64_t end_slot(const SearchProblem& p) {
  return p.prior != nullptr ? p.windows : 2 * p.wt + 1;
}
STNLS_HD int64_t slot_count(const SearchProblem& p) { return end_slot(p) - p.first_slot; }

// Entries in one query's output.
STNLS_HD int64_t entry_count(const SearchProblem& p) {
  const int64_t removed = p.self_action == kRemove ? 1 : 0;
  if (p.keep == kEvery) return slot_count(p) * p.ws * p.ws - removed;
  return p.keep == kBestOfEach ? slot_count(p) * p.k : p.k;
}

template <class Real, bool kFloatGrid>
struct Position;
template <class Real>
struct Position<Real, true> {
  using type = Real;
};
template <class Real>
struct Position<Real, false> {
  using type = int64_t;
};

// Type of the offsets that are returned.
template <class Real, bool kFloatGrid>
struct OffsetType {
  using type = Real;
};
template <class Real>
struct OffsetType<Real, false> {
  using type = int32_t;
};

// The best entries found so far, sorted, in the query's place of the output. A candidate that ties
// with one already there comes after it: scanning in raster order makes the lowest index win.
// While scanning, the first word of an entry's offsets holds the number of its candidate.
template <class Real, class Index>
struct BestList {
  Real* keys;
  Index* ids;
  int64_t stride, capacity;
  int64_t size = 0;
  Real worst = infinity<Real>();

  STNLS_HD void offer(Real key, int64_t id) {
    if (size == capacity && !(key < worst)) return;
    if (size < capacity) ++size;
    int64_t at = size - 1;
    for (; at > 0 && key < keys[at - 1]; --at) {
      keys[at] = keys[at - 1];
      ids[at * stride] = ids[(at - 1) * stride];
    }
    keys[at] = key;
    ids[at * stride] = static_cast<Index>(id);
    if (size == capacity) worst = keys[capacity - 1];
  }
};

// Who searches for a query: one thread, or several that share its candidates (direct_warp_cuda.h).
struct OneThread {
  static constexpr int kCount = 1;

  STNLS_HD int number() const { return 0; }
  // Every thread offers its candidate, if it has one, in the order of the threads.
  template <class List, class Real>
  STNLS_HD void offer(List* list, bool has, Real key, int64_t id) const {
    if (has) list->offer(key, id);
  }
  // What one thread has written, all may read.
  STNLS_HD void meet() const {}
};

// The window of one query in one slot.
template <class Pos>
struct Window {
  Pos anchor_h, anchor_w;
  int64_t offset_h, offset_w;
  int64_t frame;
  bool finite;  // false: no place was given (NaN, infinite, empty): every candidate is invalid
};

// Offsets of an entry that is empty, and the size from which on those of an entry to refine count
// as empty.
constexpr int64_t kEmptyEntry = -100000000;
template <class Index>
STNLS_HD bool is_place(Index offset) {
  if constexpr (std::is_floating_point<Index>::value)
    return std::fabs(offset) < static_cast<Index>(-kEmptyEntry);
  return offset > -100000 && offset < 100000;
}

template <class Real, bool kFloatGrid, bool kProduct>
struct DirectSearch {
  using Pos = typename Position<Real, kFloatGrid>::type;
  using Index = typename OffsetType<Real, kFloatGrid>::type;

  const SearchProblem& p;

  STNLS_HD explicit DirectSearch(const SearchProblem& problem) : p(problem) {}

  // Distances are compared as keys of which the smallest is best.
  STNLS_HD static Real worst_key() { return infinity<Real>(); }
  STNLS_HD static Real key_to_distance(Real key) { return kProduct ? -key : key; }

  STNLS_HD Pos step() const { return static_cast<Pos>(p.stride1); }

  STNLS_HD Pos position(Pos anchor, int64_t i, int64_t offset) const {
    return anchor + step() * static_cast<Pos>(i - offset);
  }

  STNLS_HD Window<Pos> window(const Query& q, int64_t slot) const {
    if (p.prior != nullptr) return window_of_prior(q, slot);
    Window<Pos> w;
    w.frame = slot_frame(q.t, slot, p.wt, p.frames);
    w.finite = true;
    Pos h = static_cast<Pos>(q.i * p.stride0), v = static_cast<Pos>(q.j * p.stride0);
    const int64_t flow_slot = p.flow_slots == 2 * p.wt + 1 ? slot : slot - 1;
    if (p.flow != nullptr && flow_slot >= 0) {
      const int64_t plane = p.grid_height * p.grid_width;
      const int64_t flow_head = q.head < p.flow_heads ? q.head : q.head % p.flow_heads;
      const int64_t at =
          (((q.b * p.flow_heads + flow_head) * p.frames + q.t) * p.flow_slots + flow_slot) * 2 *
              plane +
          q.i * p.grid_width + q.j;
      const Real* flow = static_cast<const Real*>(p.flow);
      const Real dx = flow[at], dy = flow[at + plane];
      w.finite = is_finite(dx) && is_finite(dy);
      if (w.finite) {
        if constexpr (kFloatGrid) {
          h += dy;
          v += dx;
        } else {
          h += round_offset(dy);
          v += round_offset(dx);
        }
      }
    }
    place(h, v, &w);
    return w;
  }

  STNLS_HD const Index* prior_of(const Query& q, int64_t entry) const {
    const int64_t query =
        (((q.b * p.heads + q.head) * p.frames + q.t) * p.grid_height + q.i) * p.grid_width + q.j;
    return static_cast<const Index*>(p.prior) + (query * p.prior_entries + entry) * p.components;
  }

  // The window around an entry of an earlier search.
  STNLS_HD Window<Pos> window_of_prior(const Query& q, int64_t entry) const {
    Window<Pos> w;
    const Index* at = prior_of(q, entry);
    const Index dt = p.components == 3 ? *at++ : Index(0);
    w.finite = is_place(at[0]) && is_place(at[1]) && is_place(dt);
    w.frame = q.t;
    Pos h = static_cast<Pos>(q.i * p.stride0), v = static_cast<Pos>(q.j * p.stride0);
    if (w.finite) {
      if constexpr (kFloatGrid)
        w.frame = reflect(q.t + static_cast<int64_t>(std::floor(dt + Real(0.5))), p.frames);
      else
        w.frame = reflect(q.t + dt, p.frames);
      h += at[0];
      v += at[1];
    }
    place(h, v, &w);
    return w;
  }

  STNLS_HD void place(Pos h, Pos v, Window<Pos>* window) const {
    Window<Pos>& w = *window;
    w.anchor_h = reflect(h, p.height);
    w.anchor_w = reflect(v, p.width);
    if constexpr (kFloatGrid) {
      w.offset_h = window_offset_real(w.anchor_h, step(), p.ws, p.height, p.full_window != 0);
      w.offset_w = window_offset_real(w.anchor_w, step(), p.ws, p.width, p.full_window != 0);
    } else {
      w.offset_h = window_offset(w.anchor_h, step(), p.ws, p.height, p.full_window != 0);
      w.offset_w = window_offset(w.anchor_w, step(), p.ws, p.width, p.full_window != 0);
    }
  }

  STNLS_HD bool valid(Pos h, Pos w) const { return inside(h, p.height) && inside(w, p.width); }

  // Sum over the patch of squared differences (or of products); pairs of taps of which one lies
  // outside its frame after reflection are left out.
  STNLS_HD Real patch_distance(const Query& q, int64_t frame, Pos centre_h, Pos centre_w) const {
    const Real* query = static_cast<const Real*>(p.query) + q.b * p.query_stride[0] +
                        q.head * p.query_stride[1] + q.t * p.query_stride[2];
    const Real* key = static_cast<const Real*>(p.key) + q.b * p.key_stride[0] +
                      q.head * p.key_stride[1] + frame * p.key_stride[2];
    const int64_t query_h = (q.i * p.stride_query) % p.query_height + p.offset_height;
    const int64_t query_w = (q.j * p.stride_query) % p.query_width + p.offset_width;
    if constexpr (!kFloatGrid) {
      const int64_t first = p.dilation * p.patch_offset;
      if (holds(query_h + first, p.query_height) && holds(query_w + first, p.query_width) &&
          holds(centre_h + first, p.height) && holds(centre_w + first, p.width)) {
        const Real sum = sum_inside(query + (query_h + first) * p.query_stride[4] + query_w + first,
                                    key + (centre_h + first) * p.key_stride[4] + centre_w + first);
        return kProduct ? -sum : sum;
      }
    }
    Real sum = Real(0);
    for (int64_t pi = 0; pi < p.ps; ++pi) {
      const int64_t tap_h = p.dilation * (pi + p.patch_offset);
      int64_t qh = query_h + tap_h;
      Pos kh = centre_h + static_cast<Pos>(tap_h);
      if (p.reflect_bounds) {
        qh = reflect(qh, p.query_height);
        kh = reflect(kh, p.height);
      } else if (!inside(qh, p.query_height) || !inside(kh, p.height)) {
        continue;
      }
      const Real* query_row = query + qh * p.query_stride[4];
      for (int64_t pj = 0; pj < p.ps; ++pj) {
        const int64_t tap_w = p.dilation * (pj + p.patch_offset);
        int64_t qw = query_w + tap_w;
        Pos kw = centre_w + static_cast<Pos>(tap_w);
        if (p.reflect_bounds) {
          qw = reflect(qw, p.query_width);
          kw = reflect(kw, p.width);
        } else if (!inside(qw, p.query_width) || !inside(kw, p.width)) {
          continue;
        }
        sum += channel_sum(query_row + qw, key, kh, kw);
      }
    }
    return kProduct ? -sum : sum;
  }

  // Whether a patch that starts there lies inside, along one axis.
  STNLS_HD bool holds(int64_t first, int64_t length) const {
    return first >= 0 && first + p.dilation * (p.ps - 1) < length;
  }

  // The same sum where no tap needs a look at its place.
  STNLS_HD Real sum_inside(const Real* query, const Real* key) const {
    const int ps = static_cast<int>(p.ps), channels = static_cast<int>(p.channels);
    Real sum = Real(0);
    for (int pi = 0; pi < ps; ++pi) {
      for (int pj = 0; pj < ps; ++pj) {
        const Real *q = query + pj * p.dilation, *k = key + pj * p.dilation;
        Real tap = Real(0);
        for (int c = 0; c < channels; ++c, q += p.query_stride[3], k += p.key_stride[3])
          tap = add_term(*q, *k, tap);
        sum += tap;
      }
      query += p.dilation * p.query_stride[4];
      key += p.dilation * p.key_stride[4];
    }
    return sum;
  }

  STNLS_HD Real channel_sum(const Real* query, const Real* key, Pos kh, Pos kw) const {
    Real sum = Real(0);
    if constexpr (kFloatGrid) {
      const Corners<Real> ch = bilinear_corners(kh, p.height);
      const Corners<Real> cw = bilinear_corners(kw, p.width);
      const Real high_h = ch.weight_high, low_h = Real(1) - high_h;
      const Real high_w = cw.weight_high, low_w = Real(1) - high_w;
      const Real w00 = low_h * low_w, w01 = low_h * high_w;
      const Real w10 = high_h * low_w, w11 = high_h * high_w;
      const Real* low = key + ch.low * p.key_stride[4];
      const Real* high = key + ch.high * p.key_stride[4];
      for (int64_t c = 0; c < p.channels; ++c) {
        const int64_t at = c * p.key_stride[3];
        Real v1 = w00 * low[at + cw.low];
        v1 = multiply_add(w01, low[at + cw.high], v1);
        v1 = multiply_add(w10, high[at + cw.low], v1);
        v1 = multiply_add(w11, high[at + cw.high], v1);
        sum = add_term(query[c * p.query_stride[3]], v1, sum);
      }
    } else {
      const Real* at = key + kh * p.key_stride[4] + kw;
      for (int64_t c = 0; c < p.channels; ++c)
        sum = add_term(query[c * p.query_stride[3]], at[c * p.key_stride[3]], sum);
    }
    return sum;
  }

  STNLS_HD static Real add_term(Real a, Real b, Real sum) {
    if constexpr (kProduct) return multiply_add(a, b, sum);
    return multiply_add(a - b, a - b, sum);
  }

  // Key of window position (i, j); infinite when its centre lies outside the frame. A NaN distance
  // counts as invalid, so that it never displaces a real match.
  STNLS_HD Real key_at(const Query& q, const Window<Pos>& w, int64_t i, int64_t j) const {
    const Pos h = position(w.anchor_h, i, w.offset_h), v = position(w.anchor_w, j, w.offset_w);
    if (!w.finite || !valid(h, v)) return worst_key();
    const Real key = patch_distance(q, w.frame, h, v);
    return key == key ? key : worst_key();
  }

  // What a candidate costs beside its distance, so many steps from the anchor of its window.
  STNLS_HD Real charge_at(int64_t steps_h, int64_t steps_w) const {
    const Real away_h = static_cast<Real>(p.stride1) * static_cast<Real>(steps_h);
    const Real away_w = static_cast<Real>(p.stride1) * static_cast<Real>(steps_w);
    return static_cast<Real>(p.charge) * (away_h * away_h + away_w * away_w);
  }
  STNLS_HD Real charge_of_candidate(const Query& q, int64_t candidate) const {
    if (p.charge == 0) return Real(0);
    const int64_t area = p.ws * p.ws, at = candidate % area;
    const Window<Pos> w = window(q, candidate / area);
    return charge_at(at / p.ws - w.offset_h, at % p.ws - w.offset_w);
  }

  // By what candidates are compared: distance and charge.
  STNLS_HD Real cost_at(const Query& q, const Window<Pos>& w, int64_t i, int64_t j) const {
    const Real key = key_at(q, w, i, j);
    return p.charge == 0 ? key : key + charge_at(i - w.offset_h, j - w.offset_w);
  }
  STNLS_HD Real cost_of_candidate(const Query& q, int64_t candidate) const {
    return key_of_candidate(q, candidate) + charge_of_candidate(q, candidate);
  }
  // The distance of a candidate of which the cost is known.
  STNLS_HD static Real cost_to_distance(Real cost, Real charge) {
    if (charge == Real(0)) return key_to_distance(cost);
    const Real key = cost - charge;
    return kProduct ? -key : key > Real(0) ? key : Real(0);  // rounded, a zero can fall below
  }

  // Candidates are numbered in raster order over (slot, window row, window column).
  STNLS_HD int64_t candidate(int64_t slot, int64_t i, int64_t j) const {
    return (slot * p.ws + i) * p.ws + j;
  }

  STNLS_HD Real key_of_candidate(const Query& q, int64_t candidate) const {
    const int64_t area = p.ws * p.ws, at = candidate % area;
    return key_at(q, window(q, candidate / area), at / p.ws, at % p.ws);
  }

  // The candidate at the query's own place and time: on the integer grid the exact one, or the
  // first candidate if there is none; on the real grid the nearest in the L1 sense.
  STNLS_HD int64_t self_candidate(const Query& q) const {
    int64_t best = candidate(p.first_slot, 0, 0);
    double best_distance = infinity<double>();
    for (int64_t slot = p.first_slot; slot < end_slot(p); ++slot) {
      const Window<Pos> w = window(q, slot);
      const double time = static_cast<double>(w.frame > q.t ? w.frame - q.t : q.t - w.frame);
      if (time >= best_distance) continue;
      double h_distance = 0, w_distance = 0;
      const int64_t i = nearest(w.anchor_h, w.offset_h, q.i * p.stride0, &h_distance);
      const int64_t j = nearest(w.anchor_w, w.offset_w, q.j * p.stride0, &w_distance);
      const double distance = time + h_distance + w_distance;
      if (!kFloatGrid && distance > 0) continue;
      if (distance < best_distance) {
        best_distance = distance;
        best = candidate(slot, i, j);
      }
    }
    return best;
  }

  STNLS_HD int64_t nearest(Pos anchor, int64_t offset, int64_t target, double* distance) const {
    int64_t best = 0;
    *distance = infinity<double>();
    for (int64_t i = 0; i < p.ws; ++i) {
      const double d =
          std::fabs(static_cast<double>(position(anchor, i, offset)) - static_cast<double>(target));
      if (d < *distance) {
        *distance = d;
        best = i;
      }
    }
    return best;
  }

  // Offsets of a candidate relative to its query, written to an entry of the output.
  STNLS_HD void write_offsets(const Query& q, int64_t candidate, bool exactly_self,
                              Index* out) const {
    const int64_t area = p.ws * p.ws, at = candidate % area;
    const Window<Pos> w = window(q, candidate / area);
    Index dt = static_cast<Index>(w.frame - q.t);
    Index dh = static_cast<Index>(position(w.anchor_h, at / p.ws, w.offset_h) -
                                  static_cast<Pos>(q.i * p.stride0));
    Index dw = static_cast<Index>(position(w.anchor_w, at % p.ws, w.offset_w) -
                                  static_cast<Pos>(q.j * p.stride0));
    if (exactly_self) dt = dh = dw = Index(0);
    if (p.prior != nullptr && !w.finite) dt = dh = dw = static_cast<Index>(kEmptyEntry);
    if (p.components == 3) *out++ = dt;
    out[0] = dh;
    out[1] = dw;
  }

  // Searches for one query and writes all its entries.
  template <class Threads = OneThread>
  STNLS_HD void run(int64_t index, const Threads& threads = {}) const {
    const Query q = query_at(p, index);
    const int64_t entries = entry_count(p);
    Real* keys = static_cast<Real*>(p.dists) + index * entries;
    Index* inds = static_cast<Index*>(p.inds) + index * entries * p.components;
    const bool whole = p.self_action == kAnchor || p.self_action == kRemove;
    const int64_t self = whole ? self_candidate(q) : -1;
    if (p.keep != kEvery)
      keep_best(q, self, keys, inds, threads);
    else if (threads.number() == 0)
      write_every(q, self, keys, inds);
  }

  STNLS_HD void write_every(const Query& q, int64_t self, Real* keys, Index* inds) const {
    const int64_t first = candidate(p.first_slot, 0, 0);
    const int64_t dropped = p.self_action == kRemove ? 1 : 0;
    for (int64_t slot = p.first_slot; slot < end_slot(p); ++slot) {
      const Window<Pos> w = window(q, slot);
      // The anchor changes places with the first candidate (of its slot).
      const bool each = p.self_action == kAnchorEach;
      const int64_t anchor = each ? candidate(slot, w.offset_h, w.offset_w) : self;
      const int64_t head = each ? candidate(slot, 0, 0) : first;
      for (int64_t i = 0; i < p.ws; ++i) {
        for (int64_t j = 0; j < p.ws; ++j) {
          const int64_t id = candidate(slot, i, j);
          int64_t place = id;
          if (p.self_action != kNone) place = id == anchor ? head : id == head ? anchor : id;
          if (dropped && place == head) continue;
          place -= first + dropped;
          keys[place] = key_to_distance(key_at(q, w, i, j));
          write_offsets(q, id, is_exact_self(id, self), inds + place * p.components);
          if (p.source != nullptr) source_of(inds)[place] = static_cast<int32_t>(slot);
        }
      }
    }
  }

  // Whether the anchor and the first candidate change places between two slots: on the real grid
  // the nearest position to the query can lie in another frame, if the own frame has flow.
  STNLS_HD bool swaps_slots(int64_t self) const {
    return p.keep == kBestOfEach && p.self_action == kAnchor &&
           self >= candidate(p.first_slot + 1, 0, 0);
  }

  template <class Threads>
  STNLS_HD void keep_best(const Query& q, int64_t self, Real* keys, Index* inds,
                          const Threads& threads) const {
    const int64_t area = p.ws * p.ws;
    const int64_t first = candidate(p.first_slot, 0, 0);
    const bool swaps = swaps_slots(self);
    BestList<Real, Index> list{keys, inds, p.components, p.k};
    for (int64_t slot = p.first_slot; slot < end_slot(p); ++slot) {
      const Window<Pos> w = window(q, slot);
      const bool starts = slot == p.first_slot;
      const bool new_list = starts || p.keep == kBestOfEach;
      int64_t pinned = -1;
      if (new_list) {
        const int64_t at = p.keep == kBestOfEach ? (slot - p.first_slot) * p.k : 0;
        list = BestList<Real, Index>{keys + at, inds + at * p.components, p.components, p.k};
        if (p.self_action == kAnchorEach) pinned = candidate(slot, w.offset_h, w.offset_w);
        if (p.self_action == kAnchor && starts) pinned = self;
        if (pinned >= 0) {
          if (threads.number() == 0) {
            list.keys[0] = cost_of_candidate(q, pinned);
            list.ids[0] = static_cast<Index>(pinned);
          }
          ++list.keys;
          list.ids += p.components;
          --list.capacity;
        }
      }
      if (list.capacity == 0) continue;
      for (int64_t from = 0; from < area; from += Threads::kCount) {
        const int64_t at = from + threads.number();
        int64_t id = candidate(slot, 0, 0) + at;
        bool has = at < area && id != pinned && !(id == first && swaps);
        Real key = worst_key();
        if (has && id == self) {
          has = swaps;
          id = first;
          if (has) key = cost_of_candidate(q, first);
        } else if (has) {
          key = cost_at(q, w, at / p.ws, at % p.ws);
        }
        threads.offer(&list, has, key, id);
      }
    }
    threads.meet();
    const int64_t entries = entry_count(p);
    for (int64_t e = threads.number(); e < entries; e += Threads::kCount) {
      const int64_t id = static_cast<int64_t>(inds[e * p.components]);
      keys[e] = cost_to_distance(keys[e], charge_of_candidate(q, id));
      write_offsets(q, id, is_exact_self(id, self), inds + e * p.components);
      if (p.source != nullptr) source_of(inds)[e] = static_cast<int32_t>(id / (p.ws * p.ws));
    }
  }

  // The sources of one query, whose offsets begin at inds.
  STNLS_HD int32_t* source_of(const Index* inds) const {
    return static_cast<int32_t*>(p.source) +
           (inds - static_cast<const Index*>(p.inds)) / p.components;
  }

  // The anchored entry carries the exact offset (0, 0, 0), also where the grid only came near it.
  STNLS_HD bool is_exact_self(int64_t id, int64_t self) const {
    return p.self_action == kAnchor && id == self && id != candidate(p.first_slot, 0, 0);
  }
};

}  // namespace stnls
