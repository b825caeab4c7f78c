// The search for what neither tiles_cuda.h nor pixels_cuda.h serves: real positions, many channels,
// small patches. A warp walks the union of the windows of a tile of queries, in whole pixels; a
// lane holds a column of the tile's pixels.
//
// On the real grid a window's candidates lie between whole displacements (interpolation_cuda.h).
// The distances of a query's whole window are kept in shared memory, or, where that takes too much
// of it, those of the last columns, and the candidates between two columns are compared when the
// second is complete.
#pragma once

#include "../common/cuda_launch.h"
#include "window_scratch.h"
#include "window_shape_cuda.h"
#include "window_tile_cuda.h"

namespace stnls {

// kBlocks: how many are to fit a multiprocessor, as far as registers go.
template <int kPs, int kChannels, bool kProduct, bool kFloat, int kList, bool kCharge, int kBlocks>
__global__ void __launch_bounds__(32, kBlocks)
    windows_kernel(const __grid_constant__ SearchProblem p, const WindowGrid grid,
                   const WindowScratch scratch) {
  extern __shared__ uint64_t shared[];
  const int tile = static_cast<int>(blockIdx.x);
  WindowTile<kPs, kChannels, kProduct, kFloat, kList, kCharge> one(p, grid, tile, shared, scratch);
  if (!one.run() && threadIdx.x == 0) scratch.left[1 + atomicAdd(scratch.left, 1)] = tile;
}

template <int kPs, int kChannels, bool kProduct, bool kFloat, int kList, bool kCharge, int kBlocks>
cudaError_t launch_windows(const SearchProblem& p, const WindowScratch& scratch,
                           cudaStream_t stream) {
  const auto kernel = windows_kernel<kPs, kChannels, kProduct, kFloat, kList, kCharge, kBlocks>;
  const int bytes = 8 * WindowShared(p).words;
  const cudaError_t error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  if (error != cudaSuccess) return error;
  kernel<<<static_cast<unsigned>(window_tile_count(p)), 32, bytes, stream>>>(p, WindowGrid(p),
                                                                             scratch);
  return cudaSuccess;
}

// Small windows leave shared memory for more warps, which then get fewer registers each.
template <int kPs, int kChannels, bool kProduct, bool kFloat, int kList, bool kCharge = false>
cudaError_t launch_windows(const SearchProblem& p, const WindowScratch& scratch,
                           cudaStream_t stream) {
  if constexpr (kList == 1) {  // a fourth channel takes registers, too
    constexpr int kBlocks = kChannels > 3 ? 12 : 16;
    return launch_windows<kPs, kChannels, kProduct, kFloat, kList, kCharge, kBlocks>(p, scratch,
                                                                                     stream);
  } else {
    if constexpr (kPs == 3 && kChannels == 0 && kList > 1) {
      if (8 * WindowShared(p).words <= kWindowSmall)
        return launch_windows<kPs, 0, kProduct, kFloat, kList, kCharge, 16>(p, scratch, stream);
    }
    // Of many channels the terms of large patches take registers.
    constexpr int kBlocks = kPs > 7 && kChannels == 0 ? 8 : 12;
    return launch_windows<kPs, kChannels, kProduct, kFloat, kList, kCharge, kBlocks>(p, scratch,
                                                                                     stream);
  }
}

// One patch size; each is compiled in sources of its own, side by side.
template <int kPs, bool kProduct, bool kFloat>
cudaError_t launch_any_list(const SearchProblem& p, const WindowScratch& scratch,
                            cudaStream_t stream) {
  switch (window_list(p)) {
    case kListEvery:
      return launch_windows<kPs, 0, kProduct, kFloat, kListEvery>(p, scratch, stream);
    case 0:
      return launch_windows<kPs, 0, kProduct, kFloat, 0>(p, scratch, stream);
    default:
      return launch_windows<kPs, 0, kProduct, kFloat, kListMost>(p, scratch, stream);
  }
}
template <int kPs>
cudaError_t launch_any_channels(const SearchProblem& p, const WindowScratch& scratch,
                                cudaStream_t stream) {
  if (p.product)
    return p.float_grid ? launch_any_list<kPs, true, true>(p, scratch, stream)
                        : launch_any_list<kPs, true, false>(p, scratch, stream);
  return p.float_grid ? launch_any_list<kPs, false, true>(p, scratch, stream)
                      : launch_any_list<kPs, false, false>(p, scratch, stream);
}

template <int kPs, int kChannels>
cudaError_t launch_few_channels(const SearchProblem& p, const WindowScratch& scratch,
                                cudaStream_t stream) {
  return window_single(p)
             ? launch_windows<kPs, kChannels, false, true, 1>(p, scratch, stream)
             : launch_windows<kPs, kChannels, false, true, kListMost>(p, scratch, stream);
}
template <int kPs>
cudaError_t launch_few_channels(const SearchProblem& p, const WindowScratch& scratch,
                                cudaStream_t stream) {
  switch (p.channels) {
    case 1:
      return launch_few_channels<kPs, 1>(p, scratch, stream);
    case 2:
      return launch_few_channels<kPs, 2>(p, scratch, stream);
    case 3:
      return launch_few_channels<kPs, 3>(p, scratch, stream);
    default:
      return launch_few_channels<kPs, 4>(p, scratch, stream);
  }
}

// Where leaving the flow is charged for: 3 channels.
template <int kPs, bool kFloat>
cudaError_t launch_charged(const SearchProblem& p, const WindowScratch& scratch,
                           cudaStream_t stream) {
  switch (window_list(p)) {
    case 1:
      return launch_windows<kPs, 3, false, kFloat, 1, true>(p, scratch, stream);
    case 0:
      return launch_windows<kPs, 3, false, kFloat, 0, true>(p, scratch, stream);
    default:
      return launch_windows<kPs, 3, false, kFloat, kListMost, true>(p, scratch, stream);
  }
}
template <int kPs>
cudaError_t launch_charged(const SearchProblem& p, const WindowScratch& scratch,
                           cudaStream_t stream) {
  return p.float_grid ? launch_charged<kPs, true>(p, scratch, stream)
                      : launch_charged<kPs, false>(p, scratch, stream);
}

extern template cudaError_t launch_any_channels<1>(const SearchProblem&, const WindowScratch&,
                                                   cudaStream_t);
extern template cudaError_t launch_any_channels<3>(const SearchProblem&, const WindowScratch&,
                                                   cudaStream_t);
extern template cudaError_t launch_any_channels<5>(const SearchProblem&, const WindowScratch&,
                                                   cudaStream_t);
extern template cudaError_t launch_any_channels<7>(const SearchProblem&, const WindowScratch&,
                                                   cudaStream_t);
extern template cudaError_t launch_any_channels<9>(const SearchProblem&, const WindowScratch&,
                                                   cudaStream_t);
extern template cudaError_t launch_few_channels<3>(const SearchProblem&, const WindowScratch&,
                                                   cudaStream_t);
extern template cudaError_t launch_few_channels<5>(const SearchProblem&, const WindowScratch&,
                                                   cudaStream_t);
extern template cudaError_t launch_few_channels<7>(const SearchProblem&, const WindowScratch&,
                                                   cudaStream_t);
extern template cudaError_t launch_few_channels<9>(const SearchProblem&, const WindowScratch&,
                                                   cudaStream_t);
extern template cudaError_t launch_charged<3>(const SearchProblem&, const WindowScratch&,
                                              cudaStream_t);
extern template cudaError_t launch_charged<5>(const SearchProblem&, const WindowScratch&,
                                              cudaStream_t);
extern template cudaError_t launch_charged<7>(const SearchProblem&, const WindowScratch&,
                                              cudaStream_t);
extern template cudaError_t launch_charged<9>(const SearchProblem&, const WindowScratch&,
                                              cudaStream_t);

}  // namespace stnls
