#include "agent/spec/output_schema.hpp"

#include "agent/spec/text_tools.hpp"

#include <nlohmann/json.hpp>
#include <re2/re2.h>

#include <algorithm>

namespace kontor::agent {
namespace {

const std::vector<std::string> kTypes{"null", "boolean", "object", "array", "number", "integer", "string"};

std::string escaped(std::string_view part) {
  std::string out;
  for (const char c : part) {
    if (c == '~') out += "~0";
    else if (c == '/') out += "~1";
    else out += c;
  }
  return out;
}

/// Follows a JSON pointer; nullptr when it leads nowhere.
const Json* follow(const Json& root, std::string_view pointer) {
  const Json* at = &root;
  while (!pointer.empty()) {
    if (pointer[0] != '/') return nullptr;
    pointer.remove_prefix(1);
    const auto end = std::min(pointer.find('/'), pointer.size());
    std::string part;
    for (std::size_t i = 0; i < end; ++i) {
      if (pointer[i] == '~' && i + 1 < end && (pointer[i + 1] == '0' || pointer[i + 1] == '1')) part += pointer[++i] == '0' ? '~' : '/';
      else part += pointer[i];
    }
    pointer.remove_prefix(end);
    if (at->is_object()) {
      const auto member = at->find(part);
      if (member == at->end()) return nullptr;
      at = &*member;
    } else if (at->is_array() && !part.empty() && part.size() < 7 && part.find_first_not_of("0123456789") == std::string::npos) {
      const auto index = static_cast<std::size_t>(std::stoul(part));
      if (index >= at->size()) return nullptr;
      at = &(*at)[index];
    } else {
      return nullptr;
    }
  }
  return at;
}

class Checker {
 public:
  Checker(const Json& root, bool strict) : root_(root), strict_(strict) {}

