#include "agent/cli/mcp_group.hpp"

#include "agent/cli/terminal.hpp"
#include "tools/mcp/message.hpp"
#include "tools/schema.hpp"

#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <iostream>
#include <optional>
#include <string>

namespace kontor::agent::cli {
namespace {

using tools::mcp::kInvalidParams;
using tools::mcp::Reply;
using tools::mcp::RpcError;

std::string setting_text(const Json& value) { return value.is_string() ? value.get<std::string>() : value.dump(); }

std::vector<std::string> texts_of(const Json& object, const char* key) {
  std::vector<std::string> texts;
  if (const auto list = object.find(key); list != object.end() && list->is_array()) {
    for (const auto& item : *list) texts.push_back(setting_text(item));
  }
  return texts;
}

/// A field of a form as the person typed it; nothing when it does not fit.
std::optional<Json> typed(const Json& schema, const std::string& text) {
  const std::string type = tools::mcp::text_at(schema, "type");
  if (type == "boolean") {
    if (text == "y" || text == "yes" || text == "true") return Json(true);
    if (text == "n" || text == "no" || text == "false") return Json(false);
    return std::nullopt;
  }
  if (type == "integer" || type == "number") {
    const auto number = parse_json(text);
    if (!number || !number->is_number()) return std::nullopt;
    return *number;
  }
  if (type == "array") {
    Json list = Json::array();
    for (std::size_t begin = 0; begin <= text.size() && !text.empty();) {
      const auto end = std::min(text.find(',', begin), text.size());
      const std::string item = text.substr(begin, end - begin);
      const auto first = item.find_first_not_of(' ');
      if (first != std::string::npos) list.push_back(item.substr(first, item.find_last_not_of(' ') - first + 1));
      begin = end + 1;
    }
    return list;
  }
  return Json(text);
}

std::string hint_of(const Json& field) {
  std::string hint = tools::mcp::text_at(field, "description");
  Json choices = field.contains("enum") ? field.at("enum") : Json();
  if (field.contains("oneOf") && field.at("oneOf").is_array()) {
    choices = Json::array();
    for (const auto& choice : field.at("oneOf")) {
      if (choice.is_object() && choice.contains("const")) choices.push_back(choice.at("const"));
    }
  }
  if (choices.is_array() && !choices.empty()) hint += (hint.empty() ? "" : "; ") + std::string("one of ") + spaced_json(choices);
  if (field.contains("default")) hint += (hint.empty() ? "" : "; ") + std::string("empty for ") + spaced_json(field.at("default"));
  return hint;
}

/// Field by field; nothing when the person gave up.
std::optional<Json> fill_form(const Json& schema) {
  Json content = Json::object();
  const auto compiled = tools::Schema::compile(schema);
  for (const auto& [name, field] : tools::mcp::object_at(schema, "properties").items()) {
    bool required = false;
    for (const auto& word : texts_of(schema, "required")) required = required || word == name;
    for (;;) {
      std::fprintf(stderr, "  %s%s (%s): ", printable(name, 80).c_str(), required ? "" : "?", printable(hint_of(field), 400).c_str());
      std::string line;
      if (!std::getline(std::cin, line)) return std::nullopt;
      if (line.empty()) {
        if (field.contains("default")) content[name] = field.at("default");
        if (!required || field.contains("default")) break;
        continue;
      }
      const auto value = typed(field, line);
      const auto one = tools::Schema::compile(field);
      if (value && (!one || one->validate(*value, 1).empty())) {
        content[name] = *value;
        break;
      }
      std::fprintf(stderr, "  that does not fit\n");
    }
  }
  if (compiled && !compiled->validate(content, 1).empty()) return std::nullopt;
  return content;
}

Reply ask_at_terminal(const std::string& group, const std::string& method, const Json& params) {
  if (method != "elicitation/create") return RpcError{tools::mcp::kMethodNotFound, "only questions to a person are answered here"};
  std::fprintf(stderr, "\nThe server of %s asks: %s\n", printable(group, 80).c_str(), printable(tools::mcp::text_at(params, "message"), 2000).c_str());
  if (tools::mcp::text_at(params, "mode") == "url") {
    std::fprintf(stderr, "  It wants you to open: %s\n  Done? [y/N] ", printable(tools::mcp::text_at(params, "url"), 2000).c_str());
    std::string line;
    const bool yes = std::getline(std::cin, line) && (line == "y" || line == "yes");
    return Json{{"action", yes ? "accept" : "decline"}};
  }
  std::fprintf(stderr, "  Answer? [y/N] ");
  std::string line;
  if (!std::getline(std::cin, line)) return Json{{"action", "cancel"}};
  if (line != "y" && line != "yes") return Json{{"action", "decline"}};
  const auto content = fill_form(tools::mcp::object_at(params, "requestedSchema"));
  if (!content) return Json{{"action", "cancel"}};
  return Json{{"action", "accept"}, {"content", *content}};
}

}  // namespace

tools::mcp::ServerConfig mcp_config(const ToolRequest& request) {
  tools::mcp::ServerConfig config;
  config.group = request.entry->name;
  config.command = texts_of(request.settings, "command");
  config.url = tools::mcp::text_at(request.settings, "url");
  config.pin_path = tools::mcp::text_at(request.settings, "pin");
  config.only = texts_of(request.settings, "only");
  config.timeout_ms = request.settings.value("timeout_ms", config.timeout_ms);
  for (const auto& [name, value] : tools::mcp::object_at(request.settings, "config").items()) config.settings[name] = setting_text(value);
  config.folder = request.spec->folder;
  if (const std::string cwd = tools::mcp::text_at(request.settings, "cwd"); !cwd.empty()) config.folder = (std::filesystem::path(config.folder) / cwd).string();
  config.state_folder = request.data_folder;
  config.egress = request.egress;
  config.network = tools::mcp::text_at(request.settings, "network");
  config.version = KONTOR_VERSION;
  return config;
}

void add_terminal_hooks(tools::mcp::ServerConfig& config) {
  if (::isatty(STDIN_FILENO) != 1 || ::isatty(STDERR_FILENO) != 1) return;
  config.hooks.capabilities = Json{{"elicitation", Json{{"form", Json::object()}, {"url", Json::object()}}}};
  config.hooks.answer = [group = config.group](const std::string& method, const Json& params) { return ask_at_terminal(group, method, params); };
  config.open_page = [](const std::string& url) {
    std::fprintf(stderr, "Open this page to allow the access, then come back:\n  %s\n", printable(url, 4000).c_str());
  };
}

}  // namespace kontor::agent::cli
