// The offsets of every candidate. They are known beforehand, and take two or three times as many
// bytes as the distances: written side by side, they take the time of these bytes.
#include "../common/cuda_launch.h"
#include "direct.h"
#include "every_offsets.h"

namespace stnls {
namespace {

constexpr int kQueries = 64;  // of a block
constexpr int kThreads = 256;

// One axis of a window (time, rows, columns): its anchor, of which the index is `offset`, and the
// place of the query.
template <class Pos>
struct Axis {
  Pos anchor, own;
  int offset;
};

// A block has queries that follow each other, and one slot. A thread has the same places of every
// window, so that it finds out once which they are.
template <bool kFloatGrid>
__global__ void __launch_bounds__(kThreads)
    every_offsets_kernel(const __grid_constant__ SearchProblem p) {
  using Search = DirectSearch<float, kFloatGrid, false>;
  using Index = typename Search::Index;
  using Pos = typename Search::Pos;
  const Search search(p);
  __shared__ Axis<Pos> axes[kQueries][3];
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kQueries;
  const int64_t left = query_count(p) - first;
  const int queries = left < kQueries ? static_cast<int>(left) : kQueries;
  const int own = static_cast<int>(threadIdx.x);
  if (own < queries) {
    const Query q = query_at(p, first + own);
    const Window<Pos> w = search.window(q, p.first_slot + blockIdx.y);
    axes[own][0] = {static_cast<Pos>(w.frame), static_cast<Pos>(q.t), 0};
    axes[own][1] = {w.anchor_h, static_cast<Pos>(q.i * p.stride0), static_cast<int>(w.offset_h)};
    axes[own][2] = {w.anchor_w, static_cast<Pos>(q.j * p.stride0), static_cast<int>(w.offset_w)};
  }
  __syncthreads();
  const int ws = static_cast<int>(p.ws), area = ws * ws;
  const int64_t entries = entry_count(p), begin = first * entries + blockIdx.y * area;
  for (int place = own; place < area; place += kThreads) {
    float* to = static_cast<float*>(p.dists) + begin + place;
    for (int n = 0; n < queries; ++n, to += entries)
      *to = p.product ? -infinity<float>() : infinity<float>();
  }
  const int components = static_cast<int>(p.components);
  for (int item = own; item < area * components; item += kThreads) {
    const int place = item / components, axis = item % components + 3 - components;
    const int index = axis == 0 ? 0 : axis == 1 ? place / ws : place % ws;
    Index* to = static_cast<Index*>(p.inds) + begin * components + item;
    for (int n = 0; n < queries; ++n, to += entries * components) {
      const Axis<Pos>& a = axes[n][axis];
      *to = static_cast<Index>(search.position(a.anchor, index, a.offset) - a.own);
    }
  }
}

}  // namespace

void every_offsets_cuda(const SearchProblem& p, cudaStream_t stream) {
  const dim3 blocks(blocks_for(query_count(p), kQueries), static_cast<unsigned>(slot_count(p)));
  const auto kernel = p.float_grid ? every_offsets_kernel<true> : every_offsets_kernel<false>;
  kernel<<<blocks, kThreads, 0, stream>>>(p);
}

}  // namespace stnls
