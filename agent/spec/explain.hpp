#pragma once
// The table of keys, shown: a file with its defaults filled in, and the JSON Schema for editors.

#include <string>
#include <string_view>

namespace kontor::agent {

/// The YAML of a checked file (of what it includes, too) with every default written out; defaults carry the comment
/// "# default". "" when the file has errors.
std::string explained(const std::string& path);

/// JSON Schema (2020-12) of agent files, ending in a line feed; configs/agent.schema.json is the same text.
std::string agent_file_schema();

}  // namespace kontor::agent
