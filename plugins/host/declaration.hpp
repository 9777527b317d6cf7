#pragma once
// What a plugin declares, copied out of its tables. Reading checks the ABI; nothing of the plugin's code runs.

#include "base/error.hpp"
#include "plugins/abi/kontor_plugin.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace kontor::plugins {

struct DeclaredTool {
  std::string name;          ///< Function name without group.
  std::string description;
  std::string parameters;    ///< JSON text.
  std::string result;        ///< JSON text or "".
  std::uint32_t effect = 0;  ///< KONTOR_EFFECT_...
  bool untrusted_output = false;
  bool has_probe = false;
  std::int64_t timeout_ms = 0;
  bool at_once = false;      ///< Of no use where another process makes the call, so not told by one.
};

struct Declaration {
  std::string name, version, description;
  bool serial = false;
  std::vector<std::string> permissions;
  std::vector<DeclaredTool> tools;
  std::vector<std::string> requests;  ///< Methods of the feature kontor.requests/1, of instances that were created.
};

/// Whether the bytes are UTF-8 (no overlong forms, no surrogates).
bool is_utf8(std::string_view text);

/// Checks versions, struct sizes, pointers, names and bounds (at most 256 tools, texts of at most 1 MiB).
/// Errors: unsupported (kind abi_version, abi_size), malformed (kind declaration).
Result<Declaration> read_declaration(const kontor_plugin& plugin);

/// The same checks for a declaration that came from a host process.
Result<void> check_declaration(const Declaration& declaration);

/// JSON text for the way from the host process, and back. Errors: malformed.
std::string write_declaration(const Declaration& declaration);
Result<Declaration> parse_declaration(std::string_view text);

}  // namespace kontor::plugins
