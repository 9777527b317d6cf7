#pragma once
// An agent file as an MCP server: its workflow, or each of its agents, is a tool; tools of the file can be offered too.

#include "agent/run.hpp"
#include "plugins/host/instance.hpp"
#include "tools/mcp/offer.hpp"

#include <memory>
#include <string>
#include <vector>

namespace kontor::agent::cli {

struct OfferSetup {
  Spec spec;
  RunOptions run;
  std::string runs;                        ///< Folder of the journal.
  std::vector<std::string> tools;          ///< Globs of tools of the file that are offered beside.
  bool short_names = false;                ///< They are called by their function's name alone.
  bool agents = true;                      ///< Offer the workflow or the agents.
};

/// Runs are journaled like those of `kontor run`; an approval that waits is a question to the client (elicitation), and
/// without an answer the run parks. Inputs of type file and dir have to lie below the folder of the agent file. Tools
/// with an effect go through a run of one step, others are called at once; policy decides about both.
/// Errors: those of the tools; usage for a glob that fits nothing and for names that are not unique.
Result<std::unique_ptr<tools::mcp::Offer>> make_offer(OfferSetup setup);

}  // namespace kontor::agent::cli
