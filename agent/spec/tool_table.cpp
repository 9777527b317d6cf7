#include "agent/spec/tool_table.hpp"

#include "agent/spec/rules.hpp"
#include "agent/spec/text_tools.hpp"
#include "tools/builtin/builtin.hpp"

#include <algorithm>

namespace kontor::agent {
namespace {

/// Can a text that begins with `prefix`, and goes on with something, match the glob?
bool glob_can_begin_with(std::string_view glob, std::string_view prefix) {
  std::vector<bool> at(glob.size() + 1, false);
  const auto spread = [&](std::vector<bool>& set) {
    for (std::size_t i = 0; i < glob.size(); ++i) {
      if (set[i] && glob[i] == '*') set[i + 1] = true;
    }
  };
  at[0] = true;
  spread(at);
  for (const char c : prefix) {
    std::vector<bool> next(glob.size() + 1, false);
    for (std::size_t i = 0; i < glob.size(); ++i) {
      if (!at[i]) continue;
      if (glob[i] == '*') next[i] = true;
      else if (glob[i] == c) next[i + 1] = true;
    }
    spread(next);
    at = std::move(next);
  }
  for (std::size_t i = 0; i < glob.size(); ++i) {
    if (at[i]) return true;
  }
  return false;
}

void read_pin(const Project& project, ToolGroup& group) {
  const Yaml pin = group.entry.value["pin"];
  group.dynamic = true;
  if (!pin || pin.type() != Yaml::Type::string) return;
  const auto file = project.json_files.find(resolved_path(group.entry.file->folder, pin.text()));
  if (file == project.json_files.end() || !file->second.is_pin) return;
  group.dynamic = false;
  const Yaml only = group.entry.value["only"];
  for (const auto& tool : file->second.value["tools"]) {
    const std::string name = tool["name"].get<std::string>();
    bool let_through = !only || !only.is_sequence();
    if (!let_through) {
      for (const auto& glob : only.items()) let_through = let_through || matches_glob(glob.text(), name);
    }
    if (!let_through) {
      group.filtered.push_back(name);
      continue;
    }
    tools::ToolSpec spec;
    spec.name = group.name + "." + name;
    if (tool.contains("inputSchema")) spec.parameters = tool["inputSchema"];
    if (tool.contains("outputSchema")) spec.result = tool["outputSchema"];
    // A server declares no effect that could be relied on, except what the reviewed pin says.
    spec.effect = tools::Effect::once;
    if (tool.contains("annotations") && tool["annotations"].is_object()) {
      const auto says = [&](const char* hint) { return tool["annotations"].contains(hint) && tool["annotations"][hint] == Json(true); };
      if (says("readOnlyHint")) spec.effect = tools::Effect::none;
      else if (says("idempotentHint")) spec.effect = tools::Effect::idempotent;
    }
    group.functions.push_back(std::move(spec));
  }
}

}  // namespace

bool is_function_name(std::string_view text) {
  if (text.empty()) return false;
  return std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.' || c == '/';
  });
}

bool matches_glob(std::string_view glob, std::string_view name) {
  std::size_t g = 0, n = 0, star = std::string_view::npos, mark = 0;
  while (n < name.size()) {
    if (g < glob.size() && glob[g] == '*') {
      star = g++;
      mark = n;
    } else if (g < glob.size() && glob[g] == name[n]) {
      ++g;
      ++n;
    } else if (star != std::string_view::npos) {
      g = star + 1;
      n = ++mark;
    } else {
      return false;
    }
  }
  while (g < glob.size() && glob[g] == '*') ++g;
  return g == glob.size();
}

ToolTable::ToolTable(const Project& project) {
  for (const auto& entry : project.named("tools")) {
    if (groups_.size() == kMostGroups) break;  // reported; each holds the schemas of its functions
    ToolGroup group;
    group.entry = entry;
    group.name = entry.key.text();
    const Yaml use = entry.value["use"];
    if (use && use.type() == Yaml::Type::string) group.use = use.text();
    if (group.use == "mcp") {
      read_pin(project, group);
    } else if (const auto known = project.operations.find({entry.file, entry.key.offset()}); known != project.operations.end()) {
      group.functions = known->second;
      for (auto& function : group.functions) function.name = group.name + "." + function.name;
    } else if (auto functions = tools::describe_builtin(group.use, group.name)) {
      group.functions = std::move(*functions);
    } else {
      group.dynamic = true;  // a plugin, or a kind or document that was reported
    }
    groups_.push_back(std::move(group));
  }
  for (const auto& entry : project.servers()) {
    ToolGroup group;
    group.entry = entry;
    group.name = entry.key.text();
    group.use = "mcp";
    read_pin(project, group);
    groups_.push_back(std::move(group));
  }
}

Yaml ToolGroup::config() const {
  for (const char* key : {"config", "env", "headers"}) {
    if (const Yaml config = entry.value[key]) return config;
  }
  return {};
}

const ToolGroup* ToolTable::group_of(std::string_view tool) const {
  const auto dot = tool.find('.');
  if (dot == std::string_view::npos) return nullptr;
  for (const auto& group : groups_) {
    if (group.name == tool.substr(0, dot)) return &group;
  }
  return nullptr;
}

const tools::ToolSpec* ToolTable::find(std::string_view tool) const {
  const ToolGroup* group = group_of(tool);
  if (!group) return nullptr;
  for (const auto& function : group->functions) {
    if (function.name == tool) return &function;
  }
  return nullptr;
}

bool ToolTable::exists(std::string_view tool) const {
  const ToolGroup* group = group_of(tool);
  if (!group) return false;
  return group->dynamic ? is_function_name(tool.substr(group->name.size() + 1)) : find(tool) != nullptr;
}

bool ToolTable::reaches(std::string_view glob, const ToolGroup& group) {
  if (group.dynamic) return glob_can_begin_with(glob, group.name + ".");
  return std::any_of(group.functions.begin(), group.functions.end(), [&](const auto& function) { return matches_glob(glob, function.name); });
}

bool ToolTable::glob_matches(std::string_view glob) const {
  return std::any_of(groups_.begin(), groups_.end(), [&](const auto& group) { return reaches(glob, group); });
}

std::string ToolTable::suggest(std::string_view text) const {
  const auto dot = text.find('.');
  const std::string rest(dot == std::string_view::npos ? "" : text.substr(dot));
  std::vector<std::string> names;
  std::vector<std::string> candidates;
  for (const auto& group : groups_) {
    names.push_back(group.name);
    for (const auto& function : group.functions) candidates.push_back(function.name);
  }
  if (is_glob(text)) {
    const std::string group = nearest(text.substr(0, dot), names);
    if (group.empty() || dot == std::string_view::npos) return {};
    if (glob_matches(group + rest)) return group + rest;
    // The group is right and the function is not: the nearest function, with the star where it was.
    const bool star_behind = text.back() == '*';
    std::string function = nearest(text.substr(0, text.find('*')), candidates);
    if (!function.empty() && star_behind) function += "*";
    return function.empty() ? group + ".*" : function;
  }
  for (const auto& group : groups_) {
    if (group.dynamic && rest.size() > 1) candidates.push_back(group.name + rest);
  }
  std::string best = nearest(text, candidates);
  if (best.empty() && dot == std::string_view::npos) {  // "read" for "files.read"
    for (const auto& candidate : candidates) {
      if (candidate.size() > text.size() && candidate.compare(candidate.size() - text.size() - 1, std::string::npos, "." + std::string(text)) == 0) return candidate;
    }
  }
  return best;
}

}  // namespace kontor::agent
