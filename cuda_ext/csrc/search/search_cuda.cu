#include "../common/cuda_launch.h"
#include "direct.h"
#include "tiles_launch.h"
#include "windows_launch.h"

namespace stnls {
namespace {

constexpr int kThreads = 128;

template <class Real, bool kFloatGrid, bool kProduct>
__global__ void __launch_bounds__(kThreads) search_kernel(const __grid_constant__ SearchProblem p) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (index >= query_count(p)) return;
  const DirectSearch<Real, kFloatGrid, kProduct> search(p);
  search.run(index);
}

template <class Real>
void launch(const SearchProblem& p, cudaStream_t stream) {
  const unsigned blocks = blocks_for(query_count(p), kThreads);
  if (p.float_grid) {
    p.product ? search_kernel<Real, true, true><<<blocks, kThreads, 0, stream>>>(p)
              : search_kernel<Real, true, false><<<blocks, kThreads, 0, stream>>>(p);
  } else {
    p.product ? search_kernel<Real, false, true><<<blocks, kThreads, 0, stream>>>(p)
              : search_kernel<Real, false, false><<<blocks, kThreads, 0, stream>>>(p);
  }
}

}  // namespace
}  // namespace stnls

// 32-bit words of scratch memory that a search wants; 0: none, scratch stays null.
STNLS_API int64_t stnls_cuda_search_scratch(const stnls::SearchProblem* p) {
  const int64_t words = stnls::tiles_scratch(*p);
  return words > 0 ? words : stnls::windows_scratch(*p);
}

STNLS_API int stnls_cuda_search(const stnls::SearchProblem* p, int device, void* stream,
                                char* message, int64_t message_size) {
  return stnls::launch_on(device, message, message_size, [&] {
    const cudaStream_t s = static_cast<cudaStream_t>(stream);
    if (p->scratch != nullptr && stnls::tiles_scratch(*p) > 0)
      return stnls::search_tiles_cuda(*p, s);
    if (p->scratch != nullptr) return stnls::search_windows_cuda(*p, s);
    p->dtype == stnls::kFloat64 ? stnls::launch<double>(*p, s) : stnls::launch<float>(*p, s);
    return cudaSuccess;
  });
}
