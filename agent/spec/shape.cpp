#include "agent/spec/shape.hpp"

#include "agent/spec/formats.hpp"
#include "agent/spec/rules.hpp"
#include "agent/spec/text_tools.hpp"
#include "agent/spec/tool_table.hpp"
#include "tools/egress.hpp"
#include "inference/device_choice.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>

namespace kontor::agent {
namespace {

using Type = Yaml::Type;

std::vector<std::string> split_words(std::string_view words) {
  std::vector<std::string> list;
  for (std::size_t at = 0; at <= words.size();) {
    const auto bar = std::min(words.find('|', at), words.size());
    list.emplace_back(words.substr(at, bar - at));
    at = bar + 1;
  }
  return list;
}

std::string joined(const std::vector<std::string>& words) {
  std::string out;
  for (std::size_t i = 0; i < words.size(); ++i) out += (i == 0 ? "" : i + 1 == words.size() ? " or " : ", ") + words[i];
  return out;
}

/// A zone by its name, or by its city alone.
std::string nearest_zone(std::string_view text) {
  for (const auto& zone : time_zones()) {
    const auto slash = zone.rfind('/');
    if (slash != std::string::npos && edit_distance(text, std::string_view(zone).substr(slash + 1), 0) == 0) return zone;
  }
  return nearest(text, time_zones());
}

bool is_variable_name(std::string_view text) {
  if (text.empty() || (text[0] >= '0' && text[0] <= '9')) return false;
  return !check_id(text);
}

class Shape {
 public:
  Shape(Project& project, const SourceFile& file) : project_(project), file_(file) {}

  void root(bool included) {
    const Yaml root = project_.root(file_);
    if (!root.is_mapping()) {
      const char* what = root.is_null() ? "the file is empty" : root.is_sequence() ? "the file is a list" : "the file is a text";
      add(root.is_empty() ? 0 : root.offset(), "wrong-type", std::string(what) + "; it must be a mapping of sections");
      return;
    }
    const auto entries = root.entries();
    const std::size_t first = entries.empty() ? root.offset() : entries.front().key.offset();
    mapping(root, rule("root"), first, included);
    if (included) return;
    if (!root["agents"] && !root["workflow"] && project_.sections("agents").empty() && project_.sections("workflow").empty()) {
      missing(first, "there is nothing to run: 'agents' or 'workflow' is missing");
    }
  }

 private:
  void add(std::size_t offset, std::string kind, std::string message) {
    project_.report.add(Phase::schema, file_, offset, std::move(kind), std::move(message));
  }
  void missing(std::size_t owner, std::string message) {
    // Unknown keys of the same mapping come first: one of them may be what is missing, misspelt.
    project_.report.add(Phase::schema, file_, owner, "missing-key", std::move(message), std::max(owner, last_unknown_));
  }
  void format(const Yaml& value, const FormatProblem& problem) {
    if (problem) add(value.offset(), problem.kind, problem.message + did_you_mean(problem.suggestion));
  }
  bool wrong_type(std::string_view key, const Yaml& value, std::size_t owner, const std::string& wanted) {
    const std::size_t at = value.is_empty() ? owner : value.offset();
    add(at, "wrong-type", "'" + shown_text(key) + "' needs " + wanted + ", not " + to_words(value.type()));
    return false;
  }

  /// What other programs call it, and what it is called here.
  static std::string usual_name(std::string_view key) {
    static constexpr std::pair<std::string_view, std::string_view> kNames[] = {
        {"if", "switch"}, {"args", "with"}, {"arguments", "with"}, {"params", "with"}, {"prompt", "instruction"}, {"system", "instruction"}, {"loop", "for_each"}};
    for (const auto& [there, here] : kNames) {
      if (key == there) return std::string(here);
    }
    return {};
  }

