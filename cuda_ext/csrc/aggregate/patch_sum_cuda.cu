// An output pixel is gathered from all patches that cover it: no atomics, so that the sum is the
// same in every run. Two forms: one thread for four channels of a pixel, straight from the planes
// (double precision, and what the other cannot hold), and one for single precision that reads a
// packed copy of the video and shares the entries of a tile of pixels in shared memory.
#include "../common/cuda_launch.h"
#include "neighbour.h"
#include "pack_cuda.h"
#include "packed_cuda.h"
#include "strip_sum_cuda.h"
#include "tile_sum_cuda.h"

namespace stnls {
namespace {

constexpr int kThreads = 128;
constexpr int kChannels = 4;

STNLS_HD int64_t channel_groups(const PatchProblem& p) {
  return (p.channels + kChannels - 1) / kChannels;
}

STNLS_HD int64_t thread_count(const PatchProblem& p) {
  const int64_t layers = p.stacked ? p.k : 1;
  return p.batch * p.heads * layers * p.frames * channel_groups(p) * p.height * p.width;
}

template <class Real, bool kFloatGrid>
__global__ void __launch_bounds__(kThreads)
    patch_sum_kernel(const __grid_constant__ PatchProblem p) {
  using Pos = typename Neighbour<Real, kFloatGrid>::Pos;
  int64_t index = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (index >= thread_count(p)) return;
  const int64_t x = index % p.width;
  index /= p.width;
  const int64_t y = index % p.height;
  index /= p.height;
  const int64_t first_channel = index % channel_groups(p) * kChannels;
  index /= channel_groups(p);
  const int64_t t = index % p.frames;
  index /= p.frames;
  const int64_t layer = p.stacked ? index % p.k : 0;
  if (p.stacked) index /= p.k;
  const int64_t head = index % p.heads, b = index / p.heads;
  const int64_t first_entry = p.stacked ? layer : 0, last_entry = p.stacked ? layer + 1 : p.k;
  const int64_t left = p.channels - first_channel;
  const int channels = static_cast<int>(left < kChannels ? left : kChannels);
  const Real* video = static_cast<const Real*>(p.video) + b * p.video_stride[0] +
                      head * p.video_stride[1] + first_channel * p.video_stride[3];
  const int64_t plane = ((b * p.heads + head) * p.frames + t) * p.grid_height * p.grid_width;

  Real sum[kChannels] = {};
  int64_t count = 0;
  for (int64_t pi = 0; pi < p.ps; ++pi) {
    const int64_t tap_h = p.dilation * (pi + p.patch_offset);
    const int64_t row = y - tap_h;
    if (row < 0 || row % p.stride0 != 0 || row / p.stride0 >= p.grid_height) continue;
    for (int64_t pj = 0; pj < p.ps; ++pj) {
      const int64_t tap_w = p.dilation * (pj + p.patch_offset);
      const int64_t column = x - tap_w;
      if (column < 0 || column % p.stride0 != 0 || column / p.stride0 >= p.grid_width) continue;
      const int64_t i = row / p.stride0, j = column / p.stride0;
      ++count;
      for (int64_t k = first_entry; k < last_entry; ++k) {
        const int64_t entry = (plane + i * p.grid_width + j) * p.k + k;
        const auto n = neighbour<Real, kFloatGrid>(p, entry, t, i, j);
        Pos h, w;
        if (!n.used || !move(n.h, tap_h, p.height, p.reflect_bounds != 0, &h) ||
            !move(n.w, tap_w, p.width, p.reflect_bounds != 0, &w))
          continue;
        const Real weight = static_cast<const Real*>(p.weights)[entry];
        const Real* frame = video + n.frame * p.video_stride[2];
        if constexpr (kFloatGrid) {
          const Sample<Real> s = sample_at(h, w, p.height, p.width, p.video_stride[4]);
#pragma unroll
          for (int c = 0; c < kChannels; ++c)
            if (c < channels) sum[c] += weight * read(frame + c * p.video_stride[3], s);
        } else {
          const Real* at = frame + h * p.video_stride[4] + w;
#pragma unroll
          for (int c = 0; c < kChannels; ++c)
            if (c < channels) sum[c] = multiply_add(weight, at[c * p.video_stride[3]], sum[c]);
        }
      }
    }
  }
  const Real divisor = p.normalize ? static_cast<Real>(count) : Real(1);
  Real* out = static_cast<Real*>(p.own) + layer * p.own_entry_stride + b * p.own_stride[0] +
              head * p.own_stride[1] + t * p.own_stride[2] + first_channel * p.own_stride[3] +
              y * p.own_stride[4] + x;
#pragma unroll
  for (int c = 0; c < kChannels; ++c)
    if (c < channels) out[c * p.own_stride[3]] = sum[c] / divisor;
}

void launch_packed(const PackedPatchProblem& p, cudaStream_t stream) {
  for_rounds(p, [&](const Packing& packing) {
    float4* packed = packed_copy(p, 0);
    launch_pack(p, packing, planes_of(p.video, p.video_stride), packed, nullptr, stream);
    if (takes_strips(p))
      p.float_grid ? launch_strip_sum<true>(p, packing, packed, stream)
                   : launch_strip_sum<false>(p, packing, packed, stream);
    else
      launch_sum<kSum>(p, packing, packed, nullptr, stream);
  });
}

}  // namespace

void launch_sum_with_margins(const PackedPatchProblem& p, const Packing& packing,
                             const float4* packed, float4* sums, bool difference,
                             cudaStream_t stream) {
  difference ? launch_sum<kDifference>(p, packing, packed, sums, stream)
             : launch_sum<kSumWithMargins>(p, packing, packed, sums, stream);
}

int64_t packed_scratch(const PackedPatchProblem& p, int64_t copies) {
  constexpr int64_t most = 1 << 18;  // of lengths, so that their products are numbers
  if (p.dtype != kFloat32 || p.batch * p.heads * p.frames * p.channels * p.k == 0) return 0;
  if (p.height > most || p.width > most || p.channels > most || p.k > most) return 0;
  if (p.ps > most || p.dilation > most || p.dilation * p.ps > most) return 0;
  if (p.frames > kMostBlocks || p.batch * p.heads > INT32_MAX) return 0;
  if (p.grid_height * p.grid_width > INT32_MAX / p.k) return 0;
  const Packing packing = packing_of(p);
  const int64_t pixels = int64_t{packing.height} * packing.width;
  if (pixels > INT32_MAX || packing.vectors > INT32_MAX / 8) return 0;
  // Margins may be larger than a small frame, but not than a large one.
  if (pixels > 2 * p.height * p.width && pixels > 1 << 16) return 0;
  SumTile tile;
  if (!tile_of(p, packing, true, &tile) || int64_t{tile.lines} * packing.chunks > kMostBlocks)
    return 0;
  return 4 * copies * packing.vectors * slabs_at_once(p, packing);
}

}  // namespace stnls

