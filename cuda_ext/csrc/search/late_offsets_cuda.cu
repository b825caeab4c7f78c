// Offsets of matches of which the candidates are known. A block gathers those of neighbours, and
// writes them side by side: it takes the time of these bytes.
#include "../common/cuda_launch.h"
#include "found_candidate_cuda.h"
#include "late_offsets.h"

namespace stnls {
namespace {

constexpr int kThreads = 128;  // a match each

__global__ void __launch_bounds__(kThreads)
    late_offsets_kernel(const __grid_constant__ SearchProblem p, const uint16_t* found) {
  using Search = DirectSearch<float, true, false>;
  const Search search(p);
  __shared__ float gathered[3 * kThreads];
  const int components = static_cast<int>(p.components), stride = static_cast<int>(p.stride0);
  const unsigned entries = static_cast<unsigned>(entry_count(p));
  const unsigned wide = static_cast<unsigned>(p.grid_width);
  const unsigned of_frame = wide * static_cast<unsigned>(p.grid_height) * entries;
  const unsigned first = blockIdx.x * kThreads, own = first + threadIdx.x;
  const unsigned place = own / entries;
  const int e = static_cast<int>(own - place * entries);
  const int y = static_cast<int>(place / wide) * stride;
  const int x = static_cast<int>(place % wide) * stride;
  const int count = min(static_cast<int>(of_frame - first), kThreads) * components;
  for (int64_t item = blockIdx.y; item < p.batch * p.heads * p.frames; item += gridDim.y) {
    if (own < of_frame) {
      const int t = static_cast<int>(item % p.frames);
      const int head = static_cast<int>(item / p.frames % p.heads);
      const int b = static_cast<int>(item / p.frames / p.heads);
      const int id = found[item * of_frame + own];
      const FoundCandidate<Search> candidate(search, b, head, t, y, x, static_cast<int>(place), id);
      candidate.write_offsets(FoundCandidate<Search>::is_exactly_self(search, e, id),
                              gathered + components * static_cast<int>(threadIdx.x));
    }
    __syncthreads();
    float* const to = static_cast<float*>(p.inds) + (item * of_frame + first) * components;
    for (int n = static_cast<int>(threadIdx.x); n < count; n += kThreads) to[n] = gathered[n];
    __syncthreads();
  }
}

}  // namespace

void late_offsets_cuda(const SearchProblem& p, const uint16_t* found, cudaStream_t stream) {
  const int64_t items = p.batch * p.heads * p.frames;
  const dim3 blocks(blocks_for(p.grid_height * p.grid_width * entry_count(p), kThreads),
                    static_cast<unsigned>(items < 65535 ? items : 65535));
  late_offsets_kernel<<<blocks, kThreads, 0, stream>>>(p, found);
}

}  // namespace stnls