  void unknown_key(const Yaml& key, const MapRule& rule, const std::vector<std::string>& known, std::vector<std::string>* guesses) {
    if (project_.report.full()) return;
    std::string guess = usual_name(key.text());
    if (std::find(known.begin(), known.end(), guess) == known.end()) guess = nearest(key.text(), known);
    if (guesses && !guess.empty()) guesses->push_back(guess);
    std::string message = "unknown key '" + shown_text(key.text()) + "'" + (rule.name == "root" ? "" : " here") + did_you_mean(guess);
    if (guess.empty() && rule.name.substr(0, 5) == "step.") {
      for (const auto action : kStepActions) {
        const MapRule* other = find_rule("step." + std::string(action));
        if (other && other->find(key.text())) {
          message = "unknown key '" + shown_text(key.text()) + "' here; it belongs to '" + std::string(action) + "'";
          break;
        }
      }
    }
    last_unknown_ = key.offset();
    add(key.offset(), "unknown-key", std::move(message));
  }

  /// `owner`: where a missing key is reported.
  void mapping(const Yaml& value, const MapRule& rule, std::size_t owner, bool included = false) {
    const std::size_t outer_unknown = last_unknown_;
    last_unknown_ = 0;
    std::vector<std::string> known;
    for (const auto& key : rule.keys) known.emplace_back(key.key);
    std::vector<std::string> present;
    std::vector<std::string> guesses;
    for (const auto& entry : value.entries()) {
      if (!entry.key.is_scalar()) continue;  // reported as a feature
      if (const KeyRule* key = rule.find(entry.key.text())) {
        present.emplace_back(key->key);
        check_value(entry.key, entry.value, *key);
      } else if (entry.key.text() != "<<" || !entry.key.is_plain()) {
        unknown_key(entry.key, rule, known, &guesses);
      }
    }
    const auto has = [&](std::string_view key) { return std::find(present.begin(), present.end(), key) != present.end(); };
    for (const auto& key : rule.keys) {
      const bool guessed = std::find(guesses.begin(), guesses.end(), key.key) != guesses.end();
      const bool replaced = key.key == "command" && has("url");
      if (key.required && !included && !has(key.key) && !guessed && !replaced) missing(owner, "'" + std::string(key.key) + "' is missing");
    }
    relations(value, rule, owner, guesses);
    last_unknown_ = outer_unknown;
  }

  void check_value(const Yaml& key, const Yaml& value, const KeyRule& rule) {
    if (project_.report.full()) return;
    const std::string_view name = rule.key;
    const std::size_t owner = key.offset();
    switch (rule.type) {
      case ValueType::version: return version(value, owner);
      case ValueType::text:
      case ValueType::template_text: text(name, value, owner); return;
      case ValueType::condition:
      case ValueType::check:
        if (value.type() != Type::boolean) text(name, value, owner);
        return;
      case ValueType::words: return words(name, value, owner, split_words(rule.arg));
      case ValueType::integer:
      case ValueType::number: return number(value, owner, rule);
      case ValueType::boolean: return boolean(name, value, owner);
      case ValueType::name: if (text(name, value, owner)) format(value, check_name(value.text())); return;
      case ValueType::id: if (text(name, value, owner)) format(value, check_id(value.text())); return;
      case ValueType::duration:
      case ValueType::amount:
      case ValueType::money:
      case ValueType::hash: return unit_text(value, owner, rule);
      case ValueType::url: if (text(name, value, owner)) format(value, check_url(without_handles(value.text()))); return;
      case ValueType::cron: if (text(name, value, owner)) format(value, check_cron(value.text())); return;
      case ValueType::webhook_path: if (text(name, value, owner)) format(value, check_webhook_path(value.text())); return;
      case ValueType::zone:
        if (text(name, value, owner) && !std::binary_search(time_zones().begin(), time_zones().end(), value.text())) {
          add(value.offset(), "unknown-value", "no time zone is called '" + shown_text(value.text()) + "'" + did_you_mean(nearest_zone(value.text())));
        }
        return;
      case ValueType::secret_source: if (text(name, value, owner)) secret_source(value); return;
      case ValueType::secret_name: text(name, value, owner); return;
      case ValueType::api_key: if (text(name, value, owner)) api_key(value); return;
      case ValueType::device: if (text(name, value, owner)) device(value); return;
      case ValueType::on_expire: if (text(name, value, owner)) on_expire(value); return;
      case ValueType::model_path:
      case ValueType::path: if (text(name, value, owner, "the path of a file or folder")) path(value, rule.type == ValueType::model_path); return;
      case ValueType::texts:
      case ValueType::names:
      case ValueType::globs:
      case ValueType::plain_globs:
      case ValueType::command: return texts(name, value, owner, rule.type == ValueType::command);
      case ValueType::hosts: return hosts(name, value, owner);
      case ValueType::include: return include(value, owner);
      case ValueType::mapping:
        if (!value.is_mapping()) wrong_type(name, value, owner, "a mapping");
        else mapping(value, kontor::agent::rule(rule.arg), owner);
        return;
      case ValueType::named: return named(name, value, owner, kontor::agent::rule(rule.arg));
      case ValueType::list:
        if (!value.is_sequence()) {
          wrong_type(name, value, owner, "a list");
          return;
        }
        for (const auto& item : value.items()) {
          if (item.is_mapping()) mapping(item, kontor::agent::rule(rule.arg), item.offset());
          else add(item.is_empty() ? owner : item.offset(), "wrong-type", "an entry of '" + std::string(name) + "' is a mapping, not " + to_words(item.type()));
        }
        return;
      case ValueType::steps: return steps(name, value, owner);
      case ValueType::cases: return cases(value, owner);
      case ValueType::effects: return effects(value, owner);
      case ValueType::any: return;
      case ValueType::any_mapping:
      case ValueType::inputs:
        if (!value.is_mapping()) wrong_type(name, value, owner, "a mapping");
        return;
    }
  }

