// The iterations of an inner loop run over the frame side by side, each one row behind the one
// before it, so that what they need stays in the second-level cache: a row of u needs the dual
// variables of its own row and the one above, those need u of their own row and the one below.
// Threads that share a pair share its iterations, each following the one before it down the frame;
// elsewhere they share its rows. What is computed, and in which order, is the same for any number.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <vector>

#include "../common/geometry.h"
#include "../common/parallel.h"
#include "../common/simd.h"
#include "../common/status.h"
#include "../common/team.h"
#include "median_cpu.h"
#include "tvl1.h"

namespace stnls {
namespace {

// Planes of one frame with room around every row, so that vectors may start a pixel before its
// first one and end behind its last one.
class Planes {
 public:
  Planes(int64_t count, int64_t height, int64_t width)
      : pitch_(round_up_to_lanes(width) + 2 * kLanes),
        plane_((height + 1) * pitch_),
        values_(static_cast<size_t>(count * plane_), 0.0f) {}

  // Row -1 is there too.
  float* row(int64_t plane, int64_t y) {
    return values_.data() + plane * plane_ + (y + 1) * pitch_ + kLanes;
  }

 private:
  int64_t pitch_, plane_;
  std::vector<float> values_;
};

// The flow has two homes, between which the median filter moves it.
enum Plane { kU1, kU2, kV1, kV2, kP11, kP12, kP21, kP22, kIx, kIy, kInverse, kRho, kPlanes };

// How far a thread has got; alone in its line of the cache.
struct alignas(64) Place {
  std::atomic<int64_t> sweeps{0};
};

inline FloatV root(FloatV v) {
#if defined(__AVX512F__)
  return _mm512_maskz_sqrt_ps(0xffff, v);
#elif defined(__AVX__) && defined(__FMA__)
  return _mm256_sqrt_ps(v);
#else
  float lanes[kLanes];
  store(lanes, v);
  for (float& lane : lanes) lane = std::sqrt(lane);
  return load(lanes);
#endif
}

// Weights of bicubic convolution (Keys 1981, slope -0.75) at the second of four pixels plus x.
inline void bicubic_weights(FloatV x, FloatV* w) {
  const FloatV a = broadcast(-0.75f), r = 1.0f - x, s = 1.0f + x, t = 2.0f - x;
  w[0] = ((a * s - 5.0f * a) * s + 8.0f * a) * s - 4.0f * a;
  w[1] = ((a + 2.0f) * x - (a + 3.0f)) * x * x + 1.0f;
  w[2] = ((a + 2.0f) * r - (a + 3.0f)) * r * r + 1.0f;
  w[3] = ((a * t - 5.0f * a) * t + 8.0f * a) * t - 4.0f * a;
}

// Six pixels beside each other, and two more.
using Eight = float __attribute__((vector_size(32)));
using Four = float __attribute__((vector_size(16)));

class Pair {
 public:
  Pair(const Tvl1Problem& problem, int64_t b, int64_t threads)
      : p(problem),
        height(problem.height),
        width(problem.width),
        frame0(static_cast<const float*>(p.frame0) + b * height * width),
        frame1(static_cast<const float*>(p.frame1) + b * height * width),
        planes(kPlanes, height, width),
        places(static_cast<size_t>(threads)),
        medians(static_cast<size_t>(p.median == 5 ? threads : 0), Median5x5(width)) {
    const float* start = static_cast<const float*>(p.start) + 2 * b * height * width;
    for (int64_t y = 0; y < height; ++y) {
      std::copy_n(start + y * width, width, planes.row(kU1, y));
      std::copy_n(start + (height + y) * width, width, planes.row(kU2, y));
      extend(kU1, y);
      extend(kU2, y);
    }
    team.run(threads, [&](int64_t member) { run(member); });
    float* out = static_cast<float*>(p.flow) + 2 * b * height * width;
    for (int64_t y = 0; y < height; ++y) {
      std::copy_n(planes.row(home, y), width, out + y * width);
      std::copy_n(planes.row(home + 1, y), width, out + (height + y) * width);
    }
  }

 private:
  const Tvl1Problem& p;
  const int64_t height, width;
  const float* frame0;
  const float* frame1;
  Planes planes;
  Team team;
  std::vector<Place> places;
  std::vector<Median5x5> medians;  // one for each thread
  int64_t home = kU1;              // in the end
  double change = 0;               // squared, of the flow in the last iteration

