#pragma once
// Asks calls to stop when their time is over, for calls that nobody waits for because they work on their caller's thread.

#include <chrono>
#include <cstdint>
#include <memory>
#include <stop_token>

namespace kontor::agent {

/// Thread-safe. One thread serves all calls. It is started by the first of them and sleeps until the earliest limit it
/// has heard of, so that watching a call that ends in time wakes nobody.
class DeadlineWatch {
 public:
  using Clock = std::chrono::steady_clock;

  DeadlineWatch();
  ~DeadlineWatch();
  DeadlineWatch(const DeadlineWatch&) = delete;
  DeadlineWatch& operator=(const DeadlineWatch&) = delete;

  /// Requests a stop of `stop` at `limit`, unless `end` comes first. Returns what `end` takes.
  std::uint64_t begin(std::stop_source stop, Clock::time_point limit);
  /// False: the time was over, and the stop was requested.
  bool end(std::uint64_t watched);

 private:
  struct Shared;
  std::unique_ptr<Shared> shared_;
};

}  // namespace kontor::agent
