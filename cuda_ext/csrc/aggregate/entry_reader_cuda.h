// How the threads that share a query take its entries, and how many rows of queries a block takes.
#pragma once

#include "entries_cuda.h"
#include "packed_cuda.h"

namespace stnls {

// The entries of one query after another, read ahead: while one batch is worked on, the next one is
// on its way from memory.
template <int kLanes, bool kFloatGrid>
struct EntryReader {
  const float* weights;
  const float* inds;  // or integers
  int k, lane;
  RawEntry<kFloatGrid> next;

  __device__ __forceinline__ EntryReader(const PackedPatchProblem& p, const Packing& packing,
                                         const BlockPlane& plane, int thread)
      : EntryReader(p, plane.entries(p, packing), thread) {}

  // From entry number `first` on.
  __device__ __forceinline__ EntryReader(const PackedPatchProblem& p, int64_t first, int thread)
      : k(static_cast<int>(p.k)), lane(thread & (kLanes - 1)), next{} {
    weights = whole(static_cast<const float*>(p.weights) + first);
    inds = whole(static_cast<const float*>(p.inds) + p.components * first);
  }

  // Those from `first` on of query number `query`, if it exists.
  __device__ __forceinline__ void read(const PackedPatchProblem& p, int query, int first,
                                       bool exists) {
    if (exists && first + lane < k)
      next = read_entry<kFloatGrid>(p, weights, inds, query * k + first + lane);
  }
};

// Calls use(entry, n) for the entries of a batch that are not empty, all threads that share a query
// together. `at` is then the vector of an entry's first pixel. `mine`: the thread has one of them.
template <int kLanes, bool kFloatGrid, class Use>
__device__ __forceinline__ void for_batch(const PackedPatchProblem& p, const Packing& packing,
                                          const RawEntry<kFloatGrid>& raw, bool mine, int count,
                                          int t, int y, int x, int corner, Use&& use) {
  Entry<kFloatGrid> own{};
  own.at = kUnused;
  PackedPosition position;
  if (mine) own = decode(p, packing, raw, t, y, x, &position);
  own.at = own.at == kUnused ? -1 : own.at * packing.groups + corner;
#pragma unroll(kLanes < 4 ? kLanes : 4)
  for (int n = 0; n < min(count, kLanes); ++n) {
    Entry<kFloatGrid> e = own;
    if constexpr (kLanes > 1) e = entry_of_lane(own, n, kLanes);
    use(e, n);
  }
}

inline int multiprocessors() {
  int device = 0, count = 0;
  if (cudaGetDevice(&device) != cudaSuccess ||
      cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device) != cudaSuccess)
    return 132;
  return count;
}

// How many rows a block is to take, up to `most` (more only where the grid would be too long): as
// many blocks are done at a time as the GPU holds, `resident` on each multiprocessor, and each of
// them does its rows and `border` more. `chunks` blocks take the same rows.
inline int rows_of_block(int chunks, int64_t rows, int64_t blocks_a_row, int border, int most,
                         int resident) {
  const int64_t at_once = int64_t{multiprocessors()} * resident;
  const int64_t most_bands = kMostBlocks / chunks;
  const int fewest = static_cast<int>((rows + most_bands - 1) / most_bands);
  int best = fewest;
  int64_t least = INT64_MAX;
  for (int each = fewest; each <= most && each <= rows; ++each) {
    const int64_t blocks = (rows + each - 1) / each * blocks_a_row;
    const int64_t cost = (blocks + at_once - 1) / at_once * (each + border);
    if (cost < least) {
      least = cost;
      best = each;
    }
  }
  return best;
}

}  // namespace stnls
