#pragma once
// Phase "expressions": every `${...}`, `when` and `check` of an agent file, in the order in which steps run.

#include "agent/spec/tool_table.hpp"

namespace kontor::agent {

void check_expressions(Project& project, const ToolTable& tools);

}  // namespace kontor::agent
