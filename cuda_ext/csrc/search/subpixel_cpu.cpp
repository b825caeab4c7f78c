#include "subpixel_cpu.h"

#include <algorithm>

#include "../common/columns_cpu.h"
#include "../common/parallel.h"
#include "../common/patch_size.h"
#include "../common/status.h"

namespace stnls {
namespace {

// The nine distances of PatchDistances::together, a vector of columns at a time; patches at the
// border are copied to a block of their own first.
template <int kPs>
struct VectorDistances {
  using Real = float;
  static constexpr int kWide = kPs + 2, kFirst = -(kPs / 2);
  static constexpr int kVectors = (kPs + kColumns - 1) / kColumns;
  static constexpr int kReach = kVectors * kColumns + 3;  // columns that are loaded
  static constexpr int kPitch = kReach + 1;
  static constexpr int kMostChannels = 4;

  const SubpixelProblem& p;
  PatchDistances<float, kPs> scalar;

  explicit VectorDistances(const SubpixelProblem& problem) : p(problem), scalar{problem} {}

  void nine(int64_t b, int64_t i, int64_t j, const NinePlaces<float>& places, float* d) const {
    constexpr float kFar = 1 << 22;
    const bool near = std::fabs(places.top) < kFar && std::fabs(places.left) < kFar;  // not if NaN
    if (places.step != 1.0f || p.channels > kMostChannels || !near)
      return scalar.nine(b, i, j, places, d);
    const float floor_h = std::floor(places.top), floor_w = std::floor(places.left);
    const int64_t top = static_cast<int64_t>(floor_h) + kFirst;
    const int64_t left = static_cast<int64_t>(floor_w) + kFirst;
    const int64_t plane = p.height * p.width;
    const float *query = scalar.query(b), *key = scalar.key(b);
    float share_h = places.top - floor_h, share_w = places.left - floor_w;
    const bool whole = top >= 0 && top + kWide < p.height && left >= 0 &&
                       left + kReach <= p.width && i + kFirst >= 0 &&
                       i + kFirst + kPs <= p.height && j + kFirst >= 0 &&
                       j + kFirst + kVectors * kColumns <= p.width;
    if (whole) {
      sum(query + (i + kFirst) * p.width + j + kFirst, key + top * p.width + left, plane, p.width,
          share_h, share_w, d);
    } else {
      float blocks[2][kMostChannels * (kWide + 1) * kPitch] = {};
      constexpr int64_t kPlane = (kWide + 1) * kPitch;
      for (int y = 0; y <= kWide; ++y) {
        const int64_t key_row = reflect(top + y, p.height) * p.width;
        const int64_t query_row = reflect(i + kFirst + y, p.height) * p.width;
        for (int x = 0; x <= kWide; ++x) {
          const int64_t key_at = key_row + reflect(left + x, p.width);
          const int64_t query_at = query_row + reflect(j + kFirst + x, p.width);
          for (int64_t c = 0; c < p.channels; ++c) {
            blocks[0][c * kPlane + y * kPitch + x] = query[c * plane + query_at];
            blocks[1][c * kPlane + y * kPitch + x] = key[c * plane + key_at];
          }
        }
      }
      sum(blocks[0], blocks[1], kPlane, kPitch, share_h, share_w, d);
    }
    scalar.drop_outside(places, d);
  }

 private:
  void sum(const float* query, const float* key, int64_t plane, int64_t pitch, float share_h,
           float share_w, float* d) const {
    share_h == 0.0f && share_w == 0.0f
        ? sum_columns<true>(query, key, plane, pitch, share_h, share_w, d)
        : sum_columns<false>(query, key, plane, pitch, share_h, share_w, d);
  }

