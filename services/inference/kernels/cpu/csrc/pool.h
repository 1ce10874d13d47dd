// Threads that help with one piece of work after another.
//
// A piece is a number of chunks that any thread may take, so what is waited for
// is chunks, not threads: a helper that sleeps, or that the system has put
// aside for a neighbour's sake, costs nothing unless it holds a chunk. Helpers
// spin for a moment after each piece, since the next one of a step follows
// within a microsecond, then sleep. Where others want the cores, fewer helpers
// work for a while; see contention.h.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

#include "contention.h"

namespace thermesh {

class Pool {
 public:
  Pool() = default;
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  // Lets up to `threads` threads work on what follows, the caller among them.
  // Threads that fail to start are done without. Never during `run`.
  void begin(int threads);
  // Ends what began: the caller has nothing more to run for now.
  void end();
  int threads() const { return static_cast<int>(helpers_.size()) + 1; }

  // Calls work(0) ... work(chunks - 1), each once, in any order and on any thread;
  // returns when all are done. `work` must not throw.
  template <typename Work>
  void run(int chunks, const Work& work) {
    run(chunks, [](const void* context, int chunk) { (*static_cast<const Work*>(context))(chunk); },
        &work);
  }

 private:
  using Function = void (*)(const void* context, int chunk);
  using Clock = Contention::Clock;

  void run(int chunks, Function function, const void* context);
  void resize(int threads);
  void use(int helpers);
  void help(int index);
  void take_chunks();
  void wait_for_others(int chunks, Clock::time_point started);
  void wait_for_work(int index, uint32_t seen);
  bool is_used(int index) const { return index < used_.load(std::memory_order_relaxed); }
  void stop();

  // Round in the upper half, then chunks of the round and chunks taken, 16 bits
  // each: one atomic addition takes a chunk and tells whether it is valid.
  std::atomic<uint64_t> ticket_{0};
  std::atomic<int> finished_{0};
  Function function_ = nullptr;
  const void* context_ = nullptr;

  std::vector<std::thread> helpers_;
  std::atomic<int> used_{0};  // helpers that take chunks, the first ones
  std::atomic<bool> stopping_{false};
  std::atomic<int> sleeping_{0};  // of those used
  std::mutex mutex_;
  std::condition_variable woken_;

  Contention contention_;
  Clock::time_point began_{};
  Clock::duration computed_{};  // processor time of the caller when it began
};

}  // namespace thermesh
