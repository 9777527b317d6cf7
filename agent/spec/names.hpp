#pragma once
// Phase "names": what names, globs and secrets refer to, and arguments of fixed tool calls.

#include "agent/spec/tool_table.hpp"

namespace kontor::agent {

void check_names(Project& project, const ToolTable& tools);

/// Where "{{secret:NAME}}" would hand a secret to something that must not see it.
void check_secrets(Project& project, const ToolTable& tools);

}  // namespace kontor::agent
