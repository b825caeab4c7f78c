#include <algorithm>
#include <new>

#include "../common/parallel.h"
#include "../common/status.h"
#include "direct.h"
#include "subpixel_cpu.h"
#include "tiles_cpu.h"

namespace stnls {
namespace {

template <class Real, bool kFloatGrid, bool kProduct>
void search_directly(const SearchProblem& p, int64_t threads) {
  const DirectSearch<Real, kFloatGrid, kProduct> search(p);
  const int64_t rows = p.batch * p.heads * p.frames * p.grid_height;
  parallel_for(rows, threads, [&](int64_t row, int64_t) {
    for (int64_t j = 0; j < p.grid_width; ++j) search.run(row * p.grid_width + j);
  });
}

template <class Real>
void search_directly(const SearchProblem& p, int64_t threads) {
  if (p.float_grid)
    p.product ? search_directly<Real, true, true>(p, threads)
              : search_directly<Real, true, false>(p, threads);
  else
    p.product ? search_directly<Real, false, true>(p, threads)
              : search_directly<Real, false, false>(p, threads);
}

void search(const SearchProblem& p, int64_t threads, bool direct) {
  if (!direct && tiles_apply(p))
    search_tiles(p, threads, nullptr);
  else if (p.dtype == kFloat64)
    search_directly<double>(p, threads);
  else
    search_directly<float>(p, threads);
}

// The matches of a search, to be moved from the positions that `moved` has.
SubpixelProblem subpixel_of(const SubpixelSearchProblem& p) {
  const SearchProblem& s = p.search;
  SubpixelProblem found{};
  found.query = s.query;
  found.key = s.key;
  found.offsets = found.moved = p.moved;
  found.query_stride = s.query_stride[0];
  found.batch = s.batch;
  found.channels = s.channels;
  found.height = s.height;
  found.width = s.width;
  found.ps = s.ps;
  found.dtype = s.dtype;
  found.stride1 = s.stride1;
  return found;
}

// The positions of the best matches.
template <class Index, class Real>
void copy_best(const SubpixelSearchProblem& p) {
  const SearchProblem& s = p.search;
  const Index* inds = static_cast<const Index*>(s.inds);
  Real* moved = static_cast<Real*>(p.moved);
  const int64_t queries = s.batch * s.height * s.width;
  for (int64_t n = 0; n < queries; ++n, inds += 2 * s.k, moved += 2) {
    moved[0] = static_cast<Real>(inds[0]);
    moved[1] = static_cast<Real>(inds[1]);
  }
}

void search_and_move(const SubpixelSearchProblem& p, int64_t threads, bool direct) {
  const SearchProblem& s = p.search;
  if (!direct && tiles_move(s)) {
    move_matches(subpixel_of(p), search_tiles(s, threads, static_cast<float*>(p.moved)), threads);
    return;
  }
  search(s, threads, direct);
  if (s.dtype == kFloat64)
    s.float_grid ? copy_best<double, double>(p) : copy_best<int32_t, double>(p);
  else
    s.float_grid ? copy_best<float, float>(p) : copy_best<int32_t, float>(p);
  move_matches(subpixel_of(p), threads);
}

}  // namespace
}  // namespace stnls

// Searches; direct != 0 asks for the form without tiles, whatever the problem.
STNLS_API int stnls_cpu_search(const stnls::SearchProblem* p, int64_t threads, int direct) {
  return stnls::guarded([&] { stnls::search(*p, threads, direct != 0); });
}

// The same, and places the best matches between positions.
STNLS_API int stnls_cpu_subpixel_search(const stnls::SubpixelSearchProblem* p, int64_t threads,
                                        int direct) {
  return stnls::guarded([&] { stnls::search_and_move(*p, threads, direct != 0); });
}
