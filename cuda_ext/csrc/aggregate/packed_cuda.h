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

// A video as torch holds it.
struct Planes {
  float* data;
  int64_t stride[5];
};

inline Planes planes_of(void* data, const int64_t (&stride)[5]) {
  Planes planes{static_cast<float*>(data), {}};
  for (int axis = 0; axis < 5; ++axis) planes.stride[axis] = stride[axis];
  return planes;
}

// The frame of a block: the third axis of all grids runs over the frames of the slabs.
struct BlockPlane {
  int slab, frame;

  __device__ __forceinline__ explicit BlockPlane(const PackedPatchProblem& p) {
    slab = static_cast<int>(blockIdx.z / static_cast<unsigned>(p.frames));
    frame = static_cast<int>(blockIdx.z -
                             static_cast<unsigned>(slab) * static_cast<unsigned>(p.frames));
  }

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

// One thread's share of a slab: four channels of pixels that lie `slots` apart.
constexpr int kPackThreads = 256;
constexpr int kPackPixels = 4;

struct PackItem {
  bool works;
  unsigned first, slots;  // pixels of the frame
  int group, channels;
  float* plane;    // the first of the channels
  int64_t vector;  // the first of the frame

  __device__ __forceinline__ PackItem(const PackedPatchProblem& p, const Packing& packing,
                                      const Planes& planes, unsigned pixels) {
    slots = static_cast<unsigned>(kPackThreads >> packing.lane_bits);
    first = blockIdx.x * kPackPixels * slots + (threadIdx.x >> packing.lane_bits);
    const int chunk = static_cast<int>(blockIdx.y);
    const BlockPlane at(p);
    const int lane = static_cast<int>(threadIdx.x) & ((1 << packing.lane_bits) - 1);
    group = (chunk << packing.lane_bits) + lane;
    works = group < packing.groups;
    channels = static_cast<int>(p.channels) - 4 * group;
    plane = planes.data + at.offset(p, packing, planes.stride) + 4 * group * planes.stride[3];
    vector = at.slab * packing.vectors +
             static_cast<int64_t>(at.frame) * packing.height * packing.width * packing.groups +
             group;
  }
};

__device__ __forceinline__ int reflect_near(int64_t x, int length) {
  return static_cast<int>(x >= 0 && x < length ? x : reflect(x, int64_t{length}));
}

// Packs the planes; `zeros`, if given, is filled with zeros beside it.
static __global__ void __launch_bounds__(kPackThreads)
    pack_kernel(const __grid_constant__ PackedPatchProblem p,
                const __grid_constant__ Packing packing, const __grid_constant__ Planes planes,
                float4* packed, float4* zeros) {
  const unsigned width = static_cast<unsigned>(packing.width);
  const unsigned pixels = static_cast<unsigned>(packing.height) * width;
  const PackItem item(p, packing, planes, pixels);
  if (!item.works) return;
  const int64_t next = planes.stride[3];
  float4 values[kPackPixels] = {};
#pragma unroll
  for (int n = 0; n < kPackPixels; ++n) {
    const unsigned pixel = item.first + n * item.slots;
    if (pixel >= pixels) break;
    int y = static_cast<int>(pixel / width) - packing.margin;
    int x = static_cast<int>(pixel % width) - packing.margin;
    if (!inside(int64_t{y}, p.height) || !inside(int64_t{x}, p.width)) {
      if (p.reflect_bounds == 0) continue;
      y = reflect_near(int64_t{y}, static_cast<int>(p.height));
      x = reflect_near(int64_t{x}, static_cast<int>(p.width));
    }
    const float* at = item.plane + y * planes.stride[4] + x;
    values[n].x = at[0];
    if (item.channels > 1) values[n].y = at[next];
    if (item.channels > 2) values[n].z = at[2 * next];
    if (item.channels > 3) values[n].w = at[3 * next];
  }
#pragma unroll
  for (int n = 0; n < kPackPixels; ++n) {
    const unsigned pixel = item.first + n * item.slots;
    if (pixel >= pixels) break;
    const int64_t vector = item.vector + static_cast<int64_t>(pixel) * packing.groups;
    if (packed != nullptr) packed[vector] = values[n];
    if (zeros != nullptr) zeros[vector] = float4{};
  }
}

__device__ __forceinline__ void add(const float4& a, float4* sum) {
  sum->x += a.x;
  sum->y += a.y;
  sum->z += a.z;
  sum->w += a.w;
}

// All places of the margins, and the pixel itself, that mirror pixel (y, x).
static __device__ __noinline__ float4 sum_of_mirrored(const PackedPatchProblem& p,
                                                      const Packing& packing, const float4* packed,
                                                      int y, int x) {
  float4 sum{};
  for (int row = 0; row < packing.height; ++row) {
    if (row == packing.margin && row < y + packing.margin) row = y + packing.margin;
    if (row == y + packing.margin + 1 && row < packing.margin + static_cast<int>(p.height))
      row = packing.margin + static_cast<int>(p.height);
    if (row >= packing.height) break;
    if (reflect_near(int64_t{row} - packing.margin, static_cast<int>(p.height)) != y) continue;
    for (int column = 0; column < packing.width; ++column) {
      if (column == packing.margin && column < x + packing.margin) column = x + packing.margin;
      if (column == x + packing.margin + 1 && column < packing.margin + static_cast<int>(p.width))
        column = packing.margin + static_cast<int>(p.width);
      if (column >= packing.width) break;
      if (reflect_near(int64_t{column} - packing.margin, static_cast<int>(p.width)) != x) continue;
      add(packed[(static_cast<int64_t>(row) * packing.width + column) * packing.groups], &sum);
    }
  }
  return sum;
}

// Copies sums back to the planes; what was added to the margins belongs to the pixels mirrored
// there.
static __global__ void __launch_bounds__(kPackThreads)
    unpack_kernel(const __grid_constant__ PackedPatchProblem p,
                  const __grid_constant__ Packing packing, const __grid_constant__ Planes planes,
                  const float4* packed) {
  const unsigned width = static_cast<unsigned>(p.width);
  const unsigned pixels = static_cast<unsigned>(p.height) * width;
  const PackItem item(p, packing, planes, pixels);
  if (!item.works) return;
  const int64_t next = planes.stride[3];
  const int reach = packing.height - static_cast<int>(p.height) + 1;  // of the margins
  float4 values[kPackPixels] = {};
#pragma unroll
  for (int n = 0; n < kPackPixels; ++n) {
    const unsigned pixel = item.first + n * item.slots;
    if (pixel >= pixels) break;
    const int y = static_cast<int>(pixel / width), x = static_cast<int>(pixel % width);
    values[n] = packed[item.vector + (static_cast<int64_t>(y + packing.margin) * packing.width + x +
                                      packing.margin) *
                                         packing.groups];
    if (p.reflect_bounds != 0 && reach > 1 &&
        (y < reach || x < reach || y + reach >= p.height || x + reach >= p.width))
      values[n] = sum_of_mirrored(p, packing, packed + item.vector, y, x);
  }
#pragma unroll
  for (int n = 0; n < kPackPixels; ++n) {
    const unsigned pixel = item.first + n * item.slots;
    if (pixel >= pixels) break;
    float* at = item.plane + pixel / width * planes.stride[4] + pixel % width;
    at[0] = values[n].x;
    if (item.channels > 1) at[next] = values[n].y;
    if (item.channels > 2) at[2 * next] = values[n].z;
    if (item.channels > 3) at[3 * next] = values[n].w;
  }
}

inline dim3 pack_grid(const PackedPatchProblem& p, const Packing& packing, int64_t pixels) {
  const int64_t each = (kPackThreads >> packing.lane_bits) * kPackPixels;
  return plane_grid(p, packing, (pixels + each - 1) / each, packing.chunks);
}

inline void launch_pack(const PackedPatchProblem& p, const Packing& packing, const Planes& planes,
                        float4* packed, float4* zeros, cudaStream_t stream) {
  const dim3 grid = pack_grid(p, packing, int64_t{packing.height} * packing.width);
  pack_kernel<<<grid, kPackThreads, 0, stream>>>(p, packing, planes, packed, zeros);
}

inline void launch_unpack(const PackedPatchProblem& p, const Packing& packing, const Planes& planes,
                          const float4* packed, cudaStream_t stream) {
  const dim3 grid = pack_grid(p, packing, p.height * p.width);
  unpack_kernel<<<grid, kPackThreads, 0, stream>>>(p, packing, planes, packed);
}

__device__ __forceinline__ void multiply_add(float a, const float4& b, float4* sum) {
  sum->x = fmaf(a, b.x, sum->x);
  sum->y = fmaf(a, b.y, sum->y);
  sum->z = fmaf(a, b.z, sum->z);
  sum->w = fmaf(a, b.w, sum->w);
}

__device__ __forceinline__ float dot(const float4& a, const float4& b, float sum) {
  return fmaf(a.w, b.w, fmaf(a.z, b.z, fmaf(a.y, b.y, fmaf(a.x, b.x, sum))));
}

__device__ __forceinline__ float4 scaled(float a, const float4& b) {
  return float4{a * b.x, a * b.y, a * b.z, a * b.w};
}

// Adds four channels of a pixel at once, where the hardware can.
__device__ __forceinline__ void atomic_add(float4* to, const float4& v) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  atomicAdd(to, v);
#else
  float* at = reinterpret_cast<float*>(to);
  atomicAdd(at, v.x);
  atomicAdd(at + 1, v.y);
  atomicAdd(at + 2, v.z);
  atomicAdd(at + 3, v.w);
#endif
}

}  // namespace stnls
