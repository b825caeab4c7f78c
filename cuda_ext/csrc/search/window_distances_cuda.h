// The distances of the queries of a tile at whole displacements, which a warp puts into shared
// memory column by column.
//
// A lane holds a column of the tile's pixels. For one displacement the distances of all patches are
// box sums of one difference image, so that a pixel of it is computed once for all patches that
// cover it.
#pragma once

#include "box_sums_cuda.h"
#include "direct.h"
#include "query_tile_cuda.h"
#include "window_places_cuda.h"
#include "window_shape_cuda.h"

namespace stnls {

// kChannels: 0 where the tile's pixels do not stay in registers, of any number of channels.
template <int kPs, int kChannels, bool kProduct, int kRows>
class WindowDistances {
 public:
  static constexpr int kHigh = kRows + kPs - 1;  // of pixels
  // Displacements that share what is read: along a column, and columns.
  static constexpr int kSteps = kChannels > 0 || kPs > 7 ? 2 : 4;
  static constexpr int kAbreast = window_abreast(kPs, kChannels > 0);
  static constexpr int kPairs = kAbreast / 2;        // of columns beside each other
  static constexpr int kLines = kHigh - 1 + kSteps;  // of pixels of the key
  static constexpr int kLine = kRows * 32;           // from one line of distances to the next

  // reach: window_reach; sums: room for `kept` columns of distances of every query.
  __device__ WindowDistances(const SearchProblem& problem, const QueryTile& tile, int lane,
                             int reach, int kept, float* sums)
      : p(problem),
        tile(tile),
        lane(lane),
        reach(reach),
        kept(kept),
        // What lies right of the last patch is not needed.
        column(min(tile.left + lane, tile.width + kPs - 2) + static_cast<int>(p.patch_offset)),
        sums(sums) {}

  // Whether all pixels that are read for a union of windows are mirrored at most once.
  __device__ bool near(int low_h, int low_w, int high, int wide) const {
    const int above = tile.top + low_h + static_cast<int>(p.patch_offset);
    const int before = tile.left + low_w + static_cast<int>(p.patch_offset);
    const int last = __shfl_sync(0xffffffffu, column, 31);
    return near(above, above + high + kHigh + kSteps, tile.height) &&
           near(before, last + low_w + wide + kAbreast, tile.width);
  }
  // The same for the tile's own pixels, along its columns.
  __device__ bool near_own() const {
    const int own = tile.top + static_cast<int>(p.patch_offset + p.offset_height);
    return near(own, own + kHigh - 1, tile.height);
  }

  // Where the distances of a column of displacements are, if not all are kept. low_w: the first of
  // all columns.
  __device__ int kept_at(int dx, int low_w) const { return (dx - low_w + kept) % kept; }

  // The distances of all queries at displacements (begin .. end - 1, dx .. dx + kAbreast - 1).
  // first_h, first_w: where the queries' windows begin.
  __device__ void walk(const float* key, int low_w, int dx, int begin, int end,
                       const int (&first_h)[kRows], const int (&first_w)[kRows]) {
    const int y0 = tile.top + static_cast<int>(p.patch_offset);
    const int own_y0 = y0 + static_cast<int>(p.offset_height), own_x = query_column();
    const float* own = tile.plane_of(p.query, p.query_stride, tile.t);
    int first[kRows], to[kRows];
    if constexpr (kChannels > 0) {
      const int x = mirror(column + dx, tile.width);
      aim(dx, low_w, first_h, first_w, first, to);
      float query[kChannels][kHigh];  // read again for every column: little beside what follows
#pragma unroll
      for (int r = 0; r < kHigh; ++r) {
        const unsigned from = at(own_y0 + r, own_x, p.query_stride[4]);
#pragma unroll
        for (int c = 0; c < kChannels; ++c)
          query[c][r] = *place_of(own + c * p.query_stride[3], from);
      }
      float k[kChannels][kHigh - 1 + kSteps];
#pragma unroll
      for (int r = 0; r < kHigh - 1; ++r) read_row(key, y0 + begin + r, x, k, r);
      for (int dy = begin; dy < end; dy += kSteps) {
#pragma unroll
        for (int s = 0; s < kSteps; ++s)
          read_row(key, y0 + dy + kHigh - 1 + s, x, k, kHigh - 1 + s);
#pragma unroll
        for (int s = 0; s < kSteps; ++s) {
          float terms[kHigh];
#pragma unroll
          for (int r = 0; r < kHigh; ++r) {
            float sum = 0.0f;
#pragma unroll
            for (int c = 0; c < kChannels; ++c) sum = add(query[c][r], k[c][r + s], sum);
            terms[r] = sum;
          }
          keep(terms, dy + s, first, to);
        }
#pragma unroll
        for (int c = 0; c < kChannels; ++c)
#pragma unroll
          for (int r = 0; r < kHigh - 1; ++r) k[c][r] = k[c][r + kSteps];
      }
    } else {
      unsigned own_row[kHigh];
#pragma unroll
      for (int r = 0; r < kHigh; ++r) own_row[r] = at(own_y0 + r, own_x, p.query_stride[4]);
      for (int dy = begin; dy < end; dy += kSteps) {
        float terms[kAbreast][kSteps][kHigh] = {};
        const unsigned turned = add_channels(own, own_row, key, y0 + dy, column + dx, terms);
        float down[kAbreast][kSteps][kRows];
#pragma unroll
        for (int n = 0; n < kAbreast; ++n)
#pragma unroll
          for (int s = 0; s < kSteps; ++s) sum_columns<kPs, kRows>(terms[n][s], down[n][s]);
        if (__any_sync(0xffffffffu, turned != 0)) turn(turned, down);
#pragma unroll
        for (int n = 0; n < kAbreast; ++n) {
          aim(dx + n, low_w, first_h, first_w, first, to);
#pragma unroll
          for (int s = 0; s < kSteps; ++s) keep_rows(down[n][s], dy + s, first, to);
        }
      }
    }
  }

