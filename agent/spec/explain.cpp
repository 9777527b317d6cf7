#include "agent/spec/explain.hpp"

#include "agent/spec/project.hpp"
#include "agent/spec/rules.hpp"
#include "agent/spec/shape.hpp"
#include "agent/spec/spec.hpp"

#include <algorithm>
#include <filesystem>

namespace kontor::agent {
namespace {

/// A scalar as YAML that reads back as the same value.
std::string scalar(const Yaml& value) {
  if (value.is_null()) return "null";
  const std::string_view text = value.text();
  if (value.is_plain() && value.type() != Yaml::Type::string) return std::string(text);
  // Double-quoted YAML is a superset of JSON strings.
  static constexpr std::string_view kSafe = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./-+";
  const bool word = !text.empty() && text.find_first_not_of(kSafe) == std::string_view::npos && value.is_plain() && text[0] != '-' && text != ".";
  return word ? std::string(text) : Json(std::string(text)).dump(-1, ' ', false, Json::error_handler_t::replace);
}

class Writer {
 public:
  std::string out;

  void key(int indent, std::string_view name) {
    if (!pending_dash_) out.append(static_cast<std::size_t>(indent), ' ');
    pending_dash_ = false;
    const bool plain = !name.empty() && name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") == std::string_view::npos && name[0] != '-' && name[0] != '.';
    out += plain ? std::string(name) : Json(std::string(name)).dump(-1, ' ', false, Json::error_handler_t::replace);
    out += ":";
  }
  void dash(int indent) {
    out.append(static_cast<std::size_t>(indent), ' ') += "- ";
    pending_dash_ = true;
  }
  void line(const std::string& text) {
    out += text + "\n";
    pending_dash_ = false;
  }

  /// Behind a key or dash: any value as it was written.
  void value(const Yaml& value, int indent, bool behind_key) {
    if (value.is_mapping() && value.size() > 0) {
      if (behind_key) out += "\n";
      for (const auto& entry : value.entries()) {
        key(indent, entry.key.text());
        this->value(entry.value, indent + 2, true);
      }
    } else if (value.is_sequence() && value.size() > 0) {
      if (!behind_key) {  // a list in a list stays on one line
        line(flow(value));
        return;
      }
      const auto items = value.items();
      if (std::all_of(items.begin(), items.end(), [](const Yaml& item) { return item.is_scalar() || item.is_null(); })) return line(" " + flow(value));
      out += "\n";
      for (const auto& item : items) {
        dash(indent);
        this->value(item, indent + 2, false);
      }
    } else {
      line((behind_key ? " " : "") + flow(value));
    }
  }
  static std::string flow(const Yaml& value) {
    if (value.is_mapping()) {
      std::string text;
      for (const auto& entry : value.entries()) text += (text.empty() ? "" : ", ") + Json(std::string(entry.key.text())).dump(-1, ' ', false, Json::error_handler_t::replace) + ": " + flow(entry.value);
      return "{" + text + "}";
    }
    if (value.is_sequence()) {
      std::string text;
      for (const auto& item : value.items()) text += (text.empty() ? "" : ", ") + flow(item);
      return "[" + text + "]";
    }
    return scalar(value);
  }

  /// The sections of all files together.
  void project(const Project& project) {
    for (const auto& known : rule("root").keys) {
      const auto parts = project.sections(known.key);
      if (known.type == ValueType::include) continue;
      if (parts.empty()) {
        if (known.type != ValueType::mapping || !has_defaults(rule(known.arg))) continue;
        key(0, known.key);
        block(Yaml(), rule(known.arg), 2, true);
        continue;
      }
      key(0, known.key);
      if (known.type == ValueType::named) {
        out += "\n";
        for (const auto& entry : project.named(known.key)) {
          key(2, entry.key.text());
          block(entry.value, rule_of(entry.value, known.arg), 4, true);
        }
      } else if (parts.size() == 1 || (known.type != ValueType::list && known.type != ValueType::mapping)) {
        ruled(parts.front().value, known, 2);
      } else if (known.type == ValueType::list) {
        out += "\n";
        for (const auto& part : parts) entries(part.value, known.arg, 2);
      } else {
        std::vector<Yaml> values;
        for (const auto& part : parts) values.push_back(part.value);
        merged(values, rule(known.arg), 2);
      }
    }
  }
  /// Rules of several files: their lists one behind the other.
  void merged(const std::vector<Yaml>& parts, const MapRule& rule, int indent) {
    out += "\n";
    for (const auto& known : rule.keys) {
      std::vector<Yaml> given;
      for (const auto& part : parts) {
        if (const Yaml value = part[known.key]) given.push_back(value);
      }
      if (given.empty()) continue;
      key(indent, known.key);
      if (known.type == ValueType::mapping) {
        merged(given, kontor::agent::rule(known.arg), indent + 2);
        continue;
      }
      const auto none = [](const Yaml& list) { return list.size() == 0; };
      if (std::all_of(given.begin(), given.end(), none)) {  // `allow: []` allows nothing: it has to stay a list.
        line(" []");
        continue;
      }
      out += "\n";
      for (const auto& list : given) {
        if (known.type == ValueType::list) {
          entries(list, known.arg, indent + 2);
          continue;
        }
        for (const auto& item : list.items()) {
          dash(indent + 2);
          value(item, indent + 4, false);
        }
      }
    }
  }

