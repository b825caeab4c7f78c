// One thread an entry adds to the gradients of the videos (for double precision, reproducible sums
// and what packed_gradient_cuda.cu does not serve), one thread a query sums those of its places.
#include "../common/accumulate_cuda.h"
#include "../common/cuda_launch.h"
#include "gradient.h"
#include "packed_gradient.h"

namespace stnls {
namespace {

constexpr int kThreads = 128;

template <class Real, bool kFloatGrid, bool kProduct>
__global__ void __launch_bounds__(kThreads)
    videos_kernel(const __grid_constant__ SearchGradProblem g) {
  using Gradient = SearchGradient<Real, kFloatGrid, kProduct>;
  const SearchProblem& p = g.search;
  const Gradient gradient(g);
  const int64_t item = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const int64_t index = item / gradient.used;
  if (index >= query_count(p)) return;
  const Query q = query_at(p, index);
  typename Gradient::Entry e;
  if (!gradient.entry(q, index * gradient.entries + item % gradient.used, &e)) return;
  if (e.weight == Real(0)) return;

  const double scale = g.fixed_scale != nullptr ? *g.fixed_scale : 0.0;
  const Accumulator<Real> to_query{static_cast<Real*>(g.grad_query), g.fixed_query, scale};
  const Accumulator<Real> to_key{static_cast<Real*>(g.grad_key), g.fixed_key, scale};
  const Real* query = gradient.query_plane(q);
  const Real* key = gradient.key_plane(q, e.frame);
  const int64_t query_first =
      q.b * g.grad_query_stride[0] + q.head * g.grad_query_stride[1] + q.t * g.grad_query_stride[2];
  const int64_t key_first =
      q.b * g.grad_key_stride[0] + q.head * g.grad_key_stride[1] + e.frame * g.grad_key_stride[2];
  gradient.for_taps(
      q, e, [](int64_t, const typename Gradient::Taps&) { return true; },
      [&](int64_t row, int64_t column, const typename Gradient::Taps& t) {
        for (int64_t c = 0; c < p.channels; ++c) {
          const Real v0 = query[c * p.query_stride[3] + row * p.query_stride[4] + column];
          const Real v1 = gradient.read(key + c * p.key_stride[3], t);
          if (g.grad_query != nullptr)
            to_query.add(
                query_first + c * g.grad_query_stride[3] + row * g.grad_query_stride[4] + column,
                Gradient::query_slope(e.weight, v0, v1));
          if (g.grad_key == nullptr) continue;
          const Real slope = Gradient::key_slope(e.weight, v0, v1);
          const int64_t plane = key_first + c * g.grad_key_stride[3];
          for (int i = 0; i < (kFloatGrid ? 2 : 1); ++i) {
            for (int j = 0; j < (kFloatGrid ? 2 : 1); ++j) {
              const Real weight = t.row_weight[i] * t.column_weight[j];
              if (weight != Real(0))
                to_key.add(plane + t.row[i] * g.grad_key_stride[4] + t.column[j], weight * slope);
            }
          }
        }
      });
}

template <class Real, bool kProduct>
__global__ void __launch_bounds__(kThreads)
    places_kernel(const __grid_constant__ SearchGradProblem g) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (index >= query_count(g.search)) return;
  SearchGradient<Real, true, kProduct>(g).run_places(index);
}

template <class Real, bool kFloatGrid, bool kProduct>
void launch(const SearchGradProblem& g, cudaStream_t stream) {
  const int64_t queries = query_count(g.search);
  if (g.scratch == nullptr && (g.grad_query != nullptr || g.grad_key != nullptr) &&
      g.grad_dists != nullptr) {
    const int64_t used = SearchGradient<Real, kFloatGrid, kProduct>(g).used;
    videos_kernel<Real, kFloatGrid, kProduct>
        <<<blocks_for(queries * used, kThreads), kThreads, 0, stream>>>(g);
  }
  if constexpr (kFloatGrid) {
    if (g.grad_flow != nullptr || g.grad_prior != nullptr)
      places_kernel<Real, kProduct><<<blocks_for(queries, kThreads), kThreads, 0, stream>>>(g);
  }
}

template <class Real>
void launch(const SearchGradProblem& g, cudaStream_t stream) {
  if (g.search.float_grid)
    g.search.product ? launch<Real, true, true>(g, stream) : launch<Real, true, false>(g, stream);
  else
    g.search.product ? launch<Real, false, true>(g, stream) : launch<Real, false, false>(g, stream);
}

}  // namespace
}  // namespace stnls

STNLS_API int stnls_cuda_search_gradient(const stnls::SearchGradProblem* g, int device,
                                         void* stream, char* message, int64_t message_size) {
  return stnls::launch_on(device, message, message_size, [&] {
    const cudaStream_t s = static_cast<cudaStream_t>(stream);
    g->search.dtype == stnls::kFloat64 ? stnls::launch<double>(*g, s) : stnls::launch<float>(*g, s);
    return g->scratch != nullptr ? stnls::launch_packed_gradient(*g, s) : cudaSuccess;
  });
}

// Floats of scratch memory for a faster form of the gradients of the videos; 0 where it does not
// serve.
STNLS_API int64_t stnls_cuda_search_gradient_scratch(const stnls::SearchGradProblem* g) {
  return stnls::packed_gradient_scratch(*g);
}
