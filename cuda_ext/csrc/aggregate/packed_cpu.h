// Videos with the channels of a pixel side by side (CPU): a tap of a patch is then a few vectors,
// where it would else be a pixel of each channel's plane.
#pragma once

#include <cstring>
#include <vector>

#include "../common/columns_cpu.h"
#include "../common/parallel.h"
#include "neighbour.h"
#include "problem.h"

namespace stnls {

// The frames of one batch and head. Channels are filled up to whole vectors, with zeros.
class PackedVideo {
 public:
  explicit PackedVideo(const PatchProblem& p)
      : p(p),
        vectors((p.channels + kColumns - 1) / kColumns),
        pixel(vectors * kColumns),
        values(static_cast<size_t>(p.frames * p.height * p.width * pixel)) {}

  // `stride`: as PatchProblem has it; `video`: the first pixel of the batch and head.
  void pack(const float* video, const int64_t (&stride)[5], int64_t threads) {
    parallel_for(p.frames * p.height, threads, [&](int64_t row, int64_t) {
      const float* from = video + row / p.height * stride[2] + row % p.height * stride[4];
      float* to = values.data() + row * p.width * pixel;
      for (int64_t c = 0; c < p.channels; ++c)
        for (int64_t x = 0; x < p.width; ++x) to[x * pixel + c] = from[c * stride[3] + x];
    });
  }
  // Adds these pixels to those of a video.
  void add_to(float* video, const int64_t (&stride)[5], int64_t threads) const {
    parallel_for(p.frames * p.height, threads, [&](int64_t row, int64_t) {
      float* to = video + row / p.height * stride[2] + row % p.height * stride[4];
      const float* from = values.data() + row * p.width * pixel;
      for (int64_t c = 0; c < p.channels; ++c)
        for (int64_t x = 0; x < p.width; ++x) to[c * stride[3] + x] += from[x * pixel + c];
    });
  }
  void clear() { std::memset(values.data(), 0, values.size() * sizeof(float)); }

  const float* frame(int64_t t) const { return values.data() + t * p.height * p.width * pixel; }
  float* frame(int64_t t) { return values.data() + t * p.height * p.width * pixel; }

 private:
  const PatchProblem& p;

 public:
  const int64_t vectors;  // of a pixel
  const int64_t pixel;    // floats from one pixel to the next

 private:
  std::vector<float> values;
};

// Whether packing is little beside the work: several channels, and as many taps as pixels.
inline bool packing_pays(const PatchProblem& p) {
  return p.dtype == kFloat32 && p.channels >= 4 &&
         p.grid_height * p.grid_width * p.k * p.ps * p.ps >= p.height * p.width;
}

// A pixel of kVectors vectors, or, where that is 0, of as many as `vectors` says.
template <int kVectors>
struct PixelVectors {
  int64_t vectors;

  explicit PixelVectors(int64_t vectors) : vectors(kVectors > 0 ? kVectors : vectors) {}

  // Calls visit(0), visit(kColumns), ... for the vectors of a pixel.
  template <class Visit>
  void for_each(const Visit& visit) const {
    for (int64_t v = 0; v < (kVectors > 0 ? kVectors : vectors); ++v) visit(v * kColumns);
  }
};

// call(PixelVectors<n>): the number of vectors known when it is compiled, where they are few.
template <class Call>
void with_pixel_vectors(int64_t vectors, const Call& call) {
  switch (vectors) {
    case 1:
      return call(PixelVectors<1>(vectors));
    case 2:
      return call(PixelVectors<2>(vectors));
    case 3:
      return call(PixelVectors<3>(vectors));
    case 4:
      return call(PixelVectors<4>(vectors));
    default:
      return call(PixelVectors<0>(vectors));
  }
}

// Four pixels of a packed frame and their weights; on the integer grid the first alone.
template <bool kFloatGrid>
struct PackedSample;

template <>
struct PackedSample<true> {
  const float *from00, *from01, *from10, *from11;
  Columns w00, w01, w10, w11;

  PackedSample(const PatchProblem& p, const float* frame, int64_t pixel, float h, float w)
      : PackedSample(frame, pixel, sample_at(h, w, p.height, p.width, p.width)) {}

  Columns read(int64_t at) const {
    Columns v = w00 * load_columns(from00 + at);
    v = fused(w01, load_columns(from01 + at), v);
    v = fused(w10, load_columns(from10 + at), v);
    return fused(w11, load_columns(from11 + at), v);
  }
  // To the right, by so many floats.
  void move(int64_t by) { from00 += by, from01 += by, from10 += by, from11 += by; }

 private:
  PackedSample(const float* frame, int64_t pixel, const Sample<float>& s)
      : from00(frame + s.at00 * pixel),
        from01(frame + s.at01 * pixel),
        from10(frame + s.at10 * pixel),
        from11(frame + s.at11 * pixel),
        w00(Columns{} + s.w00),
        w01(Columns{} + s.w01),
        w10(Columns{} + s.w10),
        w11(Columns{} + s.w11) {}
};

template <>
struct PackedSample<false> {
  const float* from;

  PackedSample(const PatchProblem& p, const float* frame, int64_t pixel, int64_t h, int64_t w)
      : from(frame + (h * p.width + w) * pixel) {}

  Columns read(int64_t at) const { return load_columns(from + at); }
  void move(int64_t by) { from += by; }
};

}  // namespace stnls
