#pragma once
// Regular expressions of ECMA-262 as byte automata, for strings that are generated rather than checked.

#include "agent/grammar/byte_dfa.hpp"

#include <string_view>

namespace kontor::agent {

/// All UTF-8 texts in which the pattern occurs (anchors restrict that, as in JSON Schema). Errors: malformed, limit
/// (kind dfa_size), unsupported (look-around, back-references, word boundaries, \p classes, inline flags).
Result<ByteDfa> compile_regex(std::string_view pattern);

}  // namespace kontor::agent
