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

#include "../common/cuda_launch.h"
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

// One thread's share of a slab: four channels of four pixels of a row, which lie beside each other
// in the planes and are read at once where their rows allow it. The margins of a row come after
// them.
constexpr int kPackThreads = 256;
constexpr int kPackPixels = 4;
constexpr int kPackBlocks = 5;  // on a multiprocessor, as far as registers go

struct PackItem {
  bool works;
  int row, first, group, channels;  // `first`: column of the frame; beyond it: of the margins
  float* plane;                     // the first of the channels
  int64_t vector;                   // the first of the frame

  // `each`: quadruples of a row of `rows`.
  __device__ __forceinline__ PackItem(const PackedPatchProblem& p, const Packing& packing,
                                      const Planes& planes, int rows, int each) {
    const unsigned slots = static_cast<unsigned>(kPackThreads >> packing.lane_bits);
    const unsigned item = blockIdx.x * slots + (threadIdx.x >> packing.lane_bits);
    row = static_cast<int>(item / static_cast<unsigned>(each));
    first = kPackPixels * static_cast<int>(item - static_cast<unsigned>(row * each));
    const int chunk = static_cast<int>(blockIdx.y);
    const BlockPlane at(p);
    const int lane = static_cast<int>(threadIdx.x) & ((1 << packing.lane_bits) - 1);
    group = (chunk << packing.lane_bits) + lane;
    works = group < packing.groups && row < rows;
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

// Four vectors of a channel each as those of a pixel each, and back.
__device__ __forceinline__ void transpose(float4 (&v)[kPackPixels]) {
  const float4 a = v[0], b = v[1], c = v[2], d = v[3];
  v[0] = float4{a.x, b.x, c.x, d.x};
  v[1] = float4{a.y, b.y, c.y, d.y};
  v[2] = float4{a.z, b.z, c.z, d.z};
  v[3] = float4{a.w, b.w, c.w, d.w};
}

// Packs the planes; `zeros`, if given, is filled with zeros beside it. `wide`: all rows lie at
// multiples of 16 bytes and have whole quadruples.
static __global__ void __launch_bounds__(kPackThreads, kPackBlocks)
    pack_kernel(const __grid_constant__ PackedPatchProblem p,
                const __grid_constant__ Packing packing, const __grid_constant__ Planes planes,
                int each, bool wide, float4* packed, float4* zeros) {
  const PackItem item(p, packing, planes, packing.height, each);
  wait_for_previous();
  let_next_start();
  if (!item.works) return;
  const int height = static_cast<int>(p.height), width = static_cast<int>(p.width);
  const int64_t next = planes.stride[3];
  float4 values[kPackPixels] = {};
  int y = item.row - packing.margin;
  const bool counts = (y >= 0 && y < height) || p.reflect_bounds != 0;
  y = reflect_near(int64_t{y}, height);
  const float* line = item.plane + y * planes.stride[4];
  // Of the frame; the columns of the margins follow those to the right of it, then to the left.
  int columns[kPackPixels];
#pragma unroll
  for (int n = 0; n < kPackPixels; ++n) {
    const int column = item.first + n;
    columns[n] = column < packing.width - packing.margin ? column : column - packing.width;
  }
  if (counts && wide && item.first < width) {
    const float* at = line + item.first;
    values[0] = __ldg(reinterpret_cast<const float4*>(at));
    if (item.channels > 1) values[1] = __ldg(reinterpret_cast<const float4*>(at + next));
    if (item.channels > 2) values[2] = __ldg(reinterpret_cast<const float4*>(at + 2 * next));
    if (item.channels > 3) values[3] = __ldg(reinterpret_cast<const float4*>(at + 3 * next));
    transpose(values);
  } else if (counts) {
#pragma unroll
    for (int n = 0; n < kPackPixels; ++n) {
      int x = columns[n];
      if (item.first + n >= packing.width) break;
      if (x < 0 || x >= width) {
        if (p.reflect_bounds == 0) continue;
        x = reflect_near(int64_t{x}, width);
      }
      const float* at = line + x;
      values[n].x = at[0];
      if (item.channels > 1) values[n].y = at[next];
      if (item.channels > 2) values[n].z = at[2 * next];
      if (item.channels > 3) values[n].w = at[3 * next];
    }
  }
  const int64_t row = item.vector + static_cast<int64_t>(item.row) * packing.width * packing.groups;
#pragma unroll
  for (int n = 0; n < kPackPixels; ++n) {
    if (item.first + n >= packing.width) break;
    const int64_t vector = row + (columns[n] + packing.margin) * packing.groups;
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

// Places along an axis, the margins among them, that mirror pixel `at`: three at most, where the
// margins are no larger than the frame. The first is the pixel itself.
__device__ __forceinline__ int mirrored(int at, int length, int margin, int padded, int (&to)[3]) {
  const int last = 2 * (length - 1) - at;
  int count = 1;
  to[0] = at + margin;
  if (at > 0 && at <= margin) to[count++] = margin - at;
  if (at < length - 1 && last + margin < padded) to[count++] = last + margin;
  return count;
}

// Whether there are any but the pixel itself; in small frames, perhaps.
__device__ __forceinline__ bool is_mirrored(int at, int length, int margin, int padded) {
  return padded >= 2 * length || (at > 0 && at <= margin) ||
         (at < length - 1 && 2 * (length - 1) - at + margin < padded);
}

// All places of the margins, and the pixel itself, that mirror pixel (y, x).
static __device__ __noinline__ float4 sum_of_mirrored(const PackedPatchProblem& p,
                                                      const Packing& packing, const float4* packed,
                                                      int y, int x) {
  float4 sum{};
  const int height = static_cast<int>(p.height), width = static_cast<int>(p.width);
  if (packing.height < 2 * height && packing.width < 2 * width) {
    int rows[3], columns[3];
    const int row_count = mirrored(y, height, packing.margin, packing.height, rows);
    const int column_count = mirrored(x, width, packing.margin, packing.width, columns);
    for (int i = 0; i < row_count; ++i)
      for (int j = 0; j < column_count; ++j)
        add(packed[(static_cast<int64_t>(rows[i]) * packing.width + columns[j]) * packing.groups],
            &sum);
    return sum;
  }
  for (int row = 0; row < packing.height; ++row) {
    if (reflect_near(int64_t{row} - packing.margin, height) != y) continue;
    for (int column = 0; column < packing.width; ++column) {
      if (reflect_near(int64_t{column} - packing.margin, width) != x) continue;
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
                  int each, bool wide, const float4* packed) {
  const PackItem item(p, packing, planes, static_cast<int>(p.height), each);
  wait_for_previous();
  let_next_start();
  if (!item.works) return;
  const int height = static_cast<int>(p.height), width = static_cast<int>(p.width);
  const int64_t next = planes.stride[3];
  const int y = item.row;
  const bool reflects = p.reflect_bounds != 0;
  const bool edge_row = is_mirrored(y, height, packing.margin, packing.height);
  const int64_t row =
      item.vector + static_cast<int64_t>(y + packing.margin) * packing.width * packing.groups;
  float4 values[kPackPixels] = {};
#pragma unroll
  for (int n = 0; n < kPackPixels; ++n) {
    const int x = item.first + n;
    if (x >= width) break;
    values[n] = packed[row + (x + packing.margin) * packing.groups];
  }
#pragma unroll
  for (int n = 0; n < kPackPixels; ++n) {
    const int x = item.first + n;
    if (x >= width) break;
    if (reflects && (edge_row || is_mirrored(x, width, packing.margin, packing.width)))
      values[n] = sum_of_mirrored(p, packing, packed + item.vector, y, x);
  }
  float* line = item.plane + y * planes.stride[4] + item.first;
  if (wide) {
    transpose(values);
    *reinterpret_cast<float4*>(line) = values[0];
    if (item.channels > 1) *reinterpret_cast<float4*>(line + next) = values[1];
    if (item.channels > 2) *reinterpret_cast<float4*>(line + 2 * next) = values[2];
    if (item.channels > 3) *reinterpret_cast<float4*>(line + 3 * next) = values[3];
    return;
  }
#pragma unroll
  for (int n = 0; n < kPackPixels; ++n) {
    if (item.first + n >= width) break;
    line[n] = values[n].x;
    if (item.channels > 1) line[next + n] = values[n].y;
    if (item.channels > 2) line[2 * next + n] = values[n].z;
    if (item.channels > 3) line[3 * next + n] = values[n].w;
  }
}

// Whether rows can be read and written sixteen bytes at a time.
inline bool wide_rows(const PackedPatchProblem& p, const Planes& planes) {
  bool wide = p.width % kPackPixels == 0 && reinterpret_cast<uintptr_t>(planes.data) % 16 == 0;
  for (int64_t stride : planes.stride) wide = wide && stride % kPackPixels == 0;
  return wide;
}

inline dim3 pack_grid(const PackedPatchProblem& p, const Packing& packing, int64_t rows, int each) {
  const int64_t slots = kPackThreads >> packing.lane_bits;
  return plane_grid(p, packing, (rows * each + slots - 1) / slots, packing.chunks);
}

inline void launch_pack(const PackedPatchProblem& p, const Packing& packing, const Planes& planes,
                        float4* packed, float4* zeros, cudaStream_t stream) {
  const int each = (packing.width + kPackPixels - 1) / kPackPixels;
  launch_after(packing.first_slab > 0, pack_kernel, pack_grid(p, packing, packing.height, each),
               kPackThreads, 0, stream, p, packing, planes, each, wide_rows(p, planes), packed,
               zeros);
}

inline void launch_unpack(const PackedPatchProblem& p, const Packing& packing, const Planes& planes,
                          const float4* packed, cudaStream_t stream) {
  const int each = static_cast<int>((p.width + kPackPixels - 1) / kPackPixels);
  launch_overlapping(unpack_kernel, pack_grid(p, packing, p.height, each), kPackThreads, 0, stream,
                     p, packing, planes, each, wide_rows(p, planes), packed);
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
