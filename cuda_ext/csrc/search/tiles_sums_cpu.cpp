#include "tiles_sums_cpu.h"

#include <algorithm>
#include <cstring>

#include "../common/geometry.h"

namespace stnls {

void Block::fetch(const Frame& frame, int64_t top, int64_t left, int64_t rows, int64_t columns) {
  channels = frame.channels;
  pitch = std::max(columns, kUsualPitch);
  data.resize(static_cast<size_t>(rows * row_pitch() + kLanes));
  // Columns [begin, end) lie in the frame.
  const int64_t begin = std::clamp<int64_t>(-left, 0, columns);
  const int64_t end = std::clamp<int64_t>(frame.width - left, begin, columns);
  for (int64_t r = 0; r < rows; ++r) {
    const float* from = frame.pixels + reflect(top + r, frame.height) * frame.row_stride;
    float* to = data.data() + r * row_pitch();
    for (int64_t c = 0; c < channels; ++c, from += frame.channel_stride, to += pitch) {
      for (int64_t x = 0; x < begin; ++x) to[x] = from[reflect(left + x, frame.width)];
      if (end > begin)
        std::memcpy(to + begin, from + left + begin,
                    static_cast<size_t>(end - begin) * sizeof(float));
      for (int64_t x = end; x < columns; ++x) to[x] = from[reflect(left + x, frame.width)];
      std::fill(to + columns, to + pitch, 0.0f);
    }
  }
  std::fill(data.end() - kLanes, data.end(), 0.0f);
}

bool Block::finite() const {
  IntV strange{};
  for (size_t at = 0; at + kLanes <= data.size(); at += kLanes) {
    const FloatV pixels = load(data.data() + at);
    strange |= pixels - pixels != 0.0f;
  }
  return !any(strange);
}

namespace {

// Sums of neighbours starting at each element, pair by pair where their number is known.
template <int kFirst, int kCount>
inline FloatV sum_of_pairs(const float* from) {
  if constexpr (kCount == 1) return load(from + kFirst);
  constexpr int kHalf = (kCount + 1) / 2;
  if constexpr (kCount > 1)
    return sum_of_pairs<kFirst, kHalf>(from) + sum_of_pairs<kFirst + kHalf, kCount - kHalf>(from);
}
template <int kPatch>
inline FloatV sum_along(const float* from, int64_t ps) {
  if constexpr (kPatch > 0) return sum_of_pairs<0, kPatch>(from);
  FloatV sum = load(from);
  for (int64_t i = 1; i < ps; ++i) sum += load(from + i);
  return sum;
}

// The same for a line of them, of which `width` are wanted.
template <int kPatch>
inline void sum_line(const float* from, int64_t width, int64_t ps, float* to) {
#if defined(__AVX512F__)
  if constexpr (kPatch == 7) {
    // Vectors that do not begin at a vector of the line are put together from two: to load them
    // takes two accesses each.
    FloatV here = load(from), next = load(from + kLanes);
    FloatV pairs = here + shifted<1>(here, next);
    for (int64_t x = 0; x < width; x += kLanes) {
      // Of what comes after the last vector of the line nothing is used.
      const FloatV after = x + kLanes < width ? load(from + x + 2 * kLanes) : next;
      const FloatV next_pairs = next + shifted<1>(next, after);
      store(to + x, (pairs + shifted<2>(pairs, next_pairs)) +
                        (shifted<4>(pairs, next_pairs) + shifted<6>(here, next)));
      here = next;
      next = after;
      pairs = next_pairs;
    }
    return;
  }
#endif
#pragma GCC unroll 2
  for (int64_t x = 0; x < width; x += kLanes) store(to + x, sum_along<kPatch>(from + x, ps));
}

// Vectors of several displacements at once.
template <int kN>
struct Vectors {
  FloatV v[kN];

