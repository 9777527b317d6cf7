#pragma once
// Walks the steps of a workflow. Walking is deterministic: a resumed run takes the same way through the journal until
// it comes to what has not happened yet. Items of a loop run on up to max_parallel threads; results keep their order.

#include "agent/run_context.hpp"

#include <string>

namespace kontor::agent {

/// The result of the last step that gives one. What failed and was collected is added to `run.collected`.
/// Errors: those that end the run (run_context.hpp); else the step that failed, with its path in `where`.
Result<Json> run_workflow(RunContext& run);

}  // namespace kontor::agent
