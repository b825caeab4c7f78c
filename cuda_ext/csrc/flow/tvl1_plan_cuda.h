// Choosing how TV-L1's inner iterations are cut into trips to memory, and frames into clusters.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "tvl1_iterate_cuda.h"

namespace stnls {

// What the choice needs to know of a GPU.
struct Tvl1Device {
  int multiprocessors = 0;
  int shared_memory = 0;  // most bytes that a block may have
  int most_blocks = 1;    // of a cluster
  bool early = false;     // kernels can be set up before the one before has ended
};

struct Tvl1Plan {
  int rows = 1;   // of a warp
  int trips = 1;  // for the inner iterations
  Tvl1Tiling tiling{1, 1, 1, 1, 1, 4};
  double cost = 0;  // cycles, roughly, for the inner iterations
};

constexpr int kRowChoices[] = {4, 2, 1};
constexpr int kMostBlocks = 16;  // of a cluster
constexpr int kBlockChoices[] = {1, 2, 3, 4, 6, 8, 10, 12, 16};

inline int blocks_on_multiprocessor(int rows) { return rows == 4 ? 2 : rows == 2 ? 3 : 4; }

// Tiles of `size` with `halo` pixels lost at either side, but not at the borders, that cover
// `length`; 0 where none do.
inline int64_t tiles_for(int64_t length, int64_t size, int64_t halo) {
  if (size >= length) return 1;
  if (size <= 2 * halo) return 0;
  const int64_t between = std::max<int64_t>(0, length - 2 * (size - halo));
  return 2 + (between + size - 2 * halo - 1) / (size - 2 * halo);
}

// The share of an H200's multiprocessors that clusters of so many blocks fill: a cluster lies
// within one of its parts of 16 or 18 multiprocessors.
constexpr double kFilled[kMostBlocks] = {1.0,  1.0, 0.9,  0.94, 0.89, 0.89, 0.85, 0.91,
                                         0.78, 0.8, 0.67, 0.73, 0.69, 0.74, 0.8,  0.85};

// Cycles that some clusters take which run side by side. The figures fit measurements of all plans
// on an H200 to a tenth.
inline double cycles_of_wave(double clusters, int rows, int blocks, double iterations,
                             const Tvl1Device& device) {
  const double all = clusters * blocks;
  const double sharing = std::max(1.0, all / (device.multiprocessors * kFilled[blocks - 1]));
  // Instructions to issue, or a chain of results to wait for.
  const double instructions = rows == 4 ? 790.0 : rows == 2 ? 430.0 : 255.0;
  const double issue = sharing * kIterateWarps * instructions / 4.0 / 0.95;
  const double chain = 190.0 + 470.0 * rows + (blocks > 1 ? 450.0 : 0.0);
  const double iteration = std::sqrt(issue * issue + chain * chain);
  const double bytes = 37.0 * 4 * kIterateThreads * rows * all;
  return iterations * iteration + bytes / 2100.0;
}

// False where frames cannot be cut like that.
inline bool plan_trips(const Tvl1Problem& p, const Tvl1Device& device, int rows, int blocks,
                       int trips, Tvl1Plan* plan) {
  const int64_t pitch = (p.width + 4) / 4 * 4;
  const int64_t iterations = (p.inner + trips - 1) / trips;
  const int64_t halo_columns = (iterations + 3) / 4 * 4;
  const int64_t strips = tiles_for(pitch, kStrip, halo_columns);
  const int64_t segments =
      tiles_for(p.height, static_cast<int64_t>(blocks) * kIterateWarps * rows, iterations);
  if (strips == 0 || segments == 0) return false;
  const int64_t clusters = strips * segments * p.batch;
  const int64_t at_once = std::max<int64_t>(
      1, static_cast<int64_t>(device.multiprocessors * blocks_on_multiprocessor(rows) *
                              kFilled[blocks - 1] / blocks));
  const double length = static_cast<double>(iterations);
  const int64_t waves = clusters / at_once, others = clusters % at_once;
  double cycles = 6300.0;  // a launch
  if (waves > 0)
    cycles += static_cast<double>(waves) *
              cycles_of_wave(static_cast<double>(at_once), rows, blocks, length, device);
  if (others > 0)
    cycles += (waves > 0 ? 0.77 : 1.0) *
              cycles_of_wave(static_cast<double>(others), rows, blocks, length, device);
  plan->rows = rows;
  plan->trips = trips;
  plan->tiling = {
      static_cast<int>(strips),     static_cast<int>(segments),   blocks,
      static_cast<int>(iterations), static_cast<int>(iterations), static_cast<int>(halo_columns)};
  plan->cost = trips * cycles;
  return true;
}

// The cheapest of the plans that there are; tens of microseconds.
inline Tvl1Plan plan_iterations(const Tvl1Problem& p, const Tvl1Device& device) {
  Tvl1Plan best;
  bool found = false;
  for (const int rows : kRowChoices) {
    if (kIterateThreads * 16 * (4 * rows + 5) > device.shared_memory) continue;
    for (const int blocks : kBlockChoices) {
      if (blocks > device.most_blocks) break;
      // All at once, or few enough that a strip is more than its halo; one at a time always fits.
      for (int64_t iterations = kStrip / 4 + 1; iterations > 0; --iterations) {
        const int64_t most = iterations > kStrip / 4 ? p.inner : iterations;
        const int trips = static_cast<int>((p.inner + most - 1) / most);
        Tvl1Plan plan;
        if (!plan_trips(p, device, rows, blocks, trips, &plan)) continue;
        if (!found || plan.cost < best.cost) best = plan;
        found = true;
      }
    }
  }
  return best;
}

}  // namespace stnls