  // ---- scalars ----------------------------------------------------------------------------------------------------
  bool text(std::string_view key, const Yaml& value, std::size_t owner, const std::string& what = "a text") {
    if (value.type() == Type::string) return true;
    const std::string hint = what + (value.is_scalar() && value.type() != Type::null ? " (in quotes when it looks like a number or true/false)" : "");
    return wrong_type(key, value, owner, hint);
  }
  void version(const Yaml& value, std::size_t owner) {
    if (value.type() != Type::integer) wrong_type("kontor", value, owner, "the number 1");
    else if (to_json(value) != Json(1)) add(value.offset(), "unsupported-version", "this Kontor reads files of version 1");
  }
  void words(std::string_view key, const Yaml& value, std::size_t owner, const std::vector<std::string>& known) {
    if (!text(key, value, owner)) return;
    if (std::find(known.begin(), known.end(), value.text()) != known.end()) return;
    add(value.offset(), "unknown-value", "'" + std::string(key) + "' is " + joined(known) + ", not '" + shown_text(value.text()) + "'" + did_you_mean(nearest(value.text(), known)));
  }
  void device(const Yaml& value) {
    if (inference::parse_device(value.text())) return;
    add(value.offset(), "unknown-value", "'device' is auto, cpu, cuda or GPUs by number (cuda:0 or cuda:0,1), not '" + shown_text(value.text()) + "'" +
        did_you_mean(nearest(value.text(), {"auto", "cpu", "cuda"})));
  }
  void boolean(std::string_view key, const Yaml& value, std::size_t owner) {
    if (value.type() == Type::boolean) return;
    std::string guess;
    if (value.is_plain()) {
      const std::string_view word = value.text();
      if (word == "yes" || word == "on" || word == "Yes" || word == "On" || word == "y") guess = "true";
      if (word == "no" || word == "off" || word == "No" || word == "Off" || word == "n") guess = "false";
    }
    const std::size_t at = value.is_empty() ? owner : value.offset();
    add(at, "wrong-type", "'" + std::string(key) + "' needs true or false, not " + to_words(value.type()) + did_you_mean(guess));
  }
  void number(const Yaml& value, std::size_t owner, const KeyRule& rule) {
    const bool whole = rule.type == ValueType::integer;
    const Type type = value.type();
    if (type != Type::integer && (whole || type != Type::real)) {
      wrong_type(rule.key, value, owner, whole ? "a whole number" : "a number");
      return;
    }
    const auto out = [&](const std::string& why) { add(value.offset(), "out-of-range", "'" + std::string(rule.key) + "' " + why); };
    const Json json = to_json(value);
    if (type == Type::integer && !json.is_number_integer()) return out("is larger than 64 bits hold");
    if (!json.is_number()) return out("is a finite number");
    const double number = json.get<double>();
    if (!std::isfinite(number)) return out("is a finite number");
    if (number < rule.least || (rule.above_least && number == rule.least)) {
      return out((rule.above_least ? "is above " : "is at least ") + shortest(rule.least));
    }
    if (number > rule.most) return out("is at most " + shortest(rule.most));
  }
  static std::string shortest(double value) {
    const auto decimal = Decimal::from_double(value);
    return decimal ? decimal->normalised().to_string() : std::to_string(value);
  }
  void unit_text(const Yaml& value, std::size_t owner, const KeyRule& rule) {
    if (!value.is_scalar() || value.is_null()) {
      wrong_type(rule.key, value, owner, rule.type == ValueType::hash ? "a SHA-256" : rule.type == ValueType::duration ? "a duration such as 90s" : rule.type == ValueType::money ? "an amount of money such as 0.50 EUR" : "an amount such as 400k");
      return;
    }
    std::int64_t milliseconds = 0;
    Decimal amount;
    std::string currency;
    switch (rule.type) {
      case ValueType::duration: return format(value, read_duration(value.text(), milliseconds));
      case ValueType::amount: return format(value, read_amount(value.text(), rule.key == "tokens", amount));
      case ValueType::money: return format(value, read_money(value.text(), amount, currency));
      default: return format(value, check_sha256(value.text()));
    }
  }
  /// The text with "{{secret:NAME}}" taken out: where a handle may stand is another phase's question.
  static std::string without_handles(std::string_view text) {
    std::string out;
    while (true) {
      const auto open = text.find("{{secret:");
      const auto close = open == std::string_view::npos ? open : text.find("}}", open);
      if (close == std::string_view::npos) return out + std::string(text);
      out += std::string(text.substr(0, open)) + "x";
      text.remove_prefix(close + 2);
    }
  }
  void secret_source(const Yaml& value) {
    static const char* kForm = "a secret comes from env:NAME or file:PATH; its value never stands in the file";
    const std::string_view source = value.text();
    if (source.substr(0, 4) == "env:") {
      if (!is_variable_name(source.substr(4))) add(value.offset(), "bad-format", "behind env: stands the name of an environment variable");
    } else if (source.substr(0, 5) == "file:") {
      path_text(value, source.substr(5), false);
    } else {
      add(value.offset(), "bad-format", kForm);
    }
  }
  void api_key(const Yaml& value) {
    const std::string_view key = value.text();
    if (key.substr(0, 7) == "secret:" && key.size() > 7) return;
    const bool handle = key.substr(0, 9) == "{{secret:" && key.size() > 11 && key.substr(key.size() - 2) == "}}";
    if (handle) return add(value.offset(), "bad-format", "'api_key' names its secret without braces" + did_you_mean(key.substr(2, key.size() - 4)));
    if (key == "secret:" || key.substr(0, 4) == "env:" || key.substr(0, 5) == "file:") return add(value.offset(), "bad-format", "'api_key' is secret:NAME; where the secret comes from stands in 'secrets'");
    if (project_.find("secrets", key)) return add(value.offset(), "unsafe-setting", "'api_key' is secret:NAME" + did_you_mean("secret:" + std::string(key)));
    add(value.offset(), "unsafe-setting", "a key is written into the file; 'api_key' is secret:NAME");
  }
  void on_expire(const Yaml& value) {
    const std::string_view text = value.text();
    if (text == "deny" || text == "stop") return;
    const auto open = text.find('(');
    const std::string_view word = text.substr(0, open);
    const bool closed = open != std::string_view::npos && text.back() == ')';
    const std::string_view who = closed ? text.substr(open + 1, text.size() - open - 2) : std::string_view();
    if (word == "escalate" && !check_name(who)) return;
    std::string guess = nearest(word, {"deny", "stop", "escalate"});
    if (guess == "escalate") guess += "(" + (check_name(who) ? "WHO" : std::string(who)) + ")";
    add(value.offset(), "unknown-value", "'on_expire' is deny, stop or escalate(WHO), not '" + shown_text(text) + "'" + did_you_mean(guess));
  }

