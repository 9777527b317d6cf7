// Handles "{{secret:NAME}}": allowed in the config of tools, and in `with` of tools that the secret's allow_tools names.

#include "agent/spec/names.hpp"

#include "agent/spec/shape.hpp"
#include "agent/spec/text_tools.hpp"

#include <algorithm>
#include <functional>

namespace kontor::agent {
namespace {

/// Where a value goes; "" is somewhere that no secret may go.
struct Place {
  std::string tool;              ///< GROUP.FUNCTION of a fixed call
  const ToolGroup* group = nullptr;  ///< config of a group
  const char* what = "a log";
};

class Secrets {
 public:
  Secrets(Project& project, const ToolTable& tools) : project_(project), tools_(tools) {}

  void run() {
    for (const auto& file : project_.files) {
      const Yaml root = project_.root(*file);
      file_ = file.get();
      for (const auto& entry : root.entries()) {
        const std::string_view key = entry.key.text();
        if (key == "tools") tools(entry.value, {"config"});
        else if (key == "mcpServers") tools(entry.value, {"env", "headers"});
        else if (key == "workflow") steps(entry.value);
        else if (key == "procedures") procedures(entry.value);
        else scan(entry.value, {"", nullptr, key == "agents" ? "a prompt or memory" : key == "observe" ? "a log" : "text that is not kept secret"});
      }
    }
  }

 private:
  void tools(const Yaml& section, std::initializer_list<std::string_view> secret_keys) {
    for (const auto& entry : section.entries()) {
      const ToolGroup* group = nullptr;
      for (const auto& candidate : tools_.groups()) {
        if (candidate.name == entry.key.text()) group = &candidate;
      }
      for (const auto& setting : entry.value.entries()) {
        const bool may = std::find(secret_keys.begin(), secret_keys.end(), setting.key.text()) != secret_keys.end();
        if (group && may) scan(setting.value, {"", group, ""});
        else scan(setting.value, {"", nullptr, "a setting that is not kept secret"});
      }
    }
  }

  void procedures(const Yaml& section) {
    for (const auto& procedure : section.entries()) {
      for (const auto& entry : procedure.value.entries()) {
        if (entry.key.text() == "do") steps(entry.value);
        else scan(entry.value, {"", nullptr, "text that is not kept secret"});
      }
    }
  }

  /// Steps nest as deep as the file, whose depth is bounded.
  void steps(const Yaml& list) {
    for (const auto& item : list.items()) {
      const Yaml tool = item["tool"];
      for (const auto& entry : item.entries()) {
        const std::string_view key = entry.key.text();
        if (key == "do" || key == "else") steps(entry.value);
        else if (key == "cases") {
          for (const auto& branch : entry.value.entries()) steps(branch.value);
        } else if (key == "with" && tool && tool.is_scalar()) scan(entry.value, {std::string(tool.text()), nullptr, ""});
        else scan(entry.value, {"", nullptr, key == "with" ? "a prompt" : key == "fail" ? "an error text" : "a log"});
      }
    }
  }

  void scan(const Yaml& value, const Place& place) {
    if (value.is_mapping()) {
      for (const auto& entry : value.entries()) {
        scan(entry.key, place);
        scan(entry.value, place);
      }
    } else if (value.is_sequence()) {
      for (const auto& item : value.items()) scan(item, place);
    } else if (value.is_scalar()) {
      text(value, place);
    }
  }

  void text(const Yaml& value, const Place& place) {
    const std::string_view text = value.text();
    for (std::size_t at = text.find("{{"); at != std::string_view::npos; at = text.find("{{", at + 2)) {
      std::size_t begin = at + 2;
      while (begin < text.size() && text[begin] == ' ') ++begin;
      if (text.substr(begin, 6) != "secret") continue;
      std::size_t colon = begin + 6;
      while (colon < text.size() && text[colon] == ' ') ++colon;
      if (colon >= text.size() || text[colon] != ':') continue;
      const std::size_t close = text.find("}}", colon);
      std::string_view name = text.substr(colon + 1, close == std::string_view::npos ? close : close - colon - 1);
      while (!name.empty() && name.front() == ' ') name.remove_prefix(1);
      while (!name.empty() && name.back() == ' ') name.remove_suffix(1);
      handle(value, place, at, name, close == std::string_view::npos ? "" : text.substr(at, close + 2 - at));
      if (close == std::string_view::npos) return;  // and so is none behind it
    }
  }

  void handle(const Yaml& value, const Place& place, std::size_t at, std::string_view name, std::string_view written) {
    if (project_.report.full()) return;
    const auto add = [&](const char* kind, const std::string& message) {
      project_.report.add(Phase::names, *file_, source_offset(value.document(), value.node(), at), kind, message);
    };
    if (place.tool.empty() && !place.group) return add("secret-exposure", std::string("a secret would reach ") + place.what + "; handles stand in the 'config' of tools and in 'with' of tools that 'allow_tools' names");
    const auto secret = project_.find("secrets", name);
    if (!secret) return add("unknown-secret", "there is no secret of that name" + did_you_mean(nearest(name, project_.names("secrets"))));
    const std::string proper = "{{secret:" + std::string(name) + "}}";
    if (written != proper) return add("bad-format", "a secret's handle has no blanks" + did_you_mean(proper));
    const Yaml allowed = secret->value["allow_tools"];
    const auto named = [&](const std::function<bool(std::string_view)>& fits) {
      if (!allowed) return false;
      const auto globs = allowed.items();
      return std::any_of(globs.begin(), globs.end(), [&](const Yaml& glob) { return fits(glob.text()); });
    };
    if (place.group) {
      if (allowed && !named([&](std::string_view glob) { return ToolTable::reaches(glob, *place.group); })) {
        add("secret-exposure", "'allow_tools' of the secret '" + std::string(name) + "' names no tool of '" + place.group->name + "'");
      }
    } else if (!named([&](std::string_view glob) { return matches_glob(glob, place.tool); })) {
      add("secret-exposure", "'allow_tools' of the secret '" + std::string(name) + "' does not name '" + shown_text(place.tool) + "'");
    }
  }

  Project& project_;
  const ToolTable& tools_;
  const SourceFile* file_ = nullptr;
};

}  // namespace

void check_secrets(Project& project, const ToolTable& tools) { Secrets(project, tools).run(); }

}  // namespace kontor::agent
