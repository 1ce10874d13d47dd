// Threads that help with one piece of work after another.
//
// A piece is a number of chunks that any thread may take, so what is waited for
// is chunks, not threads: a helper that sleeps, or that the system has put
// aside for a neighbour's sake, costs nothing unless it holds a chunk. But each
// thread begins with its own share of the chunks, the same part of every piece, and
// takes from others' only then: what it wrote in one piece it reads in the next one
// from its own cache, where fetching it from the other core's would take longer
// than most of the work. Helpers spin for a moment after each piece, since the next
// one of a step follows within a microsecond, then sleep. Where others want the cores, fewer helpers
// work for a while; see contention.h.
#pragma once

#include <algorithm>
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
  // Shares into which chunks are cut now: chunk c of n is in share c * shares / n.
  int shares() const {
    return std::min(used_.load(std::memory_order_relaxed) + 1, kMostShares);
  }
  // The first chunk of a share.
  static int first_of(int share, int shares, int chunks) {
    return (chunks * share + shares - 1) / shares;
  }

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
  void take_chunks(int thread);
  void take_share(int share);
  void wait_for_others(int chunks, Clock::time_point started);
  void wait_for_work(int index, uint32_t seen);
  void keep_helpers_off(int core);
  bool is_used(int index) const { return index < used_.load(std::memory_order_relaxed); }
  void stop();

  // With more threads, some have a share together.
  static constexpr int kMostShares = 8;

  // Round in the upper half, then the share's chunks of the round and those taken,
  // 16 bits each: one atomic addition takes a chunk and tells whether it is valid.
  // On a line of its own, which its thread has to itself most of the time.
  struct alignas(64) Share {
    std::atomic<uint64_t> ticket{0};
  };
  uint32_t round() const { return round_of(shares_[0].ticket.load(std::memory_order_acquire)); }
  static uint32_t round_of(uint64_t ticket) { return static_cast<uint32_t>(ticket >> 32); }

  Share shares_[kMostShares];
  alignas(64) std::atomic<int> finished_{0};
  int chunks_ = 0;  // of the round
  std::atomic<int> cut_{1};  // its shares; a helper that is late may ask
  Function function_ = nullptr;
  const void* context_ = nullptr;

  std::vector<std::thread> helpers_;
  int avoided_ = -1;  // the core that they are kept off
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
