// One thread a path.
#include "../common/accumulate_cuda.h"
#include "../common/cuda_launch.h"
#include "gradient.h"

namespace stnls {
namespace {

constexpr int kThreads = 128;

template <class Real>
__device__ void add_path(const Path<Real>& path, int64_t fields, const Accumulator<Real>& to) {
  const int64_t plane = path.height * path.width;
  path.differentiate(-1, [&](int64_t frame, int64_t at, Real dx, Real dy) {
    const int64_t pixel = (fields + frame) * 2 * plane + at;
    to.add(pixel, dx);
    to.add(pixel + plane, dy);
  });
}

template <class Real>
__global__ void __launch_bounds__(kThreads)
    slots_kernel(const __grid_constant__ FlowGradProblem g) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const FlowProblem& f = g.flow;
  if (index >= query_count(f)) return;
  const int64_t fields = index / (f.grid_height * f.grid_width * f.frames) * f.frames;
  const double scale = g.fixed_scale != nullptr ? *g.fixed_scale : 0.0;
  if (g.grad_forward != nullptr)
    add_path(path_of<Real>(g, index, true), fields,
             Accumulator<Real>{static_cast<Real*>(g.grad_forward), g.fixed_forward, scale});
  if (g.grad_backward != nullptr)
    add_path(path_of<Real>(g, index, false), fields,
             Accumulator<Real>{static_cast<Real*>(g.grad_backward), g.fixed_backward, scale});
}

template <class Real>
__global__ void __launch_bounds__(kThreads)
    chain_kernel(const __grid_constant__ ChainGradProblem g) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const ChainProblem& f = g.chain;
  if (index >= query_count(f)) return;
  const int64_t fields = index / (f.grid_height * f.grid_width) * f.frames;
  add_path(path_of<Real>(g, index), fields,
           Accumulator<Real>{static_cast<Real*>(g.grad_steps), g.fixed_steps,
                             g.fixed_scale != nullptr ? *g.fixed_scale : 0.0});
}

}  // namespace
}  // namespace stnls

STNLS_API int stnls_cuda_compose_slots_gradient(const stnls::FlowGradProblem* g, int device,
                                                void* stream, char* message, int64_t message_size) {
  using namespace stnls;
  return launch_on(device, message, message_size, [&] {
    const unsigned blocks = blocks_for(query_count(g->flow), kThreads);
    const cudaStream_t s = static_cast<cudaStream_t>(stream);
    g->flow.dtype == kFloat64 ? slots_kernel<double><<<blocks, kThreads, 0, s>>>(*g)
                              : slots_kernel<float><<<blocks, kThreads, 0, s>>>(*g);
  });
}

STNLS_API int stnls_cuda_compose_chain_gradient(const stnls::ChainGradProblem* g, int device,
                                                void* stream, char* message, int64_t message_size) {
  using namespace stnls;
  return launch_on(device, message, message_size, [&] {
    const unsigned blocks = blocks_for(query_count(g->chain), kThreads);
    const cudaStream_t s = static_cast<cudaStream_t>(stream);
    g->chain.dtype == kFloat64 ? chain_kernel<double><<<blocks, kThreads, 0, s>>>(*g)
                               : chain_kernel<float><<<blocks, kThreads, 0, s>>>(*g);
  });
}
