// Every band of rows of a gradient belongs to one thread, which takes the entries in raster order:
// the sums do not depend on the number of threads, nor on how the bands are cut.
#include <algorithm>

#include "../common/parallel.h"
#include "../common/status.h"
#include "gradient_band_cpu.h"
#include "packed_gradient_cpu.h"

namespace stnls {
namespace {

using Band = GradientBand;

template <class Work>
void for_bands(const SearchProblem& p, int64_t height, int64_t threads, Work&& work) {
  const int64_t planes = p.batch * p.heads;
  if (planes == 0) return;
  const int64_t bands =
      threads == 1 ? 1 : std::max<int64_t>(1, std::min(height, (4 * threads) / planes));
  parallel_for(planes * bands, threads, [&](int64_t item, int64_t) {
    const int64_t plane = item / bands, band = item % bands;
    work(
        Band{plane / p.heads, plane % p.heads, height * band / bands, height * (band + 1) / bands});
  });
}

template <class Real, bool kFloatGrid, bool kProduct>
class VideoGradients {
 public:
  using Gradient = SearchGradient<Real, kFloatGrid, kProduct>;
  using Entry = typename Gradient::Entry;
  using Pos = typename Gradient::Pos;
  using Taps = typename Gradient::Taps;

  explicit VideoGradients(const SearchGradProblem& problem)
      : g(problem), p(problem.search), gradient(problem) {
    tap_low = p.dilation * p.patch_offset;
    tap_high = p.dilation * (p.ps - 1 + p.patch_offset);
  }

  void of_query(const Band& band) const {
    for_entries(gradient, band, [&](const Query& q, const Entry& e) {
      const int64_t centre = gradient.query_row(q);
      if (band.misses(centre + tap_low, centre + tap_high, p.query_height)) return;
      const Real* query = gradient.query_plane(q);
      const Real* key = gradient.key_plane(q, e.frame);
      Real* grad = plane_of(g.grad_query, g.grad_query_stride, q, q.t);
      gradient.for_taps(
          q, e, [&](int64_t row, const Taps&) { return band.holds(row); },
          [&](int64_t row, int64_t column, const Taps& t) {
            const int64_t from = row * p.query_stride[4] + column;
            const int64_t to = row * g.grad_query_stride[4] + column;
            for (int64_t c = 0; c < p.channels; ++c)
              grad[to + c * g.grad_query_stride[3]] +=
                  Gradient::query_slope(e.weight, query[from + c * p.query_stride[3]],
                                        gradient.read(key + c * p.key_stride[3], t));
          });
    });
  }

  void of_key(const Band& band) const {
    for_entries(gradient, band, [&](const Query& q, const Entry& e) {
      const int64_t low = static_cast<int64_t>(e.h) + tap_low;
      // A tap can be rounded up to the next row.
      const int64_t high = static_cast<int64_t>(e.h + static_cast<Pos>(tap_high)) + 1;
      if (band.misses(low, high, p.height)) return;
      const Real* query = gradient.query_plane(q);
      const Real* key = gradient.key_plane(q, e.frame);
      Real* grad = plane_of(g.grad_key, g.grad_key_stride, q, e.frame);
      gradient.for_taps(
          q, e,
          [&](int64_t, const Taps& t) { return band.holds(t.row[0]) || band.holds(t.row[1]); },
          [&](int64_t row, int64_t column, const Taps& t) {
            const int64_t from = row * p.query_stride[4] + column;
            for (int64_t c = 0; c < p.channels; ++c) {
              const Real slope = Gradient::key_slope(e.weight, query[from + c * p.query_stride[3]],
                                                     gradient.read(key + c * p.key_stride[3], t));
              Real* to = grad + c * g.grad_key_stride[3];
              for (int corner = 0; corner < (kFloatGrid ? 2 : 1); ++corner) {
                if (!band.holds(t.row[corner])) continue;
                Real* line = to + t.row[corner] * g.grad_key_stride[4];
                const Real weight = slope * t.row_weight[corner];
                line[t.column[0]] += weight * t.column_weight[0];
                if constexpr (kFloatGrid) line[t.column[1]] += weight * t.column_weight[1];
              }
            }
          });
    });
  }

 private:
  const SearchGradProblem& g;
  const SearchProblem& p;
  const Gradient gradient;
  int64_t tap_low, tap_high;

