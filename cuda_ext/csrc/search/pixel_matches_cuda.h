// The matches of a query in the pixel form of the search: a list in registers, and in shared memory
// what is put aside until it is sorted in.
#pragma once

#include "../common/geometry.h"
#include "match_key_cuda.h"
#include "pixels_shape_cuda.h"
#include "sorted_list_cuda.h"

namespace stnls {

class PixelMatches {
 public:
  static constexpr int kEntry = 8 * kPixelThreads;  // bytes from one match put aside to the next

  // memory: kPixelAside entries of every thread, shared; k: matches.
  __device__ void open(char* memory, int thread, int k) {
    aside = memory;
    end = begin = 8 * thread;
    list.clear(k);
    limit = infinity<float>();
  }

  // A distance of NaN is no candidate.
  __device__ __forceinline__ void offer(float found, int id) {
    if (found <= limit) {
      *reinterpret_cast<int2*>(aside + end) = make_int2(id, __float_as_int(found));
      end += kEntry;
    }
  }

  // By all lanes, before each of them offers two.
  __device__ __forceinline__ void make_room() {
    if (__any_sync(0xffffffffu, end > begin + (kPixelAside - 2) * kEntry)) settle();
  }

  // Sorts in what was put aside.
  __device__ void settle() {
    Batch<kPixelAside> batch;
#pragma unroll
    for (int i = 0; i < kPixelAside; ++i) {
      const int2 one = *reinterpret_cast<const int2*>(aside + begin + i * kEntry);
      const uint64_t key = ordered_key(__int_as_float(one.y), one.x);
      batch.keys[i] = begin + i * kEntry < end ? key : kNoMatch;
    }
    list.merge(batch);
    end = begin;
    if (full()) limit = distance_of_key(list.last());
  }

  __device__ bool full() const { return list.last() != kNoMatch; }

  // The matches side by side.
  __device__ void store(uint64_t* to, int k) const { list.store(to, 1, k); }

 private:
  char* aside;
  int begin;    // bytes to the first match put aside
  int end;      // and to the next
  float limit;  // the distance of the worst match
  SortedList list;
};

}  // namespace stnls
