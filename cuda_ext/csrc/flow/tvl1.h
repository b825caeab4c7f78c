// TV-L1 optical flow (Zach, Pock & Bischof 2007; Sanchez Perez, Meinhardt-Llopis & Facciolo 2013).
#pragma once

#include <cstdint>

namespace stnls {

// One scale of the pyramid, of a batch of pairs of grey frames; float32, contiguous.
//
// Minimises lambda |rho(u)| + |grad u1| + |grad u2| over the flow u = (u1, u2) = (dx, dy), in turns
// with an auxiliary flow v that is held near u by (u - v)^2 / (2 theta). rho is the difference in
// brightness, linear around the flow by which frame 1 was warped.
struct Tvl1Problem {
  const void* frame0;  // (batch, height, width), 0 to 255
  const void* frame1;  // the same
  const void* start;   // (batch, 2, height, width): initial flow
  void* flow;          // the same
  int64_t batch, height, width;
  int64_t warps, outer, inner;
  int64_t median;  // pixels along the filter of the flow: 1, 3 or 5
  double tau, lambda, theta, epsilon;
  void* scratch;  // on a GPU: stnls_cuda_tvl1_scratch floats
};

}  // namespace stnls
