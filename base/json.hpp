#pragma once
// JSON values keep the order of their members, so what a person wrote is what a person reads back.

#include "base/error.hpp"

#include <nlohmann/json_fwd.hpp>

#include <cstddef>
#include <string>
#include <string_view>

namespace kontor {

using Json = nlohmann::ordered_json;

struct JsonLimits {
  std::size_t depth = 128;             ///< Nesting of arrays and objects.
  std::size_t bytes = 64u << 20;       ///< Length of the text.
  bool refuse_duplicate_keys = true;   ///< {"a":1,"a":2} is an error: checker and tool must see the same value.
};

/// Parses RFC 8259 text (UTF-8). Bounds are checked while reading, so hostile nesting cannot exhaust the stack.
/// Errors: malformed (kind json_syntax, json_duplicate_key), limit (kind json_depth, json_size); `where` is
/// "line:column" in the text.
Result<Json> parse_json(std::string_view text, const JsonLimits& limits = {});

/// Compact text with ", " and ": " separators and no escaping beyond RFC 8259: the spelling models are shown.
std::string spaced_json(const Json& value);

}  // namespace kontor
