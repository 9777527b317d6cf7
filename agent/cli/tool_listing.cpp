#include "agent/cli/tool_listing.hpp"

#include "agent/cli/terminal.hpp"
#include "base/json.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <utility>
#include <vector>

namespace kontor::agent::cli {
namespace {

std::string text_of(const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace); }

const Json* member(const Json& schema, const char* key) {
  if (!schema.is_object()) return nullptr;
  const auto found = schema.find(key);
  return found == schema.end() ? nullptr : &*found;
}

bool is_required(const Json& parameters, const std::string& name) {
  const Json* required = member(parameters, "required");
  return required && required->is_array() && std::find(required->begin(), required->end(), Json(name)) != required->end();
}

std::string type_words(const std::string& type) {
  if (type == "integer") return "a whole number";
  if (type == "number") return "a number";
  if (type == "string") return "a text";
  if (type == "boolean") return "true or false";
  if (type == "array") return "a list";
  if (type == "object") return "an object";
  return type;
}

/// " of 1 to 9 characters"
std::string range_words(const Json& schema, const char* least_key, const char* most_key, const std::string& unit) {
  const Json *least = member(schema, least_key), *most = member(schema, most_key);
  if (!least && !most) return {};
  if (least && most) return " of " + text_of(*least) + " to " + text_of(*most) + unit;
  return least ? " of " + text_of(*least) + " or more" + unit : " of at most " + text_of(*most) + unit;
}

/// "a whole number of 1 to 100", "one of \"a\", \"b\"", "a list of texts".
std::string expected_words(const Json& schema) {
  if (const Json* words = member(schema, "enum"); words && words->is_array()) {
    std::string out;
    for (const auto& word : *words) out += (out.empty() ? "one of " : ", ") + text_of(word);
    return out;
  }
  if (const Json* word = member(schema, "const")) return text_of(*word);
  const Json* type = member(schema, "type");
  std::string out;
  if (type && type->is_string()) out = type_words(type->get<std::string>());
  if (type && type->is_array()) {
    for (const auto& one : *type) out += (out.empty() ? "" : " or ") + (one.is_string() ? type_words(one.get<std::string>()) : std::string("anything"));
  }
  if (out.empty()) return "any value";
  out += range_words(schema, "minimum", "maximum", "");
  out += range_words(schema, "minLength", "maxLength", " characters");
  out += range_words(schema, "minItems", "maxItems", " entries");
  if (const Json* items = member(schema, "items"); items && items->is_object() && !items->empty()) out += ", each " + expected_words(*items).substr(0, 200);
  return out;
}

}  // namespace

std::string tool_signature(const tools::ToolSpec& spec) {
  std::string out;
  if (const Json* properties = member(spec.parameters, "properties"); properties && properties->is_object()) {
    for (const auto& property : properties->items()) out += (out.empty() ? "" : ", ") + property.key() + (is_required(spec.parameters, property.key()) ? "" : "?");
  }
  return spec.name + printable("(" + out + ")", 400);
}

std::string tool_text(const tools::ToolSpec& spec, bool details) {
  std::string out = tool_signature(spec) + "  [" + std::string(to_string(spec.effect)) + "]\n    " + printable(spec.description, 1000) + "\n";
  const Json* properties = member(spec.parameters, "properties");
  if (!details || !properties || !properties->is_object()) return out;
  std::vector<std::pair<std::string, std::string>> lines;
  std::size_t width = 0;
  for (const auto& [name, schema] : properties->items()) {
    std::string words = expected_words(schema);
    if (const Json* description = member(schema, "description"); description && description->is_string()) words += " - " + description->get<std::string>();
    lines.emplace_back(printable(name, 100) + (is_required(spec.parameters, name) ? "" : "?"), printable(words, 600));
    width = std::min<std::size_t>(24, std::max(width, lines.back().first.size()));
  }
  for (auto& [name, words] : lines) {
    name.resize(std::max(width, name.size()), ' ');
    out += "      " + name + "  " + words + "\n";
  }
  return out;
}

}  // namespace kontor::agent::cli
