#pragma once
// What run, runs and eval share: finding the file, reading it, reporting.

#include "agent/cli/run_world.hpp"
#include "agent/cli/terminal.hpp"
#include "agent/journal.hpp"
#include "agent/spec/spec.hpp"

#include <cstdio>
#include <optional>
#include <string>
#include <vector>

namespace kontor::agent::cli {

/// FILE as given; for a folder its agent.yaml, or the only YAML file in it. Errors: not_found, usage (several).
Result<std::string> find_agent_file(const std::string& path);

/// "file:line:column: kind: message" for each, one a line. Included files are named from where `file` is.
void print_diagnostics(std::FILE* out, const std::string& file, const std::vector<Diagnostic>& diagnostics);

/// The checked file; its diagnostics go to stderr when there are any.
std::optional<Spec> read_spec(const std::string& file);

/// Prints the error and gives its exit code: 5 for models, 1 for journal and system, else 2.
int report_error(const Error& error);

/// Says that an answer of a script came to nothing.
void report_skipped(const std::string& why);

/// " --runs DIR" for the commands we print, "" for the default folder.
std::string runs_hint(const std::string& folder);

/// Fails early when a model that agents use is not there. Errors: not_found (kind model).
Result<void> find_models(const Spec& spec, const RunOptions& options);

}  // namespace kontor::agent::cli
