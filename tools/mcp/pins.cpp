#include "tools/mcp/pins.hpp"

#include "tools/mcp/message.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>

namespace kontor::tools::mcp {
namespace {

namespace fs = std::filesystem;

/// Everything of a definition that has an influence on models or calls. A plain json sorts its members.
nlohmann::json essence(const Json& tool) {
  constexpr std::array kMembers = {"name", "title", "description", "inputSchema", "outputSchema", "annotations"};
  Json kept = Json::object();
  for (const char* member : kMembers) {
    if (tool.contains(member) && !tool.at(member).is_null()) kept[member] = tool.at(member);
  }
  return nlohmann::json(kept);
}

std::map<std::string, const Json*> by_name(const Definitions& definitions) {
  std::map<std::string, const Json*> index;
  for (const auto& definition : definitions) index.emplace(text_at(definition, "name"), &definition);
  return index;
}

}  // namespace

PinCheck compare_pins(const Definitions& pinned, const Definitions& live) {
  PinCheck check;
  const auto before = by_name(pinned), now = by_name(live);
  for (const auto& [name, definition] : before) {
    const auto found = now.find(name);
    if (found == now.end()) check.gone.push_back(name);
    else if (essence(*definition) != essence(*found->second)) check.changed.push_back(name);
  }
  for (const auto& [name, definition] : now) {
    if (!before.contains(name)) check.added.push_back(name);
  }
  return check;
}

Result<Definitions> read_pins(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return fail_errno("open pin file", path);
  std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  auto value = parse_json(text, JsonLimits{kMessageDepthMax, kMessageBytesMax, true});
  if (!value) return fail(Errc::malformed, "pin file " + path + ": " + value.error().describe(), "pin_file");
  if (!value->is_object() || !value->contains("tools") || !value->at("tools").is_array()) {
    return fail(Errc::malformed, "pin file " + path + " is not a tools/list result: it has no list 'tools'", "pin_file");
  }
  Definitions definitions;
  for (auto& tool : value->at("tools")) {
    if (text_at(tool, "name").empty()) return fail(Errc::malformed, "pin file " + path + " has a tool without a name", "pin_file");
    definitions.push_back(std::move(tool));
  }
  return definitions;
}

Result<void> write_pins(const std::string& path, const Definitions& definitions) {
  Json tools = Json::array();
  for (const auto& definition : definitions) tools.push_back(definition);
  const std::string text = Json{{"tools", std::move(tools)}}.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
  std::error_code code;
  if (const auto folder = fs::path(path).parent_path(); !folder.empty()) fs::create_directories(folder, code);
  const std::string temporary = path + "." + std::to_string(::getpid());
  std::ofstream file(temporary, std::ios::binary | std::ios::trunc);
  file << text;
  file.close();
  if (!file) return fail_errno("write pin file", temporary);
  fs::rename(temporary, path, code);
  if (code) return fail(Errc::io, "write pin file " + path + ": " + code.message());
  return {};
}

}  // namespace kontor::tools::mcp
