#pragma once
// A progress line on a terminal: nothing where standard error is a file or a pipe.

#include <chrono>
#include <cstdint>
#include <string>

namespace kontor::agent::cli {

/// Draws on standard error at most ten times a second. Not thread-safe.
class ProgressBar {
 public:
  /// `wanted` false (--json, --quiet): draws nothing.
  ProgressBar(std::string label, bool wanted);
  ~ProgressBar() { end(); }
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  /// `part` from 0 to 1.
  void show(double part);
  /// With rate and remaining time. `total` 0: not known. `before`: bytes that were there at the start.
  void show_bytes(std::uint64_t done, std::uint64_t total, std::uint64_t before = 0);
  /// Removes the line.
  void end();

 private:
  using Clock = std::chrono::steady_clock;
  void draw(double part, const std::string& detail);

  std::string label_;
  bool visible_;
  bool drawn_ = false;
  Clock::time_point start_ = Clock::now(), last_{};
};

/// "1.12 GB", in powers of 1000.
std::string readable_bytes(std::uint64_t bytes);

}  // namespace kontor::agent::cli
