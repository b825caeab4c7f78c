// Splits work over threads. Threads are started for each call: the library keeps no pool that a
// fork could leave behind, and does not bring a second OpenMP runtime into PyTorch's process.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <thread>
#include <vector>

namespace stnls {

// Calls work(item, thread) for every item in [0, count); items are taken in order, one at a time.
// The first exception of any thread is thrown again in the caller.
template <class Work>
void parallel_for(int64_t count, int64_t threads, Work&& work) {
  threads = std::max<int64_t>(1, std::min(threads, count));
  if (threads == 1) {
    for (int64_t item = 0; item < count; ++item) work(item, int64_t(0));
    return;
  }
  std::atomic<int64_t> next{0};
  std::vector<std::exception_ptr> errors(static_cast<size_t>(threads));
  auto run = [&](int64_t thread) {
    try {
      for (int64_t item = next++; item < count; item = next++) work(item, thread);
    } catch (...) {
      errors[static_cast<size_t>(thread)] = std::current_exception();
      next = count;
    }
  };
  std::vector<std::thread> others;
  others.reserve(static_cast<size_t>(threads - 1));
  try {
    for (int64_t thread = 1; thread < threads; ++thread) others.emplace_back(run, thread);
  } catch (...) {
    // The system gives no more threads: those that started, and this one, do the work.
  }
  run(0);
  for (std::thread& other : others) other.join();
  for (const std::exception_ptr& error : errors)
    if (error) std::rethrow_exception(error);
}

}  // namespace stnls
