// How many helpers to do without while others want the cores.
#pragma once

#include <algorithm>
#include <chrono>

namespace thermesh {

// A helper that has to share its core takes part of a step with it into every
// pause, and the step waits. One thread for itself is half to two thirds as fast
// as two, so a helper is worth about a third of the time; two of which one shared
// its core with a busy neighbour were a third as fast. So one that cost three tenths of
// a short while is left asleep, then tried again; each time that this fails, it sleeps
// four times as long. Less must not count. To send a token through three processes on
// two cores takes a tenth to a sixth of their time, step for step. And whoever gets
// a core, be it to list a folder, may have it until the system's next tick, 4 ms
// where there are 250 a second: one pause, of one such tick or of several, is nobody
// who stays. A neighbour who does makes three in 20 ms.
class Contention {
 public:
  using Clock = std::chrono::steady_clock;

  bool leaves_any_asleep() const { return asleep_ > 0; }

  // How many of `helpers` should work now.
  int allowed(int helpers, Clock::time_point now) {
    if (asleep_ > 0 && now >= until_) {
      --asleep_;
      resumed_ = now;
      until_ = now + pause_;
    }
    asleep_ = std::min(asleep_, helpers);
    return helpers - asleep_;
  }

  // A helper was waited for, for `lost`; tells whether that comes too often.
  bool wait(Clock::duration lost, Clock::duration passed, Clock::time_point now) {
    return lose(std::min(lost, kOnePause), passed, now);
  }

  // Of the last `passed`, `lost` went by because a thread did not run; tells whether
  // that is too much.
  bool lose(Clock::duration lost, Clock::duration passed, Clock::time_point now) {
    if (lost < kUnnoticed) return false;
    if (now - window_ > kWindow) {
      window_ = now;
      lost_ = {};
    }
    // What a long step loses is a share of itself, not of a window.
    const double windows = std::chrono::duration<double>(passed) / kWindow;
    lost_ += windows > 1 ? std::chrono::duration_cast<Clock::duration>(lost / windows) : lost;
    if (lost_ < kTooMuch) return false;
    lost_ = {};
    pause_ = now - resumed_ < kSettled ? std::min(4 * pause_, kLongest) : kShortest;
    until_ = now + pause_;
    ++asleep_;
    return true;
  }

 private:
  // An interrupt takes less.
  static constexpr Clock::duration kUnnoticed = std::chrono::microseconds(50);
  static constexpr Clock::duration kWindow = std::chrono::milliseconds(25);
  static constexpr Clock::duration kTooMuch = kWindow * 3 / 10;
  static constexpr Clock::duration kOnePause = kTooMuch * 2 / 5;
  static constexpr Clock::duration kShortest = std::chrono::milliseconds(20);
  static constexpr Clock::duration kLongest = std::chrono::milliseconds(800);
  // Working together for so long means that the cores are free again.
  static constexpr Clock::duration kSettled = std::chrono::milliseconds(200);

  int asleep_ = 0;
  Clock::duration lost_{}, pause_ = kShortest;
  Clock::time_point window_{}, until_{}, resumed_{};
};

}  // namespace thermesh
