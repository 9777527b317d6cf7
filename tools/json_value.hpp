#pragma once
// Equality and order of JSON values as JSON Schema defines them: numbers by value (1 and 1.0 are one number), objects
// without regard to the order of their members.

#include "base/json.hpp"

#include <cstdint>
#include <string>

namespace kontor::tools {

/// Values deeper than parse_json allows are not compared (false).
bool json_equal(const Json& a, const Json& b);

/// Equal values have equal hashes.
std::uint64_t json_hash(const Json& value);

/// -1, 0, 1 by exact value; both are numbers.
int compare_numbers(const Json& a, const Json& b);

/// True for 3 and 3.0.
bool is_whole_number(const Json& number);

/// True when value / step is a whole number, reckoned in decimals (19.99 is a multiple of 0.01). step > 0.
bool is_multiple_of(const Json& value, const Json& step);

/// Nesting of arrays and objects, counted without recursion; stops at `limit`.
std::size_t json_depth(const Json& value, std::size_t limit);

/// "a string", "an integer", ... for messages.
std::string kind_of(const Json& value);

}  // namespace kontor::tools
