// The matches of a tile's queries: lists in shared memory, and how they are written in the end.
#pragma once

#include "direct.h"
#include "found_candidate_cuda.h"
#include "query_tile_cuda.h"
#include "window_every_cuda.h"
#include "window_matches_cuda.h"
#include "window_memory_cuda.h"
#include "window_queries_cuda.h"

namespace stnls {

// A warp has kRows rows of pixels, a lane a column. kList: as in Matches, or kListEvery.
template <class Search, int kRows, int kList, bool kCharge>
class WindowLists {
 public:
  using Index = typename Search::Index;
  static constexpr bool kAll = kList == kListEvery;  // no lists to write
  using List = typename std::conditional<kAll, WindowEvery<Search>, Matches<kList>>::type;

  __device__ WindowLists(const SearchProblem& problem, const QueryTile& tile,
                         const WindowQueries& queries, int lane, const WindowMemory& memory,
                         uint16_t* found)
      : p(problem),
        search(problem),
        tile(tile),
        queries(queries),
        lane(lane),
        found(found),
        lists(memory.lists),
        queue(memory.queue),
        stage(kAll && window_gathers(p) ? reinterpret_cast<float*>(queue - lane) : nullptr),
        pinned(memory.pinned) {}

  __device__ void clear() {
    if constexpr (kAll) {
      if (stage != nullptr) List::clear(stage, static_cast<int>(p.ws * p.ws));
    } else {
      for (int row = 0; row < kRows; ++row)
        for (int e = 0; e < p.k; ++e) entry(e, row, lane) = kNoMatch;
    }
  }

  // The entry that comes first whatever its distance; left open until its candidate comes along.
  template <class Window>
  __device__ void pin(const Query& q, int row, int slot, const Window& window) const {
    int64_t id = -1;
    if (p.self_action == kAnchor || p.self_action == kRemove) id = search.self_candidate(q);
    if (p.self_action == kAnchorEach) id = search.candidate(slot, window.offset_h, window.offset_w);
    if (id < 0) return;
    if (pins()) entry(0, row, lane) = ordered_key(infinity<float>(), static_cast<int>(id));
    pinned[row * 32] = static_cast<int>(id);
  }

  // The list of the lane's query in a row of windows.
  template <class Row>
  __device__ List list_of(const Row& r) const {
    if constexpr (kAll) {
      const int area = static_cast<int>(p.ws * p.ws);
      const int64_t query = first_of(queries.i(r.row)) + queries.j;
      const int64_t at = query * entry_count(p) + r.id - p.first_slot * area;
      return List(static_cast<float*>(p.dists) + at, stage, r.id, area, r.active);
    } else {
      const int self = p.self_action != kNone && r.active ? pinned[r.row * 32] : -1;
      return List(&entry(0, r.row, lane), kRows * 33, queue, static_cast<int>(p.k), self, pins());
    }
  }

  // Writes the lists, row by row of the tile, so that what is written lies side by side.
  // False where too few of a query's candidates are valid to fill its list.
  __device__ bool write(int slot) {
    const unsigned k = static_cast<unsigned>(p.k);
    const int first = pins() ? 1 : 0;
    bool full = true;
    for (int row = 0; row < kRows; ++row) {
      for (int e = first + 1; kList == 0 && e < static_cast<int>(k);
           ++e) {  // the others are sorted
        const uint64_t key = entry(e, row, lane);
        int to = e;
        for (; to > first && entry(to - 1, row, lane) > key; --to)
          entry(to, row, lane) = entry(to - 1, row, lane);
        entry(to, row, lane) = key;
      }
      full = full && (!queries.has(row) || entry(k - 1, row, lane) != kNoMatch);
    }
    if (!__all_sync(0xffffffffu, full)) return false;
    __syncwarp();
    const int columns = queries.count(), stride = static_cast<int>(p.stride0);
    const int64_t entries = entry_count(p);
    const int64_t start = p.keep == kBestOfEach ? (slot - p.first_slot) * p.k : 0;
    for (int row = 0; row < kRows; ++row) {
      if (!queries.in_row(row)) continue;
      const int i = queries.i(row);
      const int64_t line = first_of(i) + tile.j;
      for (int item = lane; item < columns * static_cast<int>(k); item += 32) {
        const int column = static_cast<int>(static_cast<unsigned>(item) / k);
        const int e = item - column * static_cast<int>(k);
        const uint64_t key = entry(e, row, column * stride);
        const int64_t at = (line + column) * entries + start + e;
        const int place = i * static_cast<int>(p.grid_width) + tile.j + column;
        write_match(tile.top + row, tile.left + column * stride, place, key, e, at);
      }
    }
    __syncwarp();
    return true;
  }

 private:
  // Only where there are sums over the key.
  static constexpr bool kLate = std::is_same<Search, DirectSearch<float, true, false>>::value;

  const SearchProblem& p;
  const Search search;
  const QueryTile tile;
  const WindowQueries queries;
  const int lane;
  uint16_t* const found;  // of all matches: their candidates, where offsets are written later
  uint64_t* const lists;
  float2* const queue;
  float* const stage;  // kListEvery: where the candidates of a window are gathered, if they are
  int* const pinned;

  // Number of the first query of row i of the tile's frame.
  __device__ int64_t first_of(int i) const {
    const int64_t frame = (static_cast<int64_t>(tile.b) * p.heads + tile.head) * p.frames + tile.t;
    return (frame * p.grid_height + i) * p.grid_width;
  }
  __device__ uint64_t& entry(int e, int row, int column) const {
    return lists[(e * kRows + row) * 33 + column];
  }
  // Whether the first entry of a list is not chosen by its distance.
  __device__ bool pins() const { return p.self_action == kAnchor || p.self_action == kAnchorEach; }

  // Distance and offsets of a match, number e of the query at (y, x), which is number `place` of
  // the grid; `at`: number of the match.
  __device__ void write_match(int y, int x, int place, uint64_t key, int e, int64_t at) const {
    const int id = static_cast<int>(static_cast<unsigned>(key));
    float& distance = static_cast<float*>(p.dists)[at];
    const bool late = kLate && found != nullptr;
    if (late) found[at] = static_cast<uint16_t>(id);
    if (late && !kCharge) {
      distance = Search::cost_to_distance(distance_of_key(key), 0.0f);
      return;
    }
    const FoundCandidate<Search> one(search, tile.b, tile.head, tile.t, y, x, place, id);
    const float charge = kCharge ? one.charge() : 0.0f;
    distance = Search::cost_to_distance(distance_of_key(key), charge);
    if (!late)
      one.write_offsets(FoundCandidate<Search>::is_exactly_self(search, e, id),
                        static_cast<Index*>(p.inds) + at * p.components);
  }
};

}  // namespace stnls
