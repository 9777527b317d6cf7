#pragma once
// Tools as people read them: one line, or every argument with what it takes.

#include "tools/tool.hpp"

#include <string>

namespace kontor::agent::cli {

/// "files.read(path, max_bytes?)"
std::string tool_signature(const tools::ToolSpec& spec);

/// The signature with the effect, the description and, when `details` is set, a line for each argument:
///     limit?    a whole number from 1 to 1000 - Matches shown
std::string tool_text(const tools::ToolSpec& spec, bool details);

}  // namespace kontor::agent::cli
