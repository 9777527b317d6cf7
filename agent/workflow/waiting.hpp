#pragma once
// Waits that outlive the process: when a wait ends is journaled when it begins.

#include "agent/run_context.hpp"

#include <cstdint>
#include <string>

namespace kontor::agent {

/// Milliseconds since 1970 at which a wait ends: a number of seconds, a duration ("90s", "2h"), or a moment
/// ("2026-11-24T09:30:00Z", "2026-11-24"). Errors: malformed.
Result<std::int64_t> wait_end(const Json& value, std::int64_t now_ms);

/// Waits until then, or parks where the run's timers park. `until_ms` counts only when the wait begins; a resumed run
/// keeps the time it had. Errors: parked, interrupted, journal, end_of_log.
Result<void> wait_until(RunContext& run, const std::string& place, std::int64_t until_ms);

}  // namespace kontor::agent
