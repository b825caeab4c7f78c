#include <algorithm>
#include <new>

#include "../common/parallel.h"
#include "../common/status.h"
#include "direct.h"
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

}  // namespace
}  // namespace stnls

// Searches; direct != 0 asks for the form without tiles, whatever the problem.
STNLS_API int stnls_cpu_search(const stnls::SearchProblem* p, int64_t threads, int direct) {
  return stnls::guarded([&] {
    if (!direct && stnls::tiles_apply(*p))
      stnls::search_tiles(*p, threads);
    else if (p->dtype == stnls::kFloat64)
      stnls::search_directly<double>(*p, threads);
    else
      stnls::search_directly<float>(*p, threads);
  });
}
