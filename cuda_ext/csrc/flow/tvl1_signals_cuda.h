// What the warps of a block, and the blocks of a cluster, tell each other, and copies to shared
// memory that go on meanwhile.
#pragma once

#include <cuda_runtime.h>

namespace stnls {

// Signals between two warps of a block that follow each other: named barriers of their 64 threads.
__device__ __forceinline__ void signal(int barrier) {
  asm volatile("barrier.cta.arrive.aligned %0, 64;" ::"r"(barrier) : "memory");
}

__device__ __forceinline__ void wait_for(int barrier) {
  asm volatile("barrier.cta.sync.aligned %0, 64;" ::"r"(barrier) : "memory");
}

// Between blocks of a cluster 32 threads send two vectors each; the arrival of all of their bytes
// completes a phase of the receiver's barrier.
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
constexpr int kBytesOfPhase = 32 * 2 * 16;

__device__ __forceinline__ unsigned shared_address(const void* shared) {
  return static_cast<unsigned>(__cvta_generic_to_shared(shared));
}

__device__ __forceinline__ unsigned address_in_block(const void* shared, int block) {
  unsigned address;
  asm("mapa.shared::cluster.u32 %0, %1, %2;"
      : "=r"(address)
      : "r"(shared_address(shared)), "r"(block));
  return address;
}

__device__ __forceinline__ void expect_phase(unsigned barrier) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier),
               "r"(kBytesOfPhase)
               : "memory");
}

__device__ __forceinline__ void begin_barrier(unsigned barrier) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(barrier) : "memory");
  expect_phase(barrier);
}

// After its last phase: what its memory holds is a barrier no more.
__device__ __forceinline__ void end_barrier(unsigned barrier) {
  asm volatile("mbarrier.inval.shared::cta.b64 [%0];" ::"r"(barrier) : "memory");
}

__device__ __forceinline__ void wait_for_phase(unsigned barrier, unsigned parity) {
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "again:\n"
      "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 done, [%0], %1;\n"
      "@!done bra again;\n"
      "}\n" ::"r"(barrier),
      "r"(parity)
      : "memory");
}

__device__ __forceinline__ void send_away(unsigned to, float4 v, unsigned barrier) {
  asm volatile(
      "st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.f32 [%0], {%1, %2, %3, %4}, "
      "[%5];" ::"r"(to),
      "f"(v.x), "f"(v.y), "f"(v.z), "f"(v.w), "r"(barrier)
      : "memory");
}
#endif

// Four floats on their way to shared memory, without a stay in registers; or zeros.
__device__ __forceinline__ void copy_to_shared(float4* to, const float* from, bool inside) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(
                   static_cast<unsigned>(__cvta_generic_to_shared(to))),
               "l"(from), "r"(inside ? 16 : 0)
               : "memory");
#else
  *to = inside ? *reinterpret_cast<const float4*>(from) : float4{};
#endif
}

__device__ __forceinline__ void wait_for_copies() {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_all;" ::: "memory");
#endif
}

}  // namespace stnls
