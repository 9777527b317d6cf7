#include "agent/spec/static_type.hpp"

#include "agent/spec/output_schema.hpp"

#include <nlohmann/json.hpp>

namespace kontor::agent {
namespace {

using Kind = StaticType::Kind;

/// Deeper parts of a (perhaps recursive) schema are dynamic.
constexpr int kMaxDepth = 12;

TypePtr convert(const Json& root, const Json& schema, int depth, std::size_t& budget) {
  if (depth > kMaxDepth || budget == 0) return dynamic_type();
  --budget;
  const Json* node = resolve_schema(root, schema);
  if (!node || !node->is_object()) return dynamic_type();
  if (node->contains("anyOf") || node->contains("oneOf") || node->contains("allOf") || node->contains("if")) return dynamic_type();
  std::string type;
  if (node->contains("type") && (*node)["type"].is_string()) type = (*node)["type"].get<std::string>();
  StaticType made;
  if (node->contains("enum") && (*node)["enum"].is_array() && (type.empty() || type == "string")) {
    for (const auto& word : (*node)["enum"]) {
      if (!word.is_string()) return dynamic_type();
      made.words.push_back(word.get<std::string>());
    }
    made.kind = Kind::string;
  } else if (node->contains("const") && (*node)["const"].is_string()) {
    made.kind = Kind::string;
    made.words = {(*node)["const"].get<std::string>()};
  } else if (type == "string") {
    made.kind = Kind::string;
  } else if (type == "number" || type == "integer") {
    made.kind = Kind::number;
  } else if (type == "boolean") {
    made.kind = Kind::boolean;
  } else if (type == "null") {
    made.kind = Kind::null;
  } else if (type == "array") {
    made.kind = Kind::list;
    made.element = node->contains("items") ? convert(root, (*node)["items"], depth + 1, budget) : dynamic_type();
  } else if (type == "object" || (type.empty() && node->contains("properties") && !node->contains("type"))) {
    made.kind = Kind::object;
    const bool named = node->contains("properties") && (*node)["properties"].is_object();
    if (named) {
      for (const auto& [name, member] : (*node)["properties"].items()) made.fields[name] = convert(root, member, depth + 1, budget);
    }
    // Answers hold what is listed; only a schema that says so lets more in.
    const bool more = node->contains("additionalProperties") && (*node)["additionalProperties"] != Json(false);
    made.open = !named || more || node->contains("patternProperties");
  }
  return std::make_shared<const StaticType>(std::move(made));
}

}  // namespace

TypePtr dynamic_type() { return simple_type(Kind::dynamic); }

TypePtr simple_type(Kind kind) {
  StaticType type;
  type.kind = kind;
  type.open = true;
  return std::make_shared<const StaticType>(std::move(type));
}

TypePtr list_type(TypePtr element) {
  StaticType type;
  type.kind = Kind::list;
  type.element = std::move(element);
  return std::make_shared<const StaticType>(std::move(type));
}

TypePtr object_type(std::map<std::string, TypePtr> fields, bool open) {
  StaticType type;
  type.kind = Kind::object;
  type.fields = std::move(fields);
  type.open = open;
  return std::make_shared<const StaticType>(std::move(type));
}

TypePtr type_of_schema(const Json& schema) {
  std::size_t budget = 5'000;
  return convert(schema, schema, 0, budget);
}

const char* to_words(Kind kind) {
  switch (kind) {
    case Kind::dynamic: return "a value";
    case Kind::null: return "null";
    case Kind::boolean: return "true or false";
    case Kind::number: return "a number";
    case Kind::string: return "a text";
    case Kind::list: return "a list";
    case Kind::object: return "an object";
  }
  return "a value";
}

}  // namespace kontor::agent
