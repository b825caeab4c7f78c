// The patch sum of packed videos (CPU).
#pragma once

#include <algorithm>

#include "neighbour.h"
#include "packed_cpu.h"
#include "query_taps_cpu.h"

namespace stnls {

template <bool kFloatGrid, class Vectors>
class PackedPatchSum {
 public:
  PackedPatchSum(const PatchProblem& p, const PackedVideo& video, const Vectors& pixels)
      : p(p), video(video), pixels(pixels), taps(p) {}

  // Sums the entries first .. last - 1 of all queries of one frame into the rows top .. bottom - 1
  // of `out`; scale_h, scale_w: what a sum is divided by, of every row and column.
  void run(int64_t plane, int64_t t, int64_t top, int64_t bottom, int64_t first, int64_t last,
           const float* scale_h, const float* scale_w, float* out) const {
    const AlignedFloats sums((bottom - top) * p.width * video.pixel);
    std::fill_n(sums.data(), (bottom - top) * p.width * video.pixel, 0.0f);
    for (int64_t i = 0; i < p.grid_height; ++i) {
      if (!taps.reaches(i, top, bottom)) continue;
      const int64_t row = ((plane * p.frames + t) * p.grid_height + i) * p.grid_width;
      for (int64_t j = 0; j < p.grid_width; ++j) {
        for (int64_t k = first; k < last; ++k) {
          const int64_t entry = (row + j) * p.k + k;
          const auto n = neighbour<float, kFloatGrid>(p, entry, t, i, j);
          if (!n.used) continue;
          const Columns weight = Columns{} + static_cast<const float*>(p.weights)[entry];
          const float* frame = video.frame(plane, n.frame);
          taps.for_each(i, j, n, top, bottom,
                        [&](int64_t y, int64_t x, auto h, auto w, int64_t count)
                            __attribute__((always_inline)) {
                              PackedSample<kFloatGrid> sample(p, frame, video.pixel, h, w);
                              float* to = sums.data() + ((y - top) * p.width + x) * video.pixel;
                              for (int64_t tap = 0; tap < count; ++tap) {
                                pixels.for_each([&](int64_t at) {
                                  store_columns(to + at, fused(weight, sample.read(at),
                                                               load_columns(to + at)));
                                });
                                sample.move(video.pixel);
                                to += video.pixel;
                              }
                            });
        }
      }
    }
    for (int64_t y = top; y < bottom; ++y) {
      const float* line = sums.data() + (y - top) * p.width * video.pixel;
      for_blocks_of_row(p.channels, p.width, [&](int64_t c, int64_t x, int64_t end) {
        float* to = out + c * p.own_stride[3] + y * p.own_stride[4];
        for (; x < end; ++x) {
          const float sum = line[x * video.pixel + c];
          to[x] = p.normalize ? sum / (scale_h[y] * scale_w[x]) : sum;
        }
      });
    }
  }

 private:
  const PatchProblem& p;
  const PackedVideo& video;
  const Vectors pixels;
  const QueryTaps taps;
};

}  // namespace stnls
