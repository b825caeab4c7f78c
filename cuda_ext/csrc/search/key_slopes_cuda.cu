#include "../common/cuda_launch.h"
#include "../common/geometry.h"
#include "key_slopes.h"

namespace stnls {
namespace {

constexpr int kSlopeRows = 16, kSlopeColumns = 32, kSlopeMostPs = 9;

// One block computes a tile of the three planes.
__global__ void __launch_bounds__(256)
    slopes_kernel(const __grid_constant__ SearchProblem p, float* slopes) {
  constexpr int kHigh = kSlopeRows + kSlopeMostPs - 1, kWide = kSlopeColumns + kSlopeMostPs - 1;
  __shared__ float terms[3][kHigh][kWide];
  __shared__ float sums[3][kHigh][kSlopeColumns];
  const int ps = static_cast<int>(p.ps), offset = static_cast<int>(p.patch_offset);
  const int left = blockIdx.x * kSlopeColumns, top = blockIdx.y * kSlopeRows;
  for (int64_t item = blockIdx.z; item < p.batch * p.heads * p.frames; item += gridDim.z) {
    const int64_t t = item % p.frames, head = item / p.frames % p.heads,
                  b = item / p.frames / p.heads;
    const float* key = static_cast<const float*>(p.key) + b * p.key_stride[0] +
                       head * p.key_stride[1] + t * p.key_stride[2];
    const int high = kSlopeRows + ps - 1, wide = kSlopeColumns + ps - 1;
    for (int i = threadIdx.x; i < high * wide; i += blockDim.x) {
      const int row = i / wide, column = i % wide;
      const int64_t y0 = reflect(int64_t(top + row + offset), p.height) * p.key_stride[4];
      const int64_t y1 = reflect(int64_t(top + row + offset + 1), p.height) * p.key_stride[4];
      const int64_t x0 = reflect(int64_t(left + column + offset), p.width);
      const int64_t x1 = reflect(int64_t(left + column + offset + 1), p.width);
      float along = 0, down = 0, both = 0;
      const float* k = key;
      for (int64_t c = 0; c < p.channels; ++c, k += p.key_stride[3]) {
        const float to_right = k[y0 + x1] - k[y0 + x0], to_bottom = k[y1 + x0] - k[y0 + x0];
        const float mixed = k[y1 + x1] - k[y1 + x0] - to_right;
        along = fmaf(to_right, to_right, along);
        down = fmaf(to_bottom, to_bottom, down);
        both = fmaf(mixed, mixed, both);
      }
      terms[0][row][column] = along;
      terms[1][row][column] = down;
      terms[2][row][column] = both;
    }
    __syncthreads();
    for (int i = threadIdx.x; i < 3 * high * kSlopeColumns; i += blockDim.x) {
      const int column = i % kSlopeColumns, row = i / kSlopeColumns % high,
                plane = i / kSlopeColumns / high;
      float sum = 0;
      for (int tap = 0; tap < ps; ++tap) sum += terms[plane][row][column + tap];
      sums[plane][row][column] = sum;
    }
    __syncthreads();
    for (int i = threadIdx.x; i < 3 * kSlopeRows * kSlopeColumns; i += blockDim.x) {
      const int column = i % kSlopeColumns, row = i / kSlopeColumns % kSlopeRows,
                plane = i / kSlopeColumns / kSlopeRows;
      if (top + row >= p.height || left + column >= p.width) continue;
      float sum = 0;
      for (int tap = 0; tap < ps; ++tap) sum += sums[plane][row + tap][column];
      slopes[((item * 3 + plane) * p.height + top + row) * p.width + left + column] = sum;
    }
    __syncthreads();
  }
}

}  // namespace

void key_slopes_cuda(const SearchProblem& p, float* slopes, cudaStream_t stream) {
  const int64_t planes = p.batch * p.heads * p.frames;
  const dim3 blocks(blocks_for(p.width, kSlopeColumns), blocks_for(p.height, kSlopeRows),
                    static_cast<unsigned>(planes < 65535 ? planes : 65535));
  slopes_kernel<<<blocks, 256, 0, stream>>>(p, slopes);
}

}  // namespace stnls