  Vectors& operator+=(const Vectors& other) {
#pragma GCC unroll 8
    for (int i = 0; i < kN; ++i) v[i] += other.v[i];
    return *this;
  }
  Vectors operator+(const Vectors& other) const {
    Vectors sum = *this;
    sum += other;
    return sum;
  }
  void store_to(float* to, int64_t apart) const {
#pragma GCC unroll 8
    for (int i = 0; i < kN; ++i) store(to + i * apart, v[i]);
  }
};

// Sums of kPatch rows that follow each other, beginning at each of `height` rows: terms.next()
// gives one row after the other. Rows are taken in blocks of kPatch; a sum is the end of one block
// and the beginning of the next, which takes two additions and a half, and none of them cancels.
template <int kPatch, class Terms>
inline void sum_rows(Terms terms, int64_t height, float* to, int64_t pitch, int64_t apart) {
  using Values = decltype(terms.next());
  if constexpr (kPatch == 1) {
    for (int64_t y = 0; y < height; ++y) terms.next().store_to(to + y * pitch, apart);
    return;
  }
  Values block[kPatch];
#pragma GCC unroll 16
  for (int i = 0; i < kPatch; ++i) block[i] = terms.next();
  for (const float* end = to + height * pitch;;) {
#pragma GCC unroll 16
    for (int i = kPatch - 2; i >= 0; --i) block[i] += block[i + 1];
    block[0].store_to(to, apart);
    if ((to += pitch) == end) return;
    Values next = terms.next(), beginning = next;
#pragma GCC unroll 16
    for (int i = 1; i < kPatch; ++i) {
      (block[i] + beginning).store_to(to, apart);
      if ((to += pitch) == end) return;
      block[i - 1] = next;
      next = terms.next();
      beginning += next;
    }
    block[kPatch - 1] = next;
  }
}

// Box sums of terms over ps x ps: terms_at(x) gives the rows of a column of vectors.
template <int kPatch, class TermsAt>
inline void box_sums(int64_t ps, int64_t height, int64_t width, float* scratch, float* sums,
                     int64_t sums_pitch, int64_t sums_apart, const TermsAt& terms_at) {
  constexpr int kN = sizeof(decltype(terms_at(0).next())) / sizeof(FloatV);
  const int64_t columns = round_up_to_lanes(width + ps - 1), apart = height * columns;
  float* column_sums = scratch;
  if constexpr (kPatch > 0) {
    for (int64_t x = 0; x < columns; x += kLanes)
      sum_rows<kPatch>(terms_at(x), height, column_sums + x, columns, apart);
  } else {
    float* line = scratch + kN * apart;
    for (int64_t x = 0; x < columns; x += kLanes) {
      auto terms = terms_at(x);
      for (int64_t y = 0; y < height + ps - 1; ++y)
        terms.next().store_to(line + y * kN * kLanes, kLanes);
      for (int64_t y = 0; y < height; ++y) {
        for (int n = 0; n < kN; ++n) {
          const float* from = line + (y * kN + n) * kLanes;
          FloatV sum = load(from);
          for (int64_t i = 1; i < ps; ++i) sum += load(from + i * kN * kLanes);
          store(column_sums + n * apart + y * columns + x, sum);
        }
      }
    }
  }
  for (int n = 0; n < kN; ++n, column_sums += apart, sums += sums_apart)
    for (int64_t y = 0; y < height; ++y)
      sum_line<kPatch>(column_sums + y * columns, width, ps, sums + y * sums_pitch);
}

template <bool kProduct>
inline FloatV add_term(FloatV a, FloatV b, FloatV sum) {
  if constexpr (kProduct) return multiply_add(-a, b, sum);
  return multiply_add(a - b, a - b, sum);
}

// kChannels: 0 for any number of them and any pitch.
template <bool kProduct, int kChannels, int kN>
struct Differences {
  const float *query, *key;
  int64_t query_pitch, key_pitch, channels;

  Vectors<kN> next() {
    Vectors<kN> sum{};
    if constexpr (kChannels > 0) {
      constexpr int64_t pitch = Block::kUsualPitch;
#pragma GCC unroll 8
      for (int c = 0; c < kChannels; ++c) add(query + c * pitch, key + c * pitch, sum);
      query += kChannels * pitch;
      key += kChannels * pitch;
    } else {
      for (int64_t c = 0; c < channels; ++c, query += query_pitch, key += key_pitch)
        add(query, key, sum);
    }
    return sum;
  }

