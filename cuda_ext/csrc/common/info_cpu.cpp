// What this library is: read by `stnls doctor` and checked before the first call.
#include <cstdint>

#include "../aggregate/blend.h"
#include "../aggregate/problem.h"
#include "../flow/problem.h"
#include "../flow/tvl1.h"
#include "../metrics/ssim.h"
#include "../search/problem.h"
#include "../search/subpixel.h"
#include "macros.h"
#include "simd.h"

#define STNLS_TEXT_(x) #x
#define STNLS_TEXT(x) STNLS_TEXT_(x)

STNLS_API const char* stnls_cpu_isa() { return STNLS_TEXT(STNLS_ISA); }

STNLS_API int64_t stnls_cpu_lanes() { return stnls::kLanes; }

// Sizes of the structures, so that a mismatch with the Python side is noticed and not crashed on.
STNLS_API int64_t stnls_cpu_struct_size(int which) {
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

// The best instruction set that this processor and operating system support; the baseline library
// is asked before another one is loaded.
STNLS_API const char* stnls_cpu_best_isa() {
#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("fma"))
    return "avx512";
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return "avx2";
#endif
  return "baseline";
}
