#include "agent/workflow/step_labels.hpp"

#include "agent/runner.hpp"
#include "agent/tool_gate.hpp"

#include <algorithm>
#include <set>
#include <string>

namespace kontor::agent {
namespace {

class Collector {
 public:
  explicit Collector(const RunContext& run) : run_(run) {}

  void step(const StepSpec& step) {
    using Kind = StepSpec::Kind;
    if (step.kind == Kind::tool) labels |= possible_labels(run_, step.target);
    if (step.kind == Kind::agent) agent(step.target);
    if (step.kind == Kind::procedure) procedure(step.target);
    steps(step.body);
    steps(step.otherwise);
    for (const auto& entry : step.cases) steps(entry.second);
  }

  tools::Labels labels;

 private:
  void steps(const std::vector<StepSpec>& list) {
    for (const auto& inner : list) step(inner);
  }

  void procedure(const std::string& name) {
    const auto& all = run_.spec->procedures;
    const auto found = std::find_if(all.begin(), all.end(), [&](const ProcedureSpec& candidate) { return candidate.name == name; });
    if (found != all.end() && seen_.insert("procedure " + name).second) steps(found->steps);
  }

  void agent(const std::string& name) {
    const AgentSpec* spec = find_agent(*run_.spec, name);
    if (!spec || !seen_.insert("agent " + name).second) return;
    // What was remembered may come from anywhere; whether it was secret is known by now.
    if (spec->memory_recall > 0) labels |= {true, run_.recalled_secret};
    for (const auto& tool : run_.registry->match(spec->tools)) labels |= possible_labels(run_, tool);
    for (const auto& other : spec->sub_agents) agent(other);
    for (const auto& other : spec->handoffs) agent(other);
  }

  const RunContext& run_;
  std::set<std::string> seen_;
};

}  // namespace

tools::Labels possible_labels(const RunContext& run, const StepSpec& step) {
  Collector collector(run);
  collector.step(step);
  return collector.labels;
}

}  // namespace kontor::agent
