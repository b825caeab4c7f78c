// The offsets of every candidate. They are known beforehand, and take two or three times as many
// bytes as the distances: written side by side, they take the time of these bytes.
#include "../common/cuda_launch.h"
#include "direct.h"
#include "every_offsets.h"

namespace stnls {
namespace {

constexpr int kWindows = 128;  // of a block, one after the other in the output
constexpr int kThreads = 256;
constexpr int kTogether = 4;  // numbers that are written at once

// One axis of a window (time, rows, columns): its anchor, of which the index is `offset`, and the
// place of the query.
template <class Pos>
struct Axis {
  Pos anchor, own;
  int offset;
};

template <class T>
struct alignas(kTogether * sizeof(T)) Numbers {
  T of[kTogether];
};

// What so many numbers at once are of: one of as many windows, an axis, an index along it.
struct Part {
  int window, axis, index;

  __device__ Part(int number, int ws, int components) {
    const int items = ws * ws * components;
    window = number / items;
    const int item = number - window * items, place = item / components;
    axis = item % components + 3 - components;
    index = axis == 0 ? 0 : axis == 1 ? place / ws : place % ws;
  }
};

// A thread has the same places of every fourth window, so that it finds out once which they are.
template <bool kFloatGrid>
__global__ void __launch_bounds__(kThreads)
    every_offsets_kernel(const __grid_constant__ SearchProblem p) {
  using Search = DirectSearch<float, kFloatGrid, false>;
  using Index = typename Search::Index;
  using Pos = typename Search::Pos;
  const Search search(p);
  __shared__ Axis<Pos> axes[3][kWindows];
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kWindows, slots = slot_count(p);
  const int64_t left = query_count(p) * slots - first;
  const int windows = left < kWindows ? static_cast<int>(left) : kWindows;
  const int own = static_cast<int>(threadIdx.x);
  if (own < windows) {
    const Query q = query_at(p, (first + own) / slots);
    const Window<Pos> w = search.window(q, p.first_slot + (first + own) % slots);
    axes[0][own] = {static_cast<Pos>(w.frame), static_cast<Pos>(q.t), 0};
    axes[1][own] = {w.anchor_h, static_cast<Pos>(q.i * p.stride0), static_cast<int>(w.offset_h)};
    axes[2][own] = {w.anchor_w, static_cast<Pos>(q.j * p.stride0), static_cast<int>(w.offset_w)};
  }
  __syncthreads();
  const int ws = static_cast<int>(p.ws), area = ws * ws;
  const int components = static_cast<int>(p.components), items = area * components;

  Numbers<float> none;
  for (float& one : none.of) one = p.product ? -infinity<float>() : infinity<float>();
  float* const dists = static_cast<float*>(p.dists) + first * area;
  const int whole = windows * area / kTogether;
  for (int n = own; n < whole; n += kThreads) reinterpret_cast<Numbers<float>*>(dists)[n] = none;
  for (int n = whole * kTogether + own; n < windows * area; n += kThreads) dists[n] = none.of[0];

  Index* const inds = static_cast<Index*>(p.inds) + first * items;
  for (int n = own; n < items; n += kThreads) {
    const Part parts[kTogether] = {
        Part(kTogether * n, ws, components), Part(kTogether * n + 1, ws, components),
        Part(kTogether * n + 2, ws, components), Part(kTogether * n + 3, ws, components)};
    Index* to = inds + kTogether * n;
    for (int window = 0; window < windows; window += kTogether, to += kTogether * items) {
      Numbers<Index> found;
#pragma unroll
      for (int e = 0; e < kTogether; ++e) {
        // Of windows that are not there: written nowhere.
        const Axis<Pos>& a = axes[parts[e].axis][window + parts[e].window];
        found.of[e] =
            static_cast<Index>(search.position(a.anchor, parts[e].index, a.offset) - a.own);
      }
      if (window + kTogether <= windows) {
        *reinterpret_cast<Numbers<Index>*>(to) = found;
      } else {
        for (int e = 0; e < kTogether; ++e)
          if (window + parts[e].window < windows) to[e] = found.of[e];
      }
    }
  }
}

}  // namespace

void every_offsets_cuda(const SearchProblem& p, cudaStream_t stream) {
  const unsigned blocks = blocks_for(query_count(p) * slot_count(p), kWindows);
  const auto kernel = p.float_grid ? every_offsets_kernel<true> : every_offsets_kernel<false>;
  kernel<<<blocks, kThreads, 0, stream>>>(p);
}

}  // namespace stnls
