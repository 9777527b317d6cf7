// From the JSON of a schema to nodes. Two passes, both with work lists instead of recursion: the first is SchemaSurvey; the
// second builds the nodes that can be reached from the root.

#include "tools/json_value.hpp"
#include "tools/nearest.hpp"
#include "tools/pattern.hpp"
#include "tools/schema_node.hpp"
#include "tools/schema_survey.hpp"

#include <algorithm>
#include <array>
#include <deque>
#include <map>

namespace kontor::tools {
namespace {

constexpr std::size_t kPatternsMax = 500;

/// Keywords of older or other languages that restrict values, and which we do not implement.
constexpr std::array<std::string_view, 4> kForeign{"disallow", "extends", "divisibleBy", "$recursiveRef"};

/// Assertions; a key that differs from one of them only in case is a slip of the pen, not an annotation.
constexpr std::array<std::string_view, 37> kAssertions{
    "type", "enum", "const", "multipleOf", "maximum", "exclusiveMaximum", "minimum", "exclusiveMinimum", "maxLength",
    "minLength", "pattern", "format", "maxItems", "minItems", "uniqueItems", "maxContains", "minContains", "maxProperties",
    "minProperties", "required", "dependentRequired", "properties", "patternProperties", "additionalProperties",
    "propertyNames", "dependentSchemas", "items", "prefixItems", "contains", "unevaluatedItems", "unevaluatedProperties",
    "allOf", "anyOf", "oneOf", "not", "$ref", "$dynamicRef"};

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  return out;
}

using Place = SchemaPlace;

class Compiler {
 public:
  Compiler(const Json& root, const SchemaOptions& options) : root_(root), options_(options), survey_(options) {}

  Result<std::shared_ptr<Schema::Compiled>> run();

 private:
  void stop(Errc code, std::string message, std::string kind, std::string where) { survey_.stop(code, std::move(message), std::move(kind), std::move(where)); }
  void malformed(const SchemaPlace& place, std::string_view keyword, const std::string& message) { survey_.malformed(place, keyword, message); }

  void index_dynamic_anchors();
  NodeIndex index_of(const Json& schema, const Place& place);
  NodeIndex child(const Json& value, const Place& parent, std::string_view keyword, const std::string& below = {});
  void build(NodeIndex index);
  void build_annotations(const Json& schema, const Place& place);
  void build_values(SchemaNode& node, const Json& schema, const Place& place);
  void build_format(SchemaNode& node, const Json& schema, const Place& place);
  void build_applicators(SchemaNode& node, const Json& schema, const Place& place);
  void build_objects(SchemaNode& node, const Json& schema, const Place& place);
  void read_names(const Json& list, const Place& place, std::string_view keyword, const std::string& below, std::vector<std::string>& slot);
  template <class Use>
  void each_entry(const Json& schema, const Place& place, const char* keyword, const Use& use);
  void build_names(SchemaNode& node, const Json& schema, const Place& place);
  void build_leftovers(SchemaNode& node, const Json& schema, const Place& place);
  void build_items(SchemaNode& node, const Json& schema, const Place& place);
  void build_references(SchemaNode& node, const Json& schema, const Place& place);
  NodeIndex resolve(const std::string& reference, const Place& place, std::string_view keyword, std::string* anchor);
  std::optional<Pattern> pattern(const std::string& text, const Place& place, const std::string& where);
  void check_cycles();

