// Scatter: every band of rows of the video belongs to one thread, which takes the entries in raster
// order, so that the sums do not depend on the number of threads. Dot: rows of queries in parallel.
#include <algorithm>
#include <type_traits>

#include "../common/parallel.h"
#include "../common/status.h"
#include "gradient.h"
#include "packed_gradient_cpu.h"

namespace stnls {
namespace {

template <class Real, bool kFloatGrid>
class Scatter {
 public:
  using Gradient = PatchGradient<Real, kFloatGrid>;
  using Near = typename Gradient::Near;
  using Pos = typename Gradient::Pos;

  explicit Scatter(const PatchProblem& problem) : p(problem), gradient(problem) {}

  // Adds what falls on the rows top .. bottom - 1 of all frames of one batch and head.
  void run(int64_t b, int64_t head, int64_t top, int64_t bottom) const {
    const int64_t grid = p.grid_height * p.grid_width;
    for (int64_t t = 0; t < p.frames; ++t) {
      for (int64_t place = 0; place < grid; ++place) {
        const Query q{b, head, t, place / p.grid_width, place % p.grid_width};
        const int64_t index = ((b * p.heads + head) * p.frames + t) * grid + place;
        for (int64_t k = 0; k < p.k; ++k) {
          const Near n = neighbour<Real, kFloatGrid>(p, index * p.k + k, q.t, q.i, q.j);
          if (n.used)
            add(q, n, k, static_cast<const Real*>(p.weights)[index * p.k + k], top, bottom);
        }
      }
    }
  }

 private:
  const PatchProblem& p;
  const Gradient gradient;

