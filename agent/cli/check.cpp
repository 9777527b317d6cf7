// kontor check FILE...: everything wrong with agent files, with its place.

#include "agent/cli/command.hpp"
#include "agent/cli/run_support.hpp"
#include "agent/spec/spec.hpp"

#include <cstdio>
#include <memory>

namespace kontor::agent::cli {
namespace {

struct Options {
  std::vector<std::string> files;
  bool json = false;
};

Json as_json(const std::string& file, const Checked& checked) {
  Json list = Json::array();
  for (const auto& diagnostic : checked.diagnostics) {
    Json entry{{"line", diagnostic.line}, {"column", diagnostic.column}, {"kind", diagnostic.kind}, {"message", diagnostic.message}};
    if (!diagnostic.file.empty()) entry["file"] = diagnostic.file;
    list.push_back(std::move(entry));
  }
  return Json{{"file", file}, {"ok", checked.diagnostics.empty()}, {"diagnostics", std::move(list)}};
}

void print_text(const std::string& file, const Checked& checked) {
  print_diagnostics(stdout, file, checked.diagnostics);
  if (checked.diagnostics.empty()) std::printf("%s: ok\n", file.c_str());
}

int check(const Options& options) {
  std::vector<std::string> found;
  for (const auto& given : options.files) {
    auto file = find_agent_file(given);
    if (!file) report_error(file.error());
    else found.push_back(std::move(*file));
  }
  if (found.size() != options.files.size()) return kUsage;
  bool good = true;
  Json files = Json::array();
  for (const auto& file : found) {
    const Checked checked = check_file(file);
    good = good && checked.diagnostics.empty();
    if (options.json) files.push_back(as_json(file, checked));
    else print_text(file, checked);
  }
  if (options.json) print_json(Json{{"files", std::move(files)}}.dump(-1, ' ', false, Json::error_handler_t::replace));
  return good ? kDone : kFailed;
}

const Verb verb{"check", "check agent files and say what is wrong where", [](CLI::App& app) -> Action {
                  auto options = std::make_shared<Options>();
                  app.add_option("FILE", options->files, "agent files, or folders with an agent.yaml")->required();
                  app.add_flag("--json", options->json, "one JSON document: {\"files\":[{\"file\",\"ok\",\"diagnostics\"}]}");
                  return [options] { return check(*options); };
                }};

}  // namespace
}  // namespace kontor::agent::cli
