// The best candidates of a tile's queries (CPU).
#pragma once

#include <cstdint>
#include <vector>

#include "../common/simd.h"
#include "tiles_plan_cpu.h"
#include "tiles_sums_cpu.h"

namespace stnls {

// Sorted lists, one for each query of a tile. Those of a vector of queries lie together: first the
// smallest key of each, then the second smallest, ...
class TileLists {
 public:
  int64_t capacity = 0;

  void start(int64_t entries) {
    capacity = entries;
    all_keys.assign(static_cast<size_t>(capacity * kTileQueries), infinity<float>());
    all_ids.assign(static_cast<size_t>(capacity * kTileQueries), -1);
  }

  // Of query n; the next entry follows kLanes numbers later.
  float* keys(int64_t n) { return all_keys.data() + place(n); }
  int32_t* ids(int64_t n) { return all_ids.data() + place(n); }

 private:
  std::vector<float> all_keys;
  std::vector<int32_t> all_ids;

  int64_t place(int64_t n) const { return n / kLanes * kLanes * capacity + n % kLanes; }
};

// A row of displacements for a vector of queries.
struct RowOfCandidates {
  UIntV place;    // of the first one in the window, from INT_MIN on; counts up
  IntV last;      // of the window, from INT_MIN on
  UIntV id;       // of the candidate at the first one
  IntV excluded;  // a candidate that is left out
  uint32_t id_step;
  int64_t count;
};

// value.next() gives the keys at one displacement after the other.
template <bool kExclude, class Value>
[[gnu::noinline]] void keep_best(const RowOfCandidates& row, float* keys, int32_t* ids,
                                 Value value) {
  FloatV best = load(keys);
  IntV best_id = load(ids);
  UIntV place = row.place, id = row.id;
  const IntV last = row.last;
  const uint32_t id_step = row.id_step;
  for (int64_t n = row.count; n > 0; --n) {
    FloatV key = value.next();
    if constexpr (kExclude)
      key = select((IntV)id == row.excluded, broadcast(infinity<float>()), key);
    keep_smaller((IntV)place, last, key, (IntV)id, best, best_id);
    place += 1;
    id += id_step;
  }
  store(keys, best);
  store(ids, best_id);
}

// Puts a key into every lane's list where it is smaller than the last one there.
inline void insert(FloatV key, IntV id, int64_t capacity, float* keys, int32_t* ids) {
  const int64_t end = (capacity - 1) * kLanes;
  FloatV here = load(keys + end);
  IntV smaller = key < here;
  if (!any(smaller)) return;
  IntV here_id = load(ids + end);
  for (int64_t at = end; at > 0; at -= kLanes) {
    const FloatV above = load(keys + at - kLanes);
    const IntV above_id = load(ids + at - kLanes);
    const IntV smaller_above = key < above;
    store(keys + at, minimum(here, maximum(above, key)));
    store(ids + at, select(smaller_above, above_id, select(smaller, id, here_id)));
    here = above;
    here_id = above_id;
    smaller = smaller_above;
  }
  store(keys, minimum(key, here));
  store(ids, select(smaller, id, here_id));
}

template <bool kExclude, class Value>
[[gnu::noinline]] void keep_several(const RowOfCandidates& row, int64_t capacity, float* keys,
                                    int32_t* ids, Value value) {
  const FloatV none = broadcast(infinity<float>());
  UIntV place = row.place, id = row.id;
  for (int64_t n = row.count; n > 0; --n) {
    const FloatV key = value.next();
    IntV in = ((IntV)place <= row.last) & (key < none);
    if constexpr (kExclude) in &= (IntV)id != row.excluded;
    insert(select(in, key, none), (IntV)id, capacity, keys, ids);
    place += 1;
    id += row.id_step;
  }
}

// Patch distances at the columns of a row, for a vector of queries: those that were summed ...
struct WholeValue {
  const float* sums;
  int64_t stride;

  FloatV next() {
    const FloatV value = load(sums);
    sums += stride;
    return value;
  }
};

// ... or from those at the four whole displacements around.
template <bool kProduct>
struct BilinearValue {
  const float *low, *high;
  int64_t stride;
  FloatV w00, w01, w10, w11;
  const float *right, *below, *diagonals;
  int64_t pitch;
  FloatV c_right, c_right_low, c_below, c_below_right, c_diagonals;

  BilinearValue(FloatV fy, FloatV fx, const float* sums_low, const float* sums_high,
                int64_t sums_stride, const NeighbourSums& near, int64_t near_at)
      : low(sums_low), high(sums_high), stride(sums_stride) {
    const FloatV gy = 1.0f - fy, gx = 1.0f - fx;
    w00 = gy * gx;
    w01 = gy * fx;
    w10 = fy * gx;
    w11 = fy * fx;
    if constexpr (!kProduct) {
      right = near.right + near_at;
      below = near.below + near_at;
      diagonals = near.diagonals + near_at;
      pitch = near.pitch;
      c_right = w00 * w01;
      c_right_low = w10 * w11;
      c_below = w00 * w10;
      c_below_right = w01 * w11;
      c_diagonals = w00 * w11;
    }
  }

  FloatV next() {
    FloatV value = w00 * load(low);
    value = multiply_add(w01, load(low + stride), value);
    value = multiply_add(w10, load(high), value);
    value = multiply_add(w11, load(high + stride), value);
    low += stride;
    high += stride;
    if constexpr (kProduct) return value;
    FloatV less = c_right * load(right);
    less = multiply_add(c_right_low, load(right + pitch), less);
    less = multiply_add(c_below, load(below), less);
    less = multiply_add(c_below_right, load(below + 1), less);
    less = multiply_add(c_diagonals, load(diagonals), less);
    ++right;
    ++below;
    ++diagonals;
    // Rounding can leave a tiny negative; not a number must stay one.
    return maximum(FloatV{}, value - less);
  }
};

// Keys with what candidates cost beside their distance, at the columns of a row.
template <class Value>
struct ChargedValue {
  Value value;
  FloatV charge, of_row, away;

  // per_square: for each squared pixel; away_h, away_w: from the anchor to the first candidate.
  ChargedValue(const Value& value, float per_square, FloatV away_h, FloatV away_w)
      : value(value),
        charge(FloatV{} + per_square),
        of_row(per_square * away_h * away_h),
        away(away_w) {}

  FloatV next() {
    const FloatV cost = value.next() + multiply_add(charge * away, away, of_row);
    away += 1.0f;
    return cost;
  }
};

}  // namespace stnls