STNLS_API int stnls_cuda_patch_sum(const stnls::PatchProblem* p, int device, void* stream,
                                   char* message, int64_t message_size) {
  using namespace stnls;
  return launch_on(device, message, message_size, [&] {
    const cudaStream_t s = static_cast<cudaStream_t>(stream);
    const unsigned blocks = blocks_for(thread_count(*p), kThreads);
    if (p->dtype == kFloat64)
      p->float_grid ? patch_sum_kernel<double, true><<<blocks, kThreads, 0, s>>>(*p)
                    : patch_sum_kernel<double, false><<<blocks, kThreads, 0, s>>>(*p);
    else
      p->float_grid ? patch_sum_kernel<float, true><<<blocks, kThreads, 0, s>>>(*p)
                    : patch_sum_kernel<float, false><<<blocks, kThreads, 0, s>>>(*p);
  });
}

// The same in single precision with scratch memory for one copy.
STNLS_API int stnls_cuda_patch_packed_sum(const stnls::PackedPatchProblem* p, int device,
                                          void* stream, char* message, int64_t message_size) {
  using namespace stnls;
  return launch_on(device, message, message_size,
                   [&] { launch_packed(*p, static_cast<cudaStream_t>(stream)); });
}

// Floats of scratch memory for packed copies: one of the video (gather, dot), one of its sums
// (scatter). 0 if the problem cannot be taken in this form.
STNLS_API int64_t stnls_cuda_patch_packed_scratch(const stnls::PackedPatchProblem* p,
                                                  int64_t copies) {
  return stnls::packed_scratch(*p, copies);
}
