// Videos with the channels of a pixel side by side (CPU): a tap of a patch is then a few vectors,
// where it would else be a pixel of each channel's plane.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>

#include "../common/columns_cpu.h"
#include "../common/parallel.h"
#include "neighbour.h"
#include "problem.h"

namespace stnls {

// Floats at the start of a cache line, so that no vector lies across two; not initialised.
class AlignedFloats {
 public:
  explicit AlignedFloats(int64_t count)
      : memory(new float[static_cast<size_t>(count) + kLine]), first(memory.get()) {
    const auto past = reinterpret_cast<uintptr_t>(first) / sizeof(float) % kLine;
    first += (kLine - past) % kLine;
  }
  float* data() const { return first; }

 private:
  static constexpr size_t kLine = 64 / sizeof(float);
  std::unique_ptr<float[]> memory;
  float* first;
};

// Calls copy(channel, first column, column after the last): as many pixels of a row as stay in the
// first-level cache, all channels, then the next.
template <class Copy>
void for_blocks_of_row(int64_t channels, int64_t width, const Copy& copy) {
  const int64_t pixels = std::max<int64_t>(16, 4096 / channels);
  for (int64_t x = 0; x < width; x += pixels)
    for (int64_t c = 0; c < channels; ++c) copy(c, x, std::min(x + pixels, width));
}

// A plane is a batch item and head, that is all its frames. As many are packed at a time as take
// this many bytes for each thread (of 32 at most), or one: they stay in the caches, and where
// planes are small, there is work for every thread.
constexpr int64_t kBytesOfThread = int64_t{1} << 20;

// The frames of some planes. Channels are filled up to whole vectors, with zeros.
class PackedVideo {
 public:
  const PatchProblem& p;
  const int64_t vectors;  // of a pixel
  const int64_t pixel;    // floats from one pixel to the next
  const int64_t planes;   // that are packed at a time; the last may be fewer

  PackedVideo(const PatchProblem& p, int64_t threads)
      : p(p),
        vectors((p.channels + kColumns - 1) / kColumns),
        pixel(vectors * kColumns),
        planes(std::clamp<int64_t>(std::clamp<int64_t>(threads, 1, 32) * kBytesOfThread /
                                       (plane_floats() * int64_t{sizeof(float)}),
                                   1, p.batch * p.heads)),
        values(planes * plane_floats()) {}

  // Takes the planes first .. last - 1; `stride`: as PatchProblem has it.
  void pack(const void* video, const int64_t (&stride)[5], int64_t first, int64_t last,
            int64_t threads) {
    take(first, last);
    for_rows(threads, [&](int64_t row, float* to) {
      const float* from = static_cast<const float*>(video) + place(row, stride);
      for_blocks_of_row(p.channels, p.width, [&](int64_t c, int64_t x, int64_t end) {
        for (; x < end; ++x) to[x * pixel + c] = from[c * stride[3] + x];
      });
      for (int64_t x = 0; x < p.width; ++x)
        for (int64_t c = p.channels; c < pixel; ++c) to[x * pixel + c] = 0.0f;
    });
  }
  // Zeros for the planes first .. last - 1.
  void clear(int64_t first, int64_t last, int64_t threads) {
    take(first, last);
    for_rows(threads, [&](int64_t, float* to) { std::fill_n(to, p.width * pixel, 0.0f); });
  }
  // Adds these pixels to those of a video.
  void add_to(void* video, const int64_t (&stride)[5], int64_t threads) const {
    for_rows(threads, [&](int64_t row, const float* from) {
      float* to = static_cast<float*>(video) + place(row, stride);
      for_blocks_of_row(p.channels, p.width, [&](int64_t c, int64_t x, int64_t end) {
        for (; x < end; ++x) to[c * stride[3] + x] += from[x * pixel + c];
      });
    });
  }

  float* frame(int64_t plane, int64_t t) const {
    return values.data() + ((plane - first) * p.frames + t) * p.height * p.width * pixel;
  }

 private:
  const AlignedFloats values;
  int64_t first = 0, count = 0;  // planes

  int64_t plane_floats() const { return p.frames * p.height * p.width * pixel; }

  void take(int64_t from, int64_t to) { first = from, count = to - from; }

  // Where a row of these planes starts in a video.
  int64_t place(int64_t row, const int64_t (&stride)[5]) const {
    const int64_t y = row % p.height, t = row / p.height % p.frames;
    const int64_t plane = first + row / p.height / p.frames;
    return plane / p.heads * stride[0] + plane % p.heads * stride[1] + t * stride[2] +
           y * stride[4];
  }

  // Calls visit(row, its pixels) for the rows of all frames, many of them at a time where they are
  // short: to start a thread takes as long as to copy some ten thousand pixels.
  template <class Visit>
  void for_rows(int64_t threads, const Visit& visit) const {
    const int64_t rows = count * p.frames * p.height, length = p.width * pixel;
    const int64_t at_a_time = std::max<int64_t>(1, (int64_t{1} << 15) / length);
    parallel_for((rows + at_a_time - 1) / at_a_time, threads, [&](int64_t item, int64_t) {
      const int64_t end = std::min((item + 1) * at_a_time, rows);
      for (int64_t row = item * at_a_time; row < end; ++row)
        visit(row, values.data() + row * length);
    });
  }
};

// Whether packing is little beside the work, which is less for each channel where there are few.
inline bool packing_pays(const PatchProblem& p) {
  const int64_t taps = p.grid_height * p.grid_width * p.k * p.ps * p.ps;
  const int64_t pixels = p.height * p.width;
  return p.dtype == kFloat32 && p.channels >= 4 && taps >= pixels &&
         taps * p.channels >= 24 * pixels;
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
