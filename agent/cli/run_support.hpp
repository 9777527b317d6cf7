#pragma once
// What run, runs and eval share: finding the file, reading it, reporting.

#include "agent/cli/run_world.hpp"
#include "agent/cli/terminal.hpp"
#include "agent/decisions.hpp"
#include "agent/journal.hpp"
#include "agent/spec/spec.hpp"

#include <cstdio>
#include <functional>
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

/// How a run is followed from the command line.
struct Watch {
  ApproveFlags approve;
  bool scripted = false;                 ///< People's answers come from `script`, on the journal's clock.
  std::vector<ScriptedDecision> script;
  RunOptions overrides;                  ///< For taking it up again.
  bool json = false;
  std::string runs;                      ///< Folder of the journal, for what is printed.
};

/// Errors: usage, when an answer given in advance is for tools that the agent file does not have.
Result<void> check_answered_groups(const ApproveFlags& flags, const Spec& spec);

/// Reads --approve and --decisions ("" for none). Errors: those of parse_approve and read_decisions.
Result<Watch> read_watch(const std::vector<std::string>& approve, const std::string& decisions);

/// Wires a run to terminal, tools and models, lets `work` start it or go on with it, plays the script, and prints the report.
/// `clock` is the journal's. The value is the exit code.
int watch_run(Journal& journal, LeapingClock& clock, const Interrupts& interrupts, Watch watch, const std::function<Result<RunReport>(const RunWorld&)>& work);

}  // namespace kontor::agent::cli
