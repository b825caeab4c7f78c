// What this library is: read by `stnls doctor` and checked before the first call.
#include <cstdint>

#include "macros.h"
#include "simd.h"
#include "struct_sizes.h"

#define STNLS_TEXT_(x) #x
#define STNLS_TEXT(x) STNLS_TEXT_(x)

STNLS_API const char* stnls_cpu_isa() { return STNLS_TEXT(STNLS_ISA); }

STNLS_API int64_t stnls_cpu_lanes() { return stnls::kLanes; }

STNLS_API int64_t stnls_cpu_struct_size(int which) { return stnls::struct_size(which); }

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
