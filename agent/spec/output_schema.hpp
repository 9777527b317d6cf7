#pragma once
// What a JSON Schema promises, as far as the checker uses it: can it be honoured at all, and which types it gives.

#include "base/json.hpp"

#include <optional>
#include <string>

namespace kontor::agent {

struct SchemaProblem {
  std::string pointer;     ///< JSON pointer of the keyword at fault.
  std::string message;
  std::string suggestion;
};

/// A schema that answers are decoded with: every keyword must be known and satisfiable.
std::optional<SchemaProblem> check_output_schema(const Json& schema);
/// A schema that comes from a tool: well-formed, no remote references; unknown keywords are let through.
std::optional<SchemaProblem> check_tool_schema(const Json& schema);

/// The schema behind "#/..." references, or nullptr. Bounded.
const Json* resolve_schema(const Json& root, const Json& schema);

}  // namespace kontor::agent
