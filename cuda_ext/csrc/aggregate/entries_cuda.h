// Entries in the form in which the kernels on packed videos take them: decoded once, in 32 bits.
#pragma once

#include "neighbour.h"
#include "own_pixels_cuda.h"
#include "packed_cuda.h"

namespace stnls {

// Packed videos hold fewer pixels than that.
constexpr int kUnused = INT32_MAX;

// `at` is the pixel that an entry points to, counted over the frames of a packed slab; kUnused for
// an empty entry.
template <bool kFloatGrid>
struct alignas(8) Entry {
  int at;
  float weight;

  __device__ __forceinline__ bool leaves() const { return false; }
};

template <>
struct alignas(16) Entry<true> {
  int at;
  float weight;
  float signed_v, u;  // how far the position is below and to the right of the pixel; the sign of v
                      // is the mark of a patch some taps of which leave the frame

  __device__ __forceinline__ float v() const { return fabsf(signed_v); }
  __device__ __forceinline__ bool leaves() const { return signbit(signed_v); }
};

// Whether the taps of an entry must be looked at one by one, for want of a margin that fits:
// between the last pixel and the zeros beyond nothing may be interpolated.
template <bool kFloatGrid>
__device__ __forceinline__ bool is_rare(const PackedPatchProblem& p, const Entry<kFloatGrid>& e) {
  return kFloatGrid && p.reflect_bounds == 0 && e.at != kUnused && e.leaves();
}

// The entry of the n-th of `lanes` threads that share a query; all of them take part.
template <bool kFloatGrid>
__device__ __forceinline__ Entry<kFloatGrid> entry_of_lane(const Entry<kFloatGrid>& own, int n,
                                                           int lanes) {
  Entry<kFloatGrid> e;
  e.at = __shfl_sync(0xffffffffu, own.at, n, lanes);
  e.weight = __shfl_sync(0xffffffffu, own.weight, n, lanes);
  if constexpr (kFloatGrid) {
    e.signed_v = __shfl_sync(0xffffffffu, own.signed_v, n, lanes);
    e.u = __shfl_sync(0xffffffffu, own.u, n, lanes);
  }
  return e;
}

// A pointer to global memory that is not taken apart again: an index is added in one instruction.
template <class Type>
__device__ __forceinline__ Type* whole(Type* pointer) {
  asm("" : "+l"(pointer));
  __builtin_assume(__isGlobal(pointer));
  return pointer;
}

struct PackedPosition {
  int frame, row, column;  // with the margins
};

// An entry as it lies in memory.
template <bool kFloatGrid>
struct RawEntry {
  using Offset = typename std::conditional<kFloatGrid, float, int>::type;
  float weight;
  Offset dt, dh, dw;
};

// Entry number `entry` of a slab; `weights` and `inds` are those of the slab.
template <bool kFloatGrid>
__device__ __forceinline__ RawEntry<kFloatGrid> read_entry(const PackedPatchProblem& p,
                                                           const float* weights, const void* inds,
                                                           int entry) {
  using Offset = typename RawEntry<kFloatGrid>::Offset;
  const int bytes = static_cast<int>(p.components) * static_cast<int>(sizeof(Offset));
  const Offset* end = reinterpret_cast<const Offset*>(static_cast<const char*>(inds) +
                                                      int64_t{entry + 1} * int64_t{bytes});
  // No loaded value is touched here, so that nobody waits before it is used.
  RawEntry<kFloatGrid> raw;
  raw.weight = __ldcs(weights + entry);
  raw.dt = p.components == 3 ? __ldcs(end - 3) : Offset(0);
  raw.dh = __ldcs(end - 2);
  raw.dw = __ldcs(end - 1);
  return raw;
}

// x + dx reflected; x is inside.
__device__ __forceinline__ int reflect_moved(int x, int dx, int length) {
  unsigned to = static_cast<unsigned>(x) + static_cast<unsigned>(dx);
  if (to < static_cast<unsigned>(length)) return static_cast<int>(to);
  if (length == 1) return 0;
  if (dx < -x) to = 0u - to;
  const unsigned period = 2 * static_cast<unsigned>(length - 1);
  to %= period;
  return static_cast<int>(min(to, period - to));
}

// The same number as reflect(x), which takes more instructions, for |x| < 2^24: then the whole part
// is an integer, and all of this is exact.
__device__ __forceinline__ float reflect_within(float x, int length) {
  const float last = static_cast<float>(length - 1), period = 2.0f * last;
  x = fabsf(x);
  if (length == 1) return 0.0f;
  if (x > period) {
    const int whole_part = static_cast<int>(x);
    x = static_cast<float>(whole_part % (2 * (length - 1))) + (x - static_cast<float>(whole_part));
  }
  return x <= last ? x : period - x;
}

// An entry of a query at row y and column x of frame t. Where it is is told unless it is empty. Few
// entries are empty or lie outside the video: one test tells them from the others.
template <bool kFloatGrid>
__device__ __forceinline__ Entry<kFloatGrid> decode(const PackedPatchProblem& p,
                                                    const Packing& packing,
                                                    const RawEntry<kFloatGrid>& raw, int t, int y,
                                                    int x, PackedPosition* position) {
  const int height = static_cast<int>(p.height), width = static_cast<int>(p.width);
  const int frames = static_cast<int>(p.frames);
  Entry<kFloatGrid> e{};
  e.at = kUnused;
  e.weight = raw.weight;
  int row, column, frame;
  if constexpr (kFloatGrid) {
    constexpr float empty = static_cast<float>(kEmptyOffset);
    const float last_h = static_cast<float>(height - 1), last_w = static_cast<float>(width - 1);
    float h = static_cast<float>(y) + raw.dh, w = static_cast<float>(x) + raw.dw;
    const int dt = __float2int_rn(fminf(fmaxf(raw.dt, -1e9f), 1e9f));  // no number: far outside
    frame = t + dt;
    if (!(h >= 0.0f && h <= last_h && w >= 0.0f && w <= last_w && frame >= 0 && frame < frames)) {
      if (!(fabsf(raw.dh) < empty && fabsf(raw.dw) < empty && is_finite(raw.dt))) return e;
      h = reflect_within(h, height);
      w = reflect_within(w, width);
      frame = reflect_moved(t, dt, frames);
    }
    row = static_cast<int>(h);
    column = static_cast<int>(w);
    const float low = static_cast<float>(first_tap(p)), high = static_cast<float>(last_tap(p));
    bool leaves = h + low < 0.0f || h + high > last_h || w + low < 0.0f || w + high > last_w;
    // Zeros beyond the last pixel are no good for slopes at it either.
    if (p.reflect_bounds == 0) leaves = leaves || h + high >= last_h || w + high >= last_w;
    e.signed_v = copysignf(h - static_cast<float>(row), leaves ? -1.0f : 1.0f);
    e.u = w - static_cast<float>(column);
  } else {
    constexpr int empty = static_cast<int>(kEmptyOffset);
    const auto moved = [](int from, int by) {  // may wrap around, far outside
      return static_cast<int>(static_cast<unsigned>(from) + static_cast<unsigned>(by));
    };
    row = moved(y, raw.dh);
    column = moved(x, raw.dw);
    frame = moved(t, raw.dt);
    if (static_cast<unsigned>(row) >= static_cast<unsigned>(height) ||
        static_cast<unsigned>(column) >= static_cast<unsigned>(width) ||
        static_cast<unsigned>(frame) >= static_cast<unsigned>(frames)) {
      if (!(raw.dh < empty && raw.dh > -empty && raw.dw < empty && raw.dw > -empty)) return e;
      row = reflect_moved(y, raw.dh, height);
      column = reflect_moved(x, raw.dw, width);
      frame = reflect_moved(t, raw.dt, frames);
    }
  }
  position->frame = frame;
  position->row = row + packing.margin;
  position->column = column + packing.margin;
  e.at = (position->frame * packing.height + position->row) * packing.width + position->column;
  return e;
}

template <bool kFloatGrid>
__device__ __forceinline__ Entry<kFloatGrid> decode(const PackedPatchProblem& p,
                                                    const Packing& packing, const float* weights,
                                                    const void* inds, int entry, int t, int y,
                                                    int x, PackedPosition* position) {
  return decode(p, packing, read_entry<kFloatGrid>(p, weights, inds, entry), t, y, x, position);
}

}  // namespace stnls
