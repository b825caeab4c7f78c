// The gradient of every flow field belongs to one thread, which takes the paths that lead through
// it in raster order: the sums do not depend on the number of threads.
#include <algorithm>

#include "../common/parallel.h"
#include "../common/status.h"
#include "gradient.h"

namespace stnls {
namespace {

// Adds to one flow field, `grad` (2, height, width).
template <class Real>
void add_path(const Path<Real>& path, int64_t frame, Real* grad) {
  const int64_t plane = path.height * path.width;
  path.differentiate(frame, [&](int64_t, int64_t at, Real dx, Real dy) {
    grad[at] += dx;
    grad[at + plane] += dy;
  });
}

template <class Real>
void slots_gradient(const FlowGradProblem& g, int64_t threads) {
  const FlowProblem& f = g.flow;
  const int64_t grid = f.grid_height * f.grid_width, plane = f.height * f.width;
  parallel_for(f.batch * f.frames * 2, threads, [&](int64_t item, int64_t) {
    const bool forward = item % 2 == 0;
    const int64_t field = item / 2, frame = field % f.frames, first = field - frame;
    void* grads = forward ? g.grad_forward : g.grad_backward;
    if (grads == nullptr) return;
    Real* grad = static_cast<Real*>(grads) + field * 2 * plane;
    const int64_t reach = 2 * f.wt;  // queries further away do not pass here
    const int64_t low = forward ? std::max<int64_t>(0, frame - reach) : frame;
    const int64_t high = forward ? frame : std::min(f.frames - 1, frame + reach);
    for (int64_t t = low; t <= high; ++t) {
      for (int64_t place = 0; place < grid; ++place) {
        const Path<Real> path = path_of<Real>(g, (first + t) * grid + place, forward);
        if (std::abs(frame - t) >= path.steps) break;
        add_path(path, frame, grad);
      }
    }
  });
}

template <class Real>
void chain_gradient(const ChainGradProblem& g, int64_t threads) {
  const ChainProblem& f = g.chain;
  const int64_t grid = f.grid_height * f.grid_width, plane = f.height * f.width;
  parallel_for(f.batch * f.frames, threads, [&](int64_t field, int64_t) {
    const int64_t b = field / f.frames;
    for (int64_t place = 0; place < grid; ++place)
      add_path(path_of<Real>(g, b * grid + place), field % f.frames,
               static_cast<Real*>(g.grad_steps) + field * 2 * plane);
  });
}

}  // namespace
}  // namespace stnls

STNLS_API int stnls_cpu_compose_slots_gradient(const stnls::FlowGradProblem* g, int64_t threads) {
  return stnls::guarded([&] {
    g->flow.dtype == stnls::kFloat64 ? stnls::slots_gradient<double>(*g, threads)
                                     : stnls::slots_gradient<float>(*g, threads);
  });
}

STNLS_API int stnls_cpu_compose_chain_gradient(const stnls::ChainGradProblem* g, int64_t threads) {
  return stnls::guarded([&] {
    g->chain.dtype == stnls::kFloat64 ? stnls::chain_gradient<double>(*g, threads)
                                      : stnls::chain_gradient<float>(*g, threads);
  });
}
