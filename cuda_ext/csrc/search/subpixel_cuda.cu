// A thread for each query.
#include "../common/cuda_launch.h"
#include "subpixel.h"

namespace stnls {
namespace {

constexpr int kColumns = 32, kRows = 4;

// Blocks of a multiprocessor: large patches want many registers for the loads under way.
template <class Real, int kPs>
constexpr int kBlocks = sizeof(Real) > sizeof(float) ? 2
                        : kPs > 7                    ? 2
                        : kPs > 5                    ? 3
                                                     : 4;

template <class Real, int kPs>
__global__ void __launch_bounds__(kColumns* kRows, kBlocks<Real, kPs>)
    subpixel_kernel(const __grid_constant__ SubpixelProblem p) {
  const int64_t x = static_cast<int64_t>(blockIdx.x) * kColumns + threadIdx.x;
  const int64_t tiles = (p.height + kRows - 1) / kRows;
  if (x >= p.width) return;
  const PatchDistances<Real, kPs> distances{p};
  // Grids are 65,535 blocks high at most.
  for (int64_t tile = blockIdx.y; tile < p.batch * tiles; tile += gridDim.y) {
    const int64_t y = tile % tiles * kRows + threadIdx.y;
    if (y < p.height) move(p, distances, tile / tiles, y, x);
  }
}

template <class Real, int kPs>
void launch(const SubpixelProblem& p, cudaStream_t stream) {
  const int64_t tiles = p.batch * ((p.height + kRows - 1) / kRows);
  const dim3 blocks(blocks_for(p.width, kColumns),
                    static_cast<unsigned>(tiles < 65535 ? tiles : 65535));
  subpixel_kernel<Real, kPs><<<blocks, dim3(kColumns, kRows), 0, stream>>>(p);
}

void launch_float(const SubpixelProblem& p, cudaStream_t stream) {
  switch (p.ps) {
    case 3:
      return launch<float, 3>(p, stream);
    case 5:
      return launch<float, 5>(p, stream);
    case 7:
      return launch<float, 7>(p, stream);
    case 9:
      return launch<float, 9>(p, stream);
    default:
      return launch<float, 0>(p, stream);
  }
}

}  // namespace
}  // namespace stnls

STNLS_API int stnls_cuda_subpixel(const stnls::SubpixelProblem* p, int device, void* stream,
                                  char* message, int64_t message_size) {
  using namespace stnls;
  return launch_on(device, message, message_size, [&] {
    const cudaStream_t s = static_cast<cudaStream_t>(stream);
    p->dtype == kFloat64 ? launch<double, 0>(*p, s) : launch_float(*p, s);
  });
}