  void add(const Query& q, const Near& n, int64_t k, Real weight, int64_t top,
           int64_t bottom) const {
    const int64_t low = static_cast<int64_t>(n.h) + p.dilation * p.patch_offset;
    // A tap can be rounded up to the next row.
    const Pos last = n.h + static_cast<Pos>(p.dilation * (p.ps - 1 + p.patch_offset));
    const int64_t high = static_cast<int64_t>(last) + 1;
    if (low >= 0 && high < p.height && (high < top || low >= bottom)) return;
    const Real* own = gradient.own_plane(q, k);
    Real* video = static_cast<Real*>(p.video) + gradient.video_plane(q, n.frame);
    const auto holds = [&](int64_t row) { return row >= top && row < bottom; };
    gradient.for_taps(
        q, n,
        [&](Pos h) {
          const int64_t row = static_cast<int64_t>(h);
          return holds(row) || holds(row + 1);
        },
        [&](int64_t y, int64_t x, int64_t, int64_t, Pos h, Pos w) {
          const Spread<Real> s(p, h, w);
          for (int64_t c = 0; c < p.channels; ++c) {
            const Real value = weight * own[c * p.own_stride[3] + y * p.own_stride[4] + x];
            Real* plane = video + c * p.video_stride[3];
            for (int corner = 0; corner < (kFloatGrid ? 2 : 1); ++corner) {
              if (!holds(s.row[corner])) continue;
              Real* line = plane + s.row[corner] * p.video_stride[4];
              const Real part = value * s.row_weight[corner];
              line[s.column[0]] += part * s.column_weight[0];
              if constexpr (kFloatGrid) line[s.column[1]] += part * s.column_weight[1];
            }
          }
        });
  }
};

template <class Real, bool kFloatGrid>
void scatter(const PatchProblem& p, int64_t threads) {
  const Scatter<Real, kFloatGrid> scatter(p);
  const int64_t planes = p.batch * p.heads;
  if (planes == 0) return;
  const int64_t bands =
      threads == 1 ? 1 : std::max<int64_t>(1, std::min(p.height, 4 * threads / planes));
  parallel_for(planes * bands, threads, [&](int64_t item, int64_t) {
    const int64_t plane = item / bands, band = item % bands;
    scatter.run(plane / p.heads, plane % p.heads, p.height * band / bands,
                p.height * (band + 1) / bands);
  });
}

template <class Real, bool kFloatGrid>
void dot(const PatchProblem& p, int64_t threads) {
  const PatchGradient<Real, kFloatGrid> gradient(p);
  const int64_t rows = p.batch * p.heads * p.frames * p.grid_height;
  parallel_for(rows, threads, [&](int64_t row, int64_t) {
    for (int64_t j = 0; j < p.grid_width; ++j)
      for (int64_t k = 0; k < p.k; ++k) gradient.run_dot(row * p.grid_width + j, k);
  });
}

template <bool kFloatGrid>
void packed_scatter(const PatchProblem& p, int64_t threads) {
  PackedVideo own(p, threads), video(p, threads);
  const int64_t planes = p.batch * p.heads;
  for (int64_t from = 0; from < planes; from += own.planes) {
    const int64_t to = std::min(from + own.planes, planes), count = to - from;
    const int64_t bands =
        threads == 1 ? 1 : std::max<int64_t>(1, std::min(p.height, 2 * threads / count));
    own.pack(p.own, p.own_stride, from, to, threads);
    video.clear(from, to, threads);
    with_pixel_vectors(own.vectors, [&](const auto& pixels) {
      using Pixels = std::decay_t<decltype(pixels)>;
      const PackedScatter<kFloatGrid, Pixels> scatter(p, own, video, pixels);
      parallel_for(count * bands, threads, [&](int64_t item, int64_t) {
        const int64_t band = item % bands;
        scatter.run(from + item / bands, p.height * band / bands, p.height * (band + 1) / bands);
      });
    });
    video.add_to(p.video, p.video_stride, threads);
  }
}

template <bool kFloatGrid>
void packed_dot(const PatchProblem& p, int64_t threads) {
  PackedVideo own(p, threads), video(p, threads);
  const int64_t planes = p.batch * p.heads, rows = p.frames * p.grid_height;
  for (int64_t from = 0; from < planes; from += own.planes) {
    const int64_t to = std::min(from + own.planes, planes);
    own.pack(p.own, p.own_stride, from, to, threads);
    video.pack(p.video, p.video_stride, from, to, threads);
    with_pixel_vectors(own.vectors, [&](const auto& pixels) {
      using Pixels = std::decay_t<decltype(pixels)>;
      const PackedDot<kFloatGrid, Pixels> dots(p, own, video, pixels);
      parallel_for((to - from) * rows, threads, [&](int64_t item, int64_t) {
        const int64_t row = item % rows;
        dots.run(from + item / rows, row / p.grid_height, row % p.grid_height);
      });
    });
  }
}

void scatter_float(const PatchProblem& p, int64_t threads) {
  if (packing_pays(p) && !p.stacked)
    p.float_grid ? packed_scatter<true>(p, threads) : packed_scatter<false>(p, threads);
  else
    p.float_grid ? scatter<float, true>(p, threads) : scatter<float, false>(p, threads);
}

void dot_float(const PatchProblem& p, int64_t threads) {
  if (packing_pays(p) && !p.stacked && p.grad_weights != nullptr && p.grad_inds == nullptr)
    p.float_grid ? packed_dot<true>(p, threads) : packed_dot<false>(p, threads);
  else
    p.float_grid ? dot<float, true>(p, threads) : dot<float, false>(p, threads);
}

}  // namespace
}  // namespace stnls

STNLS_API int stnls_cpu_patch_scatter(const stnls::PatchProblem* p, int64_t threads) {
  using namespace stnls;
  return guarded([&] {
    if (p->dtype == kFloat64)
      p->float_grid ? scatter<double, true>(*p, threads) : scatter<double, false>(*p, threads);
    else
      scatter_float(*p, threads);
  });
}

STNLS_API int stnls_cpu_patch_dot(const stnls::PatchProblem* p, int64_t threads) {
  using namespace stnls;
  return guarded([&] {
    if (p->dtype == kFloat64)
      p->float_grid ? dot<double, true>(*p, threads) : dot<double, false>(*p, threads);
    else
      dot_float(*p, threads);
  });
}
