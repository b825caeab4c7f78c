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
    std::vector<Real> total(static_cast<size_t>(p.channels * plane), Real(0));
    const int64_t from = std::max<int64_t>(0, top - (first + ps - 1));
    const int64_t to = std::min(p.height, bottom - first);
    const Real* video = static_cast<const Real*>(p.video) + b * p.channels * p.height * p.width;
    const Real* weights = static_cast<const Real*>(p.weight) + b * p.height * p.width;
    for (int64_t y = from; y < to; ++y) {
      const Real* offset = static_cast<const Real*>(p.offset) + 2 * (b * p.height + y) * p.width;
      for (int64_t x = 0; x < p.width; ++x)
        add(video, y, x, offset[2 * x], offset[2 * x + 1], weights[y * p.width + x], top, bottom,
            total.data());
    }
    Real* out = static_cast<Real*>(p.out) + b * p.channels * p.height * p.width;
    std::vector<Real> line(static_cast<size_t>(pitch)), sums(static_cast<size_t>(p.width));
    for (int64_t y = top; y < bottom; ++y) {
      sum_weights(weights, y, line, sums);
      for (int64_t c = 0; c < p.channels; ++c) {
        const Real* row = total.data() + c * plane + (y - top) * pitch + ps;
        Real* to_row = out + (c * p.height + y) * p.width;
        for (int64_t x = 0; x < p.width; ++x) to_row[x] = row[x] / sums[static_cast<size_t>(x)];
      }
    }
  }

 private:
  static constexpr int kVectors = (kPs + kColumns - 1) / kColumns;
  static constexpr int kSize = kVectors * kColumns;
  static constexpr int kRows = kPs + 3, kReach = kSize + 3;  // pixels that a patch is made of

  const BlendProblem& p;
  const int64_t ps, first;
  const int64_t pitch;  // of the totals: column 0 of the frame is at ps, as patches may stick out

  // The sums of the weights of all patches that cover the pixels of a row.
  void sum_weights(const Real* weights, int64_t y, std::vector<Real>& line,
                   std::vector<Real>& sums) const {
    std::fill(line.begin(), line.end(), Real(0));
    const int64_t last = std::min(y - first, p.height - 1);
    for (int64_t row = std::max<int64_t>(0, y - first - ps + 1); row <= last; ++row)
      for (int64_t x = 0; x < p.width; ++x)
        line[static_cast<size_t>(ps + x)] += weights[row * p.width + x];
    std::fill(sums.begin(), sums.end(), Real(0));
    for (int64_t i = 0; i < ps; ++i) {
      const Real* from = line.data() + ps - first - ps + 1 + i;
      for (int64_t x = 0; x < p.width; ++x) sums[static_cast<size_t>(x)] += from[x];
    }
  }

  void add(const Real* video, int64_t y, int64_t x, Real dh, Real dw, Real weight, int64_t top,
           int64_t bottom, Real* total) const {
    const CubicPlace<Real> h = cubic_place(y, dh, p.height), w = cubic_place(x, dw, p.width);
    const int64_t begin = std::max<int64_t>(0, top - (y + first));
    const int64_t end = std::min<int64_t>(ps, bottom - (y + first));
    const int64_t plane = (bottom - top) * pitch, frame = p.height * p.width;
    Real* to = total + (y + first - top) * pitch + ps + x + first;
    if constexpr (kPs > 0 && sizeof(Real) == sizeof(float)) {
      if (is_finite(dh) && is_finite(dw)) {  // elsewhere the columns beside a patch would be lost
        const int64_t high = h.low + first - 1, left = w.low + first - 1;
        const bool inside =
            left >= 0 && left + kReach <= p.width && high >= 0 && high + kRows <= p.height;
        if (!inside) return add_border(video, high, left, h, w, weight, begin, end, to, plane);
        const float* from = video + high * p.width + left;
        for (int64_t c = 0; c < p.channels; ++c)
          add_channel(from + c * frame, p.width, h, w, weight, begin, end, to + c * plane);
        return;
      }
    }
    for (int64_t c = 0; c < p.channels; ++c)
      for (int64_t i = begin; i < end; ++i)
        for (int64_t j = 0; j < ps; ++j) {
          Real& sum = to[c * plane + i * pitch + j];
          sum = multiply_add(
              weight,
              cubic_sample(video + c * frame, h, w, first + i, first + j, p.height, p.width), sum);
        }
  }

  // A patch of which pixels are reflected: they are copied first.
  [[gnu::noinline]] void add_border(const float* video, int64_t high, int64_t left,
                                    const CubicPlace<float>& h, const CubicPlace<float>& w,
                                    float weight, int64_t begin, int64_t end, float* to,
                                    int64_t plane) const {
    int64_t column[kPs + 3];
    for (int j = 0; j < kPs + 3; ++j) column[j] = reflect(left + j, p.width);
    float pixels[kRows * kReach] = {};
    for (int64_t c = 0; c < p.channels; ++c, video += p.height * p.width, to += plane) {
      for (int i = 0; i < kRows; ++i) {
        const float* row = video + reflect(high + i, p.height) * p.width;
        for (int j = 0; j < kPs + 3; ++j) pixels[i * kReach + j] = row[column[j]];
      }
      add_channel(pixels, kReach, h, w, weight, begin, end, to);
    }
  }

  // The patch of one channel, a vector of columns after the other.
  void add_channel(const float* from, int64_t from_pitch, const CubicPlace<float>& h,
                   const CubicPlace<float>& w, float weight, int64_t begin, int64_t end,
                   float* to) const {
    for (int n = 0; n < kPs; n += kColumns)
      add_columns(from + n, from_pitch, h.weights, w.weights, weight, kPs - n, begin, end, to + n);
  }

  // Adds a vector of columns of a patch in one channel, of which `used` belong to the patch.
  void add_columns(const float* from, int64_t from_pitch, const float* h, const float* w,
                   float weight, int used, int64_t begin, int64_t end, float* to) const {
    const ColumnMask mask = first_columns(used);
    const Columns w0 = Columns{} + weight * w[0], w1 = Columns{} + weight * w[1],
                  w2 = Columns{} + weight * w[2], w3 = Columns{} + weight * w[3];
    const Columns h0 = Columns{} + h[0], h1 = Columns{} + h[1], h2 = Columns{} + h[2],
                  h3 = Columns{} + h[3];
    from += begin * from_pitch;
    to += begin * pitch;
    const auto next_line = [&] {
      Columns v = w0 * load_columns(from);
      v = fused(w1, load_columns(from + 1), v);
      v = fused(w2, load_columns(from + 2), v);
      v = fused(w3, load_columns(from + 3), v);
      from += from_pitch;
      return masked(mask, v);
    };
    Columns a = next_line(), b = next_line(), c = next_line();
    for (int64_t i = begin; i < end; ++i, to += pitch) {
      const Columns d = next_line();
      const Columns sum = fused(h1, b, fused(h0, a, load_columns(to)));
      store_columns(to, fused(h3, d, fused(h2, c, sum)));
      a = b, b = c, c = d;
    }
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
