// A short list of matches in registers, sorted.
#pragma once

#include <cstdint>

namespace stnls {

constexpr int kListMost = 10;                // matches that a list in registers holds
constexpr uint64_t kNoMatch = ~uint64_t(0);  // the key of a place that is free

// Exchanges two keys where `swap` says so. In PTX, word by word, since compilers would compare
// twice, once for each key. `compare` sets `swap` where the second key is the lower.
#define STNLS_ORDER(compare)                      \
  "{\n\t"                                         \
  ".reg .pred swap;\n\t"                          \
  ".reg .b32 a0, a1, b0, b1, c0, c1;\n\t" compare \
  "mov.b64 {a0, a1}, %0;\n\t"                     \
  "mov.b64 {b0, b1}, %1;\n\t"                     \
  "selp.b32 c0, b0, a0, swap;\n\t"                \
  "selp.b32 c1, b1, a1, swap;\n\t"                \
  "selp.b32 b0, a0, b0, swap;\n\t"                \
  "selp.b32 b1, a1, b1, swap;\n\t"                \
  "mov.b64 %0, {c0, c1};\n\t"                     \
  "mov.b64 %1, {b0, b1};\n\t"                     \
  "}"
__device__ __forceinline__ void order(uint64_t& low, uint64_t& high) {
  asm(STNLS_ORDER("setp.lt.u64 swap, %1, %0;\n\t") : "+l"(low), "+l"(high));
}
__device__ __forceinline__ bool before(uint64_t a, uint64_t b) { return a < b; }

// Keys that are no less than zero and no NaN may be doubles, too: the order of their bits is their
// own. Where the GPU has many units for doubles, one of these compares them in one instruction.
#if __CUDA_ARCH__ == 700 || __CUDA_ARCH__ == 800 || __CUDA_ARCH__ == 900 || __CUDA_ARCH__ == 1000
#define STNLS_SWAP_IF "setp.lt.f64 swap, %1, %0;\n\t"
__device__ __forceinline__ bool before(double a, double b) { return a < b; }
#else
#define STNLS_SWAP_IF   \
  ".reg .b64 a, b;\n\t" \
  "mov.b64 a, %0;\n\t"  \
  "mov.b64 b, %1;\n\t"  \
  "setp.lt.u64 swap, b, a;\n\t"
__device__ __forceinline__ bool before(double a, double b) {
  return __double_as_longlong(a) < __double_as_longlong(b);
}
#endif
__device__ __forceinline__ void order(double& low, double& high) {
  asm(STNLS_ORDER(STNLS_SWAP_IF) : "+d"(low), "+d"(high));
}
#undef STNLS_SWAP_IF
#undef STNLS_ORDER

// Matches by their keys, as ordered_key makes them, to be sorted in together: 8 at most.
template <int kCount, class Key = uint64_t>
struct Batch {
  Key keys[kCount];

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

template <class Key>
class SortedKeys {
 public:
  // k free entries; the other places hold what no match displaces.
  __device__ __forceinline__ void clear(int k) {
#pragma unroll
    for (int e = 0; e < kListMost; ++e) best[e] = e < kListMost - k ? 0 : kNoMatch;
  }
  // Of k entries in memory; what the list does not need of its places holds what no match
  // displaces.
  __device__ __forceinline__ void load(const Key* list, int stride, int k) {
    const int spare = kListMost - k;
#pragma unroll
    for (int e = 0; e < kListMost; ++e) best[e] = e < spare ? 0 : list[(e - spare) * stride];
  }
  __device__ __forceinline__ void store(Key* list, int stride, int k) const {
    const int spare = kListMost - k;
#pragma unroll
    for (int e = 0; e < kListMost; ++e)
      if (e >= spare) list[(e - spare) * stride] = best[e];
  }

  // The same of kListMost doubles, of which two places lie side by side, 16 bytes aligned, and
  // `stride` keys from one pair to the next. They pass the first-level cache by, which has no room.
  __device__ __forceinline__ void load_pairs(const Key* list, int stride) {
#pragma unroll
    for (int e = 0; e < kListMost; e += 2) {
      const double2 pair = __ldcg(reinterpret_cast<const double2*>(list + e / 2 * stride));
      best[e] = pair.x;
      best[e + 1] = pair.y;
    }
  }

  // Takes up all of a batch that is better than what the list holds.
  template <int kCount>
  __device__ __forceinline__ void merge(Batch<kCount, Key>& batch) {
    merge_until<1>(batch);
  }
  // The same, the last step on the way to memory, word by word: so no registers are moved to make
  // the 16 bytes of a pair. The upper word of the last key.
  template <int kCount>
  __device__ __forceinline__ int merge_to_pairs(Batch<kCount, Key>& batch, Key* list, int stride) {
    merge_until<2>(batch);
    int4 pair;
#pragma unroll
    for (int e = 0; e < kListMost; e += 2) {
      const Key a = best[e], b = best[e + 1];
      const bool swap = before(b, a);
      pair = make_int4(__double2loint(swap ? b : a), __double2hiint(swap ? b : a),
                       __double2loint(swap ? a : b), __double2hiint(swap ? a : b));
      __stcg(reinterpret_cast<int4*>(list + e / 2 * stride), pair);
    }
    return pair.w;
  }

  __device__ __forceinline__ Key last() const { return best[kListMost - 1]; }

 private:
  Key best[kListMost];

  // Compares places that are `kLast` or more apart.
  template <int kLast, int kCount>
  __device__ __forceinline__ void merge_until(Batch<kCount, Key>& batch) {
    batch.sort();
    // The list rises; against a batch that falls, the lower of each two are the best of all, and
    // rise, then fall.
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      Key& entry = best[kListMost - 1 - i];
      entry = before(batch.keys[i], entry) ? batch.keys[i] : entry;
    }
    // Batcher's bitonic network for 16, of which the first places are taken to hold less than all.
#pragma unroll
    for (int apart = 8; apart >= kLast; apart /= 2) {
#pragma unroll
      for (int i = 16 - kListMost; i < 16; ++i) {
        if ((i & apart) == 0) order(best[i - 16 + kListMost], best[i + apart - 16 + kListMost]);
      }
    }
  }
};
using SortedList = SortedKeys<uint64_t>;

}  // namespace stnls
