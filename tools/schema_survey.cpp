#include "tools/schema_survey.hpp"

#include "tools/json_value.hpp"
#include "tools/meta_schemas.hpp"
#include "tools/uri.hpp"

#include <algorithm>
#include <array>
#include <utility>

namespace kontor::tools {
namespace {

constexpr std::size_t kPointerBytesMax = 64u << 20;  // Long keys times many subschemas.
constexpr std::size_t kDocumentDepthMax = 256;

enum class Holds { schema, schemas, schema_or_list, map, dependencies };

struct Applicator {
  std::string_view keyword;
  Holds holds;
};

constexpr std::array kApplicators{
    Applicator{"properties", Holds::map}, Applicator{"patternProperties", Holds::map},
    Applicator{"additionalProperties", Holds::schema}, Applicator{"propertyNames", Holds::schema},
    Applicator{"dependentSchemas", Holds::map}, Applicator{"dependencies", Holds::dependencies},
    Applicator{"items", Holds::schema_or_list}, Applicator{"prefixItems", Holds::schemas},
    Applicator{"additionalItems", Holds::schema}, Applicator{"contains", Holds::schema},
    Applicator{"unevaluatedItems", Holds::schema}, Applicator{"unevaluatedProperties", Holds::schema},
    Applicator{"allOf", Holds::schemas}, Applicator{"anyOf", Holds::schemas}, Applicator{"oneOf", Holds::schemas},
    Applicator{"not", Holds::schema}, Applicator{"if", Holds::schema}, Applicator{"then", Holds::schema},
    Applicator{"else", Holds::schema}, Applicator{"$defs", Holds::map}, Applicator{"definitions", Holds::map}};

constexpr std::array<std::string_view, 4> kOldDrafts{"draft-07", "draft-06", "draft-04", "draft-03"};

constexpr std::string_view kVocabularies = "https://json-schema.org/draft/2020-12/vocab/";

/// Calls visit(child, pointer below the schema) for each direct subschema.
template <class Visit>
void each_subschema(const Json& schema, const Visit& visit) {
  for (const auto& [keyword, holds] : kApplicators) {
    const Json* value = member(schema, keyword.data());
    if (value == nullptr) continue;
    const std::string at = pointer_token(keyword);
    const auto is_schema = [](const Json& v) { return v.is_object() || v.is_boolean(); };
    if ((holds == Holds::schema || holds == Holds::schema_or_list) && is_schema(*value)) visit(*value, at);
    if ((holds == Holds::schemas || holds == Holds::schema_or_list) && value->is_array()) {
      std::size_t i = 0;
      for (const auto& element : *value) {
        if (is_schema(element)) visit(element, at + "/" + std::to_string(i));
        ++i;
      }
    }
    if ((holds == Holds::map || holds == Holds::dependencies) && value->is_object()) {
      for (const auto& entry : value->items()) {
        if (is_schema(entry.value())) visit(entry.value(), at + pointer_token(entry.key()));
      }
    }
  }
}

bool is_legacy(std::string_view uri) {
  return std::any_of(kOldDrafts.begin(), kOldDrafts.end(), [&](auto draft) { return uri.find(draft) != std::string_view::npos; });
}

std::string without_fragment(std::string uri) {
  if (const auto hash = uri.find('#'); hash != std::string::npos) uri.erase(hash);
  return uri;
}

}  // namespace

std::string pointer_token(std::string_view key) {
  std::string out = "/";
  for (const char c : key) {
    if (c == '~') out += "~0";
    else if (c == '/') out += "~1";
    else out += c;
  }
  return out;
}

const Json* member(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found == object.end() ? nullptr : &*found;
}

void SchemaSurvey::stop(Errc code, std::string message, std::string kind, std::string where) {
  if (!failed_) error_ = fail(code, std::move(message), std::move(kind), std::move(where));
  failed_ = true;
}

void SchemaSurvey::malformed(const SchemaPlace& place, std::string_view keyword, const std::string& message) {
  stop(Errc::malformed, "\"" + std::string(keyword) + "\" " + message, "bad_schema", place.pointer + pointer_token(keyword));
}

const SchemaPlace* SchemaSurvey::place_of(const Json& schema) const {
  const auto found = places_.find(&schema);
  return found == places_.end() ? nullptr : &found->second;
}

std::int32_t SchemaSurvey::begin_resource(const std::string& uri, const Json& root, const std::string& pointer) {
  resources_.emplace(uri, Resource{&root, pointer});
  return static_cast<std::int32_t>(resource_count_++);
}

void SchemaSurvey::add(const Json& root, SchemaPlace top) {
  if (json_depth(root, kDocumentDepthMax) >= kDocumentDepthMax) {
    return stop(Errc::limit, "a schema nested deeper than " + std::to_string(kDocumentDepthMax) + " levels", "schema_depth", top.pointer);
  }
  std::vector<std::pair<const Json*, SchemaPlace>> stack;
  top.resource = begin_resource(top.base, root, top.pointer);
  stack.emplace_back(&root, std::move(top));
  while (!stack.empty() && !failed_) {
    auto [schema, place] = std::move(stack.back());
    stack.pop_back();
    if (schema->is_object()) declare(*schema, place);
    pointer_bytes_ += place.pointer.size();
    places_[schema] = place;
    if (places_.size() > kSchemaNodesMax || pointer_bytes_ > kPointerBytesMax) {
      return stop(Errc::limit, "a schema of more than " + std::to_string(kSchemaNodesMax) + " subschemas", "schema_size", place.pointer);
    }
    if (!schema->is_object()) continue;
    if (place.dialect.legacy && schema->contains("$ref")) {  // Siblings are hidden, but definitions can still be pointed at.
      for (const char* keyword : {"$defs", "definitions"}) {
        const Json* map = member(*schema, keyword);
        if (map == nullptr || !map->is_object()) continue;
        for (const auto& entry : map->items()) {
          SchemaPlace below = place;
          below.pointer += pointer_token(keyword) + pointer_token(entry.key());
          stack.emplace_back(&entry.value(), std::move(below));
        }
      }
      continue;
    }
    each_subschema(*schema, [&stack, &place = place](const Json& value, const std::string& below) {
      SchemaPlace next = place;
      next.pointer += below;
      stack.emplace_back(&value, std::move(next));
    });
  }
}

/// Makes another document part of this schema; false where there is none of that name.
bool SchemaSurvey::load(const std::string& uri, const SchemaDialect& dialect) {
  const Json* document = meta_schema(uri);
  if (options_.documents != nullptr) {
    if (const auto found = options_.documents->find(uri); found != options_.documents->end()) document = &found->second;
  }
  if (document == nullptr) return false;
  SchemaPlace top;
  top.pointer = uri + "#";
  top.base = uri;
  top.dialect = dialect;  // Unless it says another one.
  add(*document, std::move(top));
  return true;
}

/// What `$schema` means: one of the drafts, or a document that says which vocabularies it uses.
SchemaDialect SchemaSurvey::dialect_of(const std::string& uri, const SchemaPlace& place) {
  SchemaDialect out;
  const auto named_by = [&out](std::string_view name) {
    out.legacy = is_legacy(name);
    out.prefix_items = !out.legacy && name.find("draft/2019-09") == std::string_view::npos;
  };
  named_by(uri);
  if (options_.documents == nullptr) return out;
  const auto found = options_.documents->find(without_fragment(uri));
  if (found == options_.documents->end() || !found->second.is_object()) return out;
  if (const Json* own = member(found->second, "$schema"); own != nullptr && own->is_string()) named_by(own->get_ref<const std::string&>());
  const Json* vocabularies = member(found->second, "$vocabulary");
  if (vocabularies == nullptr || !vocabularies->is_object()) return out;
  const auto named = [&](const char* name) { return vocabularies->contains(std::string(kVocabularies) + name); };
  out.applies = named("applicator"), out.leaves_over = named("unevaluated"), out.validates = named("validation");
  out.formats = named("format-assertion");
  for (const auto& entry : vocabularies->items()) {
    const bool known = entry.key().starts_with(kVocabularies) && meta_schema("https://json-schema.org/draft/2020-12/meta/" + entry.key().substr(kVocabularies.size())) != nullptr;
    if (known || entry.value() == Json(false)) continue;
    stop(Errc::unsupported, "\"$schema\" asks for the vocabulary \"" + entry.key() + "\", which is not known", "unknown_vocabulary", place.pointer + "/$schema");
  }
  return out;
}

/// Reads $schema, $id and anchors; changes the place when a new resource begins here.
void SchemaSurvey::declare(const Json& schema, SchemaPlace& place) {
  if (const Json* dialect = member(schema, "$schema"); dialect != nullptr && dialect->is_string()) {
    place.dialect = dialect_of(dialect->get_ref<const std::string&>(), place);
  }
  const bool hidden = place.dialect.legacy && schema.contains("$ref");
  const Json* id = member(schema, "$id");
  if (id == nullptr && place.dialect.legacy) id = member(schema, "id");
  if (id != nullptr && id->is_string() && !hidden) {
    std::string uri = resolve_uri(place.base, id->get_ref<const std::string&>());
    const auto hash = uri.find('#');
    const std::string fragment = hash == std::string::npos ? "" : uri.substr(hash + 1);
    if (hash != std::string::npos) uri.erase(hash);
    if (!fragment.empty() && place.dialect.legacy) anchors_.emplace(uri + "#" + fragment, &schema);
    if (uri != place.base) {
      place.base = uri;
      place.resource = begin_resource(uri, schema, place.pointer);
    }
  }
  if (place.dialect.legacy) return;
  for (const char* keyword : {"$anchor", "$dynamicAnchor"}) {
    const Json* anchor = member(schema, keyword);
    if (anchor == nullptr) continue;
    if (!anchor->is_string()) return malformed(place, keyword, "is a string");
    const auto& name = anchor->get_ref<const std::string&>();
    anchors_.emplace(place.base + "#" + name, &schema);
    if (keyword[1] == 'd') {
      dynamic_anchors_.push_back({name, &schema, place.resource});
    }
  }
}

std::optional<SchemaSurvey::Target> SchemaSurvey::resolve(const std::string& reference, const SchemaPlace& place, std::string_view keyword, std::string* anchor) {
  const std::string where = place.pointer + pointer_token(keyword);
  std::string uri = resolve_uri(place.base, reference);
  std::string fragment;
  if (const auto hash = uri.find('#'); hash != std::string::npos) {
    fragment = percent_decoded(uri.substr(hash + 1));
    uri.erase(hash);
  }
  auto resource = resources_.find(uri);
  if (resource == resources_.end()) {
    if (!load(uri, place.dialect)) {
      stop(Errc::unsupported, "\"" + reference + "\" refers to another document, which is not at hand; nothing is fetched, so put what it means under \"" +
                                  (place.dialect.legacy ? "definitions" : "$defs") + "\"", "remote_reference", where);
    }
    if (failed_) return std::nullopt;
    resource = resources_.find(uri);
  }
  const Json* target = resource->second.root;
  SchemaPlace at = place;
  at.pointer = resource->second.pointer;
  if (!fragment.empty() && fragment[0] != '/') {
    const auto found = anchors_.find(uri + "#" + fragment);
    if (found == anchors_.end()) {
      stop(Errc::malformed, "\"" + reference + "\" refers to an anchor that does not exist", "bad_reference", where);
      return std::nullopt;
    }
    target = found->second;
    if (anchor != nullptr) *anchor = fragment;
  } else if (!fragment.empty()) {
    std::size_t begin = 1;
    while (begin <= fragment.size()) {
      const auto end = std::min(fragment.find('/', begin), fragment.size());
      std::string token = fragment.substr(begin, end - begin);
      begin = end + 1;
      at.pointer += "/" + token;
      for (auto tilde = token.find('~'); tilde != std::string::npos; tilde = token.find('~', tilde + 1)) {
        token.replace(tilde, 2, token.compare(tilde, 2, "~1") == 0 ? "/" : "~");
      }
      const Json* next = nullptr;
      if (target->is_object()) {
        next = member(*target, token.c_str());
      } else if (target->is_array() && !token.empty() && token.size() < 8 && token.find_first_not_of("0123456789") == std::string::npos) {
        const auto index = static_cast<std::size_t>(std::stoul(token));
        if (index < target->size()) next = &(*target)[index];
      }
      if (next == nullptr) {
        stop(Errc::malformed, "\"" + reference + "\" refers to a place that does not exist", "bad_reference", where);
        return std::nullopt;
      }
      target = next;
    }
  }
  if (!target->is_object() && !target->is_boolean()) {
    stop(Errc::malformed, "\"" + reference + "\" does not refer to a schema", "bad_reference", where);
    return std::nullopt;
  }
  if (const SchemaPlace* known = place_of(*target)) return Target{target, *known};
  if (const SchemaPlace* root = place_of(*resource->second.root)) {  // A schema below an unknown keyword.
    at.base = root->base;
    at.resource = root->resource;
    at.dialect = root->dialect;
  }
  return Target{target, std::move(at)};
}

}  // namespace kontor::tools
