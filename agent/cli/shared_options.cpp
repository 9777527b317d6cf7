#include "agent/cli/shared_options.hpp"

namespace kontor::agent::cli {

void add_model_options(CLI::App& app, RunOptions& options) {
  app.add_option("--model", options.model_path, "model file for all agents (default: what the agent file names)");
  add_device_option(app, options.device);
  app.add_option("--threads", options.threads, "threads to compute with (default: as many as useful)")->check(CLI::Range(1, 1024));
}

void add_runs_option(CLI::App& app, std::string& folder) {
  app.add_option("--runs", folder, "folder of journal, memory and logs (default: $XDG_STATE_HOME/kontor or ~/.local/state/kontor)");
}

void add_airgap_flag(CLI::App& app, bool& airgap) { app.add_flag("--airgap", airgap, "refuse everything that is not on this machine"); }

void add_approve_option(CLI::App& app, std::vector<std::string>& words) {
  app.add_option("--approve", words, "ask at the terminal (default), park the run, or answer calls of a tool in advance: ask, park, TOOL=yes; repeat for several")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
}

void add_decisions_option(CLI::App& app, std::string& file) { app.add_option("--decisions", file, "people's answers as JSON lines, on a simulated clock"); }

}  // namespace kontor::agent::cli
