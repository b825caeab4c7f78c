// A band of rows of one plane at a time: columns first, into five lines, then along the lines.
#include <algorithm>
#include <vector>

#include "../common/parallel.h"
#include "../common/simd.h"
#include "../common/status.h"
#include "ssim.h"

namespace stnls {
namespace {

constexpr int kMeans = 5;

class Band {
 public:
  explicit Band(const SsimProblem& problem)
      : p(problem),
        windows(problem.width - kSsimWindow + 1),
        pitch(round_up_to_lanes(problem.width) + kLanes),
        lines(static_cast<size_t>(kMeans * pitch), 0.0f) {
    for (int n = 0; n < kSsimWindow; ++n) taps[n] = broadcast(p.taps[n]);
  }

  double sum(const float* x, const float* y, int64_t first, int64_t last) {
    double total = 0;
    for (int64_t row = first; row < last; ++row) {
      down(x + row * p.width, y + row * p.width);
      total += along();
    }
    return total;
  }

 private:
  const SsimProblem& p;
  const int64_t windows, pitch;
  std::vector<float> lines;  // weighted means down the columns
  FloatV taps[kSsimWindow];

  void down(const float* x, const float* y) {
    const FloatV middle = broadcast(p.middle);
    for (int64_t at = 0; at < p.width; at += kLanes) {
      // The last columns are done again rather than one by one; narrow frames are copied.
      const int64_t from = std::min(at, std::max<int64_t>(0, p.width - kLanes));
      FloatV m[kMeans] = {};
      for (int n = 0; n < kSsimWindow; ++n) {
        const FloatV a = columns(x + n * p.width + from) - middle;
        const FloatV b = columns(y + n * p.width + from) - middle;
        const FloatV wa = taps[n] * a, wb = taps[n] * b;
        m[0] += wa;
        m[1] += wb;
        m[2] = multiply_add(wa, a, m[2]);
        m[3] = multiply_add(wb, b, m[3]);
        m[4] = multiply_add(wa, b, m[4]);
      }
      for (int n = 0; n < kMeans; ++n) store(lines.data() + n * pitch + from, m[n]);
    }
  }

  FloatV columns(const float* from) const {
    if (p.width >= kLanes) return load(from);
    float values[kLanes] = {};
    std::copy(from, from + p.width, values);
    return load(values);
  }

  double along() const {
    FloatV total{};
    for (int64_t at = 0; at < windows; at += kLanes) {
      FloatV m[kMeans] = {};
      for (int n = 0; n < kMeans; ++n)
        for (int tap = 0; tap < kSsimWindow; ++tap)
          m[n] = multiply_add(taps[tap], load(lines.data() + n * pitch + at + tap), m[n]);
      const FloatV score = ssim_of_means(m[0], m[1], m[2], m[3], m[4], p.middle, p.c1, p.c2);
      const IntV in = lane_numbers() < broadcast(static_cast<int32_t>(windows - at));
      total += select(in, score, FloatV{});
    }
    return static_cast<double>(sum_of_lanes(total));
  }
};

}  // namespace
}  // namespace stnls

STNLS_API int stnls_cpu_ssim(const stnls::SsimProblem* p, int64_t threads) {
  using namespace stnls;
  return guarded([&] {
    const int64_t plane = p->height * p->width, planes = p->count * p->channels;
    const int64_t other_planes = p->references * p->channels;
    const float *reference = static_cast<const float*>(p->reference),
                *frames = static_cast<const float*>(p->frames);
    parallel_for(planes * p->bands, threads, [&](int64_t item, int64_t) {
      const int64_t n = item / p->bands, first = item % p->bands * kSsimBand;
      const int64_t last = std::min(first + kSsimBand, p->height - kSsimWindow + 1);
      Band band(*p);
      static_cast<double*>(p->out)[item] =
          band.sum(frames + n * plane, reference + n % other_planes * plane, first, last);
    });
  });
}
