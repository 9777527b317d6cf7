#include "agent/importer/importer.hpp"

#include "agent/importer/formats.hpp"
#include "agent/spec/project.hpp"
#include "agent/spec/spec.hpp"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

namespace kontor::agent {
namespace {

namespace fs = std::filesystem;

const char* to_words(ForeignFormat format) {
  switch (format) {
    case ForeignFormat::cagent: return "an agent file of cagent";
    case ForeignFormat::goose: return "a recipe of goose";
    case ForeignFormat::crewai: return "agents and tasks of CrewAI";
    default: return "a map of MCP servers";
  }
}

/// agents.yaml and tasks.yaml of a folder, or of the folder of either; `tasks` is "" when there is none.
Result<void> find_crew(const std::string& path, std::string& agents, std::string& tasks) {
  std::error_code error;
  const auto first = [&](const fs::path& folder, const std::string& stem) -> std::string {
    for (const fs::path& place : {folder, folder / "config"}) {
      for (const char* ending : {".yaml", ".yml"}) {
        if (fs::is_regular_file(place / (stem + ending), error)) return (place / (stem + ending)).string();
      }
    }
    return {};
  };
  agents = fs::is_directory(path, error) ? first(path, "agents") : path;
  if (agents.empty()) return fail(Errc::not_found, path + ": there is no agents.yaml in this folder or its config", "foreign_file");
  tasks = first(fs::path(agents).parent_path(), "tasks");
  return {};
}

std::string words_of(const Checked& checked) {
  if (checked.diagnostics.empty()) return {};
  return checked.diagnostics.front().kind + ": " + checked.diagnostics.front().message;
}

/// The checker's first word on the result, with the files that it refers to in place. "": it is fine.
std::string first_problem(const Imported& result) {
  if (result.files.empty()) return words_of(check_text(result.text, "agent.yaml", "."));
  std::string folder = (fs::temp_directory_path() / "kontor-import-XXXXXX").string();
  if (::mkdtemp(folder.data()) == nullptr) return "no folder for the check could be made in " + fs::temp_directory_path().string();
  for (const auto& file : result.files) {
    std::error_code error;
    fs::create_directories((fs::path(folder) / file.path).parent_path(), error);
    std::ofstream(fs::path(folder) / file.path, std::ios::binary) << file.text;
  }
  const Checked checked = check_text(result.text, "agent.yaml", folder);
  std::error_code error;
  fs::remove_all(folder, error);
  return words_of(checked);
}

/// Reads files below the folder of `first` and nowhere else: what it says is a stranger's word.
auto neighbours_of(const std::string& first) {
  return [folder = fs::path(first).parent_path()](const std::string& path) -> Result<std::shared_ptr<const ForeignFile>> {
    std::error_code error;
    const fs::path home = fs::canonical(folder.empty() ? fs::path(".") : folder, error);
    const fs::path named = (folder / path).lexically_normal(), real = fs::weakly_canonical(named, error);
    if (error || path.empty() || fs::path(path).is_absolute() || !is_inside(real.string(), home.string())) return fail(Errc::denied, "it lies outside of the folder of the imported file; put it there", "path_escape");
    return read_foreign(named.string());
  };
}

/// `agents` of crewai may have `tasks`; the others have one file. `first`: its path, or "" for bytes at hand.
Result<Imported> import_parsed(ForeignFormat format, const ForeignFile& file, const ForeignFile* tasks, const std::string& first = {}) {
  Draft draft;
  if (!first.empty()) draft.neighbour = neighbours_of(first);
  auto read = format == ForeignFormat::cagent ? read_cagent(draft, file) : format == ForeignFormat::goose ? read_goose(draft, file) : format == ForeignFormat::crewai ? read_crewai(draft, file, tasks) : read_mcp_servers(draft, file);
  if (!read) return read.error();
  Imported result = draft.finish(std::string(to_words(format)) + ", " + fs::path(file.name).filename().string());
  if (const auto problem = first_problem(result); !problem.empty())
    return fail(Errc::unsupported, "what the file says does not fit into an agent file: " + problem, "foreign_meaning", file.name);
  return result;
}

}  // namespace

bool Imported::complete() const {
  return std::none_of(findings.begin(), findings.end(), [](const ImportFinding& finding) { return finding.unsupported; });
}

Result<Imported> import_file(ForeignFormat format, const std::string& path) {
  std::string first = path, second;
  if (format == ForeignFormat::crewai) {
    if (auto found = find_crew(path, first, second); !found) return found.error();
  }
  const auto file = read_foreign(first);
  if (!file) return file.error();
  if (second.empty()) return import_parsed(format, **file, nullptr, first);
  const auto tasks = read_foreign(second);
  if (!tasks) return tasks.error();
  return import_parsed(format, **file, tasks->get(), first);
}

Result<Imported> import_text(ForeignFormat format, const std::string& text, const std::string& name, const std::string* tasks) {
  const auto file = parse_foreign(text, name);
  if (!file) return file.error();
  if (!tasks) return import_parsed(format, **file, nullptr);
  const auto more = parse_foreign(*tasks, "tasks.yaml");
  if (!more) return more.error();
  return import_parsed(format, **file, more->get());
}

}  // namespace kontor::agent
