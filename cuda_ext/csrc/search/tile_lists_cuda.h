// The K best matches of the queries of a tile, which a warp finds.
//
// What is no worse than the K-th best known so far is put aside in shared memory, in a place of its
// own for each query, without a branch. Matches come in bursts, in some rows of the tile and not in
// others, and a lane has a row. So where some query has no room left, four rows are taken, those
// without room first, then those that have put several aside, and each lane sorts in what one of
// their queries has.
//
// For that the lists lie where all lanes reach them: in the place of the tile's own offsets, of
// which a query has at least as many bytes as its list. They stay in the second-level cache.
#pragma once

#include "problem.h"
#include "sorted_list_cuda.h"

namespace stnls {

constexpr int kTileAside = 5;  // matches that a query puts aside
constexpr int kTileWorth = 6;  // matches of a row from which on it is taken if lanes are left

// Distance and code of a match as one number, of which the order is theirs. A sum of squares is no
// less than zero, so that the order of its bits is its own, also as the upper word of a double. A
// comparison of doubles is one instruction in units that have nothing else to do; one of integers
// of this size takes two, in the units that do the exchange.
__device__ __forceinline__ double tile_key(int distance_bits, int code) {
  return __hiloint2double(distance_bits, code);
}
constexpr int kLargestBits = 0x7f7fffff;  // of the largest distance: infinite ones are no matches
constexpr int kFreeBits = 0x7fe00000;     // of a free place: larger than all, and not NaN

// `kRows` rows of queries, each with a lane of its own.
template <int kRows>
class TileLists {
 public:
  static constexpr int kColumns = 8;                   // queries in a row
  static constexpr int kEntry = 8 * kRows;             // bytes from one match put aside to the next
  static constexpr int kColumn = kEntry * kTileAside;  // those of one column of queries
  static constexpr int kPlaces = 32 / kColumns;        // rows that are taken at once
  static constexpr int kShares = 4 * (32 + 2 * kPlaces);
  static constexpr int kShared = kShares + kColumns * kColumn;

  // `first`: number of the tile's first query; `rows`, `columns`: those inside the frame; `memory`:
  // 16 bytes aligned.
  __device__ void open(const SearchProblem& p, int64_t first, int rows, int columns, char* memory) {
    const int lane = static_cast<int>(threadIdx.x);
    k = static_cast<int>(p.k);
    wide = columns;
    const int bytes = k * static_cast<int>(p.components * sizeof(int32_t));
    line = static_cast<unsigned>(p.grid_width) * bytes;
    lists = static_cast<char*>(p.inds) + first * bytes;
    // Lines of the cache, where there is room for that: 640 of 960 bytes.
    paired = wide == kColumns && k == kListMost && (reinterpret_cast<uintptr_t>(p.inds) & 15) == 0;
    unaligned = !paired ? 7 : p.components == 3 ? 127 : 15;
    row_offset = offset_of(lane);
    shares = reinterpret_cast<int*>(memory);
    aside = memory + kShares;
    begin = 8 * lane;
#pragma unroll
    for (int x = 0; x < kColumns; ++x) {
      worst[x] = __int_as_float(kLargestBits);
      end[x] = begin;
    }
    for (int row = 0; row < rows; ++row)
      for (int item = lane; item < wide * k; item += 32) row_of(row)[item] = tile_key(kFreeBits, 0);
    __syncwarp();
  }

  template <bool>
  __device__ __forceinline__ bool wants(int x, float found, int) const {
    return found <= worst[x];
  }
  __device__ __forceinline__ void offer(int x, float found, int code) {
    *reinterpret_cast<int2*>(aside + x * kColumn + end[x]) = make_int2(code, __float_as_int(found));
    end[x] += kEntry;
  }

  // To be called after kSteps offers at most.
  template <int kSteps>
  __device__ __forceinline__ void make_room() {
    settle_from(kTileAside - kSteps + 1);
  }

  // Sorts in all; whether the lists of the lane's first `columns` queries are full.
  __device__ bool close(int columns) {
    settle_from(1);
    const double* list = row_of(threadIdx.x);
    bool full = true;
#pragma unroll
    for (int x = 0; x < kColumns; ++x) {
      if (x < columns && worst[x] == __int_as_float(kLargestBits))
        full = full && __double2hiint(list[at(k - 1, x)]) <= kLargestBits;
    }
    return full;
  }

  // The lists of a row of queries.
  __device__ __forceinline__ double* row_of(unsigned row) const {
    return reinterpret_cast<double*>(lists + offset_of(row));
  }
  // Where in it a place of a query's list is: side by side lie those of all queries; or pairs of
  // places, since lanes that read 16 bytes each read lines as a whole.
  __device__ __forceinline__ int at(int place, int x) const {
    return paired ? place / 2 * (2 * kColumns) + 2 * x + place % 2 : place * wide + x;
  }

