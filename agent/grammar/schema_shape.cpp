#include "agent/grammar/schema_shape.hpp"

#include "agent/grammar/formats.hpp"
#include "agent/grammar/numbers.hpp"
#include "agent/grammar/regex.hpp"
#include "tools/schema.hpp"
#include "tools/schema_format.hpp"

#include <algorithm>
#include <memory>
#include <set>
#include <utility>

namespace kontor::agent {
namespace {

constexpr std::uint64_t kNoBound = ~std::uint64_t{0};

/// Keywords that say nothing about which values are valid.
const std::set<std::string, std::less<>> kAnnotations{
    "$schema", "$id", "$anchor", "$comment", "$defs", "definitions", "title", "description", "default", "examples", "example", "deprecated",
    "readOnly", "writeOnly", "contentEncoding", "contentMediaType", "contentSchema", "$vocabulary"};
const std::set<std::string, std::less<>> kUnsupported{
    "not", "if", "then", "else", "dependentSchemas", "dependentRequired", "dependencies", "patternProperties", "propertyNames", "uniqueItems",
    "contains", "minContains", "maxContains", "unevaluatedItems", "unevaluatedProperties", "$dynamicRef", "$dynamicAnchor", "$recursiveRef",
    "additionalItems"};

std::string escaped(const std::string& name) {
  std::string out;
  for (const char c : name) out += c == '~' ? std::string("~0") : c == '/' ? std::string("~1") : std::string(1, c);
  return out;
}

std::uint8_t type_bits(const std::string& name) {
  if (name == "null") return kShapeNull;
  if (name == "boolean") return kShapeBoolean;
  if (name == "integer") return kShapeInteger;
  if (name == "number") return kShapeInteger | kShapeNumber;
  if (name == "string") return kShapeString;
  if (name == "array") return kShapeArray;
  if (name == "object") return kShapeObject;
  return 0;
}

bool whole(const Json& number) {
  if (number.is_number_integer()) return true;
  const auto decimal = plain_decimal(number);
  return decimal && decimal->fraction.empty();
}

std::uint8_t type_of(const Json& value) {
  if (value.is_null()) return kShapeNull;
  if (value.is_boolean()) return kShapeBoolean;
  if (value.is_number()) return whole(value) ? kShapeInteger : kShapeNumber;
  if (value.is_string()) return kShapeString;
  return value.is_array() ? kShapeArray : kShapeObject;
}

std::optional<Shape> both(const Shape& a, const Shape& b) {
  Shape out = a;
  out.types &= b.types;
  if (out.types == 0) return std::nullopt;
  const auto append = [](auto& to, const auto& from) { to.insert(to.end(), from.begin(), from.end()); };
  append(out.checks, b.checks);
  append(out.lower, b.lower), append(out.upper, b.upper), append(out.multiples, b.multiples);
  append(out.patterns, b.patterns), append(out.formats, b.formats);
  append(out.arrays, b.arrays), append(out.objects, b.objects);
  for (const auto& name : b.required)
    if (std::find(out.required.begin(), out.required.end(), name) == out.required.end()) out.required.push_back(name);
  out.least_length = std::max(a.least_length, b.least_length), out.most_length = std::min(a.most_length, b.most_length);
  out.least_items = std::max(a.least_items, b.least_items), out.most_items = std::min(a.most_items, b.most_items);
  out.least_properties = std::max(a.least_properties, b.least_properties), out.most_properties = std::min(a.most_properties, b.most_properties);
  out.verbatim = a.verbatim || b.verbatim;
  if (b.values) {
    if (!out.values) out.values = b.values;
    else std::erase_if(*out.values, [&](const Json& value) { return std::find(b.values->begin(), b.values->end(), value) == b.values->end(); });
  }
  return out;
}

}  // namespace

/// The validator of one subschema, with the whole document at hand for its references.
struct ShapeReader::Checker {
  std::optional<tools::Schema> schema;
};

ShapeReader::ShapeReader(const Json& root, ShapeOptions options) : root_(root), options_(options) {
  if (root.is_object() && root.contains("$schema") && root.at("$schema").is_string()) {
    const auto& name = root.at("$schema").get_ref<const std::string&>();
    draft7_ = name.find("draft-07") != std::string::npos || name.find("draft-06") != std::string::npos || name.find("draft-04") != std::string::npos;
    item_lists_ = draft7_ || name.find("draft/2019-09") != std::string::npos;
  }
  index(root);
}

/// Pointers of everything that may be a schema; iterative, documents may be deep.
void ShapeReader::index(const Json& root) {
  std::vector<std::pair<const Json*, std::string>> work{{&root, ""}};
  while (!work.empty()) {
    const auto [at, where] = std::move(work.back());
    work.pop_back();
    pointers_[at] = where;
    if (at->is_object()) {
      if (at->contains("$anchor") && at->at("$anchor").is_string()) anchors_.emplace(at->at("$anchor").get<std::string>(), at);
      if (at != &root && at->contains("$id") && at->at("$id").is_string()) embedded_ = at;
      for (auto it = at->begin(); it != at->end(); ++it)
        if (it->is_structured() || it->is_boolean()) work.emplace_back(&*it, where + "/" + escaped(it.key()));
    } else if (at->is_array()) {
      for (std::size_t i = 0; i < at->size(); ++i)
        if ((*at)[i].is_structured() || (*at)[i].is_boolean()) work.emplace_back(&(*at)[i], where + "/" + std::to_string(i));
    }
  }
}

std::string ShapeReader::pointer(const Json* at, const std::string& keyword) const {
  const auto found = pointers_.find(at);
  return (found == pointers_.end() ? std::string() : found->second) + (keyword.empty() ? "" : "/" + escaped(keyword));
}

Error ShapeReader::refuse(const Json& schema, const std::string& keyword, const std::string& why, Errc code) const {
  return fail(code, "'" + keyword + "' cannot be enforced while decoding: " + why, "grammar_schema", pointer(&schema, keyword));
}

Result<const Json*> ShapeReader::resolve(const Json& schema, const std::string& reference, const char* keyword) {
  if (reference.empty() || reference.front() != '#') return refuse(schema, keyword, "only references inside the document are followed");
  // Below an $id of its own a reference may mean something else.
  if (embedded_) return refuse(*embedded_, "$id", "documents inside the document are not told apart");
  if (reference.size() > 1 && reference[1] != '/') {
    const auto found = anchors_.find(reference.substr(1));
    if (found != anchors_.end()) return found->second;
    return refuse(schema, keyword, "there is no anchor '" + reference.substr(1, 80) + "'", Errc::malformed);
  }
  // Percent-decoding, then a JSON pointer.
  std::string path;
  for (std::size_t i = 1; i < reference.size(); ++i) {
    const auto digit = [&](std::size_t at) { return at < reference.size() ? std::string_view("0123456789ABCDEFabcdef").find(reference[at]) : std::string_view::npos; };
    if (reference[i] == '%' && digit(i + 1) != std::string_view::npos && digit(i + 2) != std::string_view::npos) {
      path += static_cast<char>(std::stoi(reference.substr(i + 1, 2), nullptr, 16));
      i += 2;
    } else {
      path += reference[i];
    }
  }
  const Json* at = &root_;
  for (std::size_t begin = 0; begin < path.size();) {
    std::size_t end = path.find('/', begin + 1);
    if (end == std::string::npos) end = path.size();
    std::string token;
    for (std::size_t i = begin + 1; i < end; ++i) {
      if (path[i] == '~' && i + 1 < end) token += path[++i] == '1' ? '/' : '~';
      else token += path[i];
    }
    const Json* next = nullptr;
    if (at->is_object() && at->contains(token)) next = &at->at(token);
    else if (at->is_array() && !token.empty() && token.size() < 9 && token.find_first_not_of("0123456789") == std::string::npos && std::stoul(token) < at->size()) next = &(*at)[std::stoul(token)];
    if (!next) return refuse(schema, keyword, "it leads nowhere", Errc::malformed);
    at = next;
    begin = end;
  }
  return at;
}

/// What the keywords beside references and combinations say.
Result<Shape> ShapeReader::plain(const Json& schema) {
  Shape shape;
  const auto number = [&](const char* keyword, std::uint64_t& out) -> Result<bool> {
    if (!schema.contains(keyword)) return false;
    const Json& value = schema.at(keyword);
    const auto decimal = value.is_number() ? plain_decimal(value) : Result<PlainDecimal>(fail(Errc::malformed, ""));
    if (!decimal || decimal->negative || !decimal->fraction.empty() || decimal->digits.size() > 18) return refuse(schema, keyword, "it must be a whole number that is not negative", Errc::malformed);
    out = std::stoull(decimal->digits);
    return true;
  };
  for (auto it = schema.begin(); it != schema.end(); ++it) {
    const std::string& keyword = it.key();
    if (kUnsupported.contains(keyword)) {
      if (keyword == "uniqueItems" && *it == Json(false)) continue;
      if (keyword == "additionalItems") continue;
      if ((keyword == "then" || keyword == "else") && !schema.contains("if")) continue;
      if (keyword == "$dynamicAnchor") continue;
      if ((keyword == "minContains" || keyword == "maxContains") && !schema.contains("contains")) continue;
      return refuse(schema, keyword, "the keyword is not supported there");
    }
  }
  if (schema.contains("type")) {
    const Json& type = schema.at("type");
    std::uint8_t bits = 0;
    if (type.is_string()) bits = type_bits(type.get<std::string>());
    if (type.is_array())
      for (const Json& one : type) bits |= one.is_string() ? type_bits(one.get<std::string>()) : 0;
    if (bits == 0 && !(type.is_array() && type.empty())) return refuse(schema, "type", "it names no type", Errc::malformed);
    shape.types = bits;
  }
  if (schema.contains("enum")) {
    if (!schema.at("enum").is_array()) return refuse(schema, "enum", "it must be a list", Errc::malformed);
    shape.values.emplace(schema.at("enum").begin(), schema.at("enum").end());
  }
  if (schema.contains("const")) {
    const Json& value = schema.at("const");
    const bool among = !shape.values || std::find(shape.values->begin(), shape.values->end(), value) != shape.values->end();
    shape.values.emplace();
    if (among) shape.values->push_back(value);
  }
  shape.checks.push_back(&schema);
  for (const auto& [keyword, exclusive] : {std::pair{"minimum", false}, {"exclusiveMinimum", true}}) {
    if (!schema.contains(keyword)) continue;
    if (!schema.at(keyword).is_number()) return refuse(schema, keyword, "it must be a number", Errc::malformed);
    shape.lower.push_back({&schema.at(keyword), exclusive});
  }
  for (const auto& [keyword, exclusive] : {std::pair{"maximum", false}, {"exclusiveMaximum", true}}) {
    if (!schema.contains(keyword)) continue;
    if (!schema.at(keyword).is_number()) return refuse(schema, keyword, "it must be a number", Errc::malformed);
    shape.upper.push_back({&schema.at(keyword), exclusive});
  }
  if (schema.contains("multipleOf")) {
    if (!schema.at("multipleOf").is_number()) return refuse(schema, "multipleOf", "it must be a number", Errc::malformed);
    shape.multiples.push_back(&schema.at("multipleOf"));
  }
  for (const auto& [keyword, out] : {std::pair{"minLength", &shape.least_length}, {"maxLength", &shape.most_length}, {"minItems", &shape.least_items},
                                     {"maxItems", &shape.most_items}, {"minProperties", &shape.least_properties}, {"maxProperties", &shape.most_properties}}) {
    if (const auto read = number(keyword, *out); !read) return read.error();
  }
  for (const char* keyword : {"pattern", "format"}) {
    if (!schema.contains(keyword)) continue;
    if (!schema.at(keyword).is_string()) return refuse(schema, keyword, "it must be a text", Errc::malformed);
    const bool known = tools::format_named(schema.at(keyword).get<std::string>()) != tools::Format::none;
    if (keyword[0] == 'p') shape.patterns.push_back(&schema);
    else if (known) shape.formats.push_back(&schema);
  }
  if (schema.contains("x-verbatim")) {
    if (!schema.at("x-verbatim").is_boolean()) return refuse(schema, "x-verbatim", "it must be true or false", Errc::malformed);
    shape.verbatim = schema.at("x-verbatim").get<bool>();
    if (shape.verbatim && shape.types != kShapeString) return refuse(schema, "x-verbatim", "it stands beside type: string");
  }
  Shape::ArrayPart array;
  const bool old_items = schema.contains("items") && schema.at("items").is_array();
  const char* prefix = old_items ? "items" : "prefixItems";
  const char* rest = old_items ? "additionalItems" : "items";
  if (old_items && !item_lists_) return refuse(schema, "items", "a list of schemas is spelled prefixItems", Errc::malformed);
  if (schema.contains(prefix) && (!item_lists_ || old_items)) {
    if (!schema.at(prefix).is_array()) return refuse(schema, prefix, "it must be a list", Errc::malformed);
    for (const Json& one : schema.at(prefix)) array.prefix.push_back(&one);
  }
  if (schema.contains(rest)) array.items = &schema.at(rest);
  if (array.items || !array.prefix.empty()) shape.arrays.push_back(std::move(array));
  Shape::ObjectPart object;
  if (schema.contains("properties")) {
    if (!schema.at("properties").is_object()) return refuse(schema, "properties", "it must be an object", Errc::malformed);
    object.properties = &schema.at("properties");
  }
  if (schema.contains("additionalProperties")) object.additional = &schema.at("additionalProperties");
  if (object.properties || object.additional) shape.objects.push_back(object);
  if (schema.contains("required")) {
    const Json& required = schema.at("required");
    if (!required.is_array()) return refuse(schema, "required", "it must be a list", Errc::malformed);
    for (const Json& name : required) {
      if (!name.is_string()) return refuse(schema, "required", "it must be a list of names", Errc::malformed);
      if (std::find(shape.required.begin(), shape.required.end(), name.get<std::string>()) == shape.required.end()) shape.required.push_back(name.get<std::string>());
    }
  }
  return shape;
}

Result<std::vector<Shape>> ShapeReader::combine(const std::vector<Shape>& a, const std::vector<Shape>& b, const Json& schema, const char* keyword) {
  std::vector<Shape> out;
  if (a.size() * b.size() > kShapesMax) return refuse(schema, keyword, "more than " + std::to_string(kShapesMax) + " alternatives", Errc::limit);
  for (const Shape& x : a)
    for (const Shape& y : b)
      if (auto shape = both(x, y)) out.push_back(std::move(*shape));
  return out;
}

Result<std::vector<Shape>> ShapeReader::read(const Json& schema, std::size_t depth) {
  if (schema.is_boolean()) return schema.get<bool>() ? std::vector<Shape>{Shape{}} : std::vector<Shape>{};
  if (!schema.is_object()) return fail(Errc::malformed, "a schema must be an object or a boolean", "grammar_schema", pointer(&schema));
  if (depth > kInPlaceDepthMax) return fail(Errc::limit, "references and combinations are nested too deeply", "grammar_schema", pointer(&schema));
  std::vector<Shape> shapes{Shape{}};
  const auto with = [&](const Json& part, const char* keyword) -> Result<void> {
    auto other = read(part, depth + 1);
    if (!other) return other.error();
    auto combined = combine(shapes, *other, schema, keyword);
    if (!combined) return combined.error();
    shapes = std::move(*combined);
    return {};
  };
  if (schema.contains("$ref")) {
    if (!schema.at("$ref").is_string()) return refuse(schema, "$ref", "it must be a text", Errc::malformed);
    auto target = resolve(schema, schema.at("$ref").get<std::string>(), "$ref");
    if (!target) return target.error();
    if (std::find(in_place_.begin(), in_place_.end(), *target) != in_place_.end()) return refuse(schema, "$ref", "the schema applies itself to the same value without end", Errc::malformed);
    in_place_.push_back(*target);
    const auto done = with(**target, "$ref");
    in_place_.pop_back();
    if (!done) return done.error();
    if (draft7_) return shapes;  // Siblings of $ref mean nothing there.
  }
  auto own = plain(schema);
  if (!own) return own.error();
  auto combined = combine(shapes, {std::move(*own)}, schema, "type");
  if (!combined) return combined.error();
  shapes = std::move(*combined);
  for (const char* keyword : {"allOf", "anyOf", "oneOf"}) {
    if (schema.contains(keyword) && (!schema.at(keyword).is_array() || schema.at(keyword).empty())) return refuse(schema, keyword, "it must be a list that is not empty", Errc::malformed);
  }
  if (schema.contains("allOf")) {
    for (const Json& part : schema.at("allOf"))
      if (const auto done = with(part, "allOf"); !done) return done.error();
  }
  if (schema.contains("anyOf")) {
    std::vector<Shape> any;
    for (const Json& part : schema.at("anyOf")) {
      auto other = read(part, depth + 1);
      if (!other) return other.error();
      any.insert(any.end(), other->begin(), other->end());
      if (any.size() > kShapesMax) return refuse(schema, "anyOf", "too many alternatives", Errc::limit);
    }
    combined = combine(shapes, any, schema, "anyOf");
    if (!combined) return combined.error();
    shapes = std::move(*combined);
  }
  if (schema.contains("oneOf")) {
    combined = exclusive(shapes, schema, depth);
    if (!combined) return combined.error();
    shapes = std::move(*combined);
  }
  return shapes;
}

/// oneOf: alternatives of which no text generated for one is valid for another.
Result<std::vector<Shape>> ShapeReader::exclusive(const std::vector<Shape>& base, const Json& schema, std::size_t depth) {
  std::vector<std::vector<Shape>> parts;
  for (const Json& part : schema.at("oneOf")) {
    auto other = read(part, depth + 1);
    if (!other) return other.error();
    auto combined = combine(base, *other, schema, "oneOf");
    if (!combined) return combined.error();
    parts.push_back(std::move(*combined));
  }
  std::size_t comparisons = 0;
  constexpr std::size_t kComparisonsMax = 20'000;
  std::vector<Shape> out;
  for (std::size_t i = 0; i < parts.size(); ++i)
    for (std::size_t j = 0; j < parts.size(); ++j)
      for (const Shape& a : parts[i])
        for (const Shape& b : parts[j]) {
          if (i == j) continue;
          if (++comparisons > kComparisonsMax) return refuse(schema, "oneOf", "too many alternatives to compare", Errc::limit);
          if (!disjoint(a, b)) return refuse(schema, "oneOf", "alternatives " + std::to_string(i) + " and " + std::to_string(j) + " may both hold; make them exclude each other, or write anyOf");
        }
  for (auto& part : parts) out.insert(out.end(), part.begin(), part.end());
  if (out.size() > kShapesMax) return refuse(schema, "oneOf", "too many alternatives", Errc::limit);
  return out;
}

Result<std::vector<Shape>> ShapeReader::shapes(const SchemaSet& all) {
  std::vector<Shape> shapes{Shape{}};
  const auto before = std::exchange(in_place_, {});
  for (const Json* schema : all) {
    in_place_.assign(1, schema);
    auto other = read(*schema, 0);
    if (!other) return in_place_ = before, other.error();
    auto combined = combine(shapes, *other, *schema, "allOf");
    if (!combined) return in_place_ = before, combined.error();
    shapes = std::move(*combined);
  }
  in_place_ = before;
  return shapes;
}

std::vector<std::string> ShapeReader::names(const Shape& shape) const {
  std::vector<std::string> out;
  std::set<std::string> seen;
  for (const auto& part : shape.objects)
    if (part.properties)
      for (auto it = part.properties->begin(); it != part.properties->end(); ++it)
        if (seen.insert(it.key()).second) out.push_back(it.key());
  for (const auto& name : shape.required)
    if (seen.insert(name).second) out.push_back(name);
  return out;
}

SchemaSet ShapeReader::member(const Shape& shape, const std::string& name) const {
  SchemaSet out;
  for (const auto& part : shape.objects) {
    if (part.properties && part.properties->contains(name)) out.push_back(&part.properties->at(name));
    else if (part.additional) out.push_back(part.additional);
  }
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

std::optional<SchemaSet> ShapeReader::additional(const Shape& shape) const {
  SchemaSet out;
  bool mentions = false, said = false;
  for (const auto& part : shape.objects) {
    mentions |= part.properties != nullptr;
    if (!part.additional) continue;
    said = true;
    if (*part.additional == Json(false)) return std::nullopt;
    out.push_back(part.additional);
  }
  // Silence closes an object that lists its members and leaves one open that lists none.
  if (!said && mentions && !options_.open_objects) return std::nullopt;
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

SchemaSet ShapeReader::item(const Shape& shape, std::size_t index) const {
  SchemaSet out;
  for (const auto& part : shape.arrays) {
    if (index < part.prefix.size()) out.push_back(part.prefix[index]);
    else if (part.items) out.push_back(part.items);
  }
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

std::size_t ShapeReader::prefix_length(const Shape& shape) const {
  std::size_t longest = 0;
  for (const auto& part : shape.arrays) longest = std::max(longest, part.prefix.size());
  return longest;
}

bool ShapeReader::satisfies(const Json& value, const SchemaSet& checks) {
  for (const Json* check : checks) {
    auto& checker = checkers_[check];
    if (!checker) {
      checker = std::make_shared<Checker>();
      // The document under a name of its own, so that its references stay what they are.
      Json copy = root_;
      if (!copy.is_object()) return false;
      copy["$id"] = "urn:kontor:checked";
      const Json wrapped{{"$schema", draft7_ ? "http://json-schema.org/draft-07/schema#" : "https://json-schema.org/draft/2020-12/schema"},
                         {"$id", "urn:kontor:check"},
                         {"allOf", Json::array({Json{{"$ref", "urn:kontor:checked#" + pointer(check)}}})},
                         {draft7_ ? "definitions" : "$defs", Json{{"document", std::move(copy)}}}};
      if (auto compiled = tools::Schema::compile(wrapped)) checker->schema = std::move(*compiled);
    }
    if (!checker->schema || !checker->schema->validate(value, 1).empty()) return false;
  }
  return true;
}

bool ShapeReader::allows(const Shape& shape, const Json& value) {
  const std::uint8_t type = type_of(value);
  if (!(shape.types & type) && !(type == kShapeInteger && (shape.types & kShapeNumber))) return false;
  const bool simple = shape.lower.empty() && shape.upper.empty() && shape.multiples.empty() && shape.least_length == 0 && shape.most_length == kNoBound &&
                      shape.patterns.empty() && shape.formats.empty() && !shape.verbatim && shape.least_items == 0 && shape.most_items == kNoBound &&
                      shape.arrays.empty() && shape.objects.empty() && shape.required.empty() && shape.least_properties == 0 && shape.most_properties == kNoBound;
  if (simple) return !shape.values || std::find(shape.values->begin(), shape.values->end(), value) != shape.values->end();
  // What a shape holds beside its values is what its schemas say, each of which can be asked.
  return satisfies(value, shape.checks);
}

Result<std::vector<Json>> ShapeReader::checked_values(const Shape& shape) {
  std::vector<Json> out;
  for (const Json& value : *shape.values)
    if (allows(shape, value)) out.push_back(value);
  return out;
}

bool ShapeReader::disjoint(const Shape& a, const Shape& b, int depth) {
  if (depth > 4) return false;
  if (a.values) {
    const auto values = checked_values(a);
    return values && std::none_of(values->begin(), values->end(), [&](const Json& value) { return allows(b, value); });
  }
  if (b.values) {
    const auto values = checked_values(b);
    return values && std::none_of(values->begin(), values->end(), [&](const Json& value) { return allows(a, value); });
  }
  const std::uint8_t common = a.types & b.types;
  if (common & (kShapeNull | kShapeBoolean)) return false;
  if (common & (kShapeInteger | kShapeNumber)) {
    const auto apart = [](const Shape& x, const Shape& y) {  // x below y
      for (const auto& high : x.upper)
        for (const auto& low : y.lower) {
          const double h = high.value->get<double>(), l = low.value->get<double>();
          if (h < l || (h == l && (high.exclusive || low.exclusive))) return true;
        }
      return false;
    };
    if (!apart(a, b) && !apart(b, a)) return false;
  }
  if (common & kShapeString) {
    const bool lengths = a.most_length < b.least_length || b.most_length < a.least_length;
    const auto language = [](const Shape& shape) {
      std::shared_ptr<const ByteDfa> out;
      const auto add = [&](std::string_view pattern) {
        auto dfa = compile_regex(pattern);
        if (!dfa) return;
        if (!out) out = std::move(*dfa);
        else if (auto both = intersect(*out, **dfa)) out = std::make_shared<const ByteDfa>(std::move(*both));
      };
      for (const Json* s : shape.patterns) add(s->at("pattern").get_ref<const std::string&>());
      for (const Json* s : shape.formats)
        if (const auto pattern = format_pattern(s->at("format").get_ref<const std::string&>()); !pattern.empty()) add(pattern);
      return out;
    };
    // Formats of b are narrower here than when they are checked: they tell nothing apart.
    if (!lengths) {
      if (!b.formats.empty()) return false;
      const auto x = language(a), y = language(b);
      if (!x || !y) return false;
      const auto together = intersect(*x, *y);
      if (!together || !together->empty()) return false;
    }
  }
  if ((common & kShapeArray) && !(a.most_items < b.least_items || b.most_items < a.least_items)) return false;
  if (!(common & kShapeObject)) return true;
  const auto known = names(a);
  const bool open = additional(a).has_value();
  for (const auto& name : b.required)
    if (!open && std::find(known.begin(), known.end(), name) == known.end()) return true;
  for (const auto& name : a.required) {
    for (const auto& part : b.objects)
      if (part.additional && *part.additional == Json(false) && !(part.properties && part.properties->contains(name))) return true;
    const auto x = shapes(member(a, name)), y = shapes(member(b, name));
    if (!x || !y) continue;
    bool apart = true;
    for (const Shape& s : *x)
      for (const Shape& t : *y) apart = apart && disjoint(s, t, depth + 1);
    if (apart) return true;
  }
  return false;
}

}  // namespace kontor::agent
