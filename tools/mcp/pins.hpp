#pragma once
// What a server says about its tools is text that a model will read and believe, so it is pinned: the first answer to
// tools/list is kept, and a tool whose definition is another one later is not offered.

#include "base/error.hpp"
#include "base/json.hpp"

#include <nlohmann/json.hpp>

#include <string>
#include <vector>

namespace kontor::tools::mcp {

/// Definitions as in a tools/list result, by name.
using Definitions = std::vector<Json>;

struct PinCheck {
  std::vector<std::string> changed, gone;  ///< Pinned, and now different or not there.
  std::vector<std::string> added;          ///< There, and not pinned.
};

/// Compares name, title, description, schemas and annotations; the order of members does not count.
PinCheck compare_pins(const Definitions& pinned, const Definitions& live);

/// A pin file is a tools/list result: {"tools": [...]}. Errors: not_found, io, malformed, limit.
Result<Definitions> read_pins(const std::string& path);
/// Writes it through a temporary file; makes the folder. Errors: io.
Result<void> write_pins(const std::string& path, const Definitions& definitions);

}  // namespace kontor::tools::mcp
