// Each band of output rows is made by one thread: queries are taken in raster order and their
// patches added, so that the result does not depend on the number of threads. A patch has one
// fraction of a pixel, so its samples are separable: rows first, then columns.
#include <algorithm>
#include <vector>

#include "../common/columns_cpu.h"
#include "../common/parallel.h"
#include "../common/patch_size.h"
#include "../common/simd.h"
#include "../common/status.h"
#include "blend.h"

namespace stnls {
namespace {

constexpr int64_t kBand = 64;

// kPs is the patch's size, or 0 for any: then every sample is made by itself.
template <class Real, int kPs>
class Blend {
 public:
  explicit Blend(const BlendProblem& problem)
      : p(problem),
        ps(kPs > 0 ? kPs : problem.ps),
        first(-(ps / 2)),
        pitch(problem.width + 2 * ps + kLanes) {}

  void run(int64_t b, int64_t band) const {
    const int64_t top = band * kBand, bottom = std::min(top + kBand, p.height);
    const int64_t plane = (bottom - top) * pitch;
    // Totals by channel, then the weights; a patch may stick out at the sides.
    std::vector<Real> total(static_cast<size_t>((p.channels + 1) * plane), Real(0));
    const int64_t from = std::max<int64_t>(0, top - (first + ps - 1));
    const int64_t to = std::min(p.height, bottom - first);
    const Real* video = static_cast<const Real*>(p.video) + b * p.channels * p.height * p.width;
    for (int64_t y = from; y < to; ++y) {
      const int64_t row = (b * p.height + y) * p.width;
      const Real* offset = static_cast<const Real*>(p.offset) + 2 * row;
      const Real* weight = static_cast<const Real*>(p.weight) + row;
      for (int64_t x = 0; x < p.width; ++x)
        add(video, y, x, offset[2 * x], offset[2 * x + 1], weight[x], top, bottom, total.data());
    }
    Real* out = static_cast<Real*>(p.out) + b * p.channels * p.height * p.width;
    const Real* weights = total.data() + p.channels * plane;
    for (int64_t c = 0; c < p.channels; ++c)
      for (int64_t y = top; y < bottom; ++y) {
        const int64_t line = (y - top) * pitch + ps;
        Real* to_row = out + (c * p.height + y) * p.width;
        for (int64_t x = 0; x < p.width; ++x)
          to_row[x] = total[static_cast<size_t>(c * plane + line + x)] / weights[line + x];
      }
  }

 private:
  static constexpr int kVectors = (kPs + kColumns - 1) / kColumns;

  const BlendProblem& p;
  const int64_t ps, first;
  const int64_t pitch;

  void add(const Real* video, int64_t y, int64_t x, Real dh, Real dw, Real weight, int64_t top,
           int64_t bottom, Real* total) const {
    const CubicPlace<Real> h = cubic_place(y, dh, p.height), w = cubic_place(x, dw, p.width);
    const int64_t begin = std::max<int64_t>(0, top - (y + first));
    const int64_t end = std::min<int64_t>(ps, bottom - (y + first));
    const int64_t plane = (bottom - top) * pitch;
    // Where the patch lies in the totals: column 0 of the frame is at ps.
    Real* to = total + (y + first - top) * pitch + ps + x + first;
    if constexpr (kPs > 0 && sizeof(Real) == sizeof(float)) {
      constexpr int kSize = kVectors * kColumns;
      const int64_t left = w.low + first - 1, high = h.low + first - 1;
      if (left >= 0 && left + kSize + 3 <= p.width && high >= 0 && high + kPs + 3 <= p.height) {
        Real mask[kSize];
        for (int j = 0; j < kSize; ++j) mask[j] = j < kPs ? weight : Real(0);
        const Real* from = video + high * p.width + left;
        for (int n = 0; n < kVectors; ++n) {
          const Columns weights = load_columns(mask + n * kColumns);
          for (int64_t c = 0; c < p.channels; ++c)
            add_whole(from + c * p.height * p.width + n * kColumns, h.weights, w.weights, weights,
                      begin, end, to + c * plane + n * kColumns);
          for (int64_t i = begin; i < end; ++i)
            add_to(to + p.channels * plane + i * pitch + n * kColumns, weights);
        }
        return;
      }
    }
    for (int64_t c = 0; c < p.channels; ++c)
      add_folded(video + c * p.height * p.width, h, w, weight, begin, end, to + c * plane);
    for (int64_t i = begin; i < end; ++i)
      for (int64_t j = 0; j < ps; ++j) to[p.channels * plane + i * pitch + j] += weight;
  }

  static void add_to(float* to, Columns more) { store_columns(to, load_columns(to) + more); }

  // Some columns of a patch of one channel.
  void add_whole(const float* from, const float* h, const float* w, Columns weights, int64_t begin,
                 int64_t end, float* to) const {
    const Columns w0 = Columns{} + w[0], w1 = Columns{} + w[1], w2 = Columns{} + w[2],
                  w3 = Columns{} + w[3];
    const Columns h0 = Columns{} + h[0], h1 = Columns{} + h[1], h2 = Columns{} + h[2],
                  h3 = Columns{} + h[3];
    const auto line = [&](int64_t i) {
      const float* row = from + i * p.width;
      Columns v = w0 * load_columns(row);
      v = fused(w1, load_columns(row + 1), v);
      v = fused(w2, load_columns(row + 2), v);
      return fused(w3, load_columns(row + 3), v);
    };
    Columns a = line(begin), b = line(begin + 1), c = line(begin + 2);
    for (int64_t i = begin; i < end; ++i) {
      const Columns d = line(i + 3);
      const Columns v = fused(h3, d, fused(h2, c, fused(h1, b, h0 * a)));
      store_columns(to + i * pitch, fused(weights, v, load_columns(to + i * pitch)));
      a = b, b = c, c = d;
    }
  }

  void add_folded(const Real* frame, const CubicPlace<Real>& h, const CubicPlace<Real>& w,
                  Real weight, int64_t begin, int64_t end, Real* to) const {
    for (int64_t i = begin; i < end; ++i)
      for (int64_t j = 0; j < ps; ++j)
        to[i * pitch + j] =
            multiply_add(weight, cubic_sample(frame, h, w, first + i, first + j, p.height, p.width),
                         to[i * pitch + j]);
  }
};

template <class Real, int kPs>
void blend(const BlendProblem& p, int64_t threads) {
  const Blend<Real, kPs> work(p);
  const int64_t bands = (p.height + kBand - 1) / kBand;
  parallel_for(p.batch * bands, threads,
               [&](int64_t item, int64_t) { work.run(item / bands, item % bands); });
}

void blend_float(const BlendProblem& p, int64_t threads) {
  with_patch_size(p.ps, [&](auto size) { blend<float, decltype(size)::value>(p, threads); });
}

}  // namespace
}  // namespace stnls

STNLS_API int stnls_cpu_patch_blend(const stnls::BlendProblem* p, int64_t threads) {
  using namespace stnls;
  return guarded(
      [&] { p->dtype == kFloat64 ? blend<double, 0>(*p, threads) : blend_float(*p, threads); });
}
