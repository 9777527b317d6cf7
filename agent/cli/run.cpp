#include "agent/cli/command.hpp"
#include "agent/cli/run_support.hpp"
#include "agent/cli/shared_options.hpp"

#include <cstdio>
#include <filesystem>

namespace kontor::agent::cli {
namespace {

struct Options {
  std::string file, runs = default_state_folder(), decisions;
  std::vector<std::string> inputs, approve;
  RunOptions run;
  std::uint64_t seed = 0;
  bool has_seed = false, json = false;
};

Result<std::map<std::string, std::string>> parse_inputs(const std::vector<std::string>& words) {
  std::map<std::string, std::string> inputs;
  for (const auto& word : words) {
    const auto equals = word.find('=');
    if (equals == std::string::npos || equals == 0) return fail(Errc::usage, "--input takes NAME=VALUE, not '" + word + "'");
    if (!inputs.emplace(word.substr(0, equals), word.substr(equals + 1)).second) return fail(Errc::usage, "--input " + word.substr(0, equals) + " is given twice");
  }
  return inputs;
}

int execute(Options& options) {
  Interrupts interrupts("");
  auto file = find_agent_file(options.file);
  if (!file) return report_error(file.error());
  auto spec = read_spec(*file);
  if (!spec) return kUsage;
  auto watch = read_watch(options.approve, options.decisions);
  if (!watch) return report_error(watch.error());
  if (auto known = check_answered_groups(watch->approve, *spec); !known) return report_error(known.error());
  watch->json = options.json, watch->runs = options.runs;
  auto given = parse_inputs(options.inputs);
  if (!given) return report_error(given.error());
  std::error_code code;
  auto inputs = resolve_inputs(*spec, *given, std::filesystem::current_path(code).string());
  if (!inputs) return report_error(inputs.error());
  for (const auto& [name, value] : inputs->items()) {
    if (value.is_null()) std::fprintf(stderr, "kontor: note: input '%s' is not given and has no default: it is null; --input %s=...\n", name.c_str(), name.c_str());
  }
  if (options.has_seed) options.run.seed = options.seed;
  if (!options.run.model_path.empty()) options.run.model_path = std::filesystem::absolute(options.run.model_path, code).string();
  if (auto found = find_models(*spec, options.run); !found) return report_error(found.error());
  LeapingClock clock;
  auto journal = Journal::open(options.runs, clock);
  if (!journal) return report_error(journal.error());

  return watch_run(**journal, clock, interrupts, std::move(*watch), [&](const RunWorld& world) { return start_run(**journal, *spec, *inputs, options.run, world); });
}

const Verb verb{"run", "run an agent or a workflow", [](CLI::App& app) -> Action {
  auto options = std::make_shared<Options>();
  app.add_option("FILE", options->file, "agent file, or a folder with an agent.yaml")->required();
  app.add_option("--task", options->run.task, "what the first agent is to do, for files without a workflow");
  app.add_option("--input", options->inputs, "an input of the file: NAME=VALUE; repeat for several")->take_all()->expected(1)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  add_model_options(app, options->run);
  app.add_option_function<std::uint64_t>("--seed", [options](const std::uint64_t& seed) { options->seed = seed, options->has_seed = true; }, "seed of all sampling (default: what the agent file says)")->check(CLI::NonNegativeNumber);
  add_approve_option(app, options->approve);
  add_decisions_option(app, options->decisions);
  add_runs_option(app, options->runs);
  add_airgap_flag(app, options->run.airgap);
  app.add_flag("--json", options->json, "events and result as JSON lines");
  return [options] { return execute(*options); };
}};

}  // namespace
}  // namespace kontor::agent::cli