  void run(int64_t member) {
    const double enough = p.epsilon * p.epsilon * static_cast<double>(height * width);
    const int64_t first = team.first_of(member, height), end = team.first_of(member + 1, height);
    Median5x5* median = p.median == 5 ? &medians[static_cast<size_t>(member)] : nullptr;
    int64_t at = kU1;
    for (int64_t warp = 0; warp < p.warps; ++warp) {
      linearise(at, first, end);
      for (int64_t outer = 0; outer < p.outer; ++outer) {
        if (p.median > 1) {
          const int64_t to = kU1 + kV1 - at;
          for (int64_t n : {0, 1}) filter(median, at + n, to + n, first, end);
          at = to;
        }
        places[static_cast<size_t>(member)].sweeps.store(0, std::memory_order_relaxed);
        team.meet();
        iterate(at, member);
        team.meet();
        if (change <= enough) break;
      }
    }
    if (member == 0) home = at;
  }

  // The pixels beside a row repeat its border: no slope there, and what a median looks at.
  void extend(int64_t plane, int64_t y) {
    float* row = planes.row(plane, y);
    for (int64_t n = 1; n <= 2; ++n) {
      row[-n] = row[0];
      row[width - 1 + n] = row[width - 1];
    }
  }

  // Frame 1 and its slopes where the flow leads, by bicubic convolution; beyond the frame its
  // border is repeated.
  void linearise(int64_t u, int64_t first, int64_t end) {
    for (int64_t y = first; y < end; ++y) {
      const float *u1 = planes.row(u, y), *u2 = planes.row(u + 1, y);
      float *ix = planes.row(kIx, y), *iy = planes.row(kIy, y);
      float *inverse = planes.row(kInverse, y), *rho = planes.row(kRho, y);
      const float* frame = frame0 + y * width;
      for (int64_t x = 0; x < width; x += kLanes) {
        sample(static_cast<float>(y) + load(u2 + x),
               to_float(lane_numbers()) + load(u1 + x) + static_cast<float>(x),
               std::min<int64_t>(kLanes, width - x), rho + x, ix + x, iy + x);
      }
      for (int64_t x = 0; x < width; ++x) {
        const float slope = ix[x] * ix[x] + iy[x] * iy[x];
        inverse[x] = slope > 1e-7f ? 1 / slope : 0;
        rho[x] = rho[x] - ix[x] * u1[x] - iy[x] * u2[x] - frame[x];
      }
    }
  }

  // Within a few pixels of the frame, where everything is the border's; so is what is no number.
  static FloatV clamped(FloatV x, int64_t length) {
    return maximum(minimum(x, broadcast(static_cast<float>(length) + 3.0f)), broadcast(-4.0f));
  }

