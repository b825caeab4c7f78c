// Where one scale of TV-L1 keeps what it computes with, in scratch memory on the GPU.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "tvl1.h"

namespace stnls {

// What the kernels of a pair tell each other. The outer iterations ("steps") use three slots in
// turn: a step reads what the one before it left, adds to its own, and clears the next one's.
struct Tvl1Progress {
  unsigned long long change[3];  // squared change in the step's last iteration; 2^40 is enough
  int done[3];                   // steps of this scale that were carried out before this one
  int unused;
};

constexpr unsigned long long kEnoughChange = 1ull << 40;

// Planes have rows of `pitch` floats, a multiple of four, with the frame at their right end behind
// `pad` (1 to 4) columns that belong to nobody: so the last of a thread's four pixels is the last
// of the frame, and the first column has a neighbour.
struct Tvl1Planes {
  Tvl1Progress* progress;  // one for each pair
  float* flow[2];          // (batch, 2, height, pitch), read from one and written to the other
  float* dual[2];          // (batch, 4, height, pitch): p11, p12, p21, p22
  float* slope;            // (batch, 3, height, pitch): dx, dy and the constant of rho
  int64_t plane;           // floats of a plane
  int height, width, pitch, pad;

  // Floats of all of it.
  static int64_t size(const Tvl1Problem& p) {
    return progress_size(p) + 15 * p.batch * p.height * pitch_of(p);
  }

  explicit Tvl1Planes(const Tvl1Problem& p)
      : progress(static_cast<Tvl1Progress*>(p.scratch)),
        plane(p.height * pitch_of(p)),
        height(static_cast<int>(p.height)),
        width(static_cast<int>(p.width)),
        pitch(static_cast<int>(pitch_of(p))),
        pad(pitch - width) {
    float* at = static_cast<float*>(p.scratch) + progress_size(p);
    const auto take = [&](int64_t planes) {
      float* taken = at;
      at += planes * p.batch * plane;
      return taken;
    };
    for (float*& each : flow) each = take(2);
    for (float*& each : dual) each = take(4);
    slope = take(3);
  }

 private:
  static int64_t pitch_of(const Tvl1Problem& p) { return (p.width + 4) / 4 * 4; }
  // A multiple of four, so that planes can be read four pixels at a time.
  static int64_t progress_size(const Tvl1Problem& p) {
    return p.batch * static_cast<int64_t>(sizeof(Tvl1Progress) / sizeof(float)) / 4 * 4 + 4;
  }
};

// Kernels follow each other so closely that the next one's blocks are set up while the last of this
// one's run: it waits here for what they write.
__device__ __forceinline__ void after_previous_kernel() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// One outer iteration as its kernels see it.
struct Tvl1Step {
  int number;      // within the warp, from 0
  int flow_swaps;  // how often a step changes the buffers of the flow, and of the dual variables
  int dual_swaps;
  int flow_swapped;  // how often this step has done so before this kernel
  int dual_swapped;
  bool may_stop;

  // Whether a pair goes on: not all of the steps before had changed it too little.
  __device__ bool active(const Tvl1Progress& progress) const {
    return !may_stop || progress.change[(number + 2) % 3] > kEnoughChange;
  }
  __device__ int flow_in(int done) const { return (done * flow_swaps + flow_swapped) & 1; }
  __device__ int dual_in(int done) const { return (done * dual_swaps + dual_swapped) & 1; }
};

}  // namespace stnls
