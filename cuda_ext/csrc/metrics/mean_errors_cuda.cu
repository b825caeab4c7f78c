// A block for each part of a frame. Sums are taken in one order, so that they are the same every
// time.
#include "../common/cuda_launch.h"
#include "mean_errors.h"

namespace stnls {
namespace {

constexpr int kThreads = 256, kAhead = 8;
static_assert(kErrorPart % (kThreads * kAhead) == 0, "all threads have as many numbers");

__global__ void __launch_bounds__(kThreads)
    mean_errors_kernel(const __grid_constant__ MeanErrorsProblem p) {
  __shared__ double absolutes[kThreads], squares[kThreads];
  const int thread = static_cast<int>(threadIdx.x);
  for (int64_t item = blockIdx.x; item < p.count * p.parts; item += gridDim.x) {
    const int64_t n = item / p.parts, first = item % p.parts * kErrorPart;
    const float* x = static_cast<const float*>(p.frames) + n * p.size + first;
    const float* y = static_cast<const float*>(p.reference) + n % p.references * p.size + first;
    const int64_t left = p.size - first;
    double absolute = 0, squared = 0;
    for (int64_t at = thread; at < kErrorPart; at += kThreads * kAhead) {
      float a[kAhead], b[kAhead];
#pragma unroll
      for (int k = 0; k < kAhead; ++k) {
        const bool in = at + k * kThreads < left;
        a[k] = in ? x[at + k * kThreads] : 0.0f;
        b[k] = in ? y[at + k * kThreads] : 0.0f;
      }
#pragma unroll
      for (int k = 0; k < kAhead; ++k) add_error(a[k], b[k], absolute, squared);
    }
    absolutes[thread] = absolute;
    squares[thread] = squared;
    for (int step = kThreads / 2; step > 0; step /= 2) {
      __syncthreads();
      if (thread < step) {
        absolutes[thread] += absolutes[thread + step];
        squares[thread] += squares[thread + step];
      }
    }
    if (thread == 0) {
      double* out = static_cast<double*>(p.out) + 2 * item;
      out[0] = absolutes[0];
      out[1] = squares[0];
    }
    __syncthreads();
  }
}

}  // namespace
}  // namespace stnls

STNLS_API int stnls_cuda_mean_errors(const stnls::MeanErrorsProblem* p, int device, void* stream,
                                     char* message, int64_t message_size) {
  using namespace stnls;
  return launch_on(device, message, message_size, [&] {
    const int64_t blocks = p->count * p->parts;
    mean_errors_kernel<<<static_cast<unsigned>(blocks < (1 << 30) ? blocks : 1 << 30), kThreads, 0,
                         static_cast<cudaStream_t>(stream)>>>(*p);
  });
}
