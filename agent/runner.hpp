#pragma once
// Runs one agent on one task: renders the conversation, lets the model write, passes its calls through the gate, and
// does what the planner says. Every finished turn is in the journal before anything follows from it.

#include "agent/run_context.hpp"
#include "agent/spec/expression.hpp"

#include <cstdint>
#include <string>

namespace kontor::agent {

struct AgentTask {
  std::string place;          ///< Step path; turns are "PLACE#N", calls "PLACE#N.C".
  std::string key;            ///< The same with loop items by key.
  std::string agent;
  std::string text;           ///< What the user message says, memory excluded.
  tools::Labels labels;       ///< Of the text.
  std::int64_t deadline_ns = 0;  ///< steady_ns at which the step's time is over; 0: none.
  int depth = 0;              ///< Agents above this one.
  std::int64_t vote = 1;      ///< Branches of every turn; what most of them say counts.
  std::int64_t attempt = 0;   ///< Retries before this one. They are sampled warmer: the same words would fail again.
};

struct AgentAnswer {
  Json value;                 ///< Fits output.schema; a string without one.
  tools::Labels labels;       ///< Of all that the agent read.
};

/// `scope` evaluates `${...}` in instruction and memory namespace. Errors: those that end the run; else the agent
/// failed, kind as in GiveUp (invalid_output, repeated_call, tool_errors, steps) or timeout, context_full.
Result<AgentAnswer> run_agent(RunContext& run, const AgentTask& task, const Scope& scope);

/// `with` of an agent step as the user message: entries in order, blank line between; "key: value" for one line,
/// "key:" and the text below for several.
std::string task_text(const Json& with);

/// The fact that `memory.store: facts` keeps of an answer: "key: value; key: value".
std::string fact_text(const Json& answer);

/// Whether the tools' arguments and the answer of every agent that runs on a local model can be enforced while decoding.
/// Errors: the first schema that cannot, with the pointer of the keyword in the message.
Result<void> check_agent_schemas(const RunContext& run, const std::string& only = {}, std::string_view dialect = {});

const AgentSpec* find_agent(const Spec& spec, const std::string& name);

}  // namespace kontor::agent
