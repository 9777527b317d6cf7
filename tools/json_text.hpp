#pragma once
// JSON values as compact text, quickly: arguments and results on their way to plugins and servers.

#include "base/json.hpp"

#include <string>

namespace kontor::tools {

/// What value.dump(-1, ' ', false, replace) writes (no blanks, UTF-8 as it is, bytes that are not UTF-8 replaced), in a
/// fraction of its time where strings are long.
std::string compact_json(const Json& value);

/// The same, behind what `out` holds.
void append_json(const Json& value, std::string& out);

}  // namespace kontor::tools
