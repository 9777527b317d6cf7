// kontor explain FILE: the file with every default filled in.

#include "agent/cli/command.hpp"
#include "agent/cli/run_support.hpp"
#include "agent/spec/explain.hpp"
#include "agent/spec/spec.hpp"

#include <cstdio>
#include <memory>

namespace kontor::agent::cli {
namespace {

int explain(const std::string& given) {
  const auto found = find_agent_file(given);
  if (!found) return report_error(found.error());
  const std::string& file = *found;
  const Checked checked = check_file(file);
  print_diagnostics(stderr, file, checked.diagnostics);
  if (!checked.diagnostics.empty()) return kFailed;
  std::fputs(explained(file).c_str(), stdout);
  return kDone;
}

const Verb verb{"explain", "show an agent file with every default filled in", [](CLI::App& app) -> Action {
                  auto file = std::make_shared<std::string>();
                  app.add_option("FILE", *file, "agent file, or a folder with an agent.yaml")->required();
                  return [file] { return explain(*file); };
                }};

}  // namespace
}  // namespace kontor::agent::cli