  // kWholePixels: the places are pixels.
  template <bool kWholePixels>
  void sum_columns(const float* query, const float* key, int64_t plane, int64_t pitch,
                   float share_h, float share_w, float* d) const {
    const Columns down = Columns{} + share_h, right = Columns{} + share_w;
    for (int n = 0; n < 9; ++n) d[n] = 0.0f;
    for (int from = 0; from < kPs; from += kColumns) {
      Columns total[9] = {};
      for (int64_t c = 0; c < p.channels; ++c)
        add_columns<kWholePixels>(query + c * plane + from, key + c * plane + from, pitch, down,
                                  right, total);
      constexpr int kLast = kPs % kColumns == 0 ? kColumns : kPs % kColumns;
      const int lanes = from + kColumns < kPs ? kColumns : kLast;
      for (int n = 0; n < 9; ++n) {
        float values[kColumns];
        store_columns(values, total[n]);
        for (int lane = 0; lane < lanes; ++lane) d[n] += values[lane];
      }
    }
  }

  // A vector of the patch's columns in one channel. Samples are made anew for each of the three
  // columns of places: reading them back from memory between two stores would stall.
  template <bool kWholePixels>
  void add_columns(const float* query, const float* key, int64_t pitch, Columns down, Columns right,
                   Columns* total) const {
    Columns before[3] = {};
#pragma GCC unroll 16
    for (int r = 0; r <= kWide; ++r, key += pitch) {
      Columns sample[3], low = load_columns(key);
      for (int dx = 0; dx < 3; ++dx) {
        const Columns high = load_columns(key + dx + 1);
        const Columns line = kWholePixels ? low : fused(right, high - low, low);
        sample[dx] = kWholePixels ? before[dx] : fused(down, line - before[dx], before[dx]);
        before[dx] = line;
        low = high;
      }
#pragma GCC unroll 3
      for (int dy = 0; dy < 3; ++dy) {
        const int y = r - 1 - dy;
        if (y < 0 || y >= kPs) continue;
        const Columns value = load_columns(query + y * pitch);
        for (int dx = 0; dx < 3; ++dx) {
          const Columns difference = value - sample[dx];
          total[3 * dy + dx] = fused(difference, difference, total[3 * dy + dx]);
        }
      }
    }
  }
};

// Calls work(distances) with what serves the problem best.
template <class Work>
void with_distances(const SubpixelProblem& p, const Work& work) {
  if (p.dtype == kFloat64) return work(PatchDistances<double, 0>{p});
  with_patch_size(p.ps, [&](auto size) {
    constexpr int kPs = decltype(size)::value;
    using Distances = std::conditional_t<(kPs > 0), VectorDistances<kPs>, PatchDistances<float, 0>>;
    work(Distances{p});
  });
}

}  // namespace

void move_matches(const SubpixelProblem& p, int64_t threads) {
  with_distances(p, [&](const auto& distances) {
    parallel_for(p.batch * p.height, threads, [&](int64_t row, int64_t) {
      for (int64_t j = 0; j < p.width; ++j) move(p, distances, row / p.height, row % p.height, j);
    });
  });
}

void move_matches(const SubpixelProblem& p, const std::vector<int64_t>& queries, int64_t threads) {
  constexpr int64_t kTogether = 64;
  const int64_t count = static_cast<int64_t>(queries.size());
  with_distances(p, [&](const auto& distances) {
    parallel_for((count + kTogether - 1) / kTogether, threads, [&](int64_t item, int64_t) {
      const int64_t end = std::min(count, (item + 1) * kTogether);
      for (int64_t n = item * kTogether; n < end; ++n) {
        const int64_t row = queries[static_cast<size_t>(n)] / p.width;
        const int64_t j = queries[static_cast<size_t>(n)] % p.width;
        move(p, distances, row / p.height, row % p.height, j);
      }
    });
  });
}

}  // namespace stnls

STNLS_API int stnls_cpu_subpixel(const stnls::SubpixelProblem* p, int64_t threads) {
  using namespace stnls;
  return guarded([&] { move_matches(*p, threads); });
}