  /// JSON is at most 128 levels deep (parse_json), and so is this.
  bool schema(const Json& node, const std::string& pointer) {
    if (++visited_ > 20'000) return fail(pointer, "the schema is too large");
    if (node.is_boolean()) return node.get<bool>() || !strict_ || fail(pointer, "'false' can never match");
    if (!node.is_object()) return fail(pointer, "a schema is an object or a boolean");
    for (const auto& [key, value] : node.items()) {
      if (!keyword(node, key, value, pointer + "/" + escaped(key))) return false;
    }
    return ranges(node, pointer);
  }

  std::optional<SchemaProblem> problem;

 private:
  bool fail(std::string pointer, std::string message, std::string suggestion = {}) {
    problem = SchemaProblem{std::move(pointer), std::move(message), std::move(suggestion)};
    return false;
  }

  bool keyword(const Json& node, const std::string& key, const Json& value, const std::string& at) {
    if (key == "type") return type(value, at);
    if (key == "enum") {
      if (!value.is_array()) return fail(at, "'enum' is a list");
      if (value.empty() && strict_) return fail(at, "an empty 'enum' can never match");
      return true;
    }
    if (key == "$ref") return reference(node, value, at);
    if (key == "pattern") return pattern(value, at);
    if (key == "properties" || key == "$defs" || key == "definitions" || key == "dependentSchemas") return schemas_by_name(value, at);
    if (key == "patternProperties") {
      if (!value.is_object()) return fail(at, "'patternProperties' is an object");
      for (const auto& [name, member] : value.items()) {
        if (!pattern(Json(name), at + "/" + escaped(name)) || !schema(member, at + "/" + escaped(name))) return false;
      }
      return true;
    }
    if (key == "items" && value.is_array()) return schemas(value, at);
    if (key == "items" || key == "additionalProperties" || key == "not" || key == "if" || key == "then" || key == "else" || key == "contains" ||
        key == "propertyNames" || key == "unevaluatedProperties" || key == "unevaluatedItems" || key == "additionalItems") {
      if (value.is_boolean()) return true;
      return schema(value, at);
    }
    if (key == "allOf" || key == "anyOf" || key == "oneOf" || key == "prefixItems") {
      if (!value.is_array() || value.empty()) return fail(at, "'" + key + "' is a list with at least one schema");
      return schemas(value, at);
    }
    if (key == "required") {
      if (!value.is_array()) return fail(at, "'required' is a list of names");
      for (const auto& name : value) {
        if (!name.is_string()) return fail(at, "'required' is a list of names");
        const bool closed = node.contains("additionalProperties") && node["additionalProperties"] == Json(false) && !node.contains("patternProperties");
        const bool known = node.contains("properties") && node["properties"].is_object() && node["properties"].contains(name.get<std::string>());
        if (strict_ && closed && !known) {
          std::vector<std::string> names;
          if (node.contains("properties") && node["properties"].is_object()) {
            for (const auto& [member, unused] : node["properties"].items()) names.push_back(member);
          }
          return fail(at, "'" + shown_text(name.get<std::string>()) + "' is required, but is not among the properties", nearest(name.get<std::string>(), names));
        }
      }
      return true;
    }
    if (key == "minLength" || key == "maxLength" || key == "minItems" || key == "maxItems" || key == "minProperties" || key == "maxProperties" || key == "minContains" || key == "maxContains") {
      const bool whole = value.is_number_integer() || (value.is_number_float() && value.get<double>() == static_cast<double>(static_cast<long long>(std::clamp(value.get<double>(), -1e15, 1e15))));
      if (!whole || value.get<double>() < 0) return fail(at, "'" + key + "' is a whole number, zero or more");
      return true;
    }
    if (key == "minimum" || key == "maximum" || key == "exclusiveMinimum" || key == "exclusiveMaximum") {
      return value.is_number() || fail(at, "'" + key + "' is a number");
    }
    if (key == "multipleOf") return (value.is_number() && value.get<double>() > 0) || fail(at, "'multipleOf' is a number above zero");
    if (key == "uniqueItems") return value.is_boolean() || fail(at, "'uniqueItems' is true or false");
    static const std::vector<std::string> kOther{"const", "format", "title", "description", "default", "examples", "$schema", "$id", "$comment", "$anchor",
                                                 "readOnly", "writeOnly", "deprecated", "contentEncoding", "contentMediaType", "dependentRequired"};
    if (std::find(kOther.begin(), kOther.end(), key) != kOther.end() || key.substr(0, 2) == "x-" || !strict_) return true;
    static const std::vector<std::string> kRestricting{"type", "enum", "const", "properties", "required", "additionalProperties", "patternProperties", "items", "prefixItems",
                                                       "pattern", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "uniqueItems", "anyOf", "allOf", "oneOf", "format", "multipleOf"};
    return fail(at, "'" + shown_text(key) + "' is not a keyword of JSON Schema that can be honoured", nearest(key, kRestricting));
  }

  bool type(const Json& value, const std::string& at) {
    const auto known = [&](const Json& name) {
      if (!name.is_string()) return fail(at, "'type' is a word or a list of words");
      if (std::find(kTypes.begin(), kTypes.end(), name.get<std::string>()) != kTypes.end()) return true;
      return fail(at, "there is no type '" + shown_text(name.get<std::string>()) + "'", nearest(name.get<std::string>(), kTypes));
    };
    if (!value.is_array()) return known(value);
    if (value.empty()) return fail(at, "an empty list of types can never match");
    return std::all_of(value.begin(), value.end(), known);
  }

  bool reference(const Json& node, const Json& value, const std::string& at) {
    if (!value.is_string()) return fail(at, "'$ref' is a text");
    const std::string& text = value.get_ref<const std::string&>();
    if (text.empty() || text[0] != '#') return fail(at, "references to other files or the network are not followed");
    const Json* target = follow(root_, std::string_view(text).substr(1));
    if (!target) return fail(at, "'" + shown_text(text) + "' leads nowhere");
    // A chain of references that comes back to itself describes nothing.
    for (int hops = 0; target && target->is_object() && target->contains("$ref") && (*target)["$ref"].is_string(); ++hops) {
      const std::string& next = (*target)["$ref"].get_ref<const std::string&>();
      if (target == &node || hops > 100) return fail(at, "the reference leads back to itself");
      if (next.empty() || next[0] != '#') break;
      target = follow(root_, std::string_view(next).substr(1));
    }
    return true;
  }

  bool pattern(const Json& value, const std::string& at) {
    if (!value.is_string()) return fail(at, "'pattern' is a text");
    re2::RE2::Options options;
    options.set_log_errors(false);
    options.set_max_mem(1 << 20);
    const re2::RE2 compiled(value.get_ref<const std::string&>(), options);
    return compiled.ok() || fail(at, "not a regular expression: " + shown_text(compiled.error(), 100));
  }

  bool schemas(const Json& list, const std::string& at) {
    std::size_t index = 0;
    for (const auto& element : list) {
      if (!schema(element, at + "/" + std::to_string(index++))) return false;
    }
    return true;
  }
  bool schemas_by_name(const Json& value, const std::string& at) {
    if (!value.is_object()) return fail(at, "this is an object of schemas");
    for (const auto& [name, member] : value.items()) {
      if (!schema(member, at + "/" + escaped(name))) return false;
    }
    return true;
  }

  bool ranges(const Json& node, const std::string& pointer) {
    if (!strict_) return true;
    static const std::pair<const char*, const char*> kPairs[] = {
        {"minimum", "maximum"}, {"exclusiveMinimum", "exclusiveMaximum"}, {"minLength", "maxLength"}, {"minItems", "maxItems"}, {"minProperties", "maxProperties"}};
    for (const auto& [low, high] : kPairs) {
      const auto least = node.find(low);
      const auto most = node.find(high);
      if (least == node.end() || most == node.end() || !least->is_number() || !most->is_number()) continue;
      if (least->get<double>() > most->get<double>()) return fail(pointer + "/" + low, std::string("'") + low + "' is above '" + high + "': nothing can match");
    }
    return true;
  }

  const Json& root_;
  bool strict_;
  std::size_t visited_ = 0;
};

std::optional<SchemaProblem> check(const Json& schema, bool strict) {
  Checker checker(schema, strict);
  checker.schema(schema, "");
  return std::move(checker.problem);
}

}  // namespace

std::optional<SchemaProblem> check_output_schema(const Json& schema) { return check(schema, true); }
std::optional<SchemaProblem> check_tool_schema(const Json& schema) { return check(schema, false); }

const Json* resolve_schema(const Json& root, const Json& schema) {
  const Json* at = &schema;
  for (int hops = 0; hops < 32 && at && at->is_object(); ++hops) {
    const auto ref = at->find("$ref");
    if (ref == at->end() || !ref->is_string()) return at;
    const std::string& text = ref->get_ref<const std::string&>();
    if (text.empty() || text[0] != '#') return nullptr;
    at = follow(root, std::string_view(text).substr(1));
  }
  return at && at->is_object() && !at->contains("$ref") ? at : nullptr;
}

}  // namespace kontor::agent
