#pragma once
// What `format` means when strings are generated: a regular expression for each format that can be.

#include <string_view>

namespace kontor::agent {

/// A pattern whose texts all satisfy the format (for uri, hostname, email and those that include them not all texts that
/// do: lengths are bounded and rare spellings left out); "" for formats that cannot be generated.
std::string_view format_pattern(std::string_view format);

}  // namespace kontor::agent
