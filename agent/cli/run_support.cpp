#include "agent/cli/run_support.hpp"

#include "agent/cli/command.hpp"
#include "agent/spec/text_tools.hpp"
#include "tools/registry.hpp"

#include <algorithm>
#include <cstdio>
#include <filesystem>

namespace kontor::agent::cli {

namespace fs = std::filesystem;

Result<std::string> find_agent_file(const std::string& path) {
  std::error_code code;
  if (!fs::exists(path, code)) return fail(Errc::not_found, "no such file or folder: " + path);
  if (!fs::is_directory(path, code)) return path;
  if (fs::is_regular_file(fs::path(path) / "agent.yaml", code)) return (fs::path(path) / "agent.yaml").lexically_normal().string();
  std::vector<std::string> found;
  for (const auto& entry : fs::directory_iterator(path, code)) {
    const auto extension = entry.path().extension();
    if (entry.is_regular_file(code) && (extension == ".yaml" || extension == ".yml")) found.push_back(entry.path().string());
  }
  if (found.empty()) return fail(Errc::not_found, path + " has no agent.yaml and no other YAML file");
  if (found.size() > 1) {
    std::sort(found.begin(), found.end());
    return fail(Errc::usage, path + " has several YAML files; name one: " + found[0] + ", " + found[1]);
  }
  return found.front();
}

void print_diagnostics(std::FILE* out, const std::string& file, const std::vector<Diagnostic>& diagnostics) {
  for (const auto& diagnostic : diagnostics) {
    const std::string shown = diagnostic.file.empty() ? file : (fs::path(file).parent_path() / diagnostic.file).string();
    std::fprintf(out, "%s:%d:%d: %s: %s\n", shown.c_str(), diagnostic.line, diagnostic.column, diagnostic.kind.c_str(), diagnostic.message.c_str());
  }
}

std::optional<Spec> read_spec(const std::string& file) {
  Checked checked = check_file(file);
  print_diagnostics(stderr, file, checked.diagnostics);
  if (!checked.diagnostics.empty()) return std::nullopt;
  return std::move(checked.spec);
}

int report_error(const Error& error) {
  print_error(printable(error.describe(), 4000));
  if (error.kind == kModelFailed) return kModel;
  if (error.kind == kJournalFailed || error.kind == "journal_chain" || error.code == Errc::io) return kFailed;
  return kUsage;
}

void report_skipped(const std::string& why) { std::fprintf(stderr, "decision skipped: %s\n", printable(why, 400).c_str()); }

std::string runs_hint(const std::string& folder) {
  if (folder == default_state_folder()) return {};
  return " --runs " + shell_word(folder);
}

Result<void> find_models(const Spec& spec, const RunOptions& options) {
  std::error_code code;
  const auto missing = [&](const std::string& path) { return fail(Errc::not_found, "no such model file: " + path + (path.find("/~") == std::string::npos ? "" : "; a ~ is not replaced: write the whole path"), kModelFailed); };
  if (!options.model_path.empty()) {
    if (!fs::is_regular_file(options.model_path, code)) return missing(options.model_path);
    return {};
  }
  for (const auto& agent : spec.agents) {
    const std::string name = options.model_name.empty() ? agent.model : options.model_name;
    for (const auto& model : spec.models) {
      if (model.name != name) continue;
      if (!model.path.empty() && !fs::is_regular_file(model.path, code)) return missing(model.path);
      if (!model.replay.empty() && !fs::is_regular_file(model.replay, code)) return missing(model.replay);
    }
  }
  return {};
}

Result<Watch> read_watch(const std::vector<std::string>& approve, const std::string& decisions) {
  Watch watch;
  auto flags = parse_approve(approve);
  if (!flags) return flags.error();
  watch.approve = std::move(*flags);
  if (decisions.empty()) return watch;
  auto script = read_decisions(decisions);
  if (!script) return script.error();
  watch.script = std::move(*script);
  watch.scripted = true;
  return watch;
}

namespace {

/// The tools of an entry, which an answer given in advance has to know.
Result<std::vector<std::shared_ptr<tools::Tool>>> make_known_tools(const ToolRequest& request, const std::vector<std::string>& answered) {
  auto made = make_tools(request);
  if (!made) return made;
  std::vector<std::string> names;
  for (const auto& tool : *made) names.push_back(tool->spec().name);
  for (const auto& glob : answered) {
    if (glob.substr(0, glob.find('.')) != request.entry->name) continue;
    if (std::none_of(names.begin(), names.end(), [&](const std::string& name) { return tools::glob_match(glob, name); })) {
      return fail(Errc::usage, "--approve: there is no tool '" + glob + "'" + did_you_mean(tools::nearest(glob, names)));
    }
  }
  return made;
}

}  // namespace

Result<void> check_answered_groups(const ApproveFlags& flags, const Spec& spec) {
  std::vector<std::string> names;
  for (const auto& entry : spec.tools) names.push_back(entry.name);
  for (const auto& agent : spec.agents) names.push_back(agent.name);
  for (const auto& glob : flags.yes) {
    const std::string group = glob.substr(0, glob.find('.'));
    if (group.find_first_of("*?[") != std::string::npos || std::find(names.begin(), names.end(), group) != names.end()) continue;
    return fail(Errc::usage, "--approve: the agent file has no tools '" + group + "'" + did_you_mean(tools::nearest(group, names)));
  }
  return {};
}

int watch_run(Journal& journal, LeapingClock& clock, const Interrupts& interrupts, Watch watch, const std::function<Result<RunReport>(const RunWorld&)>& work) {
  const auto view = make_view(watch.json);
  RunWorld world;
  world.make_tools = [answered = watch.approve.yes](const ToolRequest& request) { return make_known_tools(request, answered); };
  world.open_model = make_model_opener();
  world.sink = [&](const RunEvent& event) { view->on_event(event); };
  world.stop = interrupts.token();
  world.approver = make_approver(std::move(watch.approve), world.stop, [&] { view->clear_live(); });
  world.clock = &clock;
  world.timers_park = watch.scripted;
  auto report = work(world);
  if (report && watch.scripted) report = follow_script(journal, std::move(*report), watch.script, clock, watch.overrides, world, report_skipped);
  if (!report) return report_error(report.error());
  const int exit_code = exit_code_of(*report);
  view->on_report(*report, exit_code, runs_hint(watch.runs));
  return exit_code;
}

}  // namespace kontor::agent::cli