  void mapping(const Yaml& value, const MapRule& rule, int indent) {
    for (const auto& known : rule.keys) {
      const Yaml given = value[known.key];
      if (given) {
        key(indent, known.key);
        ruled(given, known, indent + 2);
      } else if (!known.fallback.empty()) {
        // These mean something only where there is a schedule.
        if ((known.key == "tz" || known.key == "missed") && !value["schedule"]) continue;
        // What a server or a tape runs on is not ours to say.
        if (known.key == "device" && (value["endpoint"] || value["replay"])) continue;
        key(indent, known.key);
        line(" " + std::string(known.fallback) + "  # default");
      } else if (known.type == ValueType::mapping && has_defaults(kontor::agent::rule(known.arg))) {
        key(indent, known.key);
        out += "\n";
        mapping(Yaml(), kontor::agent::rule(known.arg), indent + 2);
      }
    }
  }

 private:
  static bool has_defaults(const MapRule& rule) {
    return std::none_of(rule.keys.begin(), rule.keys.end(), [](const KeyRule& key) { return key.required; }) &&
           std::any_of(rule.keys.begin(), rule.keys.end(), [](const KeyRule& key) { return !key.fallback.empty(); });
  }
  static const MapRule& rule_of(const Yaml& value, std::string_view name) {
    if (name == "tool") return kontor::agent::rule("tool." + std::string(value["use"].text()));
    if (name == "step") return kontor::agent::rule("step." + std::string(step_action(value)));
    return kontor::agent::rule(name);
  }
  void block(const Yaml& value, const MapRule& rule, int indent, bool behind_key) {
    if (behind_key) out += "\n";
    mapping(value, rule, indent);
  }
  void list(const Yaml& value, std::string_view rule, int indent) {
    if (value.size() == 0) return line(" []");
    out += "\n";
    entries(value, rule, indent);
  }
  void entries(const Yaml& value, std::string_view rule, int indent) {
    for (const auto& item : value.items()) {
      dash(indent);
      block(item, rule_of(item, rule), indent + 2, false);
    }
  }
  void ruled(const Yaml& given, const KeyRule& known, int indent) {
    switch (known.type) {
      case ValueType::mapping: return block(given, kontor::agent::rule(known.arg), indent, true);
      case ValueType::list: return list(given, known.arg, indent);
      case ValueType::steps: return list(given, "step", indent);
      case ValueType::cases:
        out += "\n";
        for (const auto& entry : given.entries()) {
          key(indent, entry.key.text());
          list(entry.value, "step", indent + 2);
        }
        return;
      case ValueType::named:
        out += "\n";
        for (const auto& entry : given.entries()) {
          key(indent, entry.key.text());
          block(entry.value, rule_of(entry.value, known.arg), indent + 2, true);
        }
        return;
      default: return value(given, indent, true);
    }
  }

  bool pending_dash_ = false;
};

}  // namespace

std::string explained(const std::string& path) {
  if (!check_file(path).diagnostics.empty()) return {};
  std::string why;
  auto text = read_regular_file(path, YamlLimits{}.bytes, why);
  if (!text) return {};
  Project project;
  project.path = path;
  project.folder = resolved_path(std::filesystem::absolute(path).parent_path().string(), ".");
  if (!load_project(project, std::move(*text))) return {};
  Writer writer;
  writer.project(project);
  return writer.out;
}

}  // namespace kontor::agent
