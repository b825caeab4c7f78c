// Each band of output rows is gathered by one thread: queries are taken in raster order and their
// patches added, so that the result does not depend on the number of threads.
#include <algorithm>
#include <cstring>
#include <type_traits>
#include <vector>

#include "../common/parallel.h"
#include "../common/status.h"
#include "neighbour.h"
#include "packed_sum_cpu.h"

namespace stnls {
namespace {

constexpr int64_t kBand = 32;

// How many patches cover each row or column.
template <class Real>
std::vector<Real> coverage(const PatchProblem& p, int64_t length, int64_t grid) {
  std::vector<Real> count(static_cast<size_t>(length), Real(0));
  for (int64_t i = 0; i < grid; ++i) {
    for (int64_t tap = 0; tap < p.ps; ++tap) {
      const int64_t at = i * p.stride0 + p.dilation * (tap + p.patch_offset);
      if (inside(at, length)) count[static_cast<size_t>(at)] += Real(1);
    }
  }
  return count;
}

template <class Real, bool kFloatGrid>
class PatchSum {
 public:
  explicit PatchSum(const PatchProblem& problem) : p(problem) {
    tap_low = p.dilation * p.patch_offset;
    tap_high = p.dilation * (p.ps - 1 + p.patch_offset);
    count_h = coverage<Real>(p, p.height, p.grid_height);
    count_w = coverage<Real>(p, p.width, p.grid_width);
  }

  // Gathers the entries first .. last - 1 of all queries of one frame into a band of `own`.
  void run(int64_t b, int64_t head, int64_t t, int64_t band, int64_t first, int64_t last) const {
    const int64_t top = band * kBand, bottom = std::min(top + kBand, p.height);
    Real* out = static_cast<Real*>(p.own) + b * p.own_stride[0] + head * p.own_stride[1] +
                t * p.own_stride[2] + (p.stacked ? first * p.own_entry_stride : 0);
    const Real* video =
        static_cast<const Real*>(p.video) + b * p.video_stride[0] + head * p.video_stride[1];
    for (int64_t c = 0; c < p.channels; ++c)
      for (int64_t y = top; y < bottom; ++y)
        std::memset(out + c * p.own_stride[3] + y * p.own_stride[4], 0,
                    static_cast<size_t>(p.width) * sizeof(Real));
    for (int64_t i = 0; i < p.grid_height; ++i) {
      const int64_t y = i * p.stride0;
      if (y + tap_high < top || y + tap_low >= bottom) continue;
      const int64_t row =
          (((b * p.heads + head) * p.frames + t) * p.grid_height + i) * p.grid_width;
      for (int64_t j = 0; j < p.grid_width; ++j) {
        for (int64_t k = first; k < last; ++k) {
          const int64_t entry = (row + j) * p.k + k;
          const auto n = neighbour<Real, kFloatGrid>(p, entry, t, i, j);
          if (!n.used) continue;
          add(n, static_cast<const Real*>(p.weights)[entry], video + n.frame * p.video_stride[2], y,
              j * p.stride0, top, bottom, out);
        }
      }
    }
    if (!p.normalize) return;
    for (int64_t c = 0; c < p.channels; ++c) {
      for (int64_t y = top; y < bottom; ++y) {
        Real* line = out + c * p.own_stride[3] + y * p.own_stride[4];
        const Real rows = count_h[static_cast<size_t>(y)];
        for (int64_t x = 0; x < p.width; ++x) line[x] /= rows * count_w[static_cast<size_t>(x)];
      }
    }
  }

 private:
  const PatchProblem& p;
  int64_t tap_low, tap_high;
  std::vector<Real> count_h, count_w;  // patches that cover a row, a column

  template <class Near>
  void add(const Near& n, Real weight, const Real* frame, int64_t y, int64_t x, int64_t top,
           int64_t bottom, Real* out) const {
    using Pos = typename Near::Pos;
    const bool whole = p.dilation == 1 && x + tap_low >= 0 && x + tap_high < p.width &&
                       n.h + static_cast<Pos>(tap_low) >= Pos(0) &&
                       n.w + static_cast<Pos>(tap_low) >= Pos(0) &&
                       n.h + static_cast<Pos>(tap_high) < static_cast<Pos>(p.height - 1) &&
                       n.w + static_cast<Pos>(tap_high) < static_cast<Pos>(p.width - 1);
    for (int64_t pi = 0; pi < p.ps; ++pi) {
      const int64_t tap_h = p.dilation * (pi + p.patch_offset);
      if (y + tap_h < top || y + tap_h >= bottom) continue;
      Real* line = out + (y + tap_h) * p.own_stride[4];
      if (whole) {
        add_row(n.h + static_cast<Pos>(tap_h), n.w + static_cast<Pos>(tap_low), weight, frame,
                line + x + tap_low);
        continue;
      }
      Pos h, w;
      if (!move(n.h, tap_h, p.height, p.reflect_bounds != 0, &h)) continue;
      for (int64_t pj = 0; pj < p.ps; ++pj) {
        const int64_t tap_w = p.dilation * (pj + p.patch_offset);
        if (!inside(x + tap_w, p.width)) continue;
        if (!move(n.w, tap_w, p.width, p.reflect_bounds != 0, &w)) continue;
        add_pixel(h, w, weight, frame, line + x + tap_w);
      }
    }
  }

