// On which core a thread runs, and how others are kept off it.
#pragma once

#include <thread>

#ifdef __linux__
#include <pthread.h>
#include <sched.h>
#endif

namespace thermesh {

#ifdef __linux__
inline int current_core() { return sched_getcpu(); }

// The cores that the calling thread may use but for one of them; none where that is all it has.
class OtherCores {
 public:
  explicit OtherCores(int core) {
    CPU_ZERO(&cores_);
    if (core < 0 || core >= CPU_SETSIZE) return;
    if (sched_getaffinity(0, sizeof cores_, &cores_) == 0) CPU_CLR(core, &cores_);
  }

  // Has another thread run there and nowhere else.
  void confine(std::thread& thread) const {
    if (CPU_COUNT(&cores_) == 0) return;
    pthread_setaffinity_np(thread.native_handle(), sizeof cores_, &cores_);
  }

 private:
  cpu_set_t cores_;
};
#else
inline int current_core() { return -1; }

class OtherCores {
 public:
  explicit OtherCores(int) {}
  void confine(std::thread&) const {}
};
#endif

}  // namespace thermesh
