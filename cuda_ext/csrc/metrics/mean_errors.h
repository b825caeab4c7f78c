// Sums of absolute and of squared differences of frames from their references.
#pragma once

#include <cmath>
#include <cstdint>

#include "../common/geometry.h"

namespace stnls {

constexpr int64_t kErrorPart = 1 << 14;  // numbers whose sums are two of the output

struct MeanErrorsProblem {
  const void* reference;  // (references, size) float32
  const void* frames;     // (count, size) float32; frame n is compared with reference n modulo them
  void* out;              // (count, parts, 2) float64: sums of |x - y| and (x - y)^2
  int64_t count, references, size, parts;
};

// The difference is rounded to float32, as that of two tensors is.
STNLS_HD void add_error(float x, float y, double& absolute, double& squared) {
  const double difference = static_cast<double>(x - y);
  absolute += std::fabs(difference);  // a choice would keep the processor's vectors out
  squared += difference * difference;
}

}  // namespace stnls