  static Real* plane_of(void* grad, const int64_t* stride, const Query& q, int64_t frame) {
    return static_cast<Real*>(grad) + q.b * stride[0] + q.head * stride[1] + frame * stride[2];
  }
};

template <class Real, bool kFloatGrid, bool kProduct>
void differentiate_videos(const SearchGradProblem& g, int64_t threads) {
  const SearchProblem& p = g.search;
  const VideoGradients<Real, kFloatGrid, kProduct> videos(g);
  if (g.grad_query != nullptr && g.grad_dists != nullptr)
    for_bands(p, p.query_height, threads, [&](const Band& band) { videos.of_query(band); });
  if (g.grad_key != nullptr && g.grad_dists != nullptr)
    for_bands(p, p.height, threads, [&](const Band& band) { videos.of_key(band); });
}

// One gradient after the other, so that three videos of a head are packed.
template <bool kFloatGrid, bool kProduct>
void differentiate_packed(const SearchGradProblem& g, int64_t threads) {
  const SearchProblem& p = g.search;
  if (g.grad_dists == nullptr || (g.grad_query == nullptr && g.grad_key == nullptr)) return;
  const PatchProblem of_query = video_sizes(p, p.query_height, p.query_width),
                     of_key = video_sizes(p, p.height, p.width);
  PackedVideo query(of_query, threads), key(of_key, threads);
  const int64_t planes = p.batch * p.heads, most = std::min(query.planes, key.planes);
  for (int64_t from = 0; from < planes; from += most) {
    const int64_t to = std::min(from + most, planes), count = to - from;
    query.pack(p.query, p.query_stride, from, to, threads);
    key.pack(p.key, p.key_stride, from, to, threads);
    // Every band takes all entries: no more of them than there are threads.
    const auto add = [&](const PatchProblem& sizes, void* grad, const int64_t (&stride)[5],
                         auto part) {
      if (grad == nullptr) return;
      PackedVideo sums(sizes, threads);
      sums.clear(from, to, threads);
      const int64_t bands =
          std::clamp<int64_t>((threads + count - 1) / count, 1, std::max<int64_t>(sizes.height, 1));
      with_pixel_vectors(sums.vectors, [&](const auto& pixels) {
        using Pixels = std::decay_t<decltype(pixels)>;
        const PackedVideoGradients<kFloatGrid, kProduct, Pixels> videos(g, query, key, sums,
                                                                        pixels);
        parallel_for(count * bands, threads, [&](int64_t item, int64_t) {
          const int64_t plane = from + item / bands, band = item % bands;
          part(videos, Band{plane / p.heads, plane % p.heads, sizes.height * band / bands,
                            sizes.height * (band + 1) / bands});
        });
      });
      sums.add_to(grad, stride, threads);
    };
    add(of_query, g.grad_query, g.grad_query_stride,
        [](const auto& videos, const Band& band) { videos.of_query(band); });
    add(of_key, g.grad_key, g.grad_key_stride,
        [](const auto& videos, const Band& band) { videos.of_key(band); });
  }
}

template <class Real, bool kFloatGrid, bool kProduct>
void differentiate(const SearchGradProblem& g, int64_t threads) {
  const SearchProblem& p = g.search;
  if constexpr (sizeof(Real) == sizeof(float)) {
    packing_pays(g) ? differentiate_packed<kFloatGrid, kProduct>(g, threads)
                    : differentiate_videos<Real, kFloatGrid, kProduct>(g, threads);
  } else {
    differentiate_videos<Real, kFloatGrid, kProduct>(g, threads);
  }
  if constexpr (kFloatGrid) {
    if (g.grad_flow == nullptr && g.grad_prior == nullptr) return;
    const SearchGradient<Real, kFloatGrid, kProduct> places(g);
    const int64_t rows = p.batch * p.heads * p.frames * p.grid_height;
    parallel_for(rows, threads, [&](int64_t row, int64_t) {
      for (int64_t j = 0; j < p.grid_width; ++j) places.run_places(row * p.grid_width + j);
    });
  }
}

template <class Real>
void differentiate(const SearchGradProblem& g, int64_t threads) {
  if (g.search.float_grid)
    g.search.product ? differentiate<Real, true, true>(g, threads)
                     : differentiate<Real, true, false>(g, threads);
  else
    g.search.product ? differentiate<Real, false, true>(g, threads)
                     : differentiate<Real, false, false>(g, threads);
}

}  // namespace
}  // namespace stnls

STNLS_API int stnls_cpu_search_gradient(const stnls::SearchGradProblem* g, int64_t threads) {
  return stnls::guarded([&] {
    g->search.dtype == stnls::kFloat64 ? stnls::differentiate<double>(*g, threads)
                                       : stnls::differentiate<float>(*g, threads);
  });
}
