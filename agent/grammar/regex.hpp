#pragma once
// Regular expressions of ECMA-262 as byte automata, for strings that are generated rather than checked.

#include "agent/grammar/byte_dfa.hpp"

#include <memory>
#include <string_view>

namespace kontor::agent {

/// All UTF-8 texts in which the pattern occurs (anchors restrict that, as in JSON Schema). Errors: malformed, limit
/// (kind dfa_size), unsupported (look-around, back-references, word boundaries, \p classes, inline flags).
/// Thread-safe; patterns compiled before are kept, up to a bound: a run checks its schemas when it starts and compiles
/// them when its model is there, and agents have formats in common.
Result<std::shared_ptr<const ByteDfa>> compile_regex(std::string_view pattern);

}  // namespace kontor::agent
