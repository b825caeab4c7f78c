#include "../common/cuda_launch.h"
#include "compose.h"

namespace stnls {
namespace {

constexpr int kThreads = 128;

template <class Real>
__global__ void compose_slots_kernel(const __grid_constant__ FlowProblem f) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (index < query_count(f)) compose_slots<Real>(f, index);
}

template <class Real>
__global__ void compose_chain_kernel(const __grid_constant__ ChainProblem f) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (index < query_count(f)) compose_chain<Real>(f, index);
}

}  // namespace
}  // namespace stnls

STNLS_API int stnls_cuda_compose_slots(const stnls::FlowProblem* f, int device, void* stream,
                                       char* message, int64_t message_size) {
  using namespace stnls;
  return launch_on(device, message, message_size, [&] {
    const unsigned blocks = blocks_for(query_count(*f), kThreads);
    const cudaStream_t s = static_cast<cudaStream_t>(stream);
    f->dtype == kFloat64 ? compose_slots_kernel<double><<<blocks, kThreads, 0, s>>>(*f)
                         : compose_slots_kernel<float><<<blocks, kThreads, 0, s>>>(*f);
  });
}

STNLS_API int stnls_cuda_compose_chain(const stnls::ChainProblem* f, int device, void* stream,
                                       char* message, int64_t message_size) {
  using namespace stnls;
  return launch_on(device, message, message_size, [&] {
    const unsigned blocks = blocks_for(query_count(*f), kThreads);
    const cudaStream_t s = static_cast<cudaStream_t>(stream);
    f->dtype == kFloat64 ? compose_chain_kernel<double><<<blocks, kThreads, 0, s>>>(*f)
                         : compose_chain_kernel<float><<<blocks, kThreads, 0, s>>>(*f);
  });
}
