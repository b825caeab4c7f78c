// Patch sums of whole tiles at one displacement (CPU).
#pragma once

#include <cstdint>
#include <vector>

#include "../common/simd.h"

namespace stnls {

// A part of one frame, reflected at the frame's borders. Rows hold one line of each channel; what
// lies behind a line is zero.
struct Block {
  std::vector<float> data;
  int64_t channels = 0, pitch = 0;

  // The pitch of all but very wide blocks; odd in vectors, so that rows do not share cache sets.
  static constexpr int64_t kUsualPitch = 104;

  const float* at(int64_t row, int64_t x) const { return data.data() + row * row_pitch() + x; }
  int64_t row_pitch() const { return channels * pitch; }

  struct Frame {
    const float* pixels;
    int64_t channels, channel_stride, row_stride, height, width;
  };
  // Vectors may be read from any place in it, also where they reach beyond its end.
  void fetch(const Frame& frame, int64_t top, int64_t left, int64_t rows, int64_t columns);
  // Whether no pixel is infinite or not a number.
  bool finite() const;
};

// For every query of a rectangle the sum over its patch, at one displacement.
struct PatchSums {
  const float *query, *key;  // the first pixel of the first query's patch, and of its match
  int64_t query_pitch, key_pitch, channels, ps;
  int64_t height, width;  // width: a multiple of the vector
  float* scratch;         // as many floats as scratch_size says
  float* sums;
  int64_t sums_pitch;

  static int64_t scratch_size(int64_t ps, int64_t height, int64_t width);
};

struct PatchSumFunctions {
  void (*at_one)(const PatchSums&);
  // Also at the displacement to the right; its sums lie `width` behind the others.
  void (*at_two)(const PatchSums&);
  // The sum of the first query alone.
  float (*of_first)(const PatchSums&);
};

// Sums of squared differences, or of negated products. usual_pitch: both blocks have it.
PatchSumFunctions patch_sum_functions(int64_t ps, int64_t channels, bool product, bool usual_pitch);

// Patch sums of squared differences between neighbouring pixels of a block: between each one and
// that to its right, and that below, and the two diagonals of a square of four added.
struct NeighbourSums {
  const float *right, *below, *diagonals;
  int64_t pitch = 0;

  // `right` has one row more than the others. The block must be larger by the patch, and by one
  // row and one column.
  void make(const Block& block, int64_t ps, int64_t rows, int64_t width);

 private:
  std::vector<float> data, scratch;
};

}  // namespace stnls
