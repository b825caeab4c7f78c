// A short list of matches in registers, sorted.
#pragma once

#include <cstdint>

namespace stnls {

constexpr int kListMost = 10;  // matches that a list in registers holds

// Keys as ordered_key makes them; ~0 marks an entry that is free.
class SortedList {
 public:
  // Of k entries in memory; what the list does not need of its places holds what no match
  // displaces.
  __device__ __forceinline__ void load(const uint64_t* list, int stride, int k) {
    const int spare = kListMost - k;
#pragma unroll
    for (int e = 0; e < kListMost; ++e) best[e] = e < spare ? 0 : list[(e - spare) * stride];
  }
  __device__ __forceinline__ void store(uint64_t* list, int stride, int k) const {
    const int spare = kListMost - k;
#pragma unroll
    for (int e = 0; e < kListMost; ++e)
      if (e >= spare) list[(e - spare) * stride] = best[e];
  }

  // Takes the place of the last entry, if it is better.
  __device__ __forceinline__ void insert(uint64_t key) {
#pragma unroll
    for (int e = 0; e < kListMost; ++e) {
      const uint64_t other = best[e];
      const bool before = key < other;
      best[e] = before ? key : other;
      key = before ? other : key;
    }
  }

  __device__ __forceinline__ uint64_t last() const { return best[kListMost - 1]; }

 private:
  uint64_t best[kListMost];
};

}  // namespace stnls
