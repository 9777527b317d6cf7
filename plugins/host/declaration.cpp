#include "plugins/host/declaration.hpp"

#include "base/json.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <set>

namespace kontor::plugins {
namespace {

constexpr std::size_t kToolsMax = 256;
constexpr std::size_t kPermissionsMax = 64;
constexpr std::size_t kTextBytesMax = 1u << 20;
constexpr std::size_t kNameBytesMax = 64;
constexpr std::int64_t kTimeoutMsMax = 24LL * 3600 * 1000;
// What version 1.0 had. Later versions only append, so these never grow.
constexpr std::size_t kPluginBytes = offsetof(kontor_plugin, extension) + sizeof(kontor_plugin::extension);
constexpr std::size_t kToolBytes = offsetof(kontor_tool, probe) + sizeof(kontor_tool::probe);

Error broken(const std::string& message) { return fail(Errc::malformed, message, "declaration"); }

/// The first three members of any struct of the ABI.
template <class Struct>
Result<void> check_head(const Struct& value, std::size_t least, const std::string& what) {
  if (value.abi_major != KONTOR_ABI_MAJOR) {
    return fail(Errc::unsupported, what + " is made for plugin ABI " + std::to_string(value.abi_major) + "." +
                std::to_string(value.abi_minor) + ", this Kontor speaks " + std::to_string(KONTOR_ABI_MAJOR) + "." +
                std::to_string(KONTOR_ABI_MINOR) + "; rebuild the plugin with this Kontor's header", "abi_version");
  }
  if (value.struct_size < least) {
    return fail(Errc::unsupported, what + " has " + std::to_string(value.struct_size) + " bytes, the ABI asks for " +
                std::to_string(least) + " or more; was struct_size set?", "abi_size");
  }
  return {};
}

bool is_name(std::string_view text) {
  if (text.empty() || text.size() > kNameBytesMax || text[0] < 'a' || text[0] > 'z') return false;
  return std::all_of(text.begin(), text.end(), [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_'; });
}

Result<std::string> copy(kontor_text text, const std::string& what) {
  if (text.size == 0) return std::string();
  if (text.data == nullptr) return broken(what + " has a size but no data");
  if (text.size > kTextBytesMax) return broken(what + " is longer than 1 MiB");
  std::string copied(text.data, text.size);
  if (!is_utf8(copied)) return broken(what + " is not UTF-8");
  return copied;
}

Result<DeclaredTool> read_tool(const kontor_tool* tool, std::size_t index) {
  const std::string place = "tool " + std::to_string(index + 1);
  if (tool == nullptr) return broken(place + " is a null pointer");
  if (auto head = check_head(*tool, kToolBytes, place); !head) return head.error();
  DeclaredTool read;
  const std::pair<std::string DeclaredTool::*, kontor_text> texts[] = {
      {&DeclaredTool::name, tool->name}, {&DeclaredTool::description, tool->description},
      {&DeclaredTool::parameters, tool->parameters}, {&DeclaredTool::result, tool->result}};
  for (const auto& [member, text] : texts) {
    auto copied = copy(text, "a text of " + place);
    if (!copied) return copied.error();
    read.*member = std::move(*copied);
  }
  if (tool->call == nullptr) return broken(place + " (\"" + read.name + "\") has no call function");
  read.effect = tool->effect;
  read.untrusted_output = (tool->flags & KONTOR_TOOL_UNTRUSTED_OUTPUT) != 0;
  read.at_once = (tool->flags & KONTOR_TOOL_AT_ONCE) != 0;
  read.has_probe = tool->probe != nullptr;
  read.timeout_ms = tool->timeout_ms;
  return read;
}

bool is_permission(std::string_view text) {
  for (const std::string_view kind : {"read:", "write:", "network:", "environment:"}) {
    if (text.size() > kind.size() && text.substr(0, kind.size()) == kind) return true;
  }
  return false;
}

Result<void> check_tool(const DeclaredTool& tool) {
  if (!is_name(tool.name)) {
    return broken("the tool name \"" + tool.name.substr(0, 80) + "\" is not [a-z][a-z0-9_]* of at most 64 bytes");
  }
  const std::string place = "tool \"" + tool.name + "\"";
  if (tool.description.empty()) return broken(place + " has no description");
  if (tool.effect > KONTOR_EFFECT_ONCE) return broken(place + " has effect " + std::to_string(tool.effect) + ", known are 0 to 2");
  if (tool.timeout_ms < 0 || tool.timeout_ms > kTimeoutMsMax) return broken(place + " has a timeout outside 0 to 24 hours");
  return {};
}

std::string string_at(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

std::int64_t integer_at(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_number_integer() ? found->get<std::int64_t>() : 0;
}

bool boolean_at(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_boolean() && found->get<bool>();
}

}  // namespace

bool is_utf8(std::string_view text) {
  // The writer of the JSON library checks every byte; in strict mode it throws on the first bad one.
  try {
    (void)Json(text).dump();
    return true;
  } catch (const Json::exception&) {
    return false;
  }
}

Result<Declaration> read_declaration(const kontor_plugin& plugin) {
  if (auto head = check_head(plugin, kPluginBytes, "the plugin"); !head) return head.error();
  if (plugin.create == nullptr || plugin.destroy == nullptr) return broken("the plugin has no create or no destroy function");
  if (plugin.tool_count > kToolsMax) return broken("the plugin declares more than 256 tools");
  if (plugin.permission_count > kPermissionsMax) return broken("the plugin declares more than 64 permissions");
  if (plugin.tool_count > 0 && plugin.tools == nullptr) return broken("the plugin's list of tools is a null pointer");
  if (plugin.permission_count > 0 && plugin.permissions == nullptr) return broken("the plugin's list of permissions is a null pointer");
  Declaration read;
  const std::pair<std::string Declaration::*, kontor_text> texts[] = {
      {&Declaration::name, plugin.name}, {&Declaration::version, plugin.version}, {&Declaration::description, plugin.description}};
  for (const auto& [member, text] : texts) {
    auto copied = copy(text, "a text of the plugin");
    if (!copied) return copied.error();
    read.*member = std::move(*copied);
  }
  read.serial = (plugin.flags & KONTOR_PLUGIN_SERIAL) != 0;
  for (std::size_t i = 0; i < plugin.permission_count; ++i) {
    auto permission = copy(plugin.permissions[i], "permission " + std::to_string(i + 1));
    if (!permission) return permission.error();
    read.permissions.push_back(std::move(*permission));
  }
  for (std::size_t i = 0; i < plugin.tool_count; ++i) {
    auto tool = read_tool(plugin.tools[i], i);
    if (!tool) return tool.error();
    read.tools.push_back(std::move(*tool));
  }
  if (auto checked = check_declaration(read); !checked) return checked.error();
  return read;
}

Result<void> check_declaration(const Declaration& declaration) {
  if (!is_name(declaration.name)) {
    return broken("the plugin name \"" + declaration.name.substr(0, 80) + "\" is not [a-z][a-z0-9_]* of at most 64 bytes");
  }
  if (declaration.tools.empty()) return broken("the plugin declares no tools");
  if (declaration.tools.size() > kToolsMax) return broken("the plugin declares more than 256 tools");
  for (const auto& permission : declaration.permissions) {
    if (!is_permission(permission)) {
      return broken("the permission \"" + permission.substr(0, 80) + "\" is not read:PATH, write:PATH, network:HOST or environment:NAME");
    }
  }
  std::set<std::string_view> names;
  for (const auto& tool : declaration.tools) {
    if (auto checked = check_tool(tool); !checked) return checked.error();
    if (!names.insert(tool.name).second) return broken("two tools are called \"" + tool.name + "\"");
  }
  return {};
}

std::string write_declaration(const Declaration& declaration) {
  Json json{{"name", declaration.name}, {"version", declaration.version}, {"description", declaration.description},
            {"serial", declaration.serial}, {"permissions", declaration.permissions}, {"requests", declaration.requests}, {"tools", Json::array()}};
  for (const auto& tool : declaration.tools) {
    json["tools"].push_back(Json{{"name", tool.name}, {"description", tool.description}, {"parameters", tool.parameters},
                                 {"result", tool.result}, {"effect", tool.effect}, {"untrusted_output", tool.untrusted_output},
                                 {"has_probe", tool.has_probe}, {"timeout_ms", tool.timeout_ms}});
  }
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Result<Declaration> parse_declaration(std::string_view text) {
  const auto json = parse_json(text);
  if (!json) return json.error();
  if (!json->is_object()) return broken("the declaration is not an object");
  Declaration read;
  read.name = string_at(*json, "name");
  read.version = string_at(*json, "version");
  read.description = string_at(*json, "description");
  read.serial = boolean_at(*json, "serial");
  if (const auto list = json->find("permissions"); list != json->end() && list->is_array()) {
    for (const auto& permission : *list) {
      if (permission.is_string()) read.permissions.push_back(permission.get<std::string>());
    }
  }
  if (const auto list = json->find("requests"); list != json->end() && list->is_array()) {
    for (const auto& method : *list) {
      if (method.is_string()) read.requests.push_back(method.get<std::string>());
    }
  }
  if (const auto list = json->find("tools"); list != json->end() && list->is_array()) {
    for (const auto& tool : *list) {
      if (!tool.is_object()) return broken("a tool of the declaration is not an object");
      const std::int64_t effect = integer_at(tool, "effect");
      if (effect < 0 || effect > KONTOR_EFFECT_ONCE) return broken("a tool has an effect outside of 0 to 2");
      read.tools.push_back({string_at(tool, "name"), string_at(tool, "description"), string_at(tool, "parameters"),
                            string_at(tool, "result"), static_cast<std::uint32_t>(effect), boolean_at(tool, "untrusted_output"),
                            boolean_at(tool, "has_probe"), integer_at(tool, "timeout_ms")});
    }
  }
  if (auto checked = check_declaration(read); !checked) return checked.error();
  return read;
}

}  // namespace kontor::plugins
