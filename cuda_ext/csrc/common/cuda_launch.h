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

}  // namespace stnls
