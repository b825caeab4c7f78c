// Copies of a video in which the channels of a pixel lie beside each other, four to a vector, and
// every frame has a margin of mirrored pixels (zeros, if taps outside the frame do not count). What
// an entry points to is then a few whole sectors of memory, read with one instruction for eight
// entries, and nothing has to be done at the border; in the planes of the video itself, every
// channel of every entry is an access of its own. The copies are made for a few heads at a time in
// a scratch buffer that is used again and again, so that they hardly leave the L2 cache.
//
// Floors on an NVIDIA H200 for 5 frames of 64 channels, 256 x 256, 4 heads, 9 entries, 3 x 3 taps
// on the integer grid: inputs and outputs take 0.08 ms forward at 4.27 TB/s and 0.20 ms with the
// gradients; the 6.8 GB that the taps read take 0.2 ms from L1 at 128 bytes a cycle (the real grid:
// four times that) and would take 1.3 ms from L2, so tiles are to fit L1. What is left is issue:
// every instruction for a tap of eight entries costs 0.013 ms.
#pragma once

#include <cuda_runtime.h>

#include <type_traits>

#include "../common/geometry.h"
#include "problem.h"

namespace stnls {

// What these kernels are asked for, besides.
struct PackedPatchProblem : PatchProblem {
  void* grad_video;  // gradient: sizes of video, for what scatter makes of own; or null
  int64_t grad_video_stride[5];
  int64_t divide_own;   // gradient: first divide own by the number of patches that cover a pixel
  int64_t mirrors_own;  // taps of a query that leave the frame count, where they are mirrored
  int64_t components;   // of inds: 3, or 2 without dt
  float* scratch;       // as many as stnls_cuda_patch_packed_scratch says
};

// The planes of one batch item and head are a slab: frames, rows, columns, vectors of a pixel.
struct Packing {
  int groups;         // vectors of a pixel
  int lane_bits;      // 2^lane_bits threads share an entry, each of them takes one vector ...
  int chunks;         // ... in each of so many chunks
  int margin;         // rows above and columns left of the frame
  int height, width;  // with the margins on both sides
  int64_t vectors;    // of a slab
  int64_t entries;    // of one frame
  int64_t first_slab, slabs;  // those that are in the buffer
};

constexpr int64_t kMostBlocks = 65535;               // along the second and third axis of a grid
constexpr int64_t kScratchBytes = int64_t{1} << 25;  // or one slab, if that is larger

inline Packing packing_of(const PackedPatchProblem& p) {
  Packing packing{};
  packing.groups = static_cast<int>((p.channels + 3) / 4);
  packing.lane_bits = packing.groups > 2 ? 2 : packing.groups - 1;
  packing.chunks = (packing.groups + (1 << packing.lane_bits) - 1) >> packing.lane_bits;
  const int64_t before = p.patch_offset < 0 ? -p.dilation * p.patch_offset : 0;
  const int64_t last = p.dilation * (p.ps - 1 + p.patch_offset) + (p.float_grid ? 1 : 0);
  const int64_t after = last > 0 ? last : 0;
  packing.margin = static_cast<int>(before);
  packing.height = static_cast<int>(p.height + before + after);
  packing.width = static_cast<int>(p.width + before + after);
  packing.entries = p.grid_height * p.grid_width * p.k;
  packing.vectors = p.frames * packing.height * packing.width * packing.groups;
  return packing;
}

// Slabs that are packed at once.
inline int64_t slabs_at_once(const PackedPatchProblem& p, const Packing& packing) {
  const int64_t slabs = p.batch * p.heads, bytes = packing.vectors * int64_t{sizeof(float4)};
  int64_t most = kScratchBytes / bytes > 1 ? kScratchBytes / bytes : 1;
  if (most * p.frames > kMostBlocks) most = kMostBlocks / p.frames;
  const int64_t rounds = (slabs + most - 1) / most;
  return (slabs + rounds - 1) / rounds;
}

// Calls visit(packing) for every round of slabs.
template <class Visit>
void for_rounds(const PackedPatchProblem& p, Visit&& visit) {
  Packing packing = packing_of(p);
  const int64_t slabs = p.batch * p.heads, at_once = slabs_at_once(p, packing);
  for (int64_t first = 0; first < slabs; first += at_once) {
    packing.first_slab = first;
    packing.slabs = at_once < slabs - first ? at_once : slabs - first;
    visit(packing);
  }
}

// Calls launch with the number of threads that share an entry, as a constant.
template <class Launch>
auto with_lanes(const Packing& packing, Launch&& launch) {
  if (packing.lane_bits == 0) return launch(std::integral_constant<int, 1>{});
  if (packing.lane_bits == 1) return launch(std::integral_constant<int, 2>{});
  return launch(std::integral_constant<int, 4>{});
}

inline float4* packed_copy(const PackedPatchProblem& p, int64_t copy) {
  const Packing packing = packing_of(p);
  return reinterpret_cast<float4*>(p.scratch) + copy * packing.vectors * slabs_at_once(p, packing);
}

// Floats of scratch memory for packed copies; 0 if the problem cannot be taken in this form.
int64_t packed_scratch(const PackedPatchProblem& p, int64_t copies);

// For the slabs of one round. Gather: the sums of the patches of `packed`, or of their differences
// to own, with what falls on the margins. Scatter: adds the patches of own to `sums`.
void launch_sum_with_margins(const PackedPatchProblem& p, const Packing& packing,
                             const float4* packed, float4* sums, bool difference,
                             cudaStream_t stream);
cudaError_t launch_scatter(const PackedPatchProblem& p, const Packing& packing, float4* sums,
                           cudaStream_t stream);

// The frame of a block: the third axis of grids runs over the frames of the slabs (of pixel sums,
// which count rows over all frames, over the slabs).
struct BlockPlane {
  int slab, frame;

  __device__ __forceinline__ explicit BlockPlane(const PackedPatchProblem& p) {
    slab = static_cast<int>(blockIdx.z / static_cast<unsigned>(p.frames));
    frame = static_cast<int>(blockIdx.z -
                             static_cast<unsigned>(slab) * static_cast<unsigned>(p.frames));
  }
  __device__ __forceinline__ BlockPlane(int of_slab, int of_frame)
      : slab(of_slab), frame(of_frame) {}

  // Of all slabs, not of those in the buffer.
  __device__ __forceinline__ int index(const Packing& packing) const {
    return static_cast<int>(packing.first_slab) + slab;
  }

  // Of the first element of the frame in memory with these strides.
  __device__ __forceinline__ int64_t offset(const PackedPatchProblem& p, const Packing& packing,
                                            const int64_t (&stride)[5]) const {
    const unsigned all = static_cast<unsigned>(index(packing));
    const unsigned batch = all / static_cast<unsigned>(p.heads);
    const unsigned head = all - batch * static_cast<unsigned>(p.heads);
    return batch * stride[0] + head * stride[1] + frame * stride[2];
  }

  // Of the first entry of the frame.
  __device__ __forceinline__ int64_t entries(const PackedPatchProblem& p,
                                             const Packing& packing) const {
    return (index(packing) * p.frames + frame) * packing.entries;
  }
};

inline dim3 plane_grid(const PackedPatchProblem& p, const Packing& packing, int64_t x, int64_t y) {
  return dim3(static_cast<unsigned>(x), static_cast<unsigned>(y),
              static_cast<unsigned>(p.frames * packing.slabs));
}

}  // namespace stnls
