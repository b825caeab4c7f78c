// A short list of matches in registers, sorted.
#pragma once

#include <cstdint>

namespace stnls {

constexpr int kListMost = 10;                // matches that a list in registers holds
constexpr uint64_t kNoMatch = ~uint64_t(0);  // the key of a place that is free

// In PTX, word by word, since compilers would compare twice, once for each key.
__device__ __forceinline__ void order(uint64_t& low, uint64_t& high) {
  asm("{\n\t"
      ".reg .pred swap;\n\t"
      ".reg .b32 a0, a1, b0, b1, c0, c1;\n\t"
      "setp.lt.u64 swap, %1, %0;\n\t"
      "mov.b64 {a0, a1}, %0;\n\t"
      "mov.b64 {b0, b1}, %1;\n\t"
      "selp.b32 c0, b0, a0, swap;\n\t"
      "selp.b32 c1, b1, a1, swap;\n\t"
      "selp.b32 b0, a0, b0, swap;\n\t"
      "selp.b32 b1, a1, b1, swap;\n\t"
      "mov.b64 %0, {c0, c1};\n\t"
      "mov.b64 %1, {b0, b1};\n\t"
      "}"
      : "+l"(low), "+l"(high));
}

// Matches by their keys, as ordered_key makes them, to be sorted in together: 8 at most.
template <int kCount>
struct Batch {
  uint64_t keys[kCount];

  // A network of 19 comparisons, of which those with a place that is not there are left out.
  __device__ __forceinline__ void sort() {
    constexpr int pairs[][2] = {{0, 2}, {1, 3}, {4, 6}, {5, 7}, {0, 4}, {1, 5}, {2, 6},
                                {3, 7}, {0, 1}, {2, 3}, {4, 5}, {6, 7}, {2, 4}, {3, 5},
                                {1, 4}, {3, 6}, {1, 2}, {3, 4}, {5, 6}};
#pragma unroll
    for (int i = 0; i < 19; ++i) {
      if (pairs[i][1] < kCount) order(keys[pairs[i][0]], keys[pairs[i][1]]);
    }
  }
};

class SortedList {
 public:
  // k free entries; the other places hold what no match displaces.
  __device__ __forceinline__ void clear(int k) {
#pragma unroll
    for (int e = 0; e < kListMost; ++e) best[e] = e < kListMost - k ? 0 : kNoMatch;
  }
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

  // Takes up all of a batch that is better than what the list holds.
  template <int kCount>
  __device__ __forceinline__ void merge(Batch<kCount>& batch) {
    batch.sort();
    // The list rises; against a batch that falls, the lower of each two are the best of all, and
    // rise, then fall.
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      uint64_t& entry = best[kListMost - 1 - i];
      entry = batch.keys[i] < entry ? batch.keys[i] : entry;
    }
    // Batcher's bitonic network for 16, of which the first places are taken to hold less than all.
#pragma unroll
    for (int apart = 8; apart > 0; apart /= 2) {
#pragma unroll
      for (int i = 16 - kListMost; i < 16; ++i) {
        if ((i & apart) == 0) order(best[i - 16 + kListMost], best[i + apart - 16 + kListMost]);
      }
    }
  }

  __device__ __forceinline__ uint64_t last() const { return best[kListMost - 1]; }

 private:
  uint64_t best[kListMost];
};

}  // namespace stnls
