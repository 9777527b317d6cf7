// kontor check FILE...: everything wrong with agent files, with its place.

#include "agent/cli/command.hpp"
#include "agent/spec/spec.hpp"

#include <cstdio>
#include <filesystem>
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
  for (const auto& diagnostic : checked.diagnostics) {
    // Included files are named relative to the checked one.
    const std::string shown = diagnostic.file.empty() ? file : (std::filesystem::path(file).parent_path() / diagnostic.file).string();
    std::printf("%s:%d:%d: %s: %s\n", shown.c_str(), diagnostic.line, diagnostic.column, diagnostic.kind.c_str(), diagnostic.message.c_str());
  }
  if (checked.diagnostics.empty()) std::printf("%s: ok\n", file.c_str());
}

int check(const Options& options) {
  bool all_exist = true;
  for (const auto& file : options.files) {
    std::error_code error;
    if (std::filesystem::exists(file, error)) continue;
    print_error("there is no file " + file);
    all_exist = false;
  }
  if (!all_exist) return kUsage;
  bool good = true;
  Json files = Json::array();
  for (const auto& file : options.files) {
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
                  app.add_option("files", options->files, "Agent files")->required()->type_name("FILE");
                  app.add_flag("--json", options->json, "One JSON document: {\"files\":[{\"file\",\"ok\",\"diagnostics\"}]}");
                  return [options] { return check(*options); };
                }};

}  // namespace
}  // namespace kontor::agent::cli
