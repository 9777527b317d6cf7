#include "agent/importer/mcp_entry.hpp"

#include "agent/importer/foreign_settings.hpp"
#include "agent/importer/placeholders.hpp"
#include "agent/spec/formats.hpp"
#include "agent/spec/project.hpp"
#include "agent/spec/text_tools.hpp"

#include <algorithm>
#include <set>

namespace kontor::agent {
namespace {

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
    Json config = foreign_settings(draft_, file_, entry_.name, entry_.url ? entry_.name + "_" : "", entry_.settings, secrets_);
    for (const auto& variable : entry_.passed) {
      secrets_.insert(variable);
      config[variable] = draft_.secret(variable);
    }
    if (!config.empty()) tool["config"] = std::move(config);
    if (entry_.timeout) timeout(*entry_.timeout, tool);
    const std::string group = draft_.group(entry_.name, std::move(tool));
    for (const auto& variable : secrets_) draft_.allow(variable, group);
    for (const auto& function : entry_.approved) draft_.approve(group + "." + function);
    return group;
  }

 private:
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

  void timeout(const Yaml& given, Json& tool) {
    const std::string place = "'timeout' of '" + shown_text(entry_.name) + "'";
    const Json value = to_json(given);
    if (!value.is_number() || value.get<double>() <= 0) return draft_.unsupported(file_, given.offset(), place + " is not a number above zero");
    const auto time = foreign_timeout_ms(value.get<double>());
    if (entry_.timeout_in_seconds ? value.get<double>() <= 600 : time.has_value()) {
      tool["timeout_ms"] = *time;
      return;
    }
    if (!entry_.timeout_in_seconds && value.get<double>() < 10'000) return draft_.unsupported(file_, given.offset(), place + " may be seconds or milliseconds; write it as `timeout_ms` of the group");
    draft_.left_out(file_, given.offset(), place + ": a call has 10 minutes at the most");
    tool["timeout_ms"] = 600'000;
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
