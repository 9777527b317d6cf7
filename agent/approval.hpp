#pragma once
// Questions to people: asked once, answered for exactly what was shown, however many processes and days lie between.

#include "agent/run_context.hpp"

#include <cstdint>
#include <string>

namespace kontor::agent {

/// Hash an approval is bound to: what is called, its arguments with sorted members, and whatever else the decision
/// rests on (the tool's schema, the policy).
std::string binding_of(const std::string& tool, const Json& arguments, const std::string& ground = {});

/// Takes the journaled decision, or asks (terminal, flags). Handles expiry, escalation and the number of people.
/// `expires_ms`: for a new question; 0: never. Value: the answer; `later` never comes back. Errors: parked, expired
/// (on_expire: stop), diverged (the question was another one), interrupted, journal, end_of_log.
Result<ApprovalAnswer> ask_person(RunContext& run, PendingItem item, std::int64_t expires_ms);

/// "escalate(cfo)" gives "cfo", everything else "".
std::string escalation_target(const std::string& on_expire);

}  // namespace kontor::agent
