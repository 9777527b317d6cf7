#pragma once
// The reader of each foreign format. Internal to agent/importer.

#include "agent/importer/draft.hpp"

namespace kontor::agent {

/// Errors: usage when nothing in the file is an agent.
Result<void> read_cagent(Draft& draft, const ForeignFile& file);
Result<void> read_goose(Draft& draft, const ForeignFile& file);
/// `tasks` may be null: then the agents stand alone.
Result<void> read_crewai(Draft& draft, const ForeignFile& agents, const ForeignFile* tasks);
Result<void> read_mcp_servers(Draft& draft, const ForeignFile& file);

}  // namespace kontor::agent
