// Sums of patches of one pixel, of queries on every pixel.
//
// The threads that share a query take its entries as in strip_sum_cuda.h. A block takes a tile of
// pixels and those below it, step by step, and goes on in the next frame. It is large, so that the
// entries of the few blocks that share a multiprocessor point to pixels that lie close together.
#pragma once

#include "../common/cuda_launch.h"
#include "entries_cuda.h"
#include "entry_reader_cuda.h"
#include "packed_cuda.h"
#include "vectors_cuda.h"

namespace stnls {

constexpr int kPixelThreads = 512;
constexpr int kPixelColumns = 16;
constexpr int kMostPixelSteps = 16;
constexpr int64_t kMostPixelEntries = 1 << 21;  // of a row, so that those of a block fit 32 bits

// Blocks on a multiprocessor, as far as registers go, and threads: the oldest hold 1024.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
constexpr int pixel_blocks(bool) { return 2; }
#else
constexpr int pixel_blocks(bool float_grid) { return float_grid ? 2 : 3; }
#endif

template <int kLanes, bool kFloatGrid>
__global__ void __launch_bounds__(kPixelThreads, pixel_blocks(kFloatGrid))
    pixel_sum_kernel(const __grid_constant__ PackedPatchProblem p,
                     const __grid_constant__ Packing packing, int steps, const float4* packed) {
  constexpr int kRows = kPixelThreads / kLanes / kPixelColumns;
  const int thread = static_cast<int>(threadIdx.x), slot = thread / kLanes;
  // Rows are counted over all frames of a slab.
  const int height = static_cast<int>(p.height), width = static_cast<int>(p.width);
  const int band = static_cast<int>(blockIdx.y) / packing.chunks;
  const int chunk = static_cast<int>(blockIdx.y) - band * packing.chunks;
  const int first_row = band * steps * kRows;
  const int rows = min(steps * kRows, static_cast<int>(p.frames) * height - first_row);
  const BlockPlane plane(static_cast<int>(blockIdx.z), 0);
  const int group = chunk * kLanes + thread % kLanes, groups = packing.groups;
  const bool works = group < groups;
  const float4* video = whole(packed + plane.slab * packing.vectors + (works ? group : 0));
  const int x = static_cast<int>(blockIdx.x) * kPixelColumns + slot % kPixelColumns;
  const bool exists = x < width;
  const int pitch = packing.width * groups;
  // A query on every pixel has it for itself: there is nothing to divide by.
  const int64_t next = p.own_stride[3];
  const int channels = works ? static_cast<int>(p.channels) - 4 * group : 0;
  float* out = whole(static_cast<float*>(p.own) + plane.offset(p, packing, p.own_stride) +
                     4 * group * next + x);
  const int64_t first_entry = plane.entries(p, packing) + int64_t{first_row} * width * p.k;
  EntryReader<kLanes, kFloatGrid> reader(p, first_entry, thread);
  int row = slot / kPixelColumns;
  int frame = (first_row + row) / height, y = first_row + row - frame * height;
  reader.read(p, row * width + x, 0, exists && row < rows);
  wait_for_previous();  // the copy of the video may not be there yet
  let_next_start();
  // Warps may be of two rows: all of their threads go as far as the last of them.
  for (int step = 0; step < steps; ++step, row += kRows, y += kRows) {
    const bool here = exists && row < rows;
    if (__ballot_sync(0xffffffffu, here) == 0) return;
    for (; y >= height; y -= height) ++frame;
    float4 sum{};
    for (int first = 0; first < reader.k; first += kLanes) {
      const RawEntry<kFloatGrid> raw = reader.next;
      const bool more = first + kLanes < reader.k;
      const int next_row = more ? row : row + kRows;
      reader.read(p, next_row * width + x, more ? first + kLanes : 0, exists && next_row < rows);
      for_batch<kLanes>(p, packing, raw, here && first + reader.lane < reader.k, reader.k - first,
                        frame, y, x, 0, [&](const Entry<kFloatGrid>& e, int) {
                          if (e.at < 0) return;
                          const float4* from = video + static_cast<unsigned>(e.at);
                          if constexpr (kFloatGrid) {
                            const float low = e.weight * e.v(), high = e.weight - low;
                            const float w01 = high * e.u, w11 = low * e.u;
                            const float4 v00 = __ldg(from), v01 = __ldg(from + groups);
                            const float4 v10 = __ldg(from + pitch);
                            const float4 v11 = __ldg(from + pitch + groups);
                            multiply_add(high - w01, v00, &sum);
                            multiply_add(w01, v01, &sum);
                            multiply_add(low - w11, v10, &sum);
                            multiply_add(w11, v11, &sum);
                          } else {
                            multiply_add(e.weight, __ldg(from), &sum);
                          }
                        });
    }
    if (!here) continue;
    float* to = out + frame * p.own_stride[2] + y * p.own_stride[4];
    if (channels > 0) __stcs(to, sum.x);
    if (channels > 1) __stcs(to + next, sum.y);
    if (channels > 2) __stcs(to + 2 * next, sum.z);
    if (channels > 3) __stcs(to + 3 * next, sum.w);
  }
}

template <int kLanes, bool kFloatGrid>
void launch_pixel_sum(const PackedPatchProblem& p, const Packing& packing, const float4* packed,
                      cudaStream_t stream) {
  constexpr int kRows = kPixelThreads / kLanes / kPixelColumns;
  const int64_t columns = (p.width + kPixelColumns - 1) / kPixelColumns;
  const int64_t all_steps = (p.frames * p.height + kRows - 1) / kRows;
  // To begin a block costs about as much as a step.
  const int steps =
      rows_of_block(packing.chunks, all_steps, columns * packing.slabs * packing.chunks, 1,
                    kMostPixelSteps, pixel_blocks(kFloatGrid));
  const int64_t bands = (all_steps + steps - 1) / steps;
  const dim3 grid(static_cast<unsigned>(columns), static_cast<unsigned>(bands * packing.chunks),
                  static_cast<unsigned>(packing.slabs));
  launch_overlapping(pixel_sum_kernel<kLanes, kFloatGrid>, grid, kPixelThreads, 0, stream, p,
                     packing, steps, packed);
}

}  // namespace stnls
