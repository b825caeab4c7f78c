// Straight from the planes, for double precision, reproducible sums and what the form for packed
// videos cannot hold. Scatter: one thread adds a few channels of one entry's patch. Dot: one thread
// an entry.
#include "../common/accumulate_cuda.h"
#include "../common/cuda_launch.h"
#include "gradient.h"
#include "packed_gradient_cuda.h"

namespace stnls {
namespace {

constexpr int kThreads = 128;
constexpr int64_t kChannels = 4;

STNLS_HD int64_t channel_groups(const PatchProblem& p) {
  return (p.channels + kChannels - 1) / kChannels;
}

template <class Real, bool kFloatGrid>
__global__ void __launch_bounds__(kThreads) scatter_kernel(const __grid_constant__ PatchProblem p) {
  using Gradient = PatchGradient<Real, kFloatGrid>;
  using Pos = typename Gradient::Pos;
  int64_t item = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (item >= query_count(p) * p.k * channel_groups(p)) return;
  const int64_t entry = item % (query_count(p) * p.k);
  const int64_t first = item / (query_count(p) * p.k) * kChannels;
  const int64_t last = first + kChannels < p.channels ? first + kChannels : p.channels;
  const Gradient gradient(p);
  const Query q = query_at(p, entry / p.k);
  const auto n = neighbour<Real, kFloatGrid>(p, entry, q.t, q.i, q.j);
  if (!n.used) return;
  const Real weight = static_cast<const Real*>(p.weights)[entry];
  const Real* own = gradient.own_plane(q, entry % p.k);
  const int64_t video = gradient.video_plane(q, n.frame);
  const Accumulator<Real> to{static_cast<Real*>(p.video), p.fixed_video,
                             p.fixed_scale != nullptr ? *p.fixed_scale : 0.0};
  gradient.for_taps(
      q, n, [](Pos) { return true; },
      [&](int64_t y, int64_t x, int64_t, int64_t, Pos h, Pos w) {
        const Spread<Real> s(p, h, w);
        for (int64_t c = first; c < last; ++c) {
          const Real value = weight * own[c * p.own_stride[3] + y * p.own_stride[4] + x];
          const int64_t plane = video + c * p.video_stride[3];
          for (int i = 0; i < (kFloatGrid ? 2 : 1); ++i) {
            for (int j = 0; j < (kFloatGrid ? 2 : 1); ++j) {
              const Real part = s.row_weight[i] * s.column_weight[j];
              if (part != Real(0))
                to.add(plane + s.row[i] * p.video_stride[4] + s.column[j], part * value);
            }
          }
        }
      });
}

template <class Real, bool kFloatGrid>
__global__ void __launch_bounds__(kThreads) dot_kernel(const __grid_constant__ PatchProblem p) {
  const int64_t entry = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (entry >= query_count(p) * p.k) return;
  PatchGradient<Real, kFloatGrid>(p).run_dot(entry / p.k, entry % p.k);
}

template <class Real, bool kFloatGrid>
void launch_scatter(const PatchProblem& p, cudaStream_t stream) {
  const int64_t items = query_count(p) * p.k * channel_groups(p);
  if (items == 0) return;
  scatter_kernel<Real, kFloatGrid><<<blocks_for(items, kThreads), kThreads, 0, stream>>>(p);
}

template <class Real, bool kFloatGrid>
void launch_dot(const PatchProblem& p, cudaStream_t stream) {
  const int64_t items = query_count(p) * p.k;
  if (items == 0) return;
  dot_kernel<Real, kFloatGrid><<<blocks_for(items, kThreads), kThreads, 0, stream>>>(p);
}

}  // namespace

cudaError_t launch_scatter(const PackedPatchProblem& p, const Packing& packing, float4* sums,
                           cudaStream_t stream) {
  return p.float_grid ? launch_gradient<true>(p, packing, nullptr, sums, false, stream)
                      : launch_gradient<false>(p, packing, nullptr, sums, false, stream);
}

}  // namespace stnls

STNLS_API int stnls_cuda_patch_scatter(const stnls::PatchProblem* p, int device, void* stream,
                                       char* message, int64_t message_size) {
  using namespace stnls;
  return launch_on(device, message, message_size, [&] {
    const cudaStream_t s = static_cast<cudaStream_t>(stream);
    if (p->dtype == kFloat64)
      p->float_grid ? launch_scatter<double, true>(*p, s) : launch_scatter<double, false>(*p, s);
    else
      p->float_grid ? launch_scatter<float, true>(*p, s) : launch_scatter<float, false>(*p, s);
  });
}

STNLS_API int stnls_cuda_patch_dot(const stnls::PatchProblem* p, int device, void* stream,
                                   char* message, int64_t message_size) {
  using namespace stnls;
  return launch_on(device, message, message_size, [&] {
    const cudaStream_t s = static_cast<cudaStream_t>(stream);
    if (p->dtype == kFloat64)
      p->float_grid ? launch_dot<double, true>(*p, s) : launch_dot<double, false>(*p, s);
    else
      p->float_grid ? launch_dot<float, true>(*p, s) : launch_dot<float, false>(*p, s);
  });
}

// Both in single precision: scatter to grad_video and dot from video, as far as they are wanted,
// with scratch memory for a copy for each.
STNLS_API int stnls_cuda_patch_packed_gradient(const stnls::PackedPatchProblem* p, int device,
                                               void* stream, char* message, int64_t message_size) {
  using namespace stnls;
  return launch_on(device, message, message_size, [&] {
    const bool dots = p->grad_weights != nullptr || p->grad_inds != nullptr;
    return launch_packed(*p, dots ? planes_of(p->video, p->video_stride) : Planes{},
                         planes_of(p->grad_video, p->grad_video_stride),
                         static_cast<cudaStream_t>(stream));
  });
}
