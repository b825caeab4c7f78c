// The entry to the search on the GPU, and its direct form: one thread a query, or a warp for each.
#include "../common/cuda_launch.h"
#include "direct.h"
#include "direct_launch.h"
#include "direct_warp_cuda.h"
#include "pixels_launch.h"
#include "tiles_launch.h"
#include "windows_launch.h"

namespace stnls {
namespace {

constexpr int kThreads = 128, kWarps = kThreads / 32;
constexpr unsigned kLeftBlocks = 132 * 16;  // walk a list of which only the GPU knows the length

// Number of the query at a place of a tile that was left; -1 where there is none.
__device__ int64_t query_of(const SearchProblem& p, const LeftTiles& left, int64_t item) {
  const int64_t size = left.rows * left.columns, place = item % size;
  int64_t tile = left.list[1 + item / size];
  const int64_t wide = ((p.grid_width - 1) * left.stride + left.columns) / left.columns;
  const int64_t lines = ((p.grid_height - 1) * left.stride + left.rows) / left.rows;
  const int64_t x = tile % wide * left.columns + place % left.columns;
  tile /= wide;
  const int64_t y = tile % lines * left.rows + place / left.columns;
  const int64_t i = y / left.stride, j = x / left.stride;
  if (i * left.stride != y || j * left.stride != x) return -1;
  if (i >= p.grid_height || j >= p.grid_width) return -1;
  return (tile / lines * p.grid_height + i) * p.grid_width + j;
}

template <class Real, bool kFloatGrid, bool kProduct>
__global__ void __launch_bounds__(kThreads) search_kernel(const __grid_constant__ SearchProblem p) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (index < query_count(p)) DirectSearch<Real, kFloatGrid, kProduct>(p).run(index);
}

template <class Real, bool kFloatGrid, bool kProduct>
__global__ void __launch_bounds__(kThreads) warp_kernel(const __grid_constant__ SearchProblem p) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (index < query_count(p)) DirectSearch<Real, kFloatGrid, kProduct>(p).run(index, Warp());
}

template <bool kFloatGrid, bool kProduct>
__global__ void __launch_bounds__(kThreads)
    left_kernel(const __grid_constant__ SearchProblem p, const LeftTiles left) {
  const int64_t items = static_cast<int64_t>(*left.list) * left.rows * left.columns;
  const DirectSearch<float, kFloatGrid, kProduct> search(p);
  for (int64_t item = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32; item < items;
       item += static_cast<int64_t>(gridDim.x) * kWarps) {
    const int64_t index = query_of(p, left, item);
    if (index >= 0) search.run(index, Warp());
  }
}

// Whether a warp is to share the candidates of a query. Threads each with a query need many of
// these to keep a GPU busy, the more the longer a candidate takes (measured on an H200); but of a
// warp one thread sorts, which takes long lists too long. If all are returned, a warp writes side
// by side.
bool shares_candidates(const SearchProblem& p) {
  constexpr int64_t kFewest = 8, kLongList = 32, kQueriesOfTap = 1600;
  if (slot_count(p) * p.ws * p.ws < kFewest) return false;
  if (p.keep != kEvery && p.k > kLongList) return false;
  const int64_t taps = p.ps * p.ps * p.channels * (p.float_grid ? 4 : 1);
  return p.keep == kEvery || query_count(p) < kQueriesOfTap * taps;
}

template <class Real, bool kFloatGrid, bool kProduct>
void launch(const SearchProblem& p, cudaStream_t stream) {
  const int64_t queries = query_count(p);
  if (shares_candidates(p))
    warp_kernel<Real, kFloatGrid, kProduct>
        <<<blocks_for(queries, kWarps), kThreads, 0, stream>>>(p);
  else
    search_kernel<Real, kFloatGrid, kProduct>
        <<<blocks_for(queries, kThreads), kThreads, 0, stream>>>(p);
}

template <class Real>
void launch(const SearchProblem& p, cudaStream_t stream) {
  if (p.float_grid)
    p.product ? launch<Real, true, true>(p, stream) : launch<Real, true, false>(p, stream);
  else
    p.product ? launch<Real, false, true>(p, stream) : launch<Real, false, false>(p, stream);
}

}  // namespace

void search_direct_cuda(const SearchProblem& p, cudaStream_t stream) {
  p.dtype == kFloat64 ? launch<double>(p, stream) : launch<float>(p, stream);
}

void search_left_cuda(const SearchProblem& p, const LeftTiles& left, cudaStream_t stream) {
  const int64_t all = (query_count(p) + kWarps - 1) / kWarps;
  const unsigned blocks = all < kLeftBlocks ? static_cast<unsigned>(all) : kLeftBlocks;
  if (p.float_grid) {
    p.product ? left_kernel<true, true><<<blocks, kThreads, 0, stream>>>(p, left)
              : left_kernel<true, false><<<blocks, kThreads, 0, stream>>>(p, left);
  } else {
    p.product ? left_kernel<false, true><<<blocks, kThreads, 0, stream>>>(p, left)
              : left_kernel<false, false><<<blocks, kThreads, 0, stream>>>(p, left);
  }
}

}  // namespace stnls

// 32-bit words of scratch memory that a search wants; 0: none, scratch stays null.
STNLS_API int64_t stnls_cuda_search_scratch(const stnls::SearchProblem* p) {
  int64_t words = stnls::tiles_scratch(*p);
  if (words == 0) words = stnls::pixels_scratch(*p);
  return words > 0 ? words : stnls::windows_scratch(*p);
}

STNLS_API int stnls_cuda_search(const stnls::SearchProblem* p, int device, void* stream,
                                char* message, int64_t message_size) {
  return stnls::launch_on(device, message, message_size, [&] {
    const cudaStream_t s = static_cast<cudaStream_t>(stream);
    if (p->scratch == nullptr) {
      stnls::search_direct_cuda(*p, s);
      return cudaSuccess;
    }
    if (stnls::tiles_scratch(*p) > 0) return stnls::search_tiles_cuda(*p, s);
    if (stnls::pixels_scratch(*p) > 0) return stnls::search_pixels_cuda(*p, s);
    return stnls::search_windows_cuda(*p, s);
  });
}
