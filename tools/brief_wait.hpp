#pragma once
// Waiting for what is about to come, without going to sleep.

#include "base/clock.hpp"

#include <cstdint>

namespace kontor::tools {

/// Processors that the calling thread may use.
unsigned allowed_cores();

/// Looks for some microseconds before its owner goes to sleep: waking a sleeping core takes longer than many an answer.
/// Learns whether that pays. After a time without success it rests, twice as long each time, so that who waits for long
/// loses nothing; some successes in a row make that shorter again. It rests for longer when the core was given to others
/// between one look and the next, as on a busy machine they need it. Never looks where there is only one core. Not
/// thread-safe: one thread looks at a time.
class BriefWait {
 public:
  static constexpr std::int64_t kWindowNs = 50'000;        ///< Longest time of one wait, unless its owner says another.
  static constexpr std::int64_t kGapNs = 300'000;          ///< Between two looks, when others had the core.
  static constexpr std::int64_t kRestMinNs = 500'000, kCrowdedRestNs = 20'000'000, kRestMaxNs = 1'000'000'000;

  explicit BriefWait(std::int64_t window_ns = kWindowNs, const Clock& clock = system_clock(), unsigned cores = allowed_cores())
      : window_ns_(window_ns), clock_(clock), cores_(cores) {}

  /// Whether it would look now, and not rest.
  bool looks() const { return cores_ > 1 && clock_.steady_ns() >= rests_until_; }

  /// Calls `there` until it says true; false when the time is over, and at once while it rests.
  template <class There>
  bool look(const There& there) {
    if (!begin()) return false;
    while (!there()) {
      if (!goes_on()) return end(false);
    }
    return end(true);
  }

  /// Until the descriptor can be read or its other end is gone.
  bool look_at(int descriptor);

 private:
  bool begin();
  bool goes_on();
  bool end(bool found);
  void pass(std::int64_t now);

  const std::int64_t window_ns_;
  const Clock& clock_;
  const unsigned cores_;
  std::int64_t rest_ = kRestMinNs, crowded_rest_ = kCrowdedRestNs, rests_until_ = INT64_MIN;
  std::int64_t changed_ = 0;           ///< When `crowded_rest_` grew or shrank.
  int found_ = 0;                      ///< Since something did not come in time.
  std::int64_t began_ = 0, seen_ = 0;  ///< Of the wait that is on.
  bool crowded_ = false;
};

}  // namespace kontor::tools
