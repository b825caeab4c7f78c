// What this library is: read by `stnls doctor` and checked before the first call.
#include <cuda_runtime.h>

#include <cstdint>

#include "macros.h"
#include "struct_sizes.h"

#ifndef STNLS_CUDA_ARCHITECTURES
#error "the build states the architectures"
#endif

STNLS_API const char* stnls_cuda_architectures() { return STNLS_CUDA_ARCHITECTURES; }

STNLS_API int stnls_cuda_version() { return CUDART_VERSION; }

STNLS_API int64_t stnls_cuda_struct_size(int which) { return stnls::struct_size(which); }
