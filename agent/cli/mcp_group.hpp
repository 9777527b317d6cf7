#pragma once
// From an MCP entry of an agent file to a server's configuration, and a person who answers its questions.

#include "agent/assembly.hpp"
#include "tools/mcp/server_tools.hpp"

namespace kontor::agent::cli {

/// Settings have been filled in (see build_registry).
tools::mcp::ServerConfig mcp_config(const ToolRequest& request);

/// Lets the server ask the person at the terminal: forms field by field, pages to be opened. Does nothing without a
/// terminal.
void add_terminal_hooks(tools::mcp::ServerConfig& config);

}  // namespace kontor::agent::cli
