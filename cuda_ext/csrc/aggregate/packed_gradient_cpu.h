// The transpose of the patch sum, and the gradient of its weights, of packed videos (CPU).
#pragma once

#include "gradient.h"
#include "packed_cpu.h"
#include "query_taps_cpu.h"

namespace stnls {

// own: the queries' pixels; video: those that the entries point to.
template <bool kFloatGrid, class Vectors>
class PackedScatter {
 public:
  PackedScatter(const PatchProblem& p, const PackedVideo& own, const PackedVideo& video,
                const Vectors& pixels)
      : p(p), own(own), video(video), pixels(pixels), taps(p) {}

  // Adds what falls on the rows top .. bottom - 1 of all frames of a plane.
  void run(int64_t plane, int64_t top, int64_t bottom) const {
    const int64_t low = p.dilation * p.patch_offset;
    const int64_t high = p.dilation * (p.ps - 1 + p.patch_offset);
    int64_t entry = plane * p.frames * p.grid_height * p.grid_width * p.k;
    for (int64_t t = 0; t < p.frames; ++t)
      for (int64_t i = 0; i < p.grid_height; ++i)
        for (int64_t j = 0; j < p.grid_width; ++j)
          for (int64_t k = 0; k < p.k; ++k, ++entry) {
            const auto n = neighbour<float, kFloatGrid>(p, entry, t, i, j);
            if (!n.used) continue;
            // A tap can be rounded up to the next row.
            const auto last_tap = n.h + static_cast<decltype(n.h)>(high);
            const int64_t first = static_cast<int64_t>(n.h) + low,
                          last = static_cast<int64_t>(last_tap) + 1;
            const bool mirrored = first < 0 || last >= p.height;
            if (mirrored || (last >= top && first < bottom))
              add(video.frame(plane, n.frame), own.frame(plane, t), i, j, n,
                  static_cast<const float*>(p.weights)[entry], top, bottom);
          }
  }

 private:
  const PatchProblem& p;
  const PackedVideo &own, &video;
  const Vectors pixels;
  const QueryTaps taps;

  template <class Near>
  void add(float* frame, const float* pixels_of, int64_t i, int64_t j, const Near& n, float weight,
           int64_t top, int64_t bottom) const {
    taps.for_each(
        i, j, n, 0, p.height,
        [&](int64_t y, int64_t x, auto h, auto w, int64_t count) __attribute__((always_inline)) {
          if (static_cast<int64_t>(h) + 1 < top || static_cast<int64_t>(h) >= bottom) return;
          const Spread<float> s(p, h, w);
          const float* first = pixels_of + (y * p.width + x) * own.pixel;
          const int64_t across = (s.column[1] - s.column[0]) * video.pixel;
          for (int corner = 0; corner < (kFloatGrid ? 2 : 1); ++corner) {
            if (s.row[corner] < top || s.row[corner] >= bottom) continue;
            const float part = weight * s.row_weight[corner];
            const Columns left = Columns{} + part * s.column_weight[0];
            const Columns right = Columns{} + part * s.column_weight[1];
            const float* from = first;
            float* to = frame + (s.row[corner] * p.width + s.column[0]) * video.pixel;
            for (int64_t tap = 0; tap < count; ++tap, from += own.pixel, to += video.pixel)
              pixels.for_each([&](int64_t at) {
                const Columns value = load_columns(from + at);
                store_columns(to + at, fused(left, value, load_columns(to + at)));
                if constexpr (kFloatGrid) {
                  float* next = to + across + at;
                  store_columns(next, fused(right, value, load_columns(next)));
                }
              });
          }
        });
  }
};

template <bool kFloatGrid, class Vectors>
class PackedDot {
 public:
  PackedDot(const PatchProblem& p, const PackedVideo& own, const PackedVideo& video,
            const Vectors& pixels)
      : p(p), own(own), video(video), pixels(pixels), taps(p) {}

  // The gradients of the weights of a row of queries.
  void run(int64_t plane, int64_t t, int64_t i) const {
    int64_t entry = ((plane * p.frames + t) * p.grid_height + i) * p.grid_width * p.k;
    const float* pixels_of = own.frame(plane, t);
    for (int64_t j = 0; j < p.grid_width; ++j)
      for (int64_t k = 0; k < p.k; ++k, ++entry) {
        const auto n = neighbour<float, kFloatGrid>(p, entry, t, i, j);
        Columns total{};
        if (n.used) {
          const float* frame = video.frame(plane, n.frame);
          taps.for_each(i, j, n, 0, p.height,
                        [&](int64_t y, int64_t x, auto h, auto w, int64_t count)
                            __attribute__((always_inline)) {
                              PackedSample<kFloatGrid> sample(p, frame, video.pixel, h, w);
                              const float* from = pixels_of + (y * p.width + x) * own.pixel;
                              for (int64_t tap = 0; tap < count; ++tap, from += own.pixel) {
                                pixels.for_each([&](int64_t at) {
                                  total = fused(load_columns(from + at), sample.read(at), total);
                                });
                                sample.move(video.pixel);
                              }
                            });
        }
        float lanes[kColumns], sum = 0.0f;
        store_columns(lanes, total);
        for (float lane : lanes) sum += lane;
        static_cast<float*>(p.grad_weights)[entry] = sum;
      }
  }

 private:
  const PatchProblem& p;
  const PackedVideo &own, &video;
  const Vectors pixels;
  const QueryTaps taps;
};

}  // namespace stnls
