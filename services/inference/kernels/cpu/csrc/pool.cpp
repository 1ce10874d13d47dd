#include "pool.h"

#include <unistd.h>

#include <system_error>

namespace thermesh {
namespace {

// About 50 us: longer than what the caller does alone between two pieces of a
// step, shorter than anybody notices on an idle machine.
constexpr int kSpins = 1000;
// Waiting for a last chunk this long means that its thread does not run.
constexpr auto kPutAside = std::chrono::microseconds(1000);
constexpr auto kAlone = std::chrono::milliseconds(50);
constexpr int kMaxChunks = 0xFFFF / 2;

inline void pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

inline uint32_t round_of(uint64_t ticket) { return static_cast<uint32_t>(ticket >> 32); }
inline int chunks_of(uint64_t ticket) { return static_cast<int>(ticket >> 16 & 0xFFFF); }
inline int taken_of(uint64_t ticket) { return static_cast<int>(ticket & 0xFFFF); }

}  // namespace

Pool::Pool() : process_(getpid()) {}

Pool::~Pool() { stop(); }

bool Pool::is_foreign() const { return process_ != getpid(); }

void Pool::resize(int threads) {
  if (threads == this->threads()) return;
  stop();
  stopping_.store(false);
  try {
    while (this->threads() < threads) helpers_.emplace_back([this] { help(); });
  } catch (const std::system_error&) {
    // The system allows no more threads: the ones there are do the work.
  }
}

void Pool::stop() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_.store(true);
  }
  woken_.notify_all();
  for (std::thread& helper : helpers_) helper.join();
  helpers_.clear();
}

void Pool::run(int chunks, Function function, const void* context) {
  if (chunks <= 1 || chunks > kMaxChunks || works_alone()) {
    for (int chunk = 0; chunk < chunks; ++chunk) function(context, chunk);
    return;
  }
  function_ = function;
  context_ = context;
  finished_.store(0, std::memory_order_relaxed);
  const uint64_t round = round_of(ticket_.load(std::memory_order_relaxed)) + 1u;
  // Sequentially consistent with a helper's steps to sleep: either it sees this
  // round or we see it sleeping.
  ticket_.store(round << 32 | static_cast<uint64_t>(chunks) << 16);
  if (sleeping_.load() > 0) {
    { const std::lock_guard<std::mutex> lock(mutex_); }
    woken_.notify_all();
  }
  take_chunks();
  wait_for_others(chunks);
}

bool Pool::works_alone() {
  if (helpers_.empty()) return true;
  if (alone_until_ == Clock::time_point{}) return false;
  if (Clock::now() < alone_until_) return true;
  alone_until_ = {};
  return false;
}

void Pool::take_chunks() {
  for (;;) {
    const uint64_t ticket = ticket_.fetch_add(1, std::memory_order_acq_rel);
    if (taken_of(ticket) >= chunks_of(ticket)) return;
    // The caller waits for this chunk, so function and context are its round's.
    function_(context_, taken_of(ticket));
    finished_.fetch_add(1, std::memory_order_acq_rel);
  }
}

void Pool::wait_for_others(int chunks) {
  for (int spin = 0; spin < kSpins; ++spin) {
    if (finished_.load(std::memory_order_acquire) == chunks) return;
    pause();
  }
  const Clock::time_point started = Clock::now();
  while (finished_.load(std::memory_order_acquire) != chunks) std::this_thread::yield();
  if (Clock::now() - started > kPutAside) alone_until_ = Clock::now() + kAlone;
}

void Pool::help() {
  uint32_t seen = 0;
  while (!stopping_.load(std::memory_order_relaxed)) {
    wait_for_work(seen);
    seen = round_of(ticket_.load(std::memory_order_acquire));
    take_chunks();
  }
}

void Pool::wait_for_work(uint32_t seen) {
  for (int spin = 0; spin < kSpins; ++spin) {
    if (round_of(ticket_.load(std::memory_order_acquire)) != seen) return;
    pause();
  }
  std::unique_lock<std::mutex> lock(mutex_);
  sleeping_.fetch_add(1);
  woken_.wait(lock, [&] { return stopping_.load() || round_of(ticket_.load()) != seen; });
  sleeping_.fetch_sub(1);
}

}  // namespace thermesh
