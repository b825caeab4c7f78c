// One thread works on a pair. The iterations of an inner loop run over the frame side by side, each
// one row behind the one before it, so that what they need stays in the second-level cache: a row
// of u needs the dual variables of its own row and the one above, those need u of their own row and
// the one below.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "../common/geometry.h"
#include "../common/parallel.h"
#include "../common/simd.h"
#include "../common/status.h"
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

enum Plane { kU1, kU2, kP11, kP12, kP21, kP22, kIx, kIy, kInverse, kRho, kPlanes };

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

class Pair {
 public:
  Pair(const Tvl1Problem& problem, int64_t b)
      : p(problem),
        height(problem.height),
        width(problem.width),
        frame0(static_cast<const float*>(p.frame0) + b * height * width),
        frame1(static_cast<const float*>(p.frame1) + b * height * width),
        planes(kPlanes, height, width) {
    const float* start = static_cast<const float*>(p.start) + 2 * b * height * width;
    for (int64_t y = 0; y < height; ++y) {
      std::copy_n(start + y * width, width, planes.row(kU1, y));
      std::copy_n(start + (height + y) * width, width, planes.row(kU2, y));
      extend(y);
    }
    float* out = static_cast<float*>(p.flow) + 2 * b * height * width;
    run();
    for (int64_t y = 0; y < height; ++y) {
      std::copy_n(planes.row(kU1, y), width, out + y * width);
      std::copy_n(planes.row(kU2, y), width, out + (height + y) * width);
    }
  }

 private:
  const Tvl1Problem& p;
  const int64_t height, width;
  const float* frame0;
  const float* frame1;
  Planes planes;

  void run() {
    const double enough = p.epsilon * p.epsilon * static_cast<double>(height * width);
    for (int64_t warp = 0; warp < p.warps; ++warp) {
      linearise();
      for (int64_t outer = 0; outer < p.outer; ++outer) {
        if (p.median > 1) {
          filter(kU1);
          filter(kU2);
        }
        if (iterate() <= enough) break;
      }
    }
  }

  // The pixel behind the last one repeats it: no slope there.
  void extend(int64_t y) {
    for (int plane : {kU1, kU2}) {
      float* row = planes.row(plane, y);
      row[width] = row[width - 1];
    }
  }

  float pixel(int64_t y, int64_t x) const {
    y = std::min(std::max<int64_t>(y, 0), height - 1);
    x = std::min(std::max<int64_t>(x, 0), width - 1);
    return frame1[y * width + x];
  }

  // Frame 1 and its slopes where the flow leads, by bicubic convolution; beyond the frame its
  // border is repeated.
  void linearise() {
    for (int64_t y = 0; y < height; ++y) {
      const float* u1 = planes.row(kU1, y);
      const float* u2 = planes.row(kU2, y);
      float *ix = planes.row(kIx, y), *iy = planes.row(kIy, y);
      float *inverse = planes.row(kInverse, y), *rho = planes.row(kRho, y);
      for (int64_t x = 0; x < width; ++x) {
        const float at_x = clamped(static_cast<float>(x) + u1[x], width);
        const float at_y = clamped(static_cast<float>(y) + u2[x], height);
        const Sampled s = sample(at_y, at_x);
        const float slope = s.dx * s.dx + s.dy * s.dy;
        ix[x] = s.dx;
        iy[x] = s.dy;
        inverse[x] = slope > 1e-7f ? 1 / slope : 0;
        rho[x] = s.value - s.dx * u1[x] - s.dy * u2[x] - frame0[y * width + x];
      }
    }
  }

  // Within a few pixels of the frame, where everything is the border's; so is what is no number.
  static float clamped(float x, int64_t length) {
    return x >= -4.0f ? std::min(x, static_cast<float>(length) + 3.0f) : -4.0f;
  }

  struct Sampled {
    float value, dx, dy;
  };

  static void weights(float x, float* w) {
    const float a = -0.75f, r = 1 - x, s = 1 + x, t = 2 - x;
    w[0] = ((a * s - 5 * a) * s + 8 * a) * s - 4 * a;
    w[1] = ((a + 2) * x - (a + 3)) * x * x + 1;
    w[2] = ((a + 2) * r - (a + 3)) * r * r + 1;
    w[3] = ((a * t - 5 * a) * t + 8 * a) * t - 4 * a;
  }

