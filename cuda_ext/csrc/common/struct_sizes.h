// Sizes of the structures that Python fills in, so that a mismatch with its side is noticed and not
// crashed on.
#pragma once

#include <cstdint>

#include "../aggregate/blend.h"
#include "../aggregate/problem.h"
#include "../flow/problem.h"
#include "../flow/tvl1.h"
#include "../metrics/mean_errors.h"
#include "../metrics/ssim.h"
#include "../search/problem.h"
#include "../search/subpixel.h"

namespace stnls {

inline int64_t struct_size(int which) {
  switch (which) {
    case 0:
      return sizeof(SearchProblem);
    case 1:
      return sizeof(FlowProblem);
    case 2:
      return sizeof(ChainProblem);
    case 3:
      return sizeof(PatchProblem);
    case 4:
      return sizeof(SearchGradProblem);
    case 5:
      return sizeof(FlowGradProblem);
    case 6:
      return sizeof(ChainGradProblem);
    case 7:
      return sizeof(BlendProblem);
    case 8:
      return sizeof(Tvl1Problem);
    case 9:
      return sizeof(SubpixelProblem);
    case 10:
      return sizeof(SsimProblem);
    case 11:
      return sizeof(MeanErrorsProblem);
    case 12:
      return sizeof(SubpixelSearchProblem);
    default:
      return -1;
  }
}

}  // namespace stnls
