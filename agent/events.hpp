#pragma once
// What happens in a run, as it happens: the terminal draws it, --json prints it, a server will stream it.

#include "base/json.hpp"

#include <nlohmann/json.hpp>

#include <functional>
#include <string>

namespace kontor::agent {

/// Types and their data (docs/runs.md): run_started, step_started, item, reasoning, content, call_started, call,
/// call_result, turn, vote, repair, memory, approval_requested, approval_decided, step_finished, step_failed, model_loaded.
/// `data.replayed` is true for what was read from the journal instead of done.
struct RunEvent {
  std::string type;
  std::string step;
  Json data = Json::object();
};

/// Called on the run's thread; must not block for long.
using EventSink = std::function<void(const RunEvent&)>;

}  // namespace kontor::agent
