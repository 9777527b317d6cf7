#pragma once
// Code points of UTF-8 texts that may be malformed.

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace kontor::tools {

/// Length in bytes of the code point at `at` (at least 1; 1 for malformed bytes).
std::size_t code_point_length(std::string_view text, std::size_t at);

/// The code point of `length` bytes at `at`; of malformed bytes the byte.
std::uint32_t code_point_at(std::string_view text, std::size_t at, std::size_t length);

/// Number of code points before byte `end`.
std::size_t count_code_points(std::string_view text, std::size_t end);

/// Changes what a reader sees without being seen: controls, invisible and direction characters.
bool is_hidden(std::uint32_t c);

}  // namespace kontor::tools
