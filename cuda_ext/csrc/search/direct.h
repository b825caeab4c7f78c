// The search from its definition: every candidate's patch is summed tap by tap, the best are kept
// while scanning. Serves every option on both backends, and is what the faster forms fall back to.
#pragma once

#include "every.h"
#include "patch_distance.h"

namespace stnls {

// Entries in one query's output.
STNLS_HD int64_t entry_count(const SearchProblem& p) {
  const int64_t removed = p.self_action == kRemove ? 1 : 0;
  if (p.keep == kEvery) return slot_count(p) * p.ws * p.ws - removed;
  return p.keep == kBestOfEach ? slot_count(p) * p.k : p.k;
}

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

template <class Real, bool kFloatGrid, bool kProduct>
struct DirectSearch : PatchDistance<Real, kFloatGrid, kProduct> {
  using Distance = PatchDistance<Real, kFloatGrid, kProduct>;
  using Distance::candidate;
  using Distance::charge_of_candidate;
  using Distance::cost_at;
  using Distance::cost_of_candidate;
  using Distance::cost_to_distance;
  using Distance::Distance;
  using Distance::key_at;
  using Distance::key_to_distance;
  using Distance::p;
  using Distance::self_candidate;
  using Distance::window;
  using Distance::worst_key;
  using Distance::write_offsets;
  using typename Distance::Index;
  using typename Distance::Pos;

  // Searches for one query and writes all its entries.
  template <class Threads = OneThread>
  STNLS_HD void run(int64_t index, const Threads& threads = {}) const {
    if (p.keep == kEvery)
      run_every(index, threads);
    else
      run_best(index, threads);
  }

  // Every candidate, dealt out to the threads.
  template <class Threads>
  STNLS_HD void run_every(int64_t index, const Threads& threads) const {
    const Query q = query_at(p, index);
    const int64_t self = self_of(q);
    Real* keys = keys_of(index);
    Index* inds = inds_of(index);
    const int ws = static_cast<int>(p.ws), area = ws * ws;
    const int first = static_cast<int>(p.first_slot) * area;
    const int end = static_cast<int>(end_slot(p)) * area;
    int slot = -1;
    int64_t anchor = self;
    Window<Pos> w{};
    for (int id = first + threads.number(); id < end; id += Threads::kCount) {
      if (id / area != slot) {
        slot = id / area;
        w = window(q, slot);
        if (p.self_action == kAnchorEach) anchor = candidate(slot, w.offset_h, w.offset_w);
      }
      const int64_t entry = entry_of_every(p, slot, id, anchor);
      if (entry < 0) continue;
      const int i = (id - slot * area) / ws, j = (id - slot * area) % ws;
      keys[entry] = key_to_distance(key_at(q, w, i, j));
      write_offsets(q, w, i, j, is_exact_self(id, self), inds + entry * p.components);
      if (p.source != nullptr) source_of(inds)[entry] = slot;
    }
  }

  // Whether the anchor and the first candidate change places between two slots: on the real grid
  // the nearest position to the query can lie in another frame, if the own frame has flow.
  STNLS_HD bool swaps_slots(int64_t self) const {
    return p.keep == kBestOfEach && p.self_action == kAnchor &&
           self >= candidate(p.first_slot + 1, 0, 0);
  }

  template <class Threads>
  STNLS_HD void run_best(int64_t index, const Threads& threads) const {
    const Query q = query_at(p, index);
    const int64_t self = self_of(q);
    Real* keys = keys_of(index);
    Index* inds = inds_of(index);
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

  // The query's own candidate where it is treated apart, else -1.
  STNLS_HD int64_t self_of(const Query& q) const {
    return p.self_action == kAnchor || p.self_action == kRemove ? self_candidate(q) : -1;
  }

  // The entries of one query.
  STNLS_HD Real* keys_of(int64_t index) const {
    return static_cast<Real*>(p.dists) + index * entry_count(p);
  }
  STNLS_HD Index* inds_of(int64_t index) const {
    return static_cast<Index*>(p.inds) + index * entry_count(p) * p.components;
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
