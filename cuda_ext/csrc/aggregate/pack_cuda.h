// How a video is packed (packed_cuda.h), and how sums in that form are copied back.
#pragma once

#include "../common/cuda_launch.h"
#include "packed_cuda.h"
#include "vectors_cuda.h"

namespace stnls {

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

// One thread's share of a slab: four channels of four pixels of a row, which lie beside each other
// in the planes and are read at once where their rows allow it. The margins of a row come after
// them.
constexpr int kPackThreads = 256;
constexpr int kPackPixels = 4;
// On a multiprocessor, as far as registers go; those of 7.5 hold 1024 threads.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
constexpr int kPackBlocks = 4;
#else
constexpr int kPackBlocks = 5;
#endif

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

}  // namespace stnls
