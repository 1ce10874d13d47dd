#include "pool.h"

#include <time.h>

#include <system_error>

#include "placement.h"

namespace thermesh {
namespace {

// About 50 us: longer than what the caller does alone between two pieces of a
// step, shorter than anybody notices on an idle machine.
constexpr int kSpins = 1000;
constexpr int kMaxChunks = 0xFFFF / 2;

inline void pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

inline int chunks_of(uint64_t ticket) { return static_cast<int>(ticket >> 16 & 0xFFFF); }
inline int taken_of(uint64_t ticket) { return static_cast<int>(ticket & 0xFFFF); }

// Processor time of the calling thread.
Contention::Clock::duration computed() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
}

}  // namespace

Pool::~Pool() { stop(); }

void Pool::begin(int threads) {
  resize(threads);
  if (helpers_.empty()) return;
  began_ = Clock::now();
  computed_ = computed();
  use(contention_.allowed(static_cast<int>(helpers_.size()), began_));
}

// The caller never sleeps in between: time in which it did not compute is time
// in which somebody else had its core. A sixteenth of it is nothing to act on.
void Pool::end() {
  if (used_.load(std::memory_order_relaxed) == 0) return;
  const Clock::time_point now = Clock::now();
  const Clock::duration took = now - began_;
  contention_.lose(took - (computed() - computed_) - took / 16, took, now);
}

void Pool::resize(int threads) {
  if (threads == this->threads()) return;
  stop();
  stopping_.store(false);
  try {
    while (this->threads() < threads) {
      const int index = static_cast<int>(helpers_.size());
      helpers_.emplace_back([this, index] { help(index); });
    }
  } catch (const std::system_error&) {
    // The system allows no more threads: the ones there are do the work.
  }
}

void Pool::stop() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_.store(true);
    used_.store(0);
  }
  woken_.notify_all();
  for (std::thread& helper : helpers_) helper.join();
  helpers_.clear();
  avoided_ = -1;
}

void Pool::use(int helpers) {
  if (helpers == used_.load(std::memory_order_relaxed)) return;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    used_.store(helpers);
  }
  woken_.notify_all();
}

// Helpers are let back in the middle of a step: one of prompts may take longer than
// they were to sleep.
void Pool::run(int chunks, Function function, const void* context) {
  if (contention_.leaves_any_asleep()) {
    use(contention_.allowed(static_cast<int>(helpers_.size()), Clock::now()));
  }
  if (chunks <= 1 || chunks > kMaxChunks || used_.load(std::memory_order_relaxed) == 0) {
    for (int chunk = 0; chunk < chunks; ++chunk) function(context, chunk);
    return;
  }
  const Clock::time_point started = Clock::now();
  keep_helpers_off(current_core());
  function_ = function;
  context_ = context;
  finished_.store(0, std::memory_order_relaxed);
  const int shares = this->shares();
  chunks_ = chunks;
  cut_.store(shares, std::memory_order_relaxed);
  const uint64_t round = static_cast<uint64_t>(this->round() + 1u) << 32;
  // The first share's ticket is what helpers wait for, so it comes last; sequentially
  // consistent with a helper's steps to sleep: either it sees this round or we see it
  // sleeping.
  for (int share = shares - 1; share >= 0; --share) {
    const int own = first_of(share + 1, shares, chunks) - first_of(share, shares, chunks);
    shares_[share].ticket.store(round | static_cast<uint64_t>(own) << 16);
  }
  if (sleeping_.load() > 0) {
    { const std::lock_guard<std::mutex> lock(mutex_); }
    woken_.notify_all();
  }
  take_chunks(0);
  wait_for_others(chunks, started);
}

// Its own share first.
void Pool::take_chunks(int thread) {
  const int shares = cut_.load(std::memory_order_relaxed);
  for (int i = 0; i < shares; ++i) take_share((thread + i) % shares);
}

void Pool::take_share(int share) {
  for (;;) {
    const uint64_t ticket = shares_[share].ticket.fetch_add(1, std::memory_order_acq_rel);
    if (taken_of(ticket) >= chunks_of(ticket)) return;
    // The caller waits for this chunk, so everything else is its round's.
    const int shares = cut_.load(std::memory_order_relaxed);
    function_(context_, first_of(share, shares, chunks_) + taken_of(ticket));
    finished_.fetch_add(1, std::memory_order_acq_rel);
  }
}

// A helper with a chunk in hand for longer than all that the caller did in this
// piece does not run, or not at the speed of the caller.
void Pool::wait_for_others(int chunks, Clock::time_point started) {
  for (int spin = 0; spin < kSpins; ++spin) {
    if (finished_.load(std::memory_order_acquire) == chunks) return;
    pause();
  }
  const Clock::time_point waiting = Clock::now();
  while (finished_.load(std::memory_order_acquire) != chunks) std::this_thread::yield();
  const Clock::time_point now = Clock::now();
  if (contention_.wait((now - waiting) - (waiting - started), now - started, now)) {
    use(contention_.allowed(static_cast<int>(helpers_.size()), now));
  }
}

void Pool::help(int index) {
  uint32_t seen = 0;
  while (!stopping_.load(std::memory_order_relaxed)) {
    wait_for_work(index, seen);
    if (!is_used(index)) continue;
    seen = round();
    take_chunks(index + 1);
  }
}

// Linux wakes a thread on the core of whoever wakes it where the others are taken at that
// moment, and where all cores were busy of late it does not look for an idle one. A helper
// there would wait for the end of its caller's slice beside an idle core, at each piece anew.
void Pool::keep_helpers_off(int core) {
  if (core == avoided_) return;
  avoided_ = core;
  const OtherCores others(core);
  for (std::thread& helper : helpers_) others.confine(helper);
}

void Pool::wait_for_work(int index, uint32_t seen) {
  for (int spin = 0; spin < kSpins && is_used(index); ++spin) {
    if (round() != seen) return;
    pause();
  }
  std::unique_lock<std::mutex> lock(mutex_);
  const bool is_counted = is_used(index);
  sleeping_.fetch_add(is_counted);
  woken_.wait(lock, [&] {
    return stopping_.load() || is_counted != is_used(index) ||
           (is_counted && round_of(shares_[0].ticket.load()) != seen);
  });
  sleeping_.fetch_sub(is_counted);
}

}  // namespace thermesh
