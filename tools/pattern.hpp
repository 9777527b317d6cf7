#pragma once
// ECMA-262 regular expressions (unicode mode, as JSON Schema wants them) spelled for RE2: linear time on any input.

#include "base/error.hpp"

#include <memory>
#include <string>
#include <string_view>

namespace re2 {
class RE2;
}

namespace kontor::tools {

/// Compiles a pattern; it is not anchored. Differences are translated: \s, \S and . with ECMA's sets, \uXXXX, \cX, [^],
/// named groups, long names of general categories. Errors: malformed; unsupported for look-around, back-references and
/// what is too large for RE2 (repeats over 1000).
Result<std::shared_ptr<const re2::RE2>> compile_pattern(std::string_view pattern);

/// True when the pattern occurs in the text.
bool pattern_found(const re2::RE2& pattern, std::string_view text);

/// True when the text is a regular expression of ECMA-262 as far as the translation above can tell; look-around and
/// back-references, which we cannot run, count as valid here.
bool is_pattern(std::string_view text);

}  // namespace kontor::tools
