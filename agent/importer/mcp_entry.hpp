#pragma once
// A server of the Model Context Protocol, as all foreign formats describe it: a program or an address.

#include "agent/importer/draft.hpp"

#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace kontor::agent {

struct McpEntry {
  std::string name;
  std::vector<Yaml> command;                ///< The program and its arguments.
  std::optional<Yaml> url;
  std::optional<Yaml> cwd;                  ///< Where the program starts.
  std::vector<Yaml::Entry> settings;        ///< Environment of the program, or headers of requests.
  std::vector<std::string> passed;          ///< Variables of the environment that are handed on.
  std::vector<std::string> only;
  std::vector<std::string> approved;        ///< Functions that do not ask.
  std::optional<Yaml> timeout;              ///< Longest time of a call, in seconds or milliseconds.
  bool timeout_in_seconds = false;          ///< The format says so.
  /// Arguments are texts of this kind in the foreign file; "" when they cannot be carried over (reported). Null: as they are.
  std::function<std::string(const Yaml& text)> argument;
};

/// Adds the group; its name. Values that are secrets (placeholders of variables, keys, tokens) are not copied: they become
/// handles of secrets from the environment. nullopt: it cannot be carried over, which was reported.
std::optional<std::string> add_mcp(Draft& draft, const ForeignFile& file, const McpEntry& entry, std::size_t offset);

}  // namespace kontor::agent
