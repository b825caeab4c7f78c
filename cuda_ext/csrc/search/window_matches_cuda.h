// The best matches of a warp's queries, one query a lane, while their candidates are compared.
#pragma once

#include "../common/geometry.h"
#include "match_key_cuda.h"
#include "sorted_list_cuda.h"

namespace stnls {

constexpr int kWindowQueue = 8;  // candidates that a lane puts aside

// kList = 1: the best alone. kListMost: up to so many, sorted. 0: any number, in memory, the
// worst first. A list lies in shared memory between two of these objects, with `stride` words from
// one entry to the next; ~0 marks an entry that is free. The first entry may be pinned: it belongs
// to the candidate `self`, whatever its distance. If it is not pinned, `self` is left out.
template <int kList>
class Matches {
 public:
  __device__ Matches(uint64_t* list, int stride, float2* queue, int k, int self, bool pins)
      : list(list), queue(queue), stride(stride), k(k), self(self), first(pins ? 1 : 0) {
    if constexpr (kList == 1) {
      last = list[0];
    } else if constexpr (kList > 1) {
      best.load(list + first * stride, stride, k - first);
      last = best.last();
    } else {
      last = k > first ? list[first * stride] : 0;
    }
    limit = kList == 1 ? infinity<float>() : limit_of(last);
  }

  // A distance of NaN is no candidate.
  __device__ __forceinline__ void offer(float distance, int id) {
    if constexpr (kList == 1) {
      if (distance < limit) {
        limit = distance;
        found = id;
      }
    } else if (distance <= limit || id == self) {
      queue[32 * waiting++] = make_float2(distance, __int_as_float(id));
    }
  }

  // By all lanes, before each of them offers `count`.
  __device__ __forceinline__ void make_room(int count) {
    if (kList != 1 && __any_sync(0xffffffffu, waiting > kWindowQueue - count)) settle();
  }

  // By all lanes, after each column of a window: of equal distances the lower candidate wins, and
  // only within a column do they come in that order.
  __device__ __forceinline__ void end_column() {
    if constexpr (kList == 1) {
      const uint64_t key = ordered_key(limit, found);
      if (found >= 0 && key < last) last = key;
      limit = infinity<float>();
      found = -1;
    }
  }

  __device__ __forceinline__ void store() {
    if constexpr (kList == 1) {
      list[0] = last;
    } else {
      if (__any_sync(0xffffffffu, waiting > 0)) settle();
      if constexpr (kList > 1) best.store(list + first * stride, stride, k - first);
    }
  }

 private:
  uint64_t* const list;
  float2* const queue;  // distance and candidate
  const int stride, k, self, first;
  SortedList best;  // kList > 1
  uint64_t last;    // the worst match
  float limit;      // kList = 1: the least distance of the column; else that of the worst match
  int found = -1;   // kList = 1: its candidate
  int waiting = 0;  // candidates put aside

  __device__ static float limit_of(uint64_t key) {
    return key == kNoMatch ? infinity<float>() : distance_of_key(key);
  }

  __device__ void settle() {
    if constexpr (kList > 1) {
      Batch<kWindowQueue> batch;
#pragma unroll
      for (int i = 0; i < kWindowQueue; ++i) batch.keys[i] = waiting_key(i);
      best.merge(batch);
      last = best.last();
    } else {
      for (int i = 0; __any_sync(0xffffffffu, i < waiting); ++i) insert(waiting_key(i));
    }
    waiting = 0;
    limit = limit_of(last);
  }

  // The key of a candidate that was put aside, if it is chosen by its distance.
  __device__ __forceinline__ uint64_t waiting_key(int i) const {
    const float2 one = queue[32 * i];
    const int id = __float_as_int(one.y);
    if (i >= waiting) return kNoMatch;
    const uint64_t key = ordered_key(one.x, id);
    if (id != self) return key;
    if (first == 1 && one.x == one.x) list[0] = key;
    return kNoMatch;
  }

  // A list of any size.
  __device__ __forceinline__ void insert(uint64_t key) {
    if (key < last) {
      uint64_t most = key;
      int place = first;
#pragma unroll 4
      for (int e = first + 1; e < k; ++e) {
        const uint64_t other = list[e * stride];
        if (other > most) {
          most = other;
          place = e;
        }
      }
      list[place * stride] = key;
      list[first * stride] = last = most;
    }
  }
};

}  // namespace stnls
