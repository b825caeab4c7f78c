// Gradients of the videos in single precision, from the kernels of the patch sum. With w = -2 dL/dD
// for the entries of a search by squared differences,
//
//   dL/dq = sum of w (k(place) - q)         over the entries whose patches cover the pixel,
//   dL/dk = sum of w b q - sum of w b k(place)     over those that point to it with weight b,
//
// the first is a patch sum of the key, the first half of the second its transpose. In the other
// half, k(place) = sum of b' k(pixel'): it is the key itself, filtered with the sums of the moments
// w b b' of the bilinear weights, which are the same for every channel and reach one pixel far; on
// the integer grid, b = b' = 1. Products (w = dL/dD) have the terms without k(place) and q only.
#include "../aggregate/entries_cuda.h"
#include "../aggregate/own_pixels_cuda.h"
#include "../aggregate/pack_cuda.h"
#include "../aggregate/packed_cuda.h"
#include "../aggregate/vectors_cuda.h"
#include "../common/cuda_launch.h"
#include "direct.h"
#include "packed_gradient.h"

namespace stnls {
namespace {

constexpr int kThreads = 256;

// Sums of moments for every pixel of a packed slab: with itself, its neighbours to the right,
// below, and below to the right; below to the left. Only the last, as its own, on the integer grid.
struct Moments {
  float4* near;
  float* other;
};

struct Scratch {
  int64_t packed, sums, weights, near, other, other_of_centres, words;  // first float, and all
};

PackedPatchProblem patches_of(const SearchGradProblem& g) {
  const SearchProblem& p = g.search;
  PackedPatchProblem patch{};
  patch.video = const_cast<void*>(p.key);
  patch.own = const_cast<void*>(p.query);
  patch.inds = p.inds;
  for (int axis = 0; axis < 5; ++axis) {
    patch.video_stride[axis] = p.key_stride[axis];
    patch.own_stride[axis] = p.query_stride[axis];
  }
  patch.batch = p.batch;
  patch.heads = p.heads;
  patch.frames = p.frames;
  patch.channels = p.channels;
  patch.height = p.height;
  patch.width = p.width;
  patch.grid_height = p.grid_height;
  patch.grid_width = p.grid_width;
  patch.k = entry_count(p);
  patch.ps = p.ps;
  patch.patch_offset = p.patch_offset;
  patch.dilation = p.dilation;
  patch.stride0 = p.stride0;
  patch.reflect_bounds = 1;
  patch.float_grid = p.float_grid;
  patch.dtype = p.dtype;
  patch.mirrors_own = 1;
  patch.components = p.components;
  return patch;
}

Scratch scratch_of(const SearchGradProblem& g, const PackedPatchProblem& p, int64_t copy) {
  const Packing packing = packing_of(p);
  const bool filters = g.grad_key != nullptr && g.search.product == 0;
  const int64_t entries = p.batch * p.heads * p.frames * p.grid_height * p.grid_width * p.k;
  const int64_t pixels = p.frames * packing.height * packing.width * slabs_at_once(p, packing);
  Scratch at{};
  at.sums = copy;
  at.near = 2 * copy;
  at.other = at.near + (filters && p.float_grid ? 4 * pixels : 0);
  at.other_of_centres = at.other + (filters ? pixels : 0);
  at.weights = at.other_of_centres + (filters && p.ps > 1 && p.float_grid ? pixels : 0);
  at.words = at.weights + entries;
  return at;
}

// The factors of the entries: of those that take part and were found.
__global__ void __launch_bounds__(kThreads)
    weights_kernel(const __grid_constant__ SearchGradProblem g, int64_t all, int entries, int used,
                   float factor, float* weights) {
  const int64_t at = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (at >= all) return;
  const float distance = __ldcs(static_cast<const float*>(g.search.dists) + at);
  const float grad = __ldcs(static_cast<const float*>(g.grad_dists) + at);
  const bool takes_part = is_finite(distance) && (used == entries || at % entries < used);
  weights[at] = takes_part ? factor * grad : 0.0f;
}

template <bool kFloatGrid>
__global__ void __launch_bounds__(kThreads)
    moments_kernel(const __grid_constant__ PackedPatchProblem p,
                   const __grid_constant__ Packing packing, Moments moments) {
  const int64_t item = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (item >= packing.entries) return;
  const BlockPlane plane(p);
  const int64_t first = plane.entries(p, packing);
  const int index = static_cast<int>(item), query = index / static_cast<int>(p.k);
  const int i = query / static_cast<int>(p.grid_width);
  const int j = query - i * static_cast<int>(p.grid_width);
  const int stride = static_cast<int>(p.stride0);
  PackedPosition position;
  const Entry<kFloatGrid> e =
      decode<kFloatGrid>(p, packing, static_cast<const float*>(p.weights) + first,
                         static_cast<const float*>(p.inds) + p.components * first, index,
                         plane.frame, i * stride, j * stride, &position);
  if (e.at == kUnused || e.weight == 0.0f) return;
  const int64_t at = plane.slab * p.frames * packing.height * packing.width + e.at;
  if constexpr (kFloatGrid) {
    const float v = e.v(), u = e.u, w = e.weight;
    const float b10 = v * (1.0f - u), b11 = v * u, b01 = (1.0f - v) * u;
    const float b00 = (1.0f - v) * (1.0f - u);
    atomic_add(moments.near + at, scaled(w * b00, float4{b00, b01, b10, b11}));
    if (u != 0.0f) atomic_add(moments.near + at + 1, scaled(w * b01, float4{b01, 0.0f, b11, 0.0f}));
    if (v != 0.0f)
      atomic_add(moments.near + at + packing.width, scaled(w * b10, float4{b10, b11, 0.0f, 0.0f}));
    if (u != 0.0f && v != 0.0f) {
      atomicAdd(&moments.near[at + packing.width + 1].x, w * b11 * b11);
      atomicAdd(moments.other + at + 1, w * b01 * b10);
    }
  } else {
    atomicAdd(moments.other + at, e.weight);
  }
}

// From the moments of the patches' centres to those of all their taps.
template <bool kFloatGrid>
__global__ void __launch_bounds__(kThreads)
    taps_kernel(const __grid_constant__ PackedPatchProblem p,
                const __grid_constant__ Packing packing, Moments centres, Moments moments) {
  const int pixel = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  const int pixels = packing.height * packing.width;
  if (pixel >= pixels) return;
  const int y = pixel / packing.width, x = pixel - y * packing.width;
  const int64_t first = int64_t{blockIdx.z} * pixels;
  const int low = first_tap(p), high = last_tap(p), dilation = static_cast<int>(p.dilation);
  float4 near{};
  float other = 0.0f;
  for (int tap_h = low; tap_h <= high; tap_h += dilation) {
    const int row = y - tap_h;
    if (static_cast<unsigned>(row) >= static_cast<unsigned>(packing.height)) continue;
    for (int tap_w = low; tap_w <= high; tap_w += dilation) {
      const int column = x - tap_w;
      if (static_cast<unsigned>(column) >= static_cast<unsigned>(packing.width)) continue;
      const int64_t at = first + row * packing.width + column;
      if (kFloatGrid) add(__ldg(centres.near + at), &near);
      other += __ldg(centres.other + at);
    }
  }
  if (kFloatGrid) moments.near[first + pixel] = near;
  moments.other[first + pixel] = other;
}

// The key, filtered: less of it, as it is subtracted from the gradient.
template <bool kFloatGrid>
__global__ void __launch_bounds__(kThreads)
    filter_kernel(const __grid_constant__ Packing packing, Moments moments, const float4* packed,
                  float4* sums) {
  const int64_t vector = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const int pitch = packing.width, groups = packing.groups;
  if (vector >= int64_t{packing.height} * pitch * groups) return;
  const int pixel = static_cast<int>(vector / groups);
  const int y = pixel / pitch, x = pixel - y * pitch;
  const int64_t first = int64_t{blockIdx.z} * packing.height * pitch;
  packed += first * groups + vector;
  float4 sum{};
  const auto take = [&](float moment, int step) {
    if (moment != 0.0f) multiply_add(-moment, __ldg(packed + step * groups), &sum);
  };
  const float* other = moments.other + first + pixel;
  if constexpr (kFloatGrid) {
    const float4* near = moments.near + first + pixel;
    const bool above = y > 0, below = y + 1 < packing.height;
    const bool before = x > 0, after = x + 1 < pitch;
    take(near->x, 0);
    if (after) take(near->y, 1);
    if (below) take(near->z, pitch);
    if (below && after) take(near->w, pitch + 1);
    if (below && before) take(*other, pitch - 1);
    if (before) take(near[-1].y, -1);
    if (above) take(near[-pitch].z, -pitch);
    if (above && before) take(near[-pitch - 1].w, -pitch - 1);
    if (above && after) take(other[1 - pitch], 1 - pitch);
  } else {
    take(*other, 0);
  }
  sums[first * groups + vector] = sum;
}

// The moments of the centres, unless they are those of all taps, lie where the sums do later.
template <bool kFloatGrid>
cudaError_t launch_filter(const PackedPatchProblem& p, const Packing& packing, const Scratch& at,
                          const float4* packed, float4* sums, cudaStream_t stream) {
  const auto part = [&](int64_t first) { return p.scratch + first; };
  const Moments moments{reinterpret_cast<float4*>(part(at.near)), part(at.other)};
  Moments centres = moments;
  if (p.ps > 1)
    centres = kFloatGrid ? Moments{sums, part(at.other_of_centres)}
                         : Moments{nullptr, reinterpret_cast<float*>(sums)};
  const int64_t pixels = int64_t{packing.height} * packing.width;
  const size_t all = static_cast<size_t>(pixels * p.frames * packing.slabs);
  cudaError_t error = cudaMemsetAsync(centres.other, 0, all * sizeof(float), stream);
  if (kFloatGrid && error == cudaSuccess)
    error = cudaMemsetAsync(centres.near, 0, all * sizeof(float4), stream);
  if (error != cudaSuccess) return error;
  const auto grid = [&](int64_t items) {
    return plane_grid(p, packing, (items + kThreads - 1) / kThreads, 1);
  };
  moments_kernel<kFloatGrid><<<grid(packing.entries), kThreads, 0, stream>>>(p, packing, centres);
  if (p.ps > 1)
    taps_kernel<kFloatGrid><<<grid(pixels), kThreads, 0, stream>>>(p, packing, centres, moments);
  filter_kernel<kFloatGrid>
      <<<grid(pixels * packing.groups), kThreads, 0, stream>>>(packing, moments, packed, sums);
  return cudaSuccess;
}

}  // namespace

int64_t packed_gradient_scratch(const SearchGradProblem& g) {
  const SearchProblem& p = g.search;
  if (p.dtype != kFloat32 || g.grad_dists == nullptr || p.reflect_bounds == 0 ||
      (g.grad_query == nullptr && g.grad_key == nullptr) || p.query_height != p.height ||
      p.query_width != p.width || p.stride_query != p.stride0 || p.offset_height != 0 ||
      p.offset_width != 0 || (p.grid_height - 1) * p.stride0 >= p.height ||
      (p.grid_width - 1) * p.stride0 >= p.width)
    return 0;
  const PackedPatchProblem patch = patches_of(g);
  const int64_t copy = packed_scratch(patch, 1);
  return copy == 0 ? 0 : scratch_of(g, patch, copy).words;
}

cudaError_t launch_packed_gradient(const SearchGradProblem& g, cudaStream_t stream) {
  const SearchProblem& search = g.search;
  PackedPatchProblem p = patches_of(g);
  const Scratch at = scratch_of(g, p, packed_scratch(p, 1));
  const bool product = search.product != 0;
  float* weights = g.scratch + at.weights;
  p.weights = weights;
  p.scratch = g.scratch;
  const int64_t entries = p.batch * p.heads * p.frames * p.grid_height * p.grid_width * p.k;
  const int64_t used = g.k_agg > 0 && g.k_agg < p.k ? g.k_agg : p.k;
  weights_kernel<<<blocks_for(entries, kThreads), kThreads, 0, stream>>>(
      g, entries, static_cast<int>(p.k), static_cast<int>(used), product ? 1.0f : -2.0f, weights);

  float4* packed = reinterpret_cast<float4*>(g.scratch);
  float4* sums = reinterpret_cast<float4*>(g.scratch + at.sums);
  cudaError_t error = cudaSuccess;
  for_rounds(p, [&](const Packing& packing) {
    if (error != cudaSuccess) return;
    const bool filters = g.grad_key != nullptr && !product;
    if (g.grad_query != nullptr || filters)
      launch_pack(p, packing, planes_of(p.video, p.video_stride), packed, nullptr, stream);
    if (g.grad_query != nullptr) {
      launch_sum_with_margins(p, packing, packed, sums, !product, stream);
      launch_unpack(p, packing, planes_of(g.grad_query, g.grad_query_stride), sums, stream);
    }
    if (g.grad_key == nullptr) return;
    if (filters) {
      error = p.float_grid ? launch_filter<true>(p, packing, at, packed, sums, stream)
                           : launch_filter<false>(p, packing, at, packed, sums, stream);
    } else {
      const size_t bytes = static_cast<size_t>(packing.slabs * packing.vectors) * sizeof(float4);
      error = cudaMemsetAsync(sums, 0, bytes, stream);
    }
    if (error == cudaSuccess) error = launch_scatter(p, packing, sums, stream);
    if (error == cudaSuccess)
      launch_unpack(p, packing, planes_of(g.grad_key, g.grad_key_stride), sums, stream);
  });
  return error;
}

}  // namespace stnls
