#pragma once
// The only way from a run to a tool: journal, policy, approval, INTENT, call, OUTCOME. Agents' calls and workflow steps
// go through here alike.

#include "agent/running_call.hpp"

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace kontor::agent {

struct GateCall {
  std::string place;                         ///< Unique in the run and the same after a restart; names the call to people.
  std::string key;                           ///< Same role for idempotency: loop items by their `key` where they have one.
  std::string tool;
  Json arguments = Json::object();
  tools::Labels labels;                      ///< Of everything that had influence on tool or arguments.
  std::vector<std::string> secret_pointers;  ///< JSON pointers of arguments whose author wrote {{secret:NAME}}.
  std::map<std::string, double> confidence;  ///< By dotted argument path, where the model's probabilities are known.
  std::int64_t deadline_ns = 0;              ///< steady_ns at which the time of the step is over; 0: only the tool's own limit.
  std::function<void(std::string_view)> partial;  ///< Told with what the result begins, in runs without secrets; may be empty.
  std::shared_ptr<RunningCall> running;      ///< The same call, where it began while the model was still writing.
};

/// Calls the tool, or takes the outcome from the journal. Failures of the tool, refusals by policy or by a person are
/// results with is_error. Errors end the run: kinds parked, unknown_outcome, interrupted, journal, diverged, end_of_log.
Result<tools::ToolResult> call_through_gate(RunContext& run, const GateCall& call);

/// What the model (or `runs show`) reads of a result.
std::string result_text(const tools::ToolResult& result);

/// Labels of what this tool returns, by source.
tools::Labels labels_of_result(const RunContext& run, const std::string& tool, const tools::ToolResult& result);
/// The same before there is a result: all that it may come to carry.
tools::Labels possible_labels(const RunContext& run, const std::string& tool);

}  // namespace kontor::agent
