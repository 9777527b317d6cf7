#pragma once
// Options that several verbs have: one name, one meaning, one explanation.

#include "agent/cli/command.hpp"
#include "agent/run.hpp"

#include <string>
#include <vector>

namespace kontor::agent::cli {

/// --model, --device and --threads: what agents think with.
void add_model_options(CLI::App& app, RunOptions& options);

/// --runs: where the journal lies.
void add_runs_option(CLI::App& app, std::string& folder);

/// --airgap.
void add_airgap_flag(CLI::App& app, bool& airgap);

/// --approve: who answers what policy and steps ask.
void add_approve_option(CLI::App& app, std::vector<std::string>& words);

/// --decisions: a script that answers in people's place.
void add_decisions_option(CLI::App& app, std::string& file);

}  // namespace kontor::agent::cli