  const Json& root_;
  const SchemaOptions& options_;
  std::shared_ptr<Schema::Compiled> compiled_ = std::make_shared<Schema::Compiled>();
  SchemaSurvey survey_;
  std::size_t anchors_indexed_ = 0;                        ///< Of the survey's dynamic anchors, from the front.
  std::map<const Json*, NodeIndex> indices_;
  std::deque<std::pair<const Json*, Place>> waiting_;
  std::size_t patterns_ = 0;
};

NodeIndex Compiler::index_of(const Json& schema, const Place& place) {
  const auto [found, fresh] = indices_.emplace(&schema, static_cast<NodeIndex>(compiled_->nodes.size()));
  if (fresh) {
    compiled_->nodes.emplace_back();
    waiting_.emplace_back(&schema, place);
    if (compiled_->nodes.size() > kSchemaNodesMax) {
      stop(Errc::limit, "a schema of more than " + std::to_string(kSchemaNodesMax) + " subschemas", "schema_size", place.pointer);
    }
  }
  return found->second;
}

NodeIndex Compiler::child(const Json& value, const Place& parent, std::string_view keyword, const std::string& below) {
  if (!value.is_object() && !value.is_boolean()) {
    stop(Errc::malformed, "a schema is an object, true or false, not " + kind_of(value), "bad_schema",
         parent.pointer + pointer_token(keyword) + below);
    return kNoNode;
  }
  if (const Place* known = survey_.place_of(value)) return index_of(value, *known);
  Place place = parent;
  place.pointer += pointer_token(keyword) + below;
  return index_of(value, place);
}

std::optional<Pattern> Compiler::pattern(const std::string& text, const Place& place, const std::string& where) {
  if (++patterns_ > kPatternsMax) {
    stop(Errc::limit, "more than " + std::to_string(kPatternsMax) + " patterns in one schema", "schema_size", place.pointer + where);
    return std::nullopt;
  }
  auto compiled = compile_pattern(text);
  if (!compiled) {
    stop(compiled.error().code, compiled.error().message, compiled.error().kind, place.pointer + where);
    return std::nullopt;
  }
  return Pattern{text, std::move(*compiled)};
}

/// Unknown keys are annotations, unless they look as if they were meant to restrict.
void Compiler::build_annotations(const Json& schema, const Place& place) {
  for (const auto& entry : schema.items()) {
    const std::string& key = entry.key();
    const std::string where = place.pointer + pointer_token(key);
    if (std::find(kForeign.begin(), kForeign.end(), key) != kForeign.end()) {
      return stop(Errc::unsupported, "the keyword \"" + key + "\" is not part of JSON Schema 2020-12 or draft-07", "unknown_keyword", where);
    }
    if (std::find(kAssertions.begin(), kAssertions.end(), key) != kAssertions.end()) continue;
    const std::string small = lower(key);
    for (const auto known : kAssertions) {
      if (small == lower(known)) {
        return stop(Errc::unsupported, "unknown keyword \"" + key + "\" (did you mean \"" + std::string(known) + "\"?)", "unknown_keyword", where);
      }
    }
  }
}

void Compiler::build_values(SchemaNode& node, const Json& schema, const Place& place) {
  if (const Json* type = member(schema, "type")) {
    static const std::map<std::string_view, std::uint8_t> kBits{
        {"null", kNull}, {"boolean", kBoolean}, {"integer", kInteger}, {"number", kInteger | kNumber},
        {"string", kString}, {"array", kArray}, {"object", kObject}};
    node.types = 0;
    const auto add = [&](const Json& name) {
      const auto bit = name.is_string() ? kBits.find(name.get_ref<const std::string&>()) : kBits.end();
      if (bit == kBits.end()) malformed(place, "type", "is one of null, boolean, integer, number, string, array, object, or a list of them");
      else node.types |= bit->second;
    };
    if (type->is_array()) for (const auto& name : *type) add(name);
    else add(*type);
  }
  if (const Json* values = member(schema, "enum")) {
    if (!values->is_array()) return malformed(place, "enum", "is a list");
    node.values.emplace(values->begin(), values->end());
  }
  if (const Json* constant = member(schema, "const")) node.constant = *constant;

  const auto number = [&](const char* keyword, std::optional<Json>& slot) {
    const Json* value = member(schema, keyword);
    if (value == nullptr) return;
    if (!value->is_number()) return malformed(place, keyword, "is a number");
    slot = *value;
  };
  number("minimum", node.minimum);
  number("maximum", node.maximum);
  number("multipleOf", node.multiple_of);
  if (node.multiple_of && compare_numbers(*node.multiple_of, Json(0)) <= 0) return malformed(place, "multipleOf", "is above zero");
  // Draft 4 spelled these as flags on minimum and maximum.
  const auto exclusive = [&](const char* keyword, std::optional<Json>& slot, std::optional<Json>& plain) {
    const Json* value = member(schema, keyword);
    if (value != nullptr && value->is_boolean() && place.dialect.legacy) {
      if (value->get<bool>()) slot.swap(plain);
      return;
    }
    number(keyword, slot);
  };
  exclusive("exclusiveMinimum", node.above, node.minimum);
  exclusive("exclusiveMaximum", node.below, node.maximum);

  const auto count = [&](const char* keyword, std::uint64_t& slot) {
    const Json* value = member(schema, keyword);
    if (value == nullptr) return;
    if (!value->is_number() || !is_whole_number(*value) || compare_numbers(*value, Json(0)) < 0) {
      return malformed(place, keyword, "is a whole number that is not negative");
    }
    if (!value->is_number_float()) slot = value->get<std::uint64_t>();
    else slot = value->get<double>() < 1e18 ? static_cast<std::uint64_t>(value->get<double>()) : kNoBound - 1;
  };
  count("minLength", node.min_length);
  count("maxLength", node.max_length);
  count("minItems", node.min_items);
  count("maxItems", node.max_items);
  count("minProperties", node.min_properties);
  count("maxProperties", node.max_properties);
  count("minContains", node.min_contains);
  count("maxContains", node.max_contains);
  if (const Json* unique = member(schema, "uniqueItems")) {
    if (!unique->is_boolean()) return malformed(place, "uniqueItems", "is true or false");
    node.unique_items = unique->get<bool>();
  }
  if (const Json* text = member(schema, "pattern")) {
    if (!text->is_string()) return malformed(place, "pattern", "is a string");
    node.pattern = pattern(text->get_ref<const std::string&>(), place, "/pattern");
  }
}

void Compiler::build_format(SchemaNode& node, const Json& schema, const Place& place) {
  const Json* format = member(schema, "format");
  if (format == nullptr) return;
  if (!format->is_string()) return malformed(place, "format", "is a string");
  if (options_.formats || place.dialect.formats) node.format = format_named(format->get_ref<const std::string&>());
}

void Compiler::read_names(const Json& list, const Place& place, std::string_view keyword, const std::string& below, std::vector<std::string>& slot) {
  const auto bad = [&] {
    stop(Errc::malformed, "\"" + std::string(keyword) + "\" is a list of names", "bad_schema", place.pointer + pointer_token(keyword) + below);
  };
  if (!list.is_array()) return bad();
  for (const auto& name : list) {
    if (!name.is_string()) return bad();
    slot.push_back(name.get<std::string>());
  }
}

template <class Use>
void Compiler::each_entry(const Json& schema, const Place& place, const char* keyword, const Use& use) {
  const Json* value = member(schema, keyword);
  if (value == nullptr) return;
  if (!value->is_object()) return malformed(place, keyword, "is an object");
  for (const auto& entry : value->items()) {
    if (!survey_.failed()) use(entry.key(), entry.value());
  }
}

void Compiler::build_objects(SchemaNode& node, const Json& schema, const Place& place) {
  each_entry(schema, place, "properties", [&](const std::string& name, const Json& value) {
    node.names[name].node = child(value, place, "properties", pointer_token(name));
  });
  each_entry(schema, place, "patternProperties", [&](const std::string& text, const Json& value) {
    auto compiled = pattern(text, place, "/patternProperties" + pointer_token(text));
    const NodeIndex below = child(value, place, "patternProperties", pointer_token(text));
    if (compiled) node.pattern_properties.emplace_back(std::move(*compiled), below);
  });
  each_entry(schema, place, "dependentSchemas", [&](const std::string& name, const Json& value) {
    node.dependent_schemas.emplace_back(name, child(value, place, "dependentSchemas", pointer_token(name)));
  });
  each_entry(schema, place, "dependencies", [&](const std::string& name, const Json& value) {
    if (value.is_array()) {
      node.dependent_required.emplace_back(name, std::vector<std::string>{});
      read_names(value, place, "dependencies", pointer_token(name), node.dependent_required.back().second);
    } else {
      node.dependent_schemas.emplace_back(name, child(value, place, "dependencies", pointer_token(name)));
    }
  });
}

/// Names that have to be there.
void Compiler::build_names(SchemaNode& node, const Json& schema, const Place& place) {
  each_entry(schema, place, "dependentRequired", [&](const std::string& name, const Json& value) {
    node.dependent_required.emplace_back(name, std::vector<std::string>{});
    read_names(value, place, "dependentRequired", pointer_token(name), node.dependent_required.back().second);
  });
  const Json* list = member(schema, "required");
  if (list == nullptr || (list->is_boolean() && place.dialect.legacy)) return;
  std::vector<std::string> all;
  read_names(*list, place, "required", {}, all);
  for (auto& name : all) {
    auto& rule = node.names[name];
    if (rule.required >= 0) continue;
    rule.required = static_cast<std::int32_t>(node.required.size());
    node.required.push_back(std::move(name));
  }
}

void Compiler::build_items(SchemaNode& node, const Json& schema, const Place& place) {
  const auto list = [&](const char* keyword, std::vector<NodeIndex>& slot) {
    const Json* value = member(schema, keyword);
    if (value == nullptr) return;
    if (!value->is_array()) return malformed(place, keyword, "is a list of schemas");
    std::size_t i = 0;
    for (const auto& element : *value) slot.push_back(child(element, place, keyword, "/" + std::to_string(i++)));
  };
  if (place.dialect.prefix_items) list("prefixItems", node.prefix_items);
  list("allOf", node.all_of);
  list("anyOf", node.any_of);
  list("oneOf", node.one_of);
  const Json* items = member(schema, "items");
  if (items == nullptr) return;
  if (!items->is_array()) {
    node.items = child(*items, place, "items");
    return;
  }
  // Draft 7's spelling of prefixItems; tools without $schema still use it.
  if (!node.prefix_items.empty()) return malformed(place, "items", "is one schema beside prefixItems");
  list("items", node.prefix_items);
  if (const Json* rest = member(schema, "additionalItems")) node.items = child(*rest, place, "additionalItems");
}

void Compiler::build_applicators(SchemaNode& node, const Json& schema, const Place& place) {
  const auto one = [&](const char* keyword, NodeIndex& slot) {
    if (const Json* value = member(schema, keyword)) slot = child(*value, place, keyword);
  };
  one("additionalProperties", node.additional_properties);
  one("propertyNames", node.property_names);
  one("contains", node.contains);
  one("not", node.negated);
  one("if", node.condition);
  one("then", node.then_node);
  one("else", node.else_node);
}

void Compiler::build_leftovers(SchemaNode& node, const Json& schema, const Place& place) {
  if (const Json* items = member(schema, "unevaluatedItems")) node.unevaluated_items = child(*items, place, "unevaluatedItems");
  if (const Json* properties = member(schema, "unevaluatedProperties")) node.unevaluated_properties = child(*properties, place, "unevaluatedProperties");
  node.annotates = node.unevaluated_items != kNoNode || node.unevaluated_properties != kNoNode;
}

NodeIndex Compiler::resolve(const std::string& reference, const Place& place, std::string_view keyword, std::string* anchor) {
  const auto target = survey_.resolve(reference, place, keyword, anchor);
  return target ? index_of(*target->schema, target->place) : kNoNode;
}

void Compiler::build_references(SchemaNode& node, const Json& schema, const Place& place) {
  for (const char* keyword : {"$ref", "$dynamicRef"}) {
    const Json* reference = member(schema, keyword);
    if (reference == nullptr) continue;
    if (!reference->is_string()) return malformed(place, keyword, "is a string");
    const auto& text = reference->get_ref<const std::string&>();
    if (keyword[1] == 'r') {
      node.ref = resolve(text, place, keyword, nullptr);
      continue;
    }
    std::string name;
    node.dynamic_ref = resolve(text, place, keyword, &name);
    if (survey_.failed() || name.empty()) continue;
    index_dynamic_anchors();  // Of documents that this reference was the first to meet.
    // Dynamic only when the place it first leads to is itself a dynamic anchor.
    for (const auto& anchor : survey_.dynamic_anchors()) {
      if (anchor.name == name && indices_.at(anchor.schema) == node.dynamic_ref) {
        node.dynamic_name = name;
        compiled_->dynamic = true;
      }
    }
  }
}

/// Dynamic references reach every dynamic anchor, so all of them get nodes.
void Compiler::index_dynamic_anchors() {
  compiled_->resources.resize(survey_.resources());
  for (; anchors_indexed_ < survey_.dynamic_anchors().size() && !survey_.failed(); ++anchors_indexed_) {
    const auto& anchor = survey_.dynamic_anchors()[anchors_indexed_];
    const NodeIndex index = index_of(*anchor.schema, *survey_.place_of(*anchor.schema));
    compiled_->resources[static_cast<std::size_t>(anchor.resource)].dynamic_anchors.emplace(anchor.name, index);
  }
}

void Compiler::build(NodeIndex index) {
  auto [schema, place] = std::move(waiting_.front());
  waiting_.pop_front();
  SchemaNode node;  // Built aside: the list of nodes grows meanwhile.
  node.resource = place.resource;
  if (schema->is_boolean()) {
    node.kind = schema->get<bool>() ? SchemaNode::Kind::always : SchemaNode::Kind::never;
  } else if (place.dialect.legacy && schema->contains("$ref")) {
    build_references(node, *schema, place);
  } else {
    build_annotations(*schema, place);
    if (place.dialect.validates) build_values(node, *schema, place);
    build_format(node, *schema, place);
    if (place.dialect.applies) {
      build_objects(node, *schema, place);
      build_items(node, *schema, place);
      build_applicators(node, *schema, place);
    }
    if (place.dialect.validates) build_names(node, *schema, place);
    if (place.dialect.leaves_over) build_leftovers(node, *schema, place);
    build_references(node, *schema, place);
  }
  compiled_->nodes[static_cast<std::size_t>(index)] = std::move(node);
}

/// A schema that applies itself to the same value again would never end: depth-first search over in-place steps.
void Compiler::check_cycles() {
  const auto& nodes = compiled_->nodes;
  const auto next = [&](const SchemaNode& node) {
    std::vector<NodeIndex> all = node.all_of;
    all.insert(all.end(), node.any_of.begin(), node.any_of.end());
    all.insert(all.end(), node.one_of.begin(), node.one_of.end());
    for (const auto& [name, below] : node.dependent_schemas) all.push_back(below);
    for (const NodeIndex one : {node.negated, node.condition, node.then_node, node.else_node, node.ref, node.dynamic_ref}) {
      if (one != kNoNode) all.push_back(one);
    }
    return all;
  };
  std::vector<std::uint8_t> state(nodes.size(), 0);  // 0 new, 1 on the path, 2 done
  struct Frame {
    NodeIndex node;
    std::vector<NodeIndex> next;
    std::size_t at = 0;
  };
  for (std::size_t start = 0; start < nodes.size(); ++start) {
    if (state[start] != 0) continue;
    std::vector<Frame> path{{static_cast<NodeIndex>(start), next(nodes[start])}};
    state[start] = 1;
    while (!path.empty()) {
      auto& top = path.back();
      if (top.at == top.next.size()) {
        state[static_cast<std::size_t>(top.node)] = 2;
        path.pop_back();
        continue;
      }
      const auto to = static_cast<std::size_t>(top.next[top.at++]);
      if (state[to] == 1) {
        return stop(Errc::malformed, "the schema applies itself to the same value without end", "schema_cycle", "");
      }
      if (state[to] == 0) {
        state[to] = 1;
        path.push_back({static_cast<NodeIndex>(to), next(nodes[to])});
      }
    }
  }
}

Result<std::shared_ptr<Schema::Compiled>> Compiler::run() {
  if (!root_.is_object() && !root_.is_boolean()) {
    return fail(Errc::malformed, "a schema is an object, true or false, not " + kind_of(root_), "bad_schema");
  }
  Place top;
  top.base = "kontor:schema";
  survey_.add(root_, std::move(top));
  if (survey_.failed()) return survey_.error();
  index_of(root_, *survey_.place_of(root_));
  for (NodeIndex built = 0; !survey_.failed(); ++built) {
    index_dynamic_anchors();
    if (waiting_.empty()) break;
    build(built);
  }
  compiled_->resources.resize(survey_.resources());
  if (!survey_.failed()) check_cycles();
  if (survey_.failed()) return survey_.error();
  return std::move(compiled_);
}

}  // namespace

Result<Schema> Schema::compile(const Json& schema, const SchemaOptions& options) {
  auto compiled = Compiler(schema, options).run();
  if (!compiled) return compiled.error();
  Schema result;
  result.compiled_ = std::move(*compiled);
  return result;
}

}  // namespace kontor::tools