 private:
  // Where a channel is read: the tile's pixels, and the key's, the left one of each two columns.
  struct Places {
    const float *own[kHigh], *key[kPairs][kLines];

    __device__ __forceinline__ Places(const float* query, const unsigned (&from)[kHigh],
                                      const float* plane, const unsigned (&row)[kLines],
                                      const unsigned (&across)[kPairs]) {
#pragma unroll
      for (int r = 0; r < kHigh; ++r) own[r] = place_of(query, from[r]);
#pragma unroll
      for (int m = 0; m < kPairs; ++m)
#pragma unroll
        for (int r = 0; r < kLines; ++r) key[m][r] = place_of(plane, row[r] + across[m]);
    }
    // To the channel after; by so many bytes.
    __device__ __forceinline__ void advance(unsigned own_step, unsigned key_step) {
#pragma unroll
      for (int r = 0; r < kHigh; ++r) own[r] = place_of(own[r], own_step);
#pragma unroll
      for (int m = 0; m < kPairs; ++m)
#pragma unroll
        for (int r = 0; r < kLines; ++r) key[m][r] = place_of(key[m][r], key_step);
    }
  };

  const SearchProblem& p;
  const QueryTile tile;
  const int lane;
  const int reach, kept;  // displacements along one axis; columns of them that are kept
  const int column;       // of the lane's pixels
  float* const sums;

  // Mirrors at most once: where all of `low` .. `high` can be mirrored so.
  __device__ static bool near(int low, int high, int length) {
    return low > -length && high < 2 * length - 1;
  }
  __device__ static int mirror(int x, int length) { return length - 1 - abs(length - 1 - abs(x)); }

  // A place of a plane, so many bytes from its beginning.
  __device__ static const float* place_of(const float* plane, unsigned bytes) {
    return reinterpret_cast<const float*>(reinterpret_cast<const char*>(plane) + bytes);
  }
  // Bytes to a place of a plane.
  __device__ unsigned at(int y, int x, int64_t pitch) const {
    return 4u * static_cast<unsigned>(mirror(y, tile.height) * static_cast<int>(pitch) + x);
  }
  __device__ int query_column() const {
    return static_cast<int>(reflect(column + p.offset_width, p.width));
  }

  // First row displacement of the windows that column dx is in, and where its distances go.
  __device__ __forceinline__ void aim(int dx, int low_w, const int (&first_h)[kRows],
                                      const int (&first_w)[kRows], int (&first)[kRows],
                                      int (&to)[kRows]) const {
    const bool whole = kept == reach;
    const int place = whole ? 0 : kept_at(dx, low_w);
#pragma unroll
    for (int row = 0; row < kRows; ++row) {
      const int column = dx - first_w[row];
      const bool in = static_cast<unsigned>(column) < static_cast<unsigned>(reach);
      first[row] = in ? first_h[row] : kNoWindow;
      to[row] = (whole ? column : place) * reach * kLine + row * 32 + lane;
    }
  }

