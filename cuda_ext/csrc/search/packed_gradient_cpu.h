// The gradients of a search of several channels with respect to the videos, of which the channels
// of a pixel are packed side by side (CPU).
#pragma once

#include <algorithm>

#include "../aggregate/packed_cpu.h"
#include "gradient_band_cpu.h"

namespace stnls {

// The sizes of a video, for PackedVideo.
inline PatchProblem video_sizes(const SearchProblem& p, int64_t height, int64_t width) {
  PatchProblem sizes{};
  sizes.batch = p.batch;
  sizes.heads = p.heads;
  sizes.frames = p.frames;
  sizes.channels = p.channels;
  sizes.height = height;
  sizes.width = width;
  return sizes;
}

// Whether packing is little beside the work, which is less for each channel where there are few.
inline bool packing_pays(const SearchGradProblem& g) {
  const SearchProblem& p = g.search;
  const int64_t entries = entry_count(p);
  const int64_t used = g.k_agg > 0 && g.k_agg < entries ? g.k_agg : entries;
  const int64_t taps = p.grid_height * p.grid_width * used * p.ps * p.ps;
  const int64_t pixels = std::max(p.query_height * p.query_width, p.height * p.width);
  return p.dtype == kFloat32 && p.channels >= 4 && taps >= pixels &&
         taps * p.channels >= 24 * pixels;
}

template <bool kFloatGrid, bool kProduct, class Vectors>
class PackedVideoGradients {
 public:
  using Gradient = SearchGradient<float, kFloatGrid, kProduct>;
  using Entry = typename Gradient::Entry;
  using Pos = typename Gradient::Pos;
  using Taps = typename Gradient::Taps;
  static constexpr int kCorners = kFloatGrid ? 4 : 1;  // pixels that a place lies between

  // grad: of the query's or of the key's video, whichever is asked for.
  PackedVideoGradients(const SearchGradProblem& g, const PackedVideo& query, const PackedVideo& key,
                       const PackedVideo& grad, const Vectors& pixels)
      : p(g.search),
        gradient(g),
        query(query),
        key(key),
        grad(grad),
        pixels(pixels),
        tap_low(p.dilation * p.patch_offset),
        tap_high(p.dilation * (p.ps - 1 + p.patch_offset)) {}

  void of_query(const GradientBand& band) const {
    for_entries(gradient, band, [&](const Query& q, const Entry& e) {
      const int64_t centre = gradient.query_row(q);
      if (band.misses(centre + tap_low, centre + tap_high, p.query_height)) return;
      const Columns weight = Columns{} + (kProduct ? e.weight : 2.0f * e.weight);
      gradient.for_taps(
          q, e, [&](int64_t row, const Taps&) { return band.holds(row); },
          [&](int64_t row, int64_t column, const Taps& t) __attribute__((always_inline)) {
            const Sample sample(p, key.frame(plane_of(q), e.frame), key.pixel, t);
            const int64_t at = (row * p.query_width + column) * query.pixel;
            const float* from = query.frame(plane_of(q), q.t) + at;
            float* to = grad.frame(plane_of(q), q.t) + at;
            pixels.for_each([&](int64_t v) {
              const Columns value = sample.read(v);
              store_columns(to + v, fused(weight, kProduct ? value : load_columns(from + v) - value,
                                          load_columns(to + v)));
            });
          });
    });
  }

  void of_key(const GradientBand& band) const {
    for_entries(gradient, band, [&](const Query& q, const Entry& e) {
      const int64_t low = static_cast<int64_t>(e.h) + tap_low;
      // A tap can be rounded up to the next row.
      const int64_t high = static_cast<int64_t>(e.h + static_cast<Pos>(tap_high)) + 1;
      if (band.misses(low, high, p.height)) return;
      const float weight = kProduct ? e.weight : -2.0f * e.weight;
      gradient.for_taps(
          q, e,
          [&](int64_t, const Taps& t) { return band.holds(t.row[0]) || band.holds(t.row[1]); },
          [&](int64_t row, int64_t column, const Taps& t) __attribute__((always_inline)) {
            const Sample sample(p, key.frame(plane_of(q), e.frame), key.pixel, t);
            const float* from =
                query.frame(plane_of(q), q.t) + (row * p.query_width + column) * query.pixel;
            float* frame = grad.frame(plane_of(q), e.frame);
            float* to[kCorners];
            Columns share[kCorners];
            for (int corner = 0; corner < kCorners; ++corner) {
              const int64_t key_row = t.row[corner / 2], key_column = t.column[corner % 2];
              to[corner] = band.holds(key_row)
                               ? frame + (key_row * p.width + key_column) * key.pixel
                               : nullptr;
              share[corner] =
                  Columns{} + weight * t.row_weight[corner / 2] * t.column_weight[corner % 2];
            }
            pixels.for_each([&](int64_t v) {
              const Columns value = load_columns(from + v);
              const Columns slope = kProduct ? value : value - sample.read(v);
              for (int corner = 0; corner < kCorners; ++corner)
                if (to[corner] != nullptr)
                  store_columns(to[corner] + v,
                                fused(share[corner], slope, load_columns(to[corner] + v)));
            });
          });
    });
  }

 private:
  const SearchProblem& p;
  const Gradient gradient;
  const PackedVideo &query, &key, &grad;
  const Vectors pixels;
  const int64_t tap_low, tap_high;

  // The key at a tap.
  struct Sample {
    const float* from[kCorners];
    Columns weight[kCorners];

    Sample(const SearchProblem& p, const float* frame, int64_t pixel, const Taps& t) {
      for (int corner = 0; corner < kCorners; ++corner) {
        from[corner] = frame + (t.row[corner / 2] * p.width + t.column[corner % 2]) * pixel;
        weight[corner] = Columns{} + t.row_weight[corner / 2] * t.column_weight[corner % 2];
      }
    }
    Columns read(int64_t v) const {
      if constexpr (!kFloatGrid) return load_columns(from[0] + v);
      Columns sum = weight[0] * load_columns(from[0] + v);
      for (int corner = 1; corner < kCorners; ++corner)
        sum = fused(weight[corner], load_columns(from[corner] + v), sum);
      return sum;
    }
  };

  int64_t plane_of(const Query& q) const { return q.b * p.heads + q.head; }
};

}  // namespace stnls