 private:
  float worst[kColumns];  // the K-th best distance
  int end[kColumns];      // bytes to the first free place
  char *lists, *aside;
  int* shares;          // of each lane: what it is to sort in; then the rows that are taken
  unsigned line;        // bytes between rows
  unsigned row_offset;  // bytes to the lists of the lane's own row
  unsigned unaligned;   // bits of an address that are zero where a row's lists begin
  int begin, k, wide;
  bool paired;  // lists in pairs of places

  __device__ __forceinline__ unsigned offset_of(unsigned row) const {
    const unsigned offset = line * row;
    const unsigned address = static_cast<unsigned>(reinterpret_cast<uintptr_t>(lists)) + offset;
    return offset + (-address & unaligned);
  }

  // The lane, such that nothing which follows from it is kept in registers between calls.
  __device__ static __forceinline__ int lane_again() {
    int lane;
    asm volatile("mov.u32 %0, %%laneid;" : "=r"(lane));
    return lane;
  }

  // Sorts in until no query has `count` matches aside.
  __device__ __forceinline__ void settle_from(int count) {
    const int full = begin + count * kEntry;
#pragma unroll 1
    for (;;) {
      int most = end[0];
#pragma unroll
      for (int x = 1; x < kColumns; ++x) most = max(most, end[x]);
      if (!__any_sync(0xffffffffu, most >= full)) return;
      if (settle(most >= full)) return;
    }
  }

  // Sorts in what four rows have put aside; whether these are all that had no room.
  __device__ __forceinline__ bool settle(bool urgent) {
    const int lane = lane_again(), begin = 8 * lane;
    const unsigned before = ~(~0u << lane);
    int sum = end[0];
#pragma unroll
    for (int x = 1; x < kColumns; ++x) sum += end[x];
    const bool worth = !urgent && sum >= kColumns * begin + kTileWorth * kEntry;
    const unsigned urgent_rows = __ballot_sync(0xffffffffu, urgent);
    const unsigned worth_rows = __ballot_sync(0xffffffffu, worth);
    const int first = __popc(urgent_rows), count = first + __popc(worth_rows);
    // Of this lane's row among those that are taken.
    const unsigned place =
        urgent ? __popc(urgent_rows & before) : first + __popc(worth_rows & before);
    const bool taken = (urgent || worth) && place < kPlaces;
    int* const share = shares + place * kColumns;
    int2* const rows = reinterpret_cast<int2*>(shares + 32);
    if (taken) {
#pragma unroll
      for (int x = 0; x < kColumns; ++x) share[x] = end[x];
      rows[place] = make_int2(static_cast<int>(row_offset), begin);
    }
    __syncwarp();
    const unsigned turn = static_cast<unsigned>(lane);
    if (static_cast<int>(turn / kColumns) < count) {
      const int2 row = rows[turn / kColumns];
      const int x = turn % kColumns, from = x * kColumn + row.y, bytes = shares[lane] - row.y;
      double* list = reinterpret_cast<double*>(lists + static_cast<unsigned>(row.x));
      if (paired)
        shares[lane] = sort_in(list + 2 * x, aside, from, bytes);
      else if (x < wide)
        shares[lane] = sort_in_any(list + x, wide, k, aside, from, bytes);
    }
    __syncwarp();
    if (taken) {
#pragma unroll
      for (int x = 0; x < kColumns; ++x) {
        worst[x] = __int_as_float(share[x]);
        end[x] = begin;
      }
    }
    __syncwarp();
    return first <= kPlaces;
  }

  // What one query has put aside, `bytes` apart from its place in the first entry, `from`.
  __device__ static __forceinline__ Batch<kTileAside, double> batch_of(const char* aside, int from,
                                                                       int bytes) {
    Batch<kTileAside, double> batch;
#pragma unroll
    for (int i = 0; i < kTileAside; ++i) {
      const int2 one = *reinterpret_cast<const int2*>(aside + from + i * kEntry);
      batch.keys[i] = tile_key(i * kEntry < bytes ? one.y : kFreeBits, one.x);
    }
    return batch;
  }

  // Sorts it in; the bits of the K-th best distance.
  __device__ static __forceinline__ int sort_in(double* list, const char* aside, int from,
                                                int bytes) {
    SortedKeys<double> best;
    best.load_pairs(list, 2 * kColumns);
    Batch<kTileAside, double> batch = batch_of(aside, from, bytes);
    return min(best.merge_to_pairs(batch, list, 2 * kColumns), kLargestBits);
  }

  // Out of the way: shorter lists, and those at the frame's right border.
  __device__ static __noinline__ int sort_in_any(double* list, int stride, int size,
                                                 const char* aside, int from, int bytes) {
    SortedKeys<double> best;
    best.load(list, stride, size);
    Batch<kTileAside, double> batch = batch_of(aside, from, bytes);
    best.merge(batch);
    best.store(list, stride, size);
    return min(__double2hiint(best.last()), kLargestBits);
  }
};

}  // namespace stnls
