#include "agent/early_calls.hpp"

#include "agent/planner.hpp"
#include "agent/tool_gate.hpp"

#include <algorithm>

namespace kontor::agent {

EarlyCalls::~EarlyCalls() {
  for (const auto& call : calls_) {
    if (call) call->stop();
  }
}

void EarlyCalls::written(std::size_t index, const std::string& tool, const std::string& arguments) {
  if (over_ || index != calls_.size()) {
    over_ = true;
    return;
  }
  const auto value = parse_json(arguments);
  // A thread that works on something else meanwhile is not waited for: then the call begins when its turn is over.
  std::unique_lock baton(run_.baton, std::try_to_lock);
  if (!value || !value->is_object() || !baton.owns_lock() || !may_begin(tool, *value)) {
    over_ = true;
    return;
  }
  tools::CallContext context;
  context.run_id = run_.run_id();
  context.call_id = place_ + "." + std::to_string(index + 1);
  calls_.push_back(RunningCall::start(run_, tool, *value, std::move(context)));
  labels_ |= possible_labels(run_, tool);
}

bool EarlyCalls::may_begin(const std::string& tool, const Json& arguments) const {
  const tools::Tool* found = run_.registry->find(tool);
  if (!run_.log || run_.stop.stop_requested() || !found || found->spec().effect != tools::Effect::none) return false;
  const auto& asks = run_.policy.ask;
  if (std::any_of(asks.begin(), asks.end(), [&](const tools::AskRule& rule) { return tools::glob_match(rule.tool, tool); })) return false;
  if (!run_.budget.check_for_tool(run_.ledger) || run_.registry->check_arguments(tool, arguments)) return false;
  return tools::decide(run_.policy, found->spec(), arguments, labels_).verdict == tools::Decision::Verdict::allow;
}

std::shared_ptr<RunningCall> EarlyCalls::take(std::size_t index, const std::string& tool, const Json& arguments) {
  if (index >= calls_.size() || !calls_[index]) return nullptr;
  if (calls_[index]->tool() != tool || canonical_json(calls_[index]->arguments()) != canonical_json(arguments)) return nullptr;
  return std::exchange(calls_[index], nullptr);
}

}  // namespace kontor::agent
