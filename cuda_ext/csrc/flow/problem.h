#pragma once

#include <cstdint>

#include "../search/problem.h"

namespace stnls {

// Composition of neighbouring flows, channel order (dx, dy), all tensors contiguous.
struct FlowProblem {
  const void* forward;   // (batch, frames, 2, height, width): t -> t + 1 on the grid of frame t
  const void* backward;  // the same, t -> t - 1
  void* out;             // (batch, frames, slots, 2, grid_height, grid_width)
  int64_t batch, frames, height, width;
  int64_t grid_height, grid_width;
  int64_t wt, slots;  // slots: min(2 wt + 1, frames) - 1
  int64_t stride0, dtype;
};

// Composition along one chain: step n leads from frame n to frame n + 1.
struct ChainProblem {
  const void* steps;  // (batch, frames = steps, 2, height, width)
  void* out;          // (batch, frames, 2, grid_height, grid_width): offsets after each step
  int64_t batch, frames, height, width;
  int64_t grid_height, grid_width;
  int64_t stride0, dtype;
};

// Gradients: `out` holds what the composition returned. fixed_*: see SearchGradProblem.
struct FlowGradProblem {
  FlowProblem flow;
  const void* grad_out;  // as out
  void* grad_forward;    // as forward, zeros at first
  void* grad_backward;   // as backward, zeros at first
  int64_t* fixed_forward;
  int64_t* fixed_backward;
  const double* fixed_scale;
};

struct ChainGradProblem {
  ChainProblem chain;
  const void* grad_out;  // as out
  void* grad_steps;      // as steps, zeros at first
  int64_t* fixed_steps;
  const double* fixed_scale;
};

}  // namespace stnls
