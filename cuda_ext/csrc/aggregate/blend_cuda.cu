// A thread for each pixel gathers what the patches that cover it say of it.
#include "../common/cuda_launch.h"
#include "blend.h"
#include "blend_strip_cuda.h"

namespace stnls {
namespace {

constexpr int kColumns = 32, kRows = 8;
constexpr int kMostChannels = 4;  // whose totals are kept at a time

template <class Real>
__global__ void blend_kernel(const __grid_constant__ BlendProblem p) {
  const int64_t x = static_cast<int64_t>(blockIdx.x) * kColumns + threadIdx.x;
  const int64_t tiles = (p.height + kRows - 1) / kRows;
  if (x >= p.width) return;
  const Real* offsets = static_cast<const Real*>(p.offset);
  const Real* weights = static_cast<const Real*>(p.weight);
  const int64_t first = -(p.ps / 2), pixels = p.height * p.width;
  // Grids are 65,535 blocks high at most.
  for (int64_t tile = blockIdx.y; tile < p.batch * tiles; tile += gridDim.y) {
    const int64_t b = tile / tiles, y = tile % tiles * kRows + threadIdx.y;
    if (y >= p.height) continue;
    const Real* video = static_cast<const Real*>(p.video) + b * p.channels * pixels;
    Real* out = static_cast<Real*>(p.out) + b * p.channels * pixels + y * p.width + x;
    for (int64_t c0 = 0; c0 < p.channels; c0 += kMostChannels) {
      Real total[kMostChannels] = {}, sum = Real(0);
      for (int64_t i = p.ps - 1; i >= 0; --i) {  // queries in raster order
        const int64_t qy = y - first - i;
        if (!inside(qy, p.height)) continue;
        for (int64_t j = p.ps - 1; j >= 0; --j) {
          const int64_t qx = x - first - j;
          if (!inside(qx, p.width)) continue;
          const int64_t query = b * pixels + qy * p.width + qx;
          const Real weight = weights[query];
          const CubicPlace<Real> h = cubic_place(qy, offsets[2 * query], p.height);
          const CubicPlace<Real> w = cubic_place(qx, offsets[2 * query + 1], p.width);
          sum += weight;
          int64_t rows[4], columns[4];
          for (int n = 0; n < 4; ++n) {
            rows[n] = reflect(h.low + first + i + n - 1, p.height) * p.width;
            columns[n] = reflect(w.low + first + j + n - 1, p.width);
          }
          for (int c = 0; c < kMostChannels && c0 + c < p.channels; ++c) {
            const Real* plane = video + (c0 + c) * pixels;
            Real v = Real(0);
            for (int m = 0; m < 4; ++m) {
              Real line = Real(0);
              for (int n = 0; n < 4; ++n)
                line = fma(w.weights[n], plane[rows[m] + columns[n]], line);
              v = fma(h.weights[m], line, v);
            }
            total[c] = fma(weight, v, total[c]);
          }
        }
      }
      for (int c = 0; c < kMostChannels && c0 + c < p.channels; ++c)
        out[(c0 + c) * pixels] = total[c] / sum;
    }
  }
}

}  // namespace
}  // namespace stnls

STNLS_API int stnls_cuda_patch_blend(const stnls::BlendProblem* p, int device, void* stream,
                                     char* message, int64_t message_size) {
  using namespace stnls;
  return launch_on(device, message, message_size, [&] {
    const cudaStream_t s = static_cast<cudaStream_t>(stream);
    if (strips_apply(*p)) {
      p->ps == 3   ? launch_strips<3>(*p, s)
      : p->ps == 5 ? launch_strips<5>(*p, s)
                   : launch_strips<7>(*p, s);
      return;
    }
    const int64_t tiles = p->batch * ((p->height + kRows - 1) / kRows);
    const dim3 blocks(blocks_for(p->width, kColumns),
                      static_cast<unsigned>(tiles < 65535 ? tiles : 65535));
    const dim3 threads(kColumns, kRows);
    p->dtype == kFloat64 ? blend_kernel<double><<<blocks, threads, 0, s>>>(*p)
                         : blend_kernel<float><<<blocks, threads, 0, s>>>(*p);
  });
}
