#pragma once

// Code marked STNLS_HD is compiled by the C++ compiler for the CPU and by nvcc for the GPU, so that
// both backends share one definition of the operator.
#if defined(__CUDACC__)
#define STNLS_HD __host__ __device__ __forceinline__
#else
#define STNLS_HD inline
#endif

#if defined(_WIN32)
#define STNLS_API extern "C" __declspec(dllexport)
#else
#define STNLS_API extern "C" __attribute__((visibility("default")))
#endif

// Each instruction set is a library of its own; a namespace of its own keeps a debugger honest.
#if !defined(STNLS_ISA)
#define STNLS_ISA generic
#endif
