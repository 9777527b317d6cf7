#pragma once
// A run with people's answers from a script, on a simulated clock: days of waiting take no time, and between two answers
// the run is taken up from its journal, as after a restart.
//
//   {"at": "PT26H", "request": "PR-3", "by": "cfo", "decision": "approve", "reason": "...", "choice": "..."}
//
// `at` counts from the start of the run (ISO 8601 duration). `request` is a word of what the question showed.

#include "agent/run.hpp"
#include "base/clock.hpp"

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace kontor::agent {

struct ScriptedDecision {
  std::int64_t at_ms = 0;    ///< Since the run began.
  std::string request;
  PersonsAnswer answer;
};

/// JSON lines, sorted by time. Errors: malformed with the line in `where`, io.
Result<std::vector<ScriptedDecision>> read_decisions(const std::string& path);
Result<std::vector<ScriptedDecision>> parse_decisions(const std::string& text);
/// "PT1H", "P2DT30M", "PT0.5S". Errors: malformed.
Result<std::int64_t> parse_iso_duration(std::string_view text);

/// The machine's clock, moved forward by leaps. Thread-safe.
class LeapingClock final : public Clock {
 public:
  std::int64_t unix_ms() const override { return system_clock().unix_ms() + leapt_ms_.load(); }
  std::int64_t steady_ns() const override { return system_clock().steady_ns() + leapt_ms_.load() * 1'000'000; }
  /// Never goes back.
  void leap_to(std::int64_t unix_ms);

 private:
  std::atomic<std::int64_t> leapt_ms_{0};
};

/// Goes on with a parked run as long as the script, an expiry or a timer moves it. `journal` must have been opened with
/// `clock`, `world.clock` be it, and `world.timers_park` be set. `skipped` is told about answers that nothing waited for.
Result<RunReport> follow_script(Journal& journal, RunReport report, const std::vector<ScriptedDecision>& script, LeapingClock& clock,
                                const RunOptions& overrides, const RunWorld& world, const std::function<void(const std::string&)>& skipped);

/// Sets the clock to where the run's journal ends, for resuming with a script.
Result<void> leap_to_end(Journal& journal, const std::string& id, LeapingClock& clock);

}  // namespace kontor::agent
