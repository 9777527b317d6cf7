#pragma once
// The tools of an agent file as the checker knows them, without running anything: functions of built-ins as tools/builtin
// describes them, functions of MCP servers from their pins, operations of OpenAPI documents; plugins and servers without a pin are dynamic.

#include "agent/spec/project.hpp"
#include "tools/tool.hpp"

namespace kontor::agent {

struct ToolGroup {
  Named entry;
  std::string name;
  std::string use;
  bool dynamic = false;                     ///< Functions are not known: every name fits.
  std::vector<tools::ToolSpec> functions;   ///< Names are GROUP.FUNCTION.
  std::vector<std::string> filtered;        ///< mcp: functions of the pin that `only` does not let through

  /// Where secrets and expressions may stand: `config`, or what stands for it in an entry of `mcpServers`. May be empty.
  Yaml config() const;
};

class ToolTable {
 public:
  /// More groups in `tools` are an error: each holds the schemas of its functions.
  static constexpr std::size_t kMostGroups = 1'000;

  explicit ToolTable(const Project& project);

  const std::vector<ToolGroup>& groups() const { return groups_; }
  const ToolGroup* group_of(std::string_view tool) const;
  /// nullptr for unknown tools and those of dynamic groups.
  const tools::ToolSpec* find(std::string_view tool) const;
  bool exists(std::string_view tool) const;
  bool glob_matches(std::string_view glob) const;
  /// Can the glob match some function of the group?
  static bool reaches(std::string_view glob, const ToolGroup& group);
  /// What was meant by a name or glob that fits nothing, or "".
  std::string suggest(std::string_view text) const;

 private:
  std::vector<ToolGroup> groups_;
};

inline bool is_glob(std::string_view text) { return text.find('*') != std::string_view::npos; }
/// May a server or plugin call one of its functions so? Letters, digits, `_`, `-`, `.`, `/`.
bool is_function_name(std::string_view text);
/// "*" matches any run of characters.
bool matches_glob(std::string_view glob, std::string_view name);

}  // namespace kontor::agent