  void wait_text(const Yaml& value) {
    std::int64_t milliseconds = 0;
    const auto problem = read_duration(value.text(), milliseconds);
    if (!problem || value.text().find('-') != std::string_view::npos) return;  // A moment is read when its time comes.
    add(value.offset(), problem.kind, "'wait' is a duration such as 90s or a moment such as 2026-11-24T09:30:00Z" + did_you_mean(problem.suggestion));
  }

  // ---- paths ------------------------------------------------------------------------------------------------------
  void path(const Yaml& value, bool anywhere) {
    if (value.text().find("://") != std::string_view::npos) return add(value.offset(), "bad-format", "a path is a file or folder; nothing is fetched from the network");
    path_text(value, value.text(), anywhere);
  }
  bool path_text(const Yaml& value, std::string_view text, bool anywhere) {
    if (const auto problem = check_path_text(text)) {
      format(value, problem);
      return false;
    }
    if (!anywhere && (text[0] == '/' || !is_inside(resolved_path(file_.folder, text), project_.folder))) {
      add(value.offset(), "path-escape", "'" + shown_text(text) + "' is outside of the folder of the checked file");
      return false;
    }
    return true;
  }
  void include(const Yaml& value, std::size_t owner) {
    if (value.type() == Type::string) return;
    if (!value.is_sequence()) {
      wrong_type("include", value, owner, "a path or a list of paths");
      return;
    }
    for (const auto& item : value.items()) {
      if (item.type() != Type::string) wrong_type("include", item, owner, "paths");
    }
  }

