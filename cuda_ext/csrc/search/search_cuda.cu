#include "../common/cuda_launch.h"
#include "direct.h"

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

STNLS_API int stnls_cuda_search(const stnls::SearchProblem* p, int device, void* stream,
                                char* message, int64_t message_size) {
  return stnls::launch_on(device, message, message_size, [&] {
    const cudaStream_t s = static_cast<cudaStream_t>(stream);
    p->dtype == stnls::kFloat64 ? stnls::launch<double>(*p, s) : stnls::launch<float>(*p, s);
  });
}
