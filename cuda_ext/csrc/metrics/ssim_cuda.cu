// A block for each band of a plane: it walks along, a tile of columns at a time, blurring rows into
// shared memory, then columns. Sums are taken in one order, so that they are the same every time.
#include "../common/cuda_launch.h"
#include "ssim.h"

namespace stnls {
namespace {

constexpr int kColumns = 32, kThreadRows = 8, kThreads = kColumns * kThreadRows;
constexpr int kReach = kSsimWindow - 1;
constexpr int kRows = kSsimBand + kReach, kWide = kColumns + kReach;
constexpr int kMeans = 5;

__global__ void __launch_bounds__(kThreads) ssim_kernel(const __grid_constant__ SsimProblem p) {
  __shared__ float x[kRows][kWide], y[kRows][kWide];
  __shared__ float means[kMeans][kRows][kColumns];
  __shared__ double sums[kThreads];
  const int thread = static_cast<int>(threadIdx.y) * kColumns + static_cast<int>(threadIdx.x);
  const int64_t plane = p.height * p.width, other_planes = p.references * p.channels;
  const int64_t windows_h = p.height - kReach, windows_w = p.width - kReach;
  for (int64_t item = blockIdx.x; item < p.count * p.channels * p.bands; item += gridDim.x) {
    const int64_t n = item / p.bands, top = item % p.bands * kSsimBand;
    const float* frame = static_cast<const float*>(p.frames) + n * plane;
    const float* reference = static_cast<const float*>(p.reference) + n % other_planes * plane;
    double total = 0;
    for (int64_t left = 0; left < windows_w; left += kColumns) {
      for (int at = thread; at < kRows * kWide; at += kThreads) {
        const int row = at / kWide, column = at % kWide;
        const bool in = top + row < p.height && left + column < p.width;
        const int64_t from = (top + row) * p.width + left + column;
        x[row][column] = in ? frame[from] - p.middle : 0.0f;
        y[row][column] = in ? reference[from] - p.middle : 0.0f;
      }
      __syncthreads();
      for (int row = static_cast<int>(threadIdx.y); row < kRows; row += kThreadRows) {
        float m[kMeans] = {};
#pragma unroll
        for (int tap = 0; tap < kSsimWindow; ++tap) {
          const float a = x[row][threadIdx.x + tap], b = y[row][threadIdx.x + tap];
          const float wa = p.taps[tap] * a, wb = p.taps[tap] * b;
          m[0] += wa;
          m[1] += wb;
          m[2] = fmaf(wa, a, m[2]);
          m[3] = fmaf(wb, b, m[3]);
          m[4] = fmaf(wa, b, m[4]);
        }
#pragma unroll
        for (int k = 0; k < kMeans; ++k) means[k][row][threadIdx.x] = m[k];
      }
      __syncthreads();
#pragma unroll
      for (int row = static_cast<int>(threadIdx.y); row < kSsimBand; row += kThreadRows) {
        float m[kMeans] = {};
#pragma unroll
        for (int tap = 0; tap < kSsimWindow; ++tap)
#pragma unroll
          for (int k = 0; k < kMeans; ++k)
            m[k] = fmaf(p.taps[tap], means[k][row + tap][threadIdx.x], m[k]);
        if (top + row < windows_h && left + threadIdx.x < windows_w)
          total += ssim_of_means(m[0], m[1], m[2], m[3], m[4], p.middle, p.c1, p.c2);
      }
      // The next tile is written to x and y, which nobody reads any more, and to the means only
      // behind a barrier.
    }
    sums[thread] = total;
    for (int step = kThreads / 2; step > 0; step /= 2) {
      __syncthreads();
      if (thread < step) sums[thread] += sums[thread + step];
    }
    if (thread == 0) static_cast<double*>(p.out)[item] = sums[0];
    __syncthreads();
  }
}

}  // namespace
}  // namespace stnls

STNLS_API int stnls_cuda_ssim(const stnls::SsimProblem* p, int device, void* stream, char* message,
                              int64_t message_size) {
  using namespace stnls;
  return launch_on(device, message, message_size, [&] {
    const int64_t blocks = p->count * p->channels * p->bands;
    ssim_kernel<<<static_cast<unsigned>(blocks < (1 << 30) ? blocks : 1 << 30),
                  dim3(kColumns, kThreadRows), 0, static_cast<cudaStream_t>(stream)>>>(*p);
  });
}
