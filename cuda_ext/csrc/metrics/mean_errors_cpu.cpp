#include <algorithm>

#include "../common/parallel.h"
#include "../common/status.h"
#include "mean_errors.h"

namespace stnls {
namespace {

constexpr int kSums = 16;  // side by side, as many for every instruction set

void sum_part(const float* x, const float* y, int64_t size, double* out) {
  double absolute[kSums] = {}, squared[kSums] = {};
  int64_t at = 0;
  for (; at + kSums <= size; at += kSums)
    for (int n = 0; n < kSums; ++n) add_error(x[at + n], y[at + n], absolute[n], squared[n]);
  for (int n = 0; at < size; ++at, ++n) add_error(x[at], y[at], absolute[n], squared[n]);
  for (int step = kSums / 2; step > 0; step /= 2)
    for (int n = 0; n < step; ++n) {
      absolute[n] += absolute[n + step];
      squared[n] += squared[n + step];
    }
  out[0] = absolute[0];
  out[1] = squared[0];
}

}  // namespace
}  // namespace stnls

STNLS_API int stnls_cpu_mean_errors(const stnls::MeanErrorsProblem* p, int64_t threads) {
  using namespace stnls;
  return guarded([&] {
    const float *reference = static_cast<const float*>(p->reference),
                *frames = static_cast<const float*>(p->frames);
    parallel_for(p->count * p->parts, threads, [&](int64_t item, int64_t) {
      const int64_t n = item / p->parts, first = item % p->parts * kErrorPart;
      sum_part(frames + n * p->size + first, reference + n % p->references * p->size + first,
               std::min(kErrorPart, p->size - first), static_cast<double*>(p->out) + 2 * item);
    });
  });
}
