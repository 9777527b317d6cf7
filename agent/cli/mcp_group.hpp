#pragma once
// From a `use: mcp` entry of an agent file, or from an `mcpServers` map, to a server's configuration.

#include "agent/assembly.hpp"
#include "tools/mcp/server_tools.hpp"

#include <string>
#include <vector>

namespace kontor::agent::cli {

/// Settings have been filled in (see build_registry).
tools::mcp::ServerConfig mcp_config(const ToolRequest& request);

/// The map that other programs keep their servers in: {"mcpServers": {NAME: {"command", "args", "env"} or {"url",
/// "headers"}}}. `folder`: where the processes start. `state_folder`: pins and logs, one folder below it a server.
/// Errors: malformed with the member that is wrong.
Result<std::vector<tools::mcp::ServerConfig>> mcp_configs(const Json& map, const std::string& folder, const std::string& state_folder);

/// Lets the server ask the person at the terminal: forms field by field, pages to be opened. Does nothing without a
/// terminal.
void add_terminal_hooks(tools::mcp::ServerConfig& config);

}  // namespace kontor::agent::cli
