// Launching on the caller's device and stream, with every error handed back as text.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <cstdio>
#include <type_traits>

namespace stnls {

// Makes `device` current and puts the previous one back.
class DeviceGuard {
 public:
  explicit DeviceGuard(int device) {
    error = cudaGetDevice(&previous);
    if (error == cudaSuccess && previous != device) {
      error = cudaSetDevice(device);
      changed = error == cudaSuccess;
    }
  }
  ~DeviceGuard() {
    if (changed) cudaSetDevice(previous);
  }
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

  cudaError_t error;

 private:
  int previous = 0;
  bool changed = false;
};

// Runs launch() on the device; 0, or 3 with the message of CUDA's error in `message`.
template <class Launch>
int launch_on(int device, char* message, int64_t message_size, Launch&& launch) {
  DeviceGuard guard(device);
  cudaError_t error = guard.error;
  if (error == cudaSuccess) {
    cudaGetLastError();  // what others left behind is not ours to report
    if constexpr (std::is_void<decltype(launch())>::value)
      launch();
    else
      error = launch();
    if (error == cudaSuccess) error = cudaGetLastError();
  }
  if (error == cudaSuccess) return 0;
  std::snprintf(message, static_cast<size_t>(message_size), "%s: %s", cudaGetErrorName(error),
                cudaGetErrorString(error));
  return 3;
}

// Blocks for `count` items, one thread each. Grids are at most 2^31 - 1 blocks long.
inline unsigned blocks_for(int64_t count, int threads) {
  return static_cast<unsigned>((count + threads - 1) / threads);
}

// A kernel that is launched by launch_overlapping may start while the one before it in the stream
// is still at work, as soon as all blocks of that have called let_next_start() or are done. Until
// it has called wait_for_previous() it must not write, nor read what that kernel writes. It lets
// the next one start only after it has waited itself: so all kernels but the last are complete.
__device__ __forceinline__ void wait_for_previous() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
__device__ __forceinline__ void let_next_start() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}

// Whether kernels were compiled to wait; all of them for the same devices, so that any of them
// tells.
template <class Kernel>
bool can_overlap(Kernel* kernel) {
  static const bool waits = [&] {
    cudaFuncAttributes attributes{};
    return cudaFuncGetAttributes(&attributes, kernel) == cudaSuccess && attributes.ptxVersion >= 90;
  }();
  return waits;
}

// Where the device can do no such thing the kernel starts when the one before it is done.
template <class... Parameters, class... Arguments>
void launch_overlapping(void (*kernel)(Parameters...), dim3 grid, int threads, size_t bytes,
                        cudaStream_t stream, Arguments&&... arguments) {
  int device = 0, major = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = bytes;
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = major >= 9 && can_overlap(kernel) ? 1 : 0;
  cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...);
}

// The same, or a launch like any other.
template <class... Parameters, class... Arguments>
void launch_after(bool overlaps, void (*kernel)(Parameters...), dim3 grid, int threads,
                  size_t bytes, cudaStream_t stream, Arguments&&... arguments) {
  if (overlaps)
    launch_overlapping(kernel, grid, threads, bytes, stream, arguments...);
  else
    kernel<<<grid, threads, bytes, stream>>>(static_cast<Parameters>(arguments)...);
}

}  // namespace stnls
