// The table of keys as JSON Schema, so that editors complete and check agent files.

#include "agent/spec/explain.hpp"
#include "agent/spec/rules.hpp"
#include "agent/spec/shape.hpp"
#include "inference/device_choice.hpp"

#include <nlohmann/json.hpp>

namespace kontor::agent {
namespace {

Json reference(std::string_view rule) { return Json{{"$ref", "#/$defs/" + std::string(rule)}}; }
Json texts() { return Json{{"type", "array"}, {"items", Json{{"type", "string"}}}}; }

Json one_of(const std::vector<std::string>& rules) {
  Json list = Json::array();
  for (const auto& name : rules) list.push_back(reference(name));
  return Json{{"oneOf", std::move(list)}};
}

std::vector<std::string> rules_below(std::string_view prefix) {
  std::vector<std::string> names;
  for (const auto& rule : all_rules()) {
    if (rule.name.substr(0, prefix.size()) == prefix) names.emplace_back(rule.name);
  }
  return names;
}

Json words(std::string_view text) {
  Json list = Json::array();
  for (std::size_t at = 0; at <= text.size();) {
    const auto bar = std::min(text.find('|', at), text.size());
    list.push_back(std::string(text.substr(at, bar - at)));
    at = bar + 1;
  }
  return Json{{"enum", std::move(list)}};
}

Json number(double value) {
  if (value == static_cast<double>(static_cast<std::int64_t>(value))) return Json(static_cast<std::int64_t>(value));
  return Json(value);
}

Json value_schema(const KeyRule& key) {
  switch (key.type) {
    case ValueType::version: return Json{{"const", 1}};
    case ValueType::words: return words(key.arg);
    case ValueType::boolean: return Json{{"type", "boolean"}};
    case ValueType::integer:
    case ValueType::number: {
      Json schema{{"type", key.type == ValueType::integer ? "integer" : "number"}};
      schema[key.above_least ? "exclusiveMinimum" : "minimum"] = number(key.least);
      if (key.most < 1e15) schema["maximum"] = number(key.most);
      return schema;
    }
    case ValueType::name: return Json{{"type", "string"}, {"pattern", "^[A-Za-z0-9._-]+$"}};
    case ValueType::id: return Json{{"type", "string"}, {"pattern", "^[A-Za-z0-9_]+$"}};
    case ValueType::duration: return Json{{"type", "string"}, {"pattern", "^[0-9]+(\\.[0-9]+)?(ms|s|m|h|d)$"}};
    case ValueType::amount: return Json{{"type", Json::array({"string", "number"})}, {"pattern", "^[0-9]+(\\.[0-9]+)?[kMG]?$"}};
    case ValueType::money: return Json{{"type", "string"}, {"pattern", "^[0-9]+(\\.[0-9]+)? [A-Z]{3}$"}};
    case ValueType::hash: return Json{{"type", "string"}, {"pattern", "^[0-9a-fA-F]{64}$"}};
    case ValueType::url: return Json{{"type", "string"}, {"pattern", "^https?://"}};
    case ValueType::webhook_path: return Json{{"type", "string"}, {"pattern", "^/"}};
    case ValueType::secret_source: return Json{{"type", "string"}, {"pattern", "^(env:[A-Za-z_][A-Za-z0-9_]*|file:.+)$"}};
    case ValueType::api_key: return Json{{"type", "string"}, {"pattern", "^secret:.+$"}};
    case ValueType::on_expire: return Json{{"type", "string"}, {"pattern", "^(deny|stop|escalate\\([A-Za-z0-9._-]+\\))$"}};
    case ValueType::device: return Json{{"type", "string"}, {"pattern", std::string(inference::kDevicePattern)}};
    case ValueType::condition:
    case ValueType::check: return Json{{"type", Json::array({"string", "boolean"})}};
    case ValueType::texts:
    case ValueType::hosts:
    case ValueType::names:
    case ValueType::globs:
    case ValueType::plain_globs: return texts();
    case ValueType::command: {
      Json schema = texts();
      schema["minItems"] = 1;
      return schema;
    }
    case ValueType::include: return Json{{"anyOf", Json::array({Json{{"type", "string"}}, texts()})}};
    case ValueType::mapping: return reference(key.arg);
    case ValueType::named: return Json{{"type", "object"}, {"additionalProperties", key.arg == "tool" ? one_of(rules_below("tool.")) : reference(key.arg)}};
    case ValueType::list: return Json{{"type", "array"}, {"items", reference(key.arg)}};
    case ValueType::steps: return reference("steps");
    case ValueType::cases: return Json{{"type", "object"}, {"additionalProperties", reference("steps")}};
    case ValueType::effects: return Json{{"type", "object"}, {"additionalProperties", words("none|idempotent|once")}};
    case ValueType::any: return Json::object();
    case ValueType::any_mapping:
    case ValueType::inputs: return Json{{"type", "object"}};
    default: return Json{{"type", "string"}};
  }
}

Json map_schema(const MapRule& rule) {
  Json schema{{"description", std::string(rule.help)}, {"type", "object"}, {"additionalProperties", false}};
  Json properties = Json::object();
  Json required = Json::array();
  for (const auto& key : rule.keys) {
    Json value = value_schema(key);
    if (key.key == "use" && rule.name.substr(0, 5) == "tool.") value = Json{{"const", std::string(rule.name.substr(5))}};
    if (!key.help.empty()) value["description"] = std::string(key.help);
    if (!key.fallback.empty()) {
      const auto parsed = parse_json(key.fallback);
      if (key.fallback[0] == '[') value["default"] = Json::array({"approve", "reject"});
      else value["default"] = parsed ? *parsed : Json(std::string(key.fallback));
    }
    properties[std::string(key.key)] = std::move(value);
    if (key.required && key.key != "command") required.push_back(std::string(key.key));
  }
  schema["properties"] = std::move(properties);
  if (!required.empty()) schema["required"] = std::move(required);
  if (rule.name == "root") schema["anyOf"] = Json::array({Json{{"required", Json::array({"agents"})}}, Json{{"required", Json::array({"workflow"})}}});
  const auto exclusive = [&](std::initializer_list<const char*> keys) {
    Json list = Json::array();
    for (const char* key : keys) list.push_back(Json{{"required", Json::array({key})}});
    schema["oneOf"] = std::move(list);
  };
  if (rule.name == "model") exclusive({"path", "endpoint", "replay"});
  if (rule.name == "tool.mcp" || rule.name == "mcp_server") exclusive({"command", "url"});
  if (rule.name == "trigger") exclusive({"schedule", "webhook", "watch"});
  return schema;
}

}  // namespace

std::string agent_file_schema() {
  Json root{{"$schema", "https://json-schema.org/draft/2020-12/schema"}, {"title", "Kontor agent file"}};
  Json definitions = Json::object();
  for (const auto& rule : all_rules()) {
    if (rule.name == "root") root.update(map_schema(rule));
    else if (rule.name != "tool") definitions[std::string(rule.name)] = map_schema(rule);
  }
  definitions["steps"] = Json{{"type", "array"}, {"items", one_of(rules_below("step."))}};
  root["$defs"] = std::move(definitions);
  return root.dump(2) + "\n";
}

}  // namespace kontor::agent
