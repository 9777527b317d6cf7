#pragma once
// What a step could have read: the labels of its error message.

#include "agent/run_context.hpp"

namespace kontor::agent {

/// Labels of everything that the tools and agents inside a step may return, without those of its arguments.
tools::Labels possible_labels(const RunContext& run, const StepSpec& step);

}  // namespace kontor::agent
