#pragma once
// Toolsets of cagent that are made of data: a request, shell commands, documents.

#include "agent/importer/draft.hpp"

#include <string>
#include <vector>

namespace kontor::agent {

/// What the agent gains by a toolset; nothing when it could not be carried over, which was reported.
struct CagentTools {
  std::vector<std::string> globs;
  std::string instruction;
};

/// `type: api`: an OpenAPI document beside the agent file, and a group that calls it. `config`: its `api_config`.
CagentTools cagent_api(Draft& draft, const ForeignFile& file, const Yaml& config);

/// `type: script`: each command becomes a script beside the agent file, run through builtin.shell. `commands`: its `shell`.
CagentTools cagent_scripts(Draft& draft, const ForeignFile& file, const std::vector<Yaml::Entry>& commands);

/// One entry of `rag`: documents are found by words and read whole.
CagentTools cagent_documents(Draft& draft, const ForeignFile& file, const Yaml::Entry& source);

}  // namespace kontor::agent
