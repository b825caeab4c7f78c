#include <cstdint>

#include "../aggregate/blend.h"
#include "../aggregate/problem.h"
#include "../common/cuda_launch.h"
#include "../flow/problem.h"
#include "../flow/tvl1.h"
#include "../metrics/ssim.h"
#include "../search/problem.h"
#include "../search/subpixel.h"
#include "macros.h"

#ifndef STNLS_CUDA_ARCHITECTURES
#error "the build states the architectures"
#endif

STNLS_API const char* stnls_cuda_architectures() { return STNLS_CUDA_ARCHITECTURES; }

STNLS_API int stnls_cuda_version() { return CUDART_VERSION; }

STNLS_API int64_t stnls_cuda_struct_size(int which) {
  switch (which) {
    case 0:
      return sizeof(stnls::SearchProblem);
    case 1:
      return sizeof(stnls::FlowProblem);
    case 2:
      return sizeof(stnls::ChainProblem);
    case 3:
      return sizeof(stnls::PatchProblem);
    case 4:
      return sizeof(stnls::SearchGradProblem);
    case 5:
      return sizeof(stnls::FlowGradProblem);
    case 6:
      return sizeof(stnls::ChainGradProblem);
    case 7:
      return sizeof(stnls::BlendProblem);
    case 8:
      return sizeof(stnls::Tvl1Problem);
    case 9:
      return sizeof(stnls::SubpixelProblem);
    case 10:
      return sizeof(stnls::SsimProblem);
    default:
      return -1;
  }
}
