// The checker from outside: one file in, diagnostics or a Spec out.

#include "agent/spec/build_spec.hpp"
#include "agent/spec/egress_check.hpp"
#include "agent/spec/flow_check.hpp"
#include "agent/spec/names.hpp"
#include "agent/spec/shape.hpp"
#include "agent/spec/spec.hpp"
#include "agent/spec/text_tools.hpp"

#include <exception>
#include <filesystem>

namespace kontor::agent {
namespace {

namespace fs = std::filesystem;

Checked failed(std::string kind, std::string message) {
  Checked checked;
  checked.diagnostics.push_back({"", 1, 1, std::move(kind), std::move(message)});
  return checked;
}

void check_all(Project& project) {
  check_shape(project);
  // Without a tree of sections in every file, names would be missing that are only unreadable.
  for (const auto& file : project.files) {
    if (!project.root(*file).is_mapping()) return;
  }
  if (!project.includes_complete) return;
  const ToolTable tools(project);
  check_names(project, tools);
  check_egress(project);
  check_secrets(project, tools);
  check_expressions(project, tools);
}

}  // namespace

Checked check_text(const std::string& text, const std::string& path, const std::string& folder) {
  try {
    const tools::SuggestionBudget suggestions;
    Project project;
    project.path = path;
    project.folder = resolved_path(fs::absolute(folder.empty() ? "." : folder).string(), ".");
    if (load_project(project, text)) check_all(project);
    Checked checked;
    checked.diagnostics = project.report.sorted();
    if (checked.diagnostics.empty()) {
      checked.spec = build_spec(project);
      checked.spec->text = text;
    }
    return checked;
  } catch (const std::exception& error) {
    return failed("yaml-limit", std::string("the file could not be checked: ") + error.what());
  }
}

Checked check_file(const std::string& path) {
  try {
    std::string why;
    auto text = read_regular_file(path, YamlLimits{}.bytes, why);
    if (!text) return failed("missing-file", "the file cannot be checked: " + why);
    return check_text(*text, path, fs::absolute(path).parent_path().string());
  } catch (const std::exception& error) {
    return failed("missing-file", std::string("the file cannot be checked: ") + error.what());
  }
}

}  // namespace kontor::agent