  // ---- collections ------------------------------------------------------------------------------------------------
  void texts(std::string_view key, const Yaml& value, std::size_t owner, bool needs_one) {
    if (!value.is_sequence()) {
      wrong_type(key, value, owner, "a list");
      return;
    }
    if (needs_one && value.size() == 0) add(value.offset(), "bad-format", "'" + std::string(key) + "' needs at least the program");
    for (const auto& item : value.items()) {
      if (item.type() != Type::string) {
        const std::size_t at = item.is_empty() ? owner : item.offset();
        add(at, "wrong-type", "an entry of '" + std::string(key) + "' is a text, not " + to_words(item.type()));
      } else if (item.text().empty()) {
        add(item.offset(), "bad-format", "an entry of '" + std::string(key) + "' is empty");
      }
    }
  }

  void hosts(std::string_view key, const Yaml& value, std::size_t owner) {
    texts(key, value, owner, false);
    if (!value.is_sequence()) return;
    for (const auto& item : value.items()) {
      if (item.type() != Type::string || item.text().empty()) continue;
      if (const auto pattern = tools::HostPattern::parse(item.text()); !pattern) add(item.offset(), "bad-format", shown_text(pattern.error().message));
    }
  }

  void named(std::string_view section, const Yaml& value, std::size_t owner, const MapRule& rule) {
    if (!value.is_mapping()) {
      wrong_type(section, value, owner, "a mapping from names (NAME: {...})");
      return;
    }
    if (section == "tools" && value.size() > ToolTable::kMostGroups) {
      add(value.offset(), "yaml-limit", "there are more than " + std::to_string(ToolTable::kMostGroups) + " groups of tools");
      return;
    }
    for (const auto& entry : value.entries()) {
      if (project_.report.full()) return;
      if (!entry.key.is_scalar()) continue;
      // Names of inputs and groups of tools stand in expressions and tool names.
      const bool strict = section == "inputs" || section == "tools" || section == "mcpServers";
      std::string name(entry.key.text());
      if (section == "mcpServers") std::replace(name.begin(), name.end(), '-', '_');  // usual there, and no harm
      const auto problem = strict ? check_id(name) : check_name(name);
      if (problem) add(entry.key.offset(), problem.kind, problem.message + did_you_mean(problem.suggestion));
      if (!entry.value.is_mapping()) {
        wrong_type(entry.key.text(), entry.value, entry.key.offset(), "a mapping" + (rule.keys.empty() ? std::string() : ", {" + std::string(rule.keys.front().key) + ": ...}"));
        continue;
      }
      const MapRule* chosen = &rule;
      if (rule.name == "tool") chosen = tool_rule(entry.value);
      if (chosen) mapping(entry.value, *chosen, entry.key.offset());
    }
  }