  // The frame at `count` places, and its central differences there: sums over 6 x 6 pixels.
  void sample(FloatV y, FloatV x, int64_t count, float* value, float* dx, float* dy) const {
    y = clamped(y, height);
    x = clamped(x, width);
    const IntV tops = floor_to_int(y), lefts = floor_to_int(x);
    FloatV weights[4];
    bicubic_weights(y - to_float(tops), weights);
    int32_t top[kLanes], left[kLanes];
    float wy[4][kLanes], behind[kLanes];
    store(top, tops);
    store(left, lefts);
    store(behind, x - to_float(lefts));
    for (int n = 0; n < 4; ++n) store(wy[n], weights[n]);
    // The weights of a row's pixels 1 to 4 and, for half the differences of 2 and 0 to 5 and 3, of
    // 0 to 5, are polynomials of what the place lies behind pixel 2.
    const Eight w0 = {0, 0, 1, 0, 0, 0, 0, 0}, w1 = {0, -0.75f, 0, 0.75f, 0, 0, 0, 0};
    const Eight w2 = {0, 1.5f, -2.25f, 1.5f, -0.75f, 0, 0, 0};
    const Eight w3 = {0, -0.75f, 1.25f, -1.25f, 0.75f, 0, 0, 0};
    const Eight d0 = {0, -0.5f, 0, 0.5f, 0, 0, 0, 0};
    const Eight d1 = {0.375f, 0, -0.75f, 0, 0.375f, 0, 0, 0};
    const Eight d2 = {-0.75f, 1.125f, 0, -0.75f, 0.75f, -0.375f, 0, 0};
    const Eight d3 = {0.375f, -0.625f, 0.25f, 0.25f, -0.625f, 0.375f, 0, 0};
    for (int64_t n = 0; n < count; ++n) {
      const float* around = frame1 + (top[n] - 2) * width + left[n] - 2;
      int64_t pitch = width;
      float copied[6][8];
      if (top[n] < 2 || left[n] < 2 || top[n] + 4 > height || left[n] + 6 > width) {
        for (int64_t i = 0; i < 6; ++i)
          for (int64_t j = 0; j < 8; ++j) copied[i][j] = pixel(top[n] - 2 + i, left[n] - 2 + j);
        around = copied[0];
        pitch = 8;
      }
      Eight a, b, c, d, e, f;
      std::memcpy(&a, around, sizeof a);
      std::memcpy(&b, around + pitch, sizeof b);
      std::memcpy(&c, around + 2 * pitch, sizeof c);
      std::memcpy(&d, around + 3 * pitch, sizeof d);
      std::memcpy(&e, around + 4 * pitch, sizeof e);
      std::memcpy(&f, around + 5 * pitch, sizeof f);
      // Down first, for all columns at once.
      const Eight values = (b * wy[0][n] + c * wy[1][n]) + (d * wy[2][n] + e * wy[3][n]);
      const Eight slopes =
          ((c - a) * wy[0][n] + (d - b) * wy[1][n]) + ((e - c) * wy[2][n] + (f - d) * wy[3][n]);
      const float t = behind[n];
      const Eight at_place = ((w3 * t + w2) * t + w1) * t + w0;
      const Eight sums[3] = {values * at_place, values * (((d3 * t + d2) * t + d1) * t + d0),
                             slopes * at_place};
      float results[3];
      for (int i = 0; i < 3; ++i) {
        Four halves[2];
        std::memcpy(halves, &sums[i], sizeof halves);
        const Four half = halves[0] + halves[1];
        results[i] = (half[0] + half[1]) + (half[2] + half[3]);
      }
      value[n] = results[0];
      dx[n] = results[1];
      dy[n] = 0.5f * results[2];
    }
  }

  float pixel(int64_t y, int64_t x) const {
    y = std::min(std::max<int64_t>(y, 0), height - 1);
    x = std::min(std::max<int64_t>(x, 0), width - 1);
    return frame1[y * width + x];
  }

  // The inner iterations. Sweeps go down the frame; in each one, an iteration updates one row.
  void iterate(int64_t u, int64_t member) {
    const int64_t begin = team.first_of(member, p.inner);
    const int64_t count = team.first_of(member + 1, p.inner) - begin;
    if (count == 0) return;
    const bool is_last = begin + count == p.inner;
    // The one that does the iterations before; some members may have none.
    int64_t before = member - 1;
    while (before >= 0 && team.first_of(before, p.inner) == begin) --before;
    const int64_t ahead = before < 0 ? 0 : begin - team.first_of(before, p.inner) - 1;
    std::atomic<int64_t>& done = places[static_cast<size_t>(member)].sweeps;
    double sum = 0;
    for (int64_t sweep = 0; sweep < height + count - 1; ++sweep) {
      if (before >= 0 && sweep < height) {
        // A row is ready when the one below it has been updated.
        const int64_t needed = std::min(sweep + 2, height) + ahead;
        const std::atomic<int64_t>& others = places[static_cast<size_t>(before)].sweeps;
        wait_until([&] { return others.load(std::memory_order_acquire) >= needed; });
      }
      for (int64_t k = std::max<int64_t>(0, sweep - height + 1); k < std::min(count, sweep + 1);
           ++k) {
        const int64_t y = sweep - k;
        if (is_last && k == count - 1)
          sum += update_flow<true>(u, y);
        else
          update_flow<false>(u, y);
        if (y > 0) update_dual(u, y - 1, y);
        if (y == height - 1) update_dual(u, y, y);
      }
      done.store(sweep + 1, std::memory_order_release);
    }
    if (is_last) change = sum;
  }

