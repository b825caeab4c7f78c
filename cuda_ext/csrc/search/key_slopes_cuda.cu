#include "../common/cuda_launch.h"
#include "../common/geometry.h"
#include "box_sums_cuda.h"
#include "key_slopes.h"

namespace stnls {
namespace {

// Rows of sums that a warp computes: few, since warps wait for what they read, and many of them for
// little.
STNLS_HD constexpr int slope_rows(int ps) { return ps <= 3 ? 4 : 16; }

// A warp walks down a strip of the key, a lane a column.
template <int kPs>
__global__ void __launch_bounds__(32)
    slopes_kernel(const __grid_constant__ SearchProblem p, const KeySlopes slopes) {
  constexpr int kColumns = 33 - kPs, kSlopeRows = slope_rows(kPs);
  const int lane = threadIdx.x, x = blockIdx.x * kColumns + lane, top = blockIdx.y * kSlopeRows;
  const int width = static_cast<int>(p.width), height = static_cast<int>(p.height);
  const int offset = static_cast<int>(p.patch_offset);
  const int column = static_cast<int>(reflect(int64_t(x + offset), width));
  const int after = static_cast<int>(reflect(int64_t(x + offset + 1), width));
  for (int64_t item = blockIdx.z; item < p.batch * p.heads * p.frames; item += gridDim.z) {
    const int64_t t = item % p.frames, head = item / p.frames % p.heads,
                  b = item / p.frames / p.heads;
    const float* key = static_cast<const float*>(p.key) + b * p.key_stride[0] +
                       head * p.key_stride[1] + t * p.key_stride[2];
    float along[kPs] = {}, down[kPs] = {}, both[kPs] = {};  // sums along the last rows
    for (int row = 0; row < kSlopeRows + kPs - 1 && top + row < height + kPs - 1; ++row) {
      const int64_t upper = reflect(int64_t(top + row + offset - 1), height) * p.key_stride[4];
      const int64_t lower = reflect(int64_t(top + row + offset), height) * p.key_stride[4];
      float squares[3] = {};
#pragma unroll 4
      for (int c = 0; c < p.channels; ++c) {
        const float* k = key + c * p.key_stride[3];
        const float k0 = k[upper + column], k1 = k[lower + column];
        const float to_right = k[lower + after] - k1, from_top = k1 - k0;
        const float mixed = to_right - (k[upper + after] - k0);
        squares[0] = fmaf(to_right, to_right, squares[0]);
        squares[1] = fmaf(from_top, from_top, squares[1]);
        squares[2] = fmaf(mixed, mixed, squares[2]);
      }
#pragma unroll
      for (int i = 0; i + 1 < kPs; ++i) {
        along[i] = along[i + 1];
        down[i] = down[i + 1];
        both[i] = both[i + 1];
      }
      along[kPs - 1] = sum_rows<kPs>(squares[0]);
      down[kPs - 1] = sum_rows<kPs>(squares[1]);
      both[kPs - 1] = sum_rows<kPs>(squares[2]);
      float2 across = {};
      float along_column = 0.0f;
#pragma unroll
      for (int i = 0; i < kPs; ++i) {
        across.x += along[i];
        across.y += both[i];
        along_column += down[i];
      }
      const int y = top + row - (kPs - 1);
      if (y < top || lane >= kColumns || x >= width) continue;
      slopes.across[(item * height + y) * width + x] = across;
      slopes.down[(item * height + y) * width + x] = along_column;
    }
  }
}

template <int kPs>
void launch(const SearchProblem& p, const KeySlopes& slopes, cudaStream_t stream) {
  const int64_t planes = p.batch * p.heads * p.frames;
  const dim3 blocks(blocks_for(p.width, 32 - kPs), blocks_for(p.height, slope_rows(kPs)),
                    static_cast<unsigned>(planes < 65535 ? planes : 65535));
  slopes_kernel<kPs><<<blocks, 32, 0, stream>>>(p, slopes);
}

}  // namespace

void key_slopes_cuda(const SearchProblem& p, const KeySlopes& slopes, cudaStream_t stream) {
  switch (p.ps) {
    case 1:
      return launch<1>(p, slopes, stream);
    case 3:
      return launch<3>(p, slopes, stream);
    case 5:
      return launch<5>(p, slopes, stream);
    case 7:
      return launch<7>(p, slopes, stream);
    default:
      return launch<9>(p, slopes, stream);
  }
}

}  // namespace stnls