  // One row of a patch that lies wholly inside: ps neighbouring pixels with the same fractions.
  template <class Pos>
  void add_row(Pos h, Pos w, Real weight, const Real* frame, Real* to) const {
    if constexpr (kFloatGrid) {
      const Sample<Real> s = sample_at(h, w, p.height, p.width, p.video_stride[4]);
      const Real w00 = weight * s.w00, w01 = weight * s.w01;
      const Real w10 = weight * s.w10, w11 = weight * s.w11;
      for (int64_t c = 0; c < p.channels; ++c, to += p.own_stride[3], frame += p.video_stride[3]) {
        const Real* low = frame + s.at00;
        const Real* high = frame + s.at10;
        for (int64_t x = 0; x < p.ps; ++x) {
          Real v = multiply_add(w00, low[x], to[x]);
          v = multiply_add(w01, low[x + 1], v);
          v = multiply_add(w10, high[x], v);
          to[x] = multiply_add(w11, high[x + 1], v);
        }
      }
    } else {
      frame += h * p.video_stride[4] + w;
      for (int64_t c = 0; c < p.channels; ++c, to += p.own_stride[3], frame += p.video_stride[3])
        for (int64_t x = 0; x < p.ps; ++x) to[x] = multiply_add(weight, frame[x], to[x]);
    }
  }

  template <class Pos>
  void add_pixel(Pos h, Pos w, Real weight, const Real* frame, Real* to) const {
    if constexpr (kFloatGrid) {
      const Sample<Real> s = sample_at(h, w, p.height, p.width, p.video_stride[4]);
      for (int64_t c = 0; c < p.channels; ++c)
        to[c * p.own_stride[3]] += weight * read(frame + c * p.video_stride[3], s);
    } else {
      frame += h * p.video_stride[4] + w;
      for (int64_t c = 0; c < p.channels; ++c)
        to[c * p.own_stride[3]] =
            multiply_add(weight, frame[c * p.video_stride[3]], to[c * p.own_stride[3]]);
    }
  }
};

template <class Real, bool kFloatGrid>
void patch_sum(const PatchProblem& p, int64_t threads) {
  const PatchSum<Real, kFloatGrid> sum(p);
  const int64_t bands = (p.height + kBand - 1) / kBand;
  const int64_t layers = p.stacked ? p.k : 1;
  parallel_for(p.batch * p.heads * p.frames * layers * bands, threads, [&](int64_t item, int64_t) {
    const int64_t layer = item / bands % layers, plane = item / bands / layers;
    sum.run(plane / (p.heads * p.frames), plane / p.frames % p.heads, plane % p.frames,
            item % bands, p.stacked ? layer : 0, p.stacked ? layer + 1 : p.k);
  });
}

template <bool kFloatGrid>
void packed_sum(const PatchProblem& p, int64_t threads) {
  const std::vector<float> rows = coverage<float>(p, p.height, p.grid_height),
                           columns = coverage<float>(p, p.width, p.grid_width);
  const int64_t bands = (p.height + kBand - 1) / kBand;
  const int64_t layers = p.stacked ? p.k : 1, planes = p.batch * p.heads;
  PackedVideo video(p, threads);
  with_pixel_vectors(video.vectors, [&](const auto& pixels) {
    using Pixels = std::decay_t<decltype(pixels)>;
    const PackedPatchSum<kFloatGrid, Pixels> sum(p, video, pixels);
    for (int64_t from = 0; from < planes; from += video.planes) {
      const int64_t to = std::min(from + video.planes, planes);
      video.pack(p.video, p.video_stride, from, to, threads);
      parallel_for((to - from) * p.frames * layers * bands, threads, [&](int64_t item, int64_t) {
        const int64_t band = item % bands, layer = item / bands % layers;
        const int64_t t = item / bands / layers % p.frames;
        const int64_t plane = from + item / bands / layers / p.frames;
        float* own = static_cast<float*>(p.own) + plane / p.heads * p.own_stride[0] +
                     plane % p.heads * p.own_stride[1] + t * p.own_stride[2];
        if (p.stacked) own += layer * p.own_entry_stride;
        sum.run(plane, t, band * kBand, std::min((band + 1) * kBand, p.height), layer,
                p.stacked ? layer + 1 : p.k, rows.data(), columns.data(), own);
      });
    }
  });
}

void patch_sum_float(const PatchProblem& p, int64_t threads) {
  if (packing_pays(p))
    p.float_grid ? packed_sum<true>(p, threads) : packed_sum<false>(p, threads);
  else
    p.float_grid ? patch_sum<float, true>(p, threads) : patch_sum<float, false>(p, threads);
}

}  // namespace
}  // namespace stnls

STNLS_API int stnls_cpu_patch_sum(const stnls::PatchProblem* p, int64_t threads) {
  using namespace stnls;
  return guarded([&] {
    if (p->dtype == kFloat64)
      p->float_grid ? patch_sum<double, true>(*p, threads) : patch_sum<double, false>(*p, threads);
    else
      patch_sum_float(*p, threads);
  });
}
