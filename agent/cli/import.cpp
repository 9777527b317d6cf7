// kontor import FORMAT FILE: agent files of other programs.

#include "agent/cli/command.hpp"
#include "agent/importer/importer.hpp"
#include "base/json.hpp"

#include <nlohmann/json.hpp>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>

namespace kontor::agent::cli {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::string file, out;
  bool partial = false, force = false, json = false;
};

Json as_json(const Options& options, const Imported& imported) {
  Json findings = Json::array();
  for (const auto& finding : imported.findings)
    findings.push_back(Json{{"file", finding.file}, {"line", finding.line}, {"column", finding.column}, {"kind", finding.unsupported ? "unsupported" : "left-out"}, {"message", finding.message}});
  Json files = Json::object();
  for (const auto& file : imported.files) files[file.path] = file.text;
  const bool ok = imported.complete() || options.partial;
  return Json{{"ok", ok}, {"complete", imported.complete()}, {"agent", ok ? Json(imported.text) : Json()}, {"files", std::move(files)}, {"to_set", imported.to_set}, {"findings", std::move(findings)}};
}

/// Errors: io, conflict (a file is there already).
Result<void> write_files(const Options& options, const Imported& imported) {
  std::map<fs::path, const std::string*> files{{fs::path(options.out), &imported.text}};
  for (const auto& file : imported.files) files[fs::path(options.out).parent_path() / file.path] = &file.text;
  std::error_code error;
  for (const auto& [path, text] : files) {
    if (!options.force && fs::exists(path, error)) return fail(Errc::conflict, path.string() + " is there already; --force replaces it", "exists");
  }
  for (const auto& [path, text] : files) {
    if (path.has_parent_path()) fs::create_directories(path.parent_path(), error);
    std::ofstream out(path, std::ios::binary | std::ios::trunc);
    out << *text;
    if (!out.flush()) return fail_errno("write", path.string());
  }
  return {};
}

int import(ForeignFormat format, const Options& options) {
  auto imported = import_file(format, options.file);
  if (!imported) {
    if (options.json) print_json(Json{{"ok", false}, {"error", {{"kind", imported.error().kind}, {"message", imported.error().describe()}}}}.dump(-1, ' ', false, Json::error_handler_t::replace));
    else print_error(imported.error().describe());
    return imported.error().code == Errc::not_found || imported.error().code == Errc::usage ? kUsage : kFailed;
  }
  const bool good = imported->complete() || options.partial;
  if (good && !imported->files.empty() && options.out.empty() && !options.json) {
    print_error("the result has more than one file (" + imported->files.front().path + "); say where with -o FILE");
    return kUsage;
  }
  if (good && !options.out.empty()) {
    if (auto written = write_files(options, *imported); !written) {
      print_error(written.error().describe());
      return kUsage;
    }
  }
  if (options.json) {
    print_json(as_json(options, *imported).dump(-1, ' ', false, Json::error_handler_t::replace));
    return good ? kDone : kFailed;
  }
  for (const auto& finding : imported->findings)
    std::fprintf(stderr, "%s:%d:%d: %s: %s\n", finding.file.c_str(), finding.line, finding.column, finding.unsupported ? "unsupported" : "left-out", finding.message.c_str());
  if (!good) {
    print_error("not imported: what is 'unsupported' would make the agent work differently; --partial imports the rest");
    return kFailed;
  }
  if (options.out.empty()) std::fputs(imported->text.c_str(), stdout);
  for (const auto& line : imported->to_set) std::fprintf(stderr, "set %s\n", line.c_str());
  return kDone;
}

void add_format(CLI::App& app, const char* name, const char* summary, ForeignFormat format) {
  add_leaf(app, name, summary, [format](CLI::App& leaf) -> Action {
    auto options = std::make_shared<Options>();
    leaf.add_option("FILE", options->file, format == ForeignFormat::crewai ? "agents.yaml, with tasks.yaml beside it, or their folder" : "the file")->required();
    leaf.add_option("-o,--out", options->out, "write the agent file here, and what belongs to it beside it; else it goes to stdout")->type_name("FILE");
    leaf.add_flag("--partial", options->partial, "import what is supported; the rest is named in comments");
    leaf.add_flag("--force", options->force, "replace files that are there");
    leaf.add_flag("--json", options->json, "one JSON document: {\"ok\",\"complete\",\"agent\",\"files\",\"to_set\",\"findings\"}");
    return [options, format] { return import(format, *options); };
  });
}

const Verb verb{"import", "turn agents of other programs into agent files", [](CLI::App& app) -> Action {
                  add_format(app, "cagent", "an agent file of cagent (docker agent)", ForeignFormat::cagent);
                  add_format(app, "goose", "a recipe of goose", ForeignFormat::goose);
                  add_format(app, "crewai", "agents.yaml and tasks.yaml of CrewAI", ForeignFormat::crewai);
                  add_format(app, "mcp", "the mcpServers map of desktop programs and editors", ForeignFormat::mcp);
                  return {};
                }};

}  // namespace
}  // namespace kontor::agent::cli