  const MapRule* tool_rule(const Yaml& tool) {
    const Yaml use = tool["use"];
    if (!use || use.type() != Type::string) {
      // Without it, only what no kind of tool knows is unknown.
      static const std::vector<KeyRule> kAll = [] {
        std::vector<KeyRule> keys;
        for (const auto& candidate : all_rules()) {
          if (candidate.name != "tool" && candidate.name.substr(0, 5) != "tool.") continue;
          for (KeyRule key : candidate.keys) {
            key.required = key.key == "use";
            const auto same = [&](const KeyRule& other) { return other.key == key.key; };
            if (std::none_of(keys.begin(), keys.end(), same)) keys.push_back(key);
          }
        }
        return keys;
      }();
      static const MapRule kAny{"tool", "", kAll};
      return &kAny;
    }
    std::vector<std::string> known;
    for (const auto& candidate : all_rules()) {
      if (candidate.name.substr(0, 5) != "tool.") continue;
      known.emplace_back(candidate.name.substr(5));
      if (known.back() == use.text()) return &candidate;
    }
    std::string guess = nearest(use.text(), known);
    if (guess.empty()) guess = nearest("builtin." + std::string(use.text()), known);
    add(use.offset(), "unknown-value", "'use' is " + joined(known) + ", not '" + shown_text(use.text()) + "'" + did_you_mean(guess));
    return nullptr;
  }

  void effects(const Yaml& value, std::size_t owner) {
    if (!value.is_mapping()) {
      wrong_type("effects", value, owner, "a mapping from functions to none, idempotent or once");
      return;
    }
    for (const auto& entry : value.entries()) {
      if (entry.key.is_scalar()) words(entry.key.text(), entry.value, entry.key.offset(), {"none", "idempotent", "once"});
    }
  }

  void cases(const Yaml& value, std::size_t owner) {
    if (!value.is_mapping()) {
      wrong_type("cases", value, owner, "a mapping from values to lists of steps");
      return;
    }
    for (const auto& entry : value.entries()) {
      if (entry.key.is_scalar()) steps(entry.key.text(), entry.value, entry.key.offset());
    }
  }

  void steps(std::string_view key, const Yaml& value, std::size_t owner) {
    if (!value.is_sequence()) {
      wrong_type(key, value, owner, "a list of steps");
      return;
    }
    for (const auto& item : value.items()) step(item, key, owner);
  }

  void step(const Yaml& item, std::string_view key, std::size_t owner) {
    if (!item.is_mapping()) {
      add(item.is_empty() ? owner : item.offset(), "wrong-type", "a step of '" + shown_text(key) + "' is a mapping, not " + to_words(item.type()));
      return;
    }
    std::string_view action;
    for (const auto& entry : item.entries()) {
      const bool is_action = entry.key.is_scalar() && std::find(std::begin(kStepActions), std::end(kStepActions), entry.key.text()) != std::end(kStepActions);
      if (!is_action) continue;
      if (!action.empty()) return add(entry.key.offset(), "conflict", "a step has one action; this one has '" + std::string(action) + "' and '" + std::string(entry.key.text()) + "'");
      action = entry.key.text();
    }
    if (!action.empty()) return mapping(item, rule("step." + std::string(action)), item.offset());
    const std::size_t outer_unknown = last_unknown_;
    last_unknown_ = 0;
    std::vector<std::string> known;
    for (const auto name : kStepActions) {
      for (const auto& candidate : rule("step." + std::string(name)).keys) known.emplace_back(candidate.key);
    }
    bool guessed_action = false;
    for (const auto& entry : item.entries()) {
      if (!entry.key.is_scalar() || std::find(known.begin(), known.end(), entry.key.text()) != known.end()) continue;
      std::vector<std::string> guesses;
      unknown_key(entry.key, rule("step.tool"), known, &guesses);
      for (const auto& guess : guesses) guessed_action = guessed_action || std::find(std::begin(kStepActions), std::end(kStepActions), guess) != std::end(kStepActions);
    }
    if (!guessed_action) missing(item.offset(), "a step needs one of tool, agent, for_each, switch, approval, fail, wait and procedure");
    last_unknown_ = outer_unknown;
  }

