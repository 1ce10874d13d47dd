// Threads that help with one piece of work after another.
//
// A piece is a number of chunks that any thread may take, so what is waited for
// is chunks, not threads: a helper that sleeps, or that the system has put
// aside for a neighbour's sake, costs nothing unless it holds a chunk. Helpers
// spin for a moment after each piece, since the next one of a step follows
// within a microsecond, then sleep. Where a helper was put aside with a chunk in
// hand, the cores are contended: the caller then works alone for a while.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace thermesh {

class Pool {
 public:
  Pool();
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  // Whether this process is a fork of the one that made the pool. It has none of
  // the threads then, and locks in any state: such a pool must be left alone,
  // and not even be destroyed.
  bool is_foreign() const;

  // Lets `threads` threads work, the caller among them. Threads that fail to
  // start are done without. Never during `run`.
  void resize(int threads);
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
  using Clock = std::chrono::steady_clock;

  void run(int chunks, Function function, const void* context);
  bool works_alone();
  void help();
  void take_chunks();
  void wait_for_others(int chunks);
  void wait_for_work(uint32_t seen);
  void stop();

  // Round in the upper half, then chunks of the round and chunks taken, 16 bits
  // each: one atomic addition takes a chunk and tells whether it is valid.
  std::atomic<uint64_t> ticket_{0};
  std::atomic<int> finished_{0};
  Function function_ = nullptr;
  const void* context_ = nullptr;

  std::vector<std::thread> helpers_;
  std::atomic<bool> stopping_{false};
  std::atomic<int> sleeping_{0};
  std::mutex mutex_;
  std::condition_variable woken_;

  const int process_;
  Clock::time_point alone_until_{};
};

// A pool that a fork replaces by one of its own.
class OwnPool {
 public:
  ~OwnPool() { forget_foreign(); }
  Pool& get() {
    forget_foreign();
    if (!pool_) pool_ = std::make_unique<Pool>();
    return *pool_;
  }

 private:
  void forget_foreign() {
    if (pool_ && pool_->is_foreign()) static_cast<void>(pool_.release());
  }
  std::unique_ptr<Pool> pool_;
};

}  // namespace thermesh
