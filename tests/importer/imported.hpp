#pragma once
// What an import made, as the checker reads it.

#include "agent/importer/importer.hpp"
#include "agent/spec/spec.hpp"

#include "tests/support/catch.hpp"

#include <filesystem>
#include <fstream>
#include <optional>
#include <string>

namespace kontor::test {

/// Imports the text; the result and what it refers to lie in a folder and are checked there.
struct ImportedFolder {
  explicit ImportedFolder(agent::ForeignFormat format, const std::string& text, const std::string* tasks = nullptr) {
    auto result = agent::import_text(format, text, "theirs.yaml", tasks);
    if (!result) {
      error = result.error();
      return;
    }
    imported = std::move(*result);
    std::string pattern = (std::filesystem::temp_directory_path() / "kontor-import-test-XXXXXX").string();
    folder = ::mkdtemp(pattern.data());
    std::ofstream(folder / "agent.yaml") << imported.text;
    for (const auto& file : imported.files) {
      std::filesystem::create_directories((folder / file.path).parent_path());
      std::ofstream(folder / file.path) << file.text;
    }
    auto checked = agent::check_file((folder / "agent.yaml").string());
    INFO(imported.text);
    REQUIRE(checked.diagnostics.empty());
    spec = std::move(checked.spec);
  }
  ~ImportedFolder() {
    if (!folder.empty()) std::filesystem::remove_all(folder);
  }
  ImportedFolder(const ImportedFolder&) = delete;
  ImportedFolder& operator=(const ImportedFolder&) = delete;

  /// "3:5 unsupported: ..." of every finding, a line each.
  std::string findings() const {
    std::string out;
    for (const auto& finding : imported.findings)
      out += std::to_string(finding.line) + ":" + std::to_string(finding.column) + (finding.unsupported ? " unsupported: " : " left-out: ") + finding.message + "\n";
    return out;
  }
  bool finds(const std::string& words) const { return findings().find(words) != std::string::npos; }
  const agent::AgentSpec& agent(const std::string& name) const {
    for (const auto& candidate : spec->agents) {
      if (candidate.name == name) return candidate;
    }
    FAIL("no agent " + name);
    throw 0;
  }
  const agent::ToolEntry& tool(const std::string& name) const {
    for (const auto& candidate : spec->tools) {
      if (candidate.name == name) return candidate;
    }
    FAIL("no group " + name);
    throw 0;
  }

  agent::Imported imported;
  std::optional<agent::Spec> spec;
  Error error;
  std::filesystem::path folder;
};

}  // namespace kontor::test
