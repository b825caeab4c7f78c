// Threads that work on one thing together and wait for each other on the way.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace stnls {

// Waits until ready() says so: by looking often, for it will not be long, but not without end, for
// there may be fewer processors than threads.
template <class Ready>
inline void wait_until(const Ready& ready) {
  for (int looks = 0; !ready(); ++looks)
    if (looks >= 256) std::this_thread::yield();
}

class Team {
 public:
  // Calls work(member) at the same time for every member in [0, size), the caller being one of
  // them. `size` is at most `wanted`: less where the system gives no more threads.
  template <class Work>
  void run(int64_t wanted, Work&& work) {
    std::atomic<bool> complete{false};
    std::vector<std::thread> others;
    others.reserve(static_cast<size_t>(wanted > 1 ? wanted - 1 : 0));
    try {
      for (int64_t member = 1; member < wanted; ++member)
        others.emplace_back([&, member] {
          wait_until([&] { return complete.load(std::memory_order_acquire); });
          work(member);
        });
    } catch (...) {
      // The work is done by those that started.
    }
    members = static_cast<int64_t>(others.size()) + 1;
    complete.store(true, std::memory_order_release);
    work(int64_t(0));
    for (std::thread& other : others) other.join();
  }

  int64_t size() const { return members; }

  // Returns when every member has called it.
  void meet() {
    if (members == 1) return;
    const uint64_t now = meetings.load(std::memory_order_acquire);
    if (arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == members) {
      arrived.store(0, std::memory_order_relaxed);
      meetings.store(now + 1, std::memory_order_release);
    } else {
      wait_until([&] { return meetings.load(std::memory_order_acquire) != now; });
    }
  }

  // The part of `count` things that is a member's: from its first one to that of the next member.
  int64_t first_of(int64_t member, int64_t count) const { return count * member / members; }

 private:
  int64_t members = 1;
  std::atomic<int64_t> arrived{0};
  std::atomic<uint64_t> meetings{0};
};

}  // namespace stnls