  static void add(const float* a, const float* b, Vectors<kN>& sum) {
    const FloatV va = load(a);
#pragma GCC unroll 8
    for (int i = 0; i < kN; ++i) sum.v[i] = add_term<kProduct>(va, load(b + i), sum.v[i]);
  }
};

template <bool kProduct, int kChannels, int kPatch, int kN>
void patch_sums(const PatchSums& p) {
  using Terms = Differences<kProduct, kChannels, kN>;
  box_sums<kPatch>(p.ps, p.height, p.width, p.scratch, p.sums, p.sums_pitch, p.width,
                   [&](int64_t x) {
                     return Terms{p.query + x, p.key + x, p.query_pitch, p.key_pitch, p.channels};
                   });
}

template <bool kProduct>
float patch_sum_of_one(const PatchSums& p) {
  FloatV sum{};
  for (int64_t x = 0; x < p.ps; x += kLanes) {
    const IntV used = lane_numbers() < static_cast<int32_t>(p.ps - x);
    const float *query = p.query + x, *key = p.key + x;
    for (int64_t line = 0; line < p.ps * p.channels; ++line) {
      FloatV a = load(query), b = load(key);
      if constexpr (kProduct) {
        sum = multiply_add(-select(used, a, FloatV{}), select(used, b, FloatV{}), sum);
      } else {
        a = select(used, a - b, FloatV{});
        sum = multiply_add(a, a, sum);
      }
      query += p.query_pitch;
      key += p.key_pitch;
    }
  }
  return sum_of_lanes(sum);
}

template <bool kProduct, int kPatch>
PatchSumFunctions functions_for(int64_t channels, bool usual_pitch) {
  const auto one = patch_sum_of_one<kProduct>;
  if (usual_pitch && channels == 1)
    return {patch_sums<kProduct, 1, kPatch, 1>, patch_sums<kProduct, 1, kPatch, 2>, one};
  if (usual_pitch && channels == 3)
    return {patch_sums<kProduct, 3, kPatch, 1>, patch_sums<kProduct, 3, kPatch, 2>, one};
  return {patch_sums<kProduct, 0, kPatch, 1>, patch_sums<kProduct, 0, kPatch, 2>, one};
}

template <bool kProduct>
PatchSumFunctions functions_for(int64_t ps, int64_t channels, bool usual_pitch) {
  switch (ps) {
    case 1:
      return functions_for<kProduct, 1>(channels, usual_pitch);
    case 3:
      return functions_for<kProduct, 3>(channels, usual_pitch);
    case 5:
      return functions_for<kProduct, 5>(channels, usual_pitch);
    case 7:
      return functions_for<kProduct, 7>(channels, usual_pitch);
    case 9:
      return functions_for<kProduct, 9>(channels, usual_pitch);
    default:
      return functions_for<kProduct, 0>(channels, usual_pitch);
  }
}

}  // namespace

PatchSumFunctions patch_sum_functions(int64_t ps, int64_t channels, bool product,
                                      bool usual_pitch) {
  return product ? functions_for<true>(ps, channels, usual_pitch)
                 : functions_for<false>(ps, channels, usual_pitch);
}

int64_t PatchSums::scratch_size(int64_t ps, int64_t height, int64_t width) {
  return 2 * (height * round_up_to_lanes(width + ps - 1) + (height + ps - 1) * kLanes);
}

namespace {

// Squared differences between the pixels of a block, added over the channels.
struct Neighbours {
  const float* pixel;
  int64_t pitch, channels;
  int kind;

  Vectors<1> next() {
    FloatV sum{};
    const int64_t row = channels * pitch;
    for (int64_t c = 0; c < channels; ++c, pixel += pitch) {
      const FloatV here = load(pixel);
      if (kind == 0) {
        const FloatV right = load(pixel + 1) - here;
        sum = multiply_add(right, right, sum);
      } else if (kind == 1) {
        const FloatV below = load(pixel + row) - here;
        sum = multiply_add(below, below, sum);
      } else {
        const FloatV down = load(pixel + row + 1) - here, up = load(pixel + row) - load(pixel + 1);
        sum = multiply_add(down, down, multiply_add(up, up, sum));
      }
    }
    return {{sum}};
  }
};

}  // namespace

void NeighbourSums::make(const Block& block, int64_t ps, int64_t rows, int64_t width) {
  pitch = width;
  const int64_t plane = (rows + 1) * pitch;
  data.resize(static_cast<size_t>(3 * plane));
  scratch.resize(static_cast<size_t>(PatchSums::scratch_size(ps, rows + 1, width)));
  for (int kind = 0; kind < 3; ++kind) {
    const int64_t height = kind == 0 ? rows + 1 : rows;
    const auto terms_at = [&](int64_t x) {
      return Neighbours{block.at(0, x), block.pitch, block.channels, kind};
    };
    float* to = data.data() + kind * plane;
    ps == 7 ? box_sums<7>(ps, height, width, scratch.data(), to, pitch, 0, terms_at)
            : box_sums<0>(ps, height, width, scratch.data(), to, pitch, 0, terms_at);
  }
  right = data.data();
  below = right + plane;
  diagonals = below + plane;
}

}  // namespace stnls