  // The frame, and its central differences, sampled at a place.
  Sampled sample(float at_y, float at_x) const {
    const int64_t top = static_cast<int64_t>(std::floor(at_y));
    const int64_t left = static_cast<int64_t>(std::floor(at_x));
    float wy[4], wx[4];
    weights(at_y - static_cast<float>(top), wy);
    weights(at_x - static_cast<float>(left), wx);
    float around[6][6];
    const bool whole = top >= 2 && left >= 2 && top + 3 < height && left + 3 < width;
    for (int64_t i = 0; i < 6; ++i)
      for (int64_t j = 0; j < 6; ++j)
        around[i][j] =
            whole ? frame1[(top - 2 + i) * width + left - 2 + j] : pixel(top - 2 + i, left - 2 + j);
    // Rows first: what they are, and how they slope, at the place's column.
    float lines[6], slopes[6];
    for (int i = 0; i < 6; ++i) {
      const float* a = around[i];
      lines[i] = wx[0] * a[1] + wx[1] * a[2] + wx[2] * a[3] + wx[3] * a[4];
      slopes[i] = wx[0] * (a[2] - a[0]) + wx[1] * (a[3] - a[1]) + wx[2] * (a[4] - a[2]) +
                  wx[3] * (a[5] - a[3]);
    }
    Sampled s = {0, 0, 0};
    for (int i = 0; i < 4; ++i) {
      s.value += wy[i] * lines[i + 1];
      s.dx += 0.5f * wy[i] * slopes[i + 1];
      s.dy += 0.5f * wy[i] * (lines[i + 2] - lines[i]);
    }
    return s;
  }

  // The inner iterations; the squared change of the flow in the last one.
  double iterate() {
    double change = 0;
    for (int64_t sweep = 0; sweep < height + p.inner - 1; ++sweep) {
      for (int64_t k = std::max<int64_t>(0, sweep - height + 1); k < std::min(p.inner, sweep + 1);
           ++k) {
        const int64_t y = sweep - k;
        if (k == p.inner - 1)
          change += update_flow<true>(y);
        else
          update_flow<false>(y);
        if (y > 0) update_dual(y - 1, planes.row(kU1, y), planes.row(kU2, y));
        if (y == height - 1) update_dual(y, planes.row(kU1, y), planes.row(kU2, y));
      }
    }
    return change;
  }

  template <bool kMeasure>
  double update_flow(int64_t y) {
    float *u1 = planes.row(kU1, y), *u2 = planes.row(kU2, y);
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
    extend(y);
    return kMeasure ? static_cast<double>(sum_of_lanes(change)) : 0.0;
  }

  // below: the flow one row further down; the same row at the bottom.
  void update_dual(int64_t y, const float* below1, const float* below2) {
    update_dual(planes.row(kU1, y), below1, planes.row(kP11, y), planes.row(kP12, y));
    update_dual(planes.row(kU2, y), below2, planes.row(kP21, y), planes.row(kP22, y));
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

  void filter(int plane);
};

// Median filter of one component of the flow; beyond the frame its border is repeated.
void Pair::filter(int plane) {
  const int64_t reach = p.median / 2, across = round_up_to_lanes(width) + 2 * kLanes;
  // Rows of the unfiltered plane, which the filter overwrites behind itself.
  std::vector<float> rows(static_cast<size_t>((2 * reach + 1) * across));
  const auto kept = [&](int64_t y) {
    y = std::min(std::max<int64_t>(y, 0), height - 1);
    return rows.data() + y % (2 * reach + 1) * across + kLanes;
  };
  const auto keep = [&](int64_t y) {
    if (y >= height) return;
    float* to = kept(y);
    std::copy_n(planes.row(plane, y), width, to);
    for (int64_t n = 1; n <= reach; ++n) {
      to[-n] = to[0];
      to[width - 1 + n] = to[width - 1];
    }
  };
  for (int64_t y = 0; y < reach; ++y) keep(y);
  for (int64_t y = 0; y < height; ++y) {
    keep(y + reach);
    const float* around[5];
    for (int64_t n = -reach; n <= reach; ++n) around[n + reach] = kept(y + n);
    float* out = planes.row(plane, y);
    for (int64_t x = 0; x < width; x += kLanes)
      store(out + x, p.median == 3 ? median3x3(around, x) : median5x5(around, x));
    out[width] = out[width - 1];
  }
}

}  // namespace
}  // namespace stnls

STNLS_API int stnls_cpu_tvl1(const stnls::Tvl1Problem* p, int64_t threads) {
  using namespace stnls;
  return guarded(
      [&] { parallel_for(p->batch, threads, [&](int64_t b, int64_t) { Pair(*p, b); }); });
}
