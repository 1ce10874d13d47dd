// On which core a thread runs, and how it gets off it.
#pragma once

#ifdef __linux__
#include <sched.h>
#endif

namespace thermesh {

#ifdef __linux__
inline int current_core() { return sched_getcpu(); }

// Moves the calling thread to another of the cores it may use, if there is one. Afterwards
// it may use all of them again.
inline void leave_core(int core) {
  cpu_set_t allowed, others;
  if (core < 0 || core >= CPU_SETSIZE || sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
  others = allowed;
  CPU_CLR(core, &others);
  if (CPU_COUNT(&others) == 0 || sched_setaffinity(0, sizeof others, &others) != 0) return;
  sched_setaffinity(0, sizeof allowed, &allowed);
}
#else
inline int current_core() { return -1; }
inline void leave_core(int) {}
#endif

}  // namespace thermesh
