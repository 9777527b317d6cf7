// kontor explain FILE: the file with every default filled in.

#include "agent/cli/command.hpp"
#include "agent/spec/explain.hpp"
#include "agent/spec/spec.hpp"

#include <cstdio>
#include <filesystem>
#include <memory>

namespace kontor::agent::cli {
namespace {

int explain(const std::string& file) {
  std::error_code error;
  if (!std::filesystem::exists(file, error)) {
    print_error("there is no file " + file);
    return kUsage;
  }
  const Checked checked = check_file(file);
  for (const auto& diagnostic : checked.diagnostics) {
    const std::string shown = diagnostic.file.empty() ? file : (std::filesystem::path(file).parent_path() / diagnostic.file).string();
    std::fprintf(stderr, "%s:%d:%d: %s: %s\n", shown.c_str(), diagnostic.line, diagnostic.column, diagnostic.kind.c_str(), diagnostic.message.c_str());
  }
  if (!checked.diagnostics.empty()) return kFailed;
  std::fputs(explained(file).c_str(), stdout);
  return kDone;
}

const Verb verb{"explain", "show an agent file with every default filled in", [](CLI::App& app) -> Action {
                  auto file = std::make_shared<std::string>();
                  app.add_option("file", *file, "Agent file")->required()->type_name("FILE");
                  return [file] { return explain(*file); };
                }};

}  // namespace
}  // namespace kontor::agent::cli