  template <bool kMeasure>
  double update_flow(int64_t u, int64_t y) {
    float *u1 = planes.row(u, y), *u2 = planes.row(u + 1, y);
    const float *ix = planes.row(kIx, y), *iy = planes.row(kIy, y);
    const float *inverse = planes.row(kInverse, y), *rho = planes.row(kRho, y);
    const float *p11 = planes.row(kP11, y), *p12 = planes.row(kP12, y);
    const float *p21 = planes.row(kP21, y), *p22 = planes.row(kP22, y);
    const float *above12 = planes.row(kP12, y - 1), *above22 = planes.row(kP22, y - 1);
    const FloatV theta = broadcast(static_cast<float>(p.theta));
    const FloatV most = broadcast(static_cast<float>(p.lambda * p.theta));
    FloatV change = FloatV{};
    for (int64_t x = 0; x < width; x += kLanes) {
      const FloatV a = load(u1 + x), b = load(u2 + x), sx = load(ix + x), sy = load(iy + x);
      const FloatV r = multiply_add(sx, a, multiply_add(sy, b, load(rho + x)));
      const FloatV step = maximum(minimum(-r * load(inverse + x), most), -most);
      const FloatV div1 = (load(p11 + x) - load(p11 + x - 1)) + (load(p12 + x) - load(above12 + x));
      const FloatV div2 = (load(p21 + x) - load(p21 + x - 1)) + (load(p22 + x) - load(above22 + x));
      const FloatV next1 = multiply_add(theta, div1, multiply_add(step, sx, a));
      const FloatV next2 = multiply_add(theta, div2, multiply_add(step, sy, b));
      if constexpr (kMeasure) {
        const FloatV d1 = next1 - a, d2 = next2 - b;
        const FloatV both = multiply_add(d1, d1, d2 * d2);
        if (x + kLanes <= width)
          change += both;
        else
          change += select(broadcast(static_cast<int32_t>(x)) + lane_numbers() <
                               broadcast(static_cast<int32_t>(width)),
                           both, FloatV{});
      }
      store(u1 + x, next1);
      store(u2 + x, next2);
    }
    extend(u, y);
    extend(u + 1, y);
    return kMeasure ? static_cast<double>(sum_of_lanes(change)) : 0.0;
  }

  // `below` is the next row; the row itself at the bottom.
  void update_dual(int64_t u, int64_t y, int64_t below) {
    update_dual(planes.row(u, y), planes.row(u, below), planes.row(kP11, y), planes.row(kP12, y));
    update_dual(planes.row(u + 1, y), planes.row(u + 1, below), planes.row(kP21, y),
                planes.row(kP22, y));
  }

  void update_dual(const float* u, const float* below, float* across, float* down) {
    const FloatV step = broadcast(static_cast<float>(p.tau / p.theta)), one = broadcast(1.0f);
    for (int64_t x = 0; x < width; x += kLanes) {
      const FloatV here = load(u + x);
      const FloatV ux = load(u + x + 1) - here, uy = load(below + x) - here;
      const FloatV size = root(multiply_add(ux, ux, uy * uy));
      const FloatV shrink = one / multiply_add(step, size, one);
      store(across + x, multiply_add(step, ux, load(across + x)) * shrink);
      store(down + x, multiply_add(step, uy, load(down + x)) * shrink);
    }
  }

  // Median filter of one component of the flow; beyond the frame its border is repeated.
  void filter(Median5x5* median, int64_t from, int64_t to, int64_t first, int64_t end) {
    const int64_t reach = p.median / 2;
    for (int64_t y = first; y < end; ++y) {
      const float* around[5];
      for (int64_t n = -reach; n <= reach; ++n)
        around[n + reach] = planes.row(from, std::min(std::max<int64_t>(y + n, 0), height - 1));
      float* out = planes.row(to, y);
      if (p.median == 5)
        (*median)(around, width, out);
      else
        for (int64_t x = 0; x < width; x += kLanes) store(out + x, median3x3(around, x));
      extend(to, y);
    }
  }
};

}  // namespace
}  // namespace stnls

STNLS_API int stnls_cpu_tvl1(const stnls::Tvl1Problem* p, int64_t threads) {
  using namespace stnls;
  return guarded([&] {
    // A thread for each pair; the threads share the pairs that are left.
    const int64_t left = p->batch % std::max<int64_t>(threads, 1), whole = p->batch - left;
    parallel_for(whole, threads, [&](int64_t b, int64_t) { Pair(*p, b, 1); });
    if (left == 0) return;
    // No more than there are iterations, each with a few rows to be ahead of the next one.
    const int64_t most = std::max<int64_t>(1, std::min(p->inner, p->height / 8));
    parallel_for(left, left, [&](int64_t n, int64_t) {
      const int64_t team = threads / left + (n < threads % left ? 1 : 0);
      Pair(*p, whole + n, std::min(most, team));
    });
  });
}
