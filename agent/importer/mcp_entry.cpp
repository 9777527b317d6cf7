#include "agent/importer/mcp_entry.hpp"

#include "agent/importer/placeholders.hpp"
#include "agent/spec/formats.hpp"
#include "agent/spec/project.hpp"
#include "agent/spec/text_tools.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <set>

namespace kontor::agent {
namespace {

std::string upper_id(std::string_view text) {
  std::string id = proper_id(text, "SECRET");
  std::transform(id.begin(), id.end(), id.begin(), [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return id;
}

/// Does a variable or header of this name hold something that nobody else should read?
bool names_secret(std::string_view name) {
  static constexpr std::array<std::string_view, 9> kWords{"KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL", "AUTH", "COOKIE", "PAT"};
  const std::string upper = "_" + upper_id(name) + "_";
  return std::any_of(kWords.begin(), kWords.end(), [&](std::string_view word) {
    // KEY in KEYBOARD_LAYOUT is no key.
    for (std::size_t at = upper.find(word); at != std::string::npos; at = upper.find(word, at + 1)) {
      const bool ends = upper[at + word.size()] == '_' || upper.compare(at + word.size(), 2, "S_") == 0 || word == "AUTH";
      if (ends && (word != "PAT" || upper[at - 1] == '_')) return true;
    }
    return false;
  });
}

/// "scheme://user:password@host"
bool holds_password(std::string_view text) {
  const auto scheme = text.find("://");
  if (scheme == std::string_view::npos) return false;
  const std::string_view authority = text.substr(scheme + 3, text.find_first_of("/?#", scheme + 3) - scheme - 3);
  const auto at = authority.rfind('@');
  return at != std::string_view::npos && authority.substr(0, at).find(':') != std::string_view::npos;
}

class Adder {
 public:
  Adder(Draft& draft, const ForeignFile& file, const McpEntry& entry) : draft_(draft), file_(file), entry_(entry) {}

  std::optional<std::string> add(std::size_t offset) {
    Json tool{{"use", "mcp"}};
    if (entry_.cwd) folder(*entry_.cwd, tool);
    if (entry_.url) {
      if (!address(*entry_.url, tool)) return std::nullopt;
    } else if (!entry_.command.empty()) {
      tool["command"] = Json::array();
      for (const auto& word : entry_.command) {
        if (!argument(word, tool["command"])) return std::nullopt;
      }
    } else {
      draft_.unsupported(file_, offset, "the server '" + shown_text(entry_.name) + "' has neither a program nor an address");
      return std::nullopt;
    }
    for (const auto& name : entry_.only) {
      if (!tool.contains("only") || std::find(tool["only"].begin(), tool["only"].end(), Json(name)) == tool["only"].end()) tool["only"].push_back(name);
    }
    for (const auto& setting : entry_.settings) this->setting(setting, tool["config"]);
    for (const auto& variable : entry_.passed) tool["config"][variable] = secret(variable);
    if (tool.contains("config") && tool["config"].is_null()) tool.erase("config");
    const std::string group = draft_.group(entry_.name, std::move(tool));
    for (const auto& variable : secrets_) draft_.allow(variable, group);
    return group;
  }

 private:
  std::string secret(const std::string& variable) {
    secrets_.insert(variable);
    return draft_.secret(variable);
  }

  /// A folder below the agent file; any other is reported, and the server imported without it.
  void folder(const Yaml& cwd, Json& tool) {
    const std::string text(cwd.text());
    const auto report = [&](const std::string& why) { draft_.unsupported(file_, cwd.offset(), "'cwd' of '" + shown_text(entry_.name) + "' " + why); };
    if (entry_.url) return report("has no meaning for a server with an address");
    if (!cwd.is_scalar() || check_path_text(text)) return report("is not a folder");
    if (has_variables(text)) return report("holds a variable; servers start in the folder of the agent file, or in a fixed one below it");
    if (text[0] == '~' || leaves_its_folder(text)) return report("lies elsewhere; servers start in the folder of the agent file, or below it");
    if (resolved_path("/x", text) != "/x") tool["cwd"] = text;
  }

  bool address(const Yaml& url, Json& tool) {
    const std::string text(url.text());
    if (has_variables(text) || holds_password(text)) {
      draft_.unsupported(file_, url.offset(), "the address of '" + shown_text(entry_.name) + "' holds a variable or a password; Kontor's `url` is a fixed address, secrets go into headers");
      return false;
    }
    if (const auto wrong = check_url(text)) {
      draft_.unsupported(file_, url.offset(), "the address of '" + shown_text(entry_.name) + "': " + wrong.message);
      return false;
    }
    tool["url"] = text;
    return true;
  }

  bool argument(const Yaml& word, Json& list) {
    std::string text(word.text());
    if (entry_.argument) text = entry_.argument(word);
    if (has_variables(text) || holds_password(text)) {
      draft_.unsupported(file_, word.offset(), "an argument of '" + shown_text(entry_.name) + "' holds a variable or a password, which every process of the machine could read; give it to the server in its environment");
      return false;
    }
    if (text.empty()) {
      draft_.unsupported(file_, word.offset(), "an argument of '" + shown_text(entry_.name) + "' is empty");
      return false;
    }
    list.push_back(text);
    return true;
  }

  void setting(const Yaml::Entry& setting, Json& config) {
    const std::string key(setting.key.text());
    if (!setting.value.is_scalar()) return draft_.unsupported(file_, setting.value.offset(), "'" + shown_text(key) + "' of '" + shown_text(entry_.name) + "' is not a text");
    const std::string value(setting.value.text());
    if (value.find("{{") != std::string::npos) return draft_.unsupported(file_, setting.value.offset(), "'" + shown_text(key) + "' of '" + shown_text(entry_.name) + "' holds a template");
    if (has_variables(value)) {
      config[key] = with_variables(value, [&](const std::string& variable, const std::string& fallback) {
        if (!fallback.empty()) draft_.left_out(file_, setting.value.offset(), "the default of the variable " + variable + ": a secret has none, set the variable");
        return secret(variable);
      });
    } else if (names_secret(key) || holds_password(value)) {
      const std::string variable = entry_.url ? upper_id(entry_.name + "_" + key) : upper_id(key);
      config[key] = secret(variable);
      draft_.left_out(file_, setting.value.offset(), "the value of " + shown_text(key) + " is taken for a secret and not copied; set the environment variable " + variable);
    } else {
      config[key] = literal_text(value);
    }
  }

  Draft& draft_;
  const ForeignFile& file_;
  const McpEntry& entry_;
  std::set<std::string> secrets_;
};

}  // namespace

std::optional<std::string> add_mcp(Draft& draft, const ForeignFile& file, const McpEntry& entry, std::size_t offset) {
  return Adder(draft, file, entry).add(offset);
}

}  // namespace kontor::agent