  // Adds the terms of all channels: of the tile's pixels in one column, at displacements that begin
  // at pixel (y, x) of the key. Two columns beside each other are so when they are mirrored, too,
  // maybe the other way round: bit m of the result says that columns 2m and 2m + 1 have changed
  // places.
  __device__ __forceinline__ unsigned add_channels(const float* query, const unsigned (&own)[kHigh],
                                                   const float* key, int y, int x,
                                                   float (&terms)[kAbreast][kSteps][kHigh]) const {
    unsigned row[kLines], across[kPairs], turned = 0;
#pragma unroll
    for (int r = 0; r < kLines; ++r) row[r] = at(y + r, 0, p.key_stride[4]);
#pragma unroll
    for (int m = 0; m < kPairs; ++m) {
      const int one = mirror(x + 2 * m, tile.width), other = mirror(x + 2 * m + 1, tile.width);
      across[m] = 4u * static_cast<unsigned>(min(one, other));
      turned |= other < one ? 1u << m : 0u;
    }
    Places places(query, own, key, row, across);
    // A channel is read while the one before it is summed. There is no branch around the read, or
    // the compiler would move it down to its use; so the last channel may be read twice.
    const unsigned own_step = 4u * static_cast<unsigned>(p.query_stride[3]);
    const unsigned key_step = 4u * static_cast<unsigned>(p.key_stride[3]);
    const unsigned same_step = __shfl_sync(0xffffffffu, key_step, 0);
    Channel one, other;
    one.read(places);
    for (int left = static_cast<int>(p.channels);; left -= 2) {
      places.advance(left > 1 ? own_step : 0, left > 1 ? key_step : 0);
      other.read(places);
      one.add_to(terms);
      if (left <= 1) return turned;
      places.advance(left > 2 ? own_step : 0,
                     left > 2 ? after(other.k[0][0], key_step, same_step) : 0);
      one.read(places);
      other.add_to(terms);
      if (left <= 2) return turned;
    }
  }

  // A step that depends on `value`: the next channel is not read before this one has arrived.
  // Without that the compiler counts both reads by one scoreboard, and a wait for one is a wait for
  // both. `same` equals `step`, which the compiler cannot know.
  __device__ __forceinline__ static unsigned after(float value, unsigned step, unsigned same) {
    unsigned chosen;
    asm volatile(
        "{\n"
        ".reg .pred is_nan;\n"
        "setp.nan.f32 is_nan, %1, %1;\n"
        "selp.u32 %0, %3, %2, is_nan;\n"
        "}\n"
        : "=r"(chosen)
        : "f"(value), "r"(step), "r"(same));
    return chosen;
  }

  // What one channel adds to the terms.
  struct Channel {
    float a[kHigh], k[kAbreast][kLines];

    __device__ __forceinline__ void read(const Places& places) {
#pragma unroll
      for (int r = 0; r < kHigh; ++r) a[r] = value_at<0>(places.own[r]);
#pragma unroll
      for (int m = 0; m < kPairs; ++m)
#pragma unroll
        for (int r = 0; r < kLines; ++r) {
          k[2 * m][r] = value_at<0>(places.key[m][r]);
          k[2 * m + 1][r] = value_at<1>(places.key[m][r]);
        }
    }
    // kBehind places after `place`, as an offset of the instruction: no second address in
    // registers. A relaxed read is not moved down to its use; nobody writes here.
    template <int kBehind>
    __device__ __forceinline__ static float value_at(const float* place) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 700
      float value;
      asm volatile("ld.relaxed.cta.global.f32 %0, [%1+%2];"
                   : "=f"(value)
                   : "l"(place), "n"(4 * kBehind));
      return value;
#else
      return place[kBehind];
#endif
    }
    __device__ __forceinline__ void add_to(float (&terms)[kAbreast][kSteps][kHigh]) const {
#pragma unroll
      for (int n = 0; n < kAbreast; ++n)
#pragma unroll
        for (int s = 0; s < kSteps; ++s)
#pragma unroll
          for (int r = 0; r < kHigh; ++r) terms[n][s][r] = add(a[r], k[n][r + s], terms[n][s][r]);
    }
  };

  // Puts right what was summed for columns that have changed places.
  __device__ static void turn(unsigned turned, float (&down)[kAbreast][kSteps][kRows]) {
#pragma unroll
    for (int m = 0; m < kPairs; ++m)
#pragma unroll
      for (int s = 0; s < kSteps; ++s)
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
          float &one = down[2 * m][s][r], &other = down[2 * m + 1][s][r];
          const float left = one;
          if (turned >> m & 1) one = other, other = left;
        }
  }

  template <class Rows>
  __device__ void read_row(const float* key, int y, int x, Rows& k, int r) const {
    const unsigned from = at(y, x, p.key_stride[4]);
#pragma unroll
    for (int c = 0; c < kChannels; ++c) k[c][r] = *place_of(key + c * p.key_stride[3], from);
  }
  __device__ static float add(float q, float k, float sum) {
    return DirectSearch<float, true, kProduct>::add_term(q, k, sum);
  }

  // Sums the pixels' terms over the patches, and stores those that a window needs.
  __device__ void keep(const float (&terms)[kHigh], int dy, const int (&first)[kRows],
                       const int (&to)[kRows]) const {
    float down[kRows];
    sum_columns<kPs, kRows>(terms, down);
    keep_rows(down, dy, first, to);
  }
  __device__ void keep_rows(const float (&down)[kRows], int dy, const int (&first)[kRows],
                            const int (&to)[kRows]) const {
#pragma unroll
    for (int row = 0; row < kRows; ++row) {
      const float sum = sum_rows<kPs>(down[row]);
      const int r = dy - first[row];
      if (static_cast<unsigned>(r) < static_cast<unsigned>(reach))
        sums[to[row] + r * kLine] = kProduct ? -sum : sum;
    }
  }
};

}  // namespace stnls
