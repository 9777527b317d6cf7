#pragma once
// Time is an edge of the world: code that waits or stamps takes a Clock, tests hand in a ManualClock.

#include <atomic>
#include <cstdint>

namespace kontor {

/// Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;
  /// Milliseconds since 1970-01-01T00:00:00Z.
  virtual std::int64_t unix_ms() const = 0;
  /// Nanoseconds of a clock that never goes back; only differences mean something.
  virtual std::int64_t steady_ns() const = 0;
};

/// The machine's clocks.
const Clock& system_clock();

/// Stands still until told otherwise.
class ManualClock final : public Clock {
 public:
  explicit ManualClock(std::int64_t unix_ms = 0) : ms_(unix_ms) {}
  std::int64_t unix_ms() const override { return ms_.load(); }
  std::int64_t steady_ns() const override { return ms_.load() * 1'000'000; }
  void advance_ms(std::int64_t ms) { ms_.fetch_add(ms); }

 private:
  std::atomic<std::int64_t> ms_;
};

}  // namespace kontor
