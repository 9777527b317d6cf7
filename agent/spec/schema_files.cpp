// JSON files that a check reads: output schemas and pins of MCP servers.

#include "agent/spec/formats.hpp"
#include "agent/spec/output_schema.hpp"
#include "agent/spec/shape.hpp"
#include "agent/spec/text_tools.hpp"

#include <filesystem>

namespace kontor::agent {
namespace {

/// Reads and parses; false when something was reported. `json` stays valid as long as the project.
bool read_json(Project& project, const SourceFile& file, const Yaml& value, JsonFile*& json) {
  JsonLimits limits;
  limits.bytes = YamlLimits{}.bytes;
  const auto bytes = read_beside(project, file, value, limits.bytes);
  if (!bytes) return false;
  json = &project.json_files[resolved_path(file.folder, value.text())];
  auto parsed = parse_json(*bytes, limits);
  if (!parsed) {
    project.report.add(Phase::schema, file, value.offset(), "bad-schema", "'" + shown_text(value.text()) + "' is not JSON: " + shown_text(parsed.error().describe(), 200));
    return false;
  }
  json->value = std::move(*parsed);
  return true;
}

}  // namespace

std::optional<std::string> read_beside(Project& project, const SourceFile& file, const Yaml& value, std::size_t most) {
  const std::string text(value.text());
  const auto report = [&](std::string kind, std::string message) {
    project.report.add(Phase::schema, file, value.offset(), std::move(kind), std::move(message));
    return std::nullopt;
  };
  if (check_path_text(text) || text[0] == '/' || text.find("://") != std::string::npos) return std::nullopt;  // reported as a path
  const std::string path = resolved_path(file.folder, text);
  if (!is_inside(path, project.folder)) return std::nullopt;
  std::string why;
  auto bytes = read_regular_file(path, most, why);
  if (!bytes) {
    const std::string near = nearest_existing(file.folder, text);
    return report("missing-file", "'" + shown_text(text) + "' cannot be read: " + why + did_you_mean(near == text ? "" : near));
  }
  std::error_code error;
  const auto real = std::filesystem::canonical(path, error);
  const auto home = std::filesystem::canonical(project.folder, error);
  if (!error && !is_inside(real.string(), home.string())) return report("path-escape", "'" + shown_text(text) + "' is a link to outside of the folder of the checked file");
  return bytes;
}

void check_schema_file(Project& project, const SourceFile& file, const Yaml& value) {
  JsonFile* json = nullptr;
  if (!read_json(project, file, value, json)) return;
  const auto problem = check_output_schema(json->value);
  json->is_schema = !problem;
  if (!problem) return;
  project.report.add(Phase::schema, file, value.offset(), "bad-schema",
                     "'" + shown_text(value.text()) + "' at " + (problem->pointer.empty() ? "the root" : shown_text(problem->pointer, 200)) + ": " + problem->message + did_you_mean(problem->suggestion));
}

void check_pin_file(Project& project, const SourceFile& file, const Yaml& value) {
  JsonFile* json = nullptr;
  if (!read_json(project, file, value, json)) return;
  const auto report = [&](const std::string& pointer, const std::string& message) {
    project.report.add(Phase::schema, file, value.offset(), "bad-schema", "'" + shown_text(value.text()) + "' at " + (pointer.empty() ? "the root" : pointer) + ": " + message);
  };
  const Json& root = json->value;
  if (!root.is_object() || !root.contains("tools") || !root["tools"].is_array()) return report("/tools", "a pin is the result of tools/list: an object with the list 'tools'");
  std::size_t index = 0;
  for (const auto& tool : root["tools"]) {
    const std::string pointer = "/tools/" + std::to_string(index++);
    if (!tool.is_object()) return report(pointer, "a tool is an object");
    if (!tool.contains("name") || !tool["name"].is_string() || tool["name"].get_ref<const std::string&>().empty()) return report(pointer + "/name", "a tool needs a name");
    for (const char* key : {"inputSchema", "outputSchema"}) {
      if (!tool.contains(key)) continue;
      if (const auto problem = check_tool_schema(tool[key])) return report(pointer + "/" + key + shown_text(problem->pointer, 200), problem->message);
    }
  }
  json->is_pin = true;
}

}  // namespace kontor::agent
