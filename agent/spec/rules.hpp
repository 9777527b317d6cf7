#pragma once
// The keys of an agent file as a table: types, defaults, help. The checker, `kontor explain` and the JSON Schema for
// editors all read this one table.

#include <limits>
#include <span>
#include <string_view>

namespace kontor::agent {

enum class ValueType {
  version, text, template_text, condition, check, words, integer, number, boolean,
  name, id, duration, amount, money, hash, url, cron, zone, webhook_path,
  secret_source, secret_name, api_key, on_expire, hosts, device,
  model_path, path, texts, command, names, globs, plain_globs, include,
  mapping,      ///< of the rule `arg`
  named,        ///< mapping from names to the rule `arg`
  list,         ///< of mappings of the rule `arg`
  steps, cases, effects, any, any_mapping, inputs,
};

struct KeyRule {
  std::string_view key;
  ValueType type;
  std::string_view arg = {};                   ///< words: "a|b|c"; mapping, named, list: name of a rule
  std::string_view fallback = {};              ///< default as YAML; "" when there is none
  std::string_view help = {};
  bool required = false;
  double least = 0;                            ///< integer, number
  double most = 1'000'000;
  bool above_least = false;                    ///< `least` itself is out of range
};

struct MapRule {
  std::string_view name;
  std::string_view help;
  std::span<const KeyRule> keys;

  const KeyRule* find(std::string_view key) const;
};

/// "root", "input", "model", ... ; tools are "tool.builtin.files", "tool.plugin", ...; steps are "step.tool", ...
const MapRule& rule(std::string_view name);
const MapRule* find_rule(std::string_view name);
std::span<const MapRule> all_rules();

}  // namespace kontor::agent