  // ---- keys that need or exclude each other -----------------------------------------------------------------------
  Yaml key_of(const Yaml& mapping, std::string_view key) const {
    for (const auto& entry : mapping.entries()) {
      if (entry.key.is_scalar() && entry.key.text() == key) return entry.key;
    }
    return {};
  }
  /// Reports the second of the given keys that is present; the number that are.
  std::size_t exclusive(const Yaml& value, const std::vector<std::string_view>& keys, const std::string& what) {
    std::string_view first;
    std::size_t count = 0;
    for (const auto& entry : value.entries()) {
      if (!entry.key.is_scalar() || std::find(keys.begin(), keys.end(), entry.key.text()) == keys.end()) continue;
      if (++count == 1) first = entry.key.text();
      else if (count == 2) add(entry.key.offset(), "conflict", what + ": '" + std::string(first) + "' and '" + std::string(entry.key.text()) + "' exclude each other");
    }
    return count;
  }
  void needs(const Yaml& value, std::string_view key, std::string_view other) {
    const Yaml at = key_of(value, key);
    if (at && !value[other]) add(at.offset(), "conflict", "'" + std::string(key) + "' belongs to '" + std::string(other) + "', which is not there");
  }

  void relations(const Yaml& value, const MapRule& rule, std::size_t owner, const std::vector<std::string>& guesses) {
    const auto guessed = [&](std::string_view key) { return std::find(guesses.begin(), guesses.end(), key) != guesses.end(); };
    if (rule.name == "input") {
      const Yaml required = value["required"];
      const bool is_required = required && required.type() == Type::boolean && to_json(required) == Json(true);
      if (is_required && value["default"]) exclusive(value, {"required", "default"}, "a required input has no default");
      else if (value["default"] && value["type"]) {
        const std::string wanted = unfit_input(value["default"], value["type"].text());
        if (wanted == "finite") add(value["default"].offset(), "out-of-range", "'default' is a finite number");
        else if (!wanted.empty()) wrong_type("default", value["default"], key_of(value, "default").offset(), wanted);
      }
    } else if (rule.name == "model") {
      const std::size_t sources = exclusive(value, {"path", "endpoint", "replay"}, "a model has one source");
      const bool near = guessed("path") || guessed("endpoint") || guessed("replay");
      if (sources == 0 && !near) missing(owner, "a model needs one of path, endpoint and replay");
      // Of two sources, the wrong one needs nothing.
      if (sources == 1 && value["endpoint"] && !value["model"] && !guessed("model")) missing(owner, "'model' is missing: the model's name at the endpoint");
      if (sources == 1 && !near) {
        needs(value, "model", "endpoint");
        needs(value, "api_key", "endpoint");
      }
    } else if (rule.name == "tool.plugin") {
      const Yaml isolation = value["isolation"];
      if (isolation && isolation.text() == "in_process" && !value["sha256"]) {
        add(isolation.offset(), "unsafe-setting", "a plugin runs in the process only when 'sha256' pins its library");
      }
    } else if (rule.name == "tool.builtin.mail") {
      const Yaml server = value["server"], config = value["config"];
      if (server && !value["recipients"] && !guessed("recipients")) missing(owner, "'recipients' is missing: the domains or addresses that may be written to");
      const Yaml password = config && config.is_mapping() ? config["password"] : Yaml();
      const std::string_view text = password && password.is_scalar() ? password.text() : "";
      const bool handle = text.starts_with("{{") && text.ends_with("}}") && text.find("}}") == text.size() - 2;
      if (password && !handle) add(password.offset(), "unsafe-setting", "a password is written into the file; it is {{secret:NAME}}");
    } else if (rule.name == "tool.mcp") {
      exclusive(value, {"command", "url"}, "a server is a program or an address");
      exclusive(value, {"cwd", "url"}, "'cwd' is for a server that is a program");
      if (value["pin"] && value["pin"].type() == Type::string) check_pin_file(project_, file_, value["pin"]);
    } else if (rule.name == "tool.openapi") {
      check_api_file(project_, file_, value, owner);
    } else if (rule.name == "mcp_server") {
      if (exclusive(value, {"command", "url"}, "a server is a program or an address") == 0 && !guessed("command") && !guessed("url")) missing(owner, "a server needs one of command and url");
      for (const char* key : {"args", "env", "cwd"}) needs(value, key, "command");
      needs(value, "headers", "url");
      exclusive(value, {"timeout", "timeout_ms"}, "a call has one longest time");
      if (const Yaml timeout = value["timeout"]; timeout && to_json(timeout).is_number()) {
        const double given = to_json(timeout).get<double>();
        if (given > 0 && given <= 600'000 && !foreign_timeout_ms(given)) add(timeout.offset(), "out-of-range", "'timeout' is in seconds up to 600 and in milliseconds from 10000; programs differ, so write `timeout_ms` for a time between");
      }
      const Yaml type = value["type"];
      if (type && type.is_scalar() && (type.text() == "stdio") == static_cast<bool>(value["url"])) add(type.offset(), "conflict", "'type' is " + shown_text(type.text()) + ", which is not the transport of " + (value["url"] ? "an address" : "a program"));
      if (value["pin"] && value["pin"].type() == Type::string) check_pin_file(project_, file_, value["pin"]);
    } else if (rule.name == "output") {
      if (value["schema"] && value["schema"].type() == Type::string) check_schema_file(project_, file_, value["schema"]);
    } else if (rule.name == "trigger") {
      const std::size_t kinds = exclusive(value, {"schedule", "webhook", "watch"}, "a trigger has one cause");
      if (kinds == 0 && !guessed("schedule") && !guessed("webhook") && !guessed("watch")) missing(owner, "a trigger needs one of schedule, webhook and watch");
      if (kinds == 1 && value["webhook"] && !value["secret"] && !guessed("secret")) missing(owner, "a webhook needs a 'secret', so that not everybody can start runs");
      if (kinds == 1) {
        needs(value, "tz", "schedule");
        needs(value, "missed", "schedule");
        needs(value, "secret", "webhook");
      }
    } else if (rule.name.substr(0, 5) == "step." && value["on_error"] && value["on_error"].is_mapping()) {
      const Yaml collect = value["on_error"]["collect"];
      const std::string_view taken = rule.name == "step.for_each" ? "results" : "result";
      if (collect && collect.is_scalar() && collect.text() == taken) add(collect.offset(), "conflict", "'" + std::string(taken) + "' is what the step gives; errors need another name");
    } else if (rule.name == "step.wait") {
      const Yaml wait = value["wait"];
      if (wait && wait.type() == Type::string && wait.text().find("${") == std::string_view::npos) wait_text(wait);
    } else if (rule.name == "expect") {
      const bool file = static_cast<bool>(value["file"]);
      const bool equals = static_cast<bool>(value["equals"]);
      if (!file && !equals && !value["calls"] && guesses.empty()) missing(owner, "'expect' needs 'file' with 'equals', or 'calls'");
      if (file && !equals && !guessed("equals")) missing(owner, "'equals' is missing: the file that 'file' must be equal to");
      if (value["at_least"]) needs(value, "at_least", "equals");
      if (equals && !file && !guessed("file")) missing(owner, "'file' is missing: the file that must be equal to 'equals'");
    }
  }

  Project& project_;
  const SourceFile& file_;
  std::size_t last_unknown_ = 0;
};

}  // namespace

std::string unfit_input(const Yaml& value, std::string_view type) {
  const Type given = value.type();
  if (type == "number") {
    if (given == Type::integer) return {};
    if (given != Type::real) return "a number";
    return to_json(value).is_number() ? "" : "finite";
  }
  if (type == "integer") return given == Type::integer ? "" : "a whole number";
  if (type == "boolean") return given == Type::boolean ? "" : "true or false";
  if (type == "list") return given == Type::sequence ? "" : "a list";
  if (type == "object") return given == Type::mapping ? "" : "a mapping";
  if (type == "string" || type == "file" || type == "dir") return given == Type::string ? "" : type == "string" ? "a text" : "a path";
  return {};
}

std::string_view step_action(const Yaml& step) {
  std::string_view found;
  for (const auto action : kStepActions) {
    if (!step[action]) continue;
    if (!found.empty()) return {};
    found = action;
  }
  return found;
}

void check_shape(Project& project) {
  for (std::size_t i = 0; i < project.files.size(); ++i) Shape(project, *project.files[i]).root(i > 0);
}

}  // namespace kontor::agent
