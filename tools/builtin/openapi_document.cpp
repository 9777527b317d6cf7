#include "tools/builtin/openapi_document.hpp"

#include "tools/registry.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <set>

namespace kontor::tools {
namespace {

constexpr std::size_t kOperationsMax = 1000, kParametersMax = 100, kReferences = 8, kSchemaBytes = 256u << 10, kAllBytes = 16u << 20, kVisits = 200'000;
constexpr std::string_view kSchemas = "#/components/schemas/";

bool is_word(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-'; }

std::string text_of(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

std::string pointer(const std::string& base, std::string_view part) {
  std::string out = base + "/";
  for (const char c : part.substr(0, 200)) out += c == '~' ? "~0" : c == '/' ? "~1" : std::string(1, c);
  return out;
}

Error bad(const std::string& what, const std::string& where) { return fail(Errc::malformed, what, "openapi", where); }
Error unsupported(const std::string& what, const std::string& where) { return fail(Errc::unsupported, what, "openapi", where); }

std::string lower(std::string text) {
  for (char& c : text)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  return text;
}

bool is_json_type(std::string_view type) {
  type = type.substr(0, type.find(';'));
  return type == "application/json" || (type.starts_with("application/") && type.ends_with("+json"));
}

bool is_form_type(std::string_view type) { return type.substr(0, type.find(';')) == "application/x-www-form-urlencoded"; }

class Reader {
 public:
  Reader(const Json& document, const std::vector<std::string>& only) : document_(document), only_(only) {}

  Result<ApiDocument> read() {
    if (!document_.is_object()) return bad("an OpenAPI document is an object", "");
    const std::string version = text_of(document_, "openapi");
    schemas_of_3_0_ = version.starts_with("3.0.");
    if (!schemas_of_3_0_ && !version.starts_with("3.1.")) return unsupported("'openapi' has to be 3.0.x or 3.1.x" + (version.empty() ? std::string() : ", not " + version.substr(0, 20)) + "; converters for 2.0 exist", "/openapi");
    if (const std::string dialect = text_of(document_, "jsonSchemaDialect"); !dialect.empty() && dialect != "https://spec.openapis.org/oas/3.1/dialect/base" && dialect != "https://json-schema.org/draft/2020-12/schema")
      return unsupported("schemas of the dialect " + dialect.substr(0, 100), "/jsonSchemaDialect");
    ApiDocument out;
    if (const auto servers = document_.find("servers"); servers != document_.end() && servers->is_array() && !servers->empty() && servers->front().is_object()) {
      const std::string url = text_of(servers->front(), "url");
      if (url.find('{') == std::string::npos && (url.starts_with("https://") || url.starts_with("http://"))) out.server = url;
    }
    const auto paths = document_.find("paths");
    if (paths == document_.end()) return bad("'paths' is missing", "");
    if (!paths->is_object()) return bad("'paths' is an object", "/paths");
    for (const auto& [path, item] : paths->items()) {
      if (path.starts_with("x-")) continue;
      if (auto done = path_item(path, item, pointer("/paths", path), out); !done) return done.error();
    }
    return out;
  }

 private:
  /// The object itself, or what its `$ref` leads to among the components of that kind.
  Result<const Json*> resolved(const Json& start, const std::string& kind, const std::string& where) const {
    const Json* at = &start;
    for (std::size_t hops = 0; hops < kReferences; ++hops) {
      if (!at->is_object()) return bad("an object is expected here", where);
      const auto ref = at->find("$ref");
      if (ref == at->end()) return at;
      const std::string prefix = "#/components/" + kind + "/", target = ref->is_string() ? ref->get<std::string>() : std::string();
      if (!target.starts_with(prefix)) return unsupported("references lead to " + prefix + "NAME only, not to '" + target.substr(0, 100) + "'", where);
      at = component(kind, target.substr(prefix.size()));
      if (!at) return bad("'" + target.substr(0, 100) + "' does not exist", where);
    }
    return bad("a chain of more than " + std::to_string(kReferences) + " references", where);
  }

  const Json* component(const std::string& kind, const std::string& name) const {
    const auto components = document_.find("components");
    if (components == document_.end() || !components->is_object()) return nullptr;
    const auto all = components->find(kind);
    if (all == components->end() || !all->is_object()) return nullptr;
    const auto found = all->find(name);
    return found == all->end() ? nullptr : &*found;
  }

  Result<void> path_item(const std::string& path, const Json& given, const std::string& where, ApiDocument& out) {
    if (!path.starts_with('/') || path.find_first_of("?# \\") != std::string::npos || path.size() > 2000) return bad("a path begins with '/' and has no '?', '#' or blanks", where);
    auto item = resolved(given, "pathItems", where);
    if (!item && item.error().code == Errc::unsupported && !only_.empty()) return {};  // its operations have no names here
    if (!item) return item.error();
    for (const char* method : {"get", "put", "post", "delete", "patch"}) {
      const auto found = (*item)->find(method);
      if (found == (*item)->end()) continue;
      const std::string place = where + "/" + method;
      if (!found->is_object()) return bad("an operation is an object", place);
      const std::string name = name_of(*found, method, path);
      if (!only_.empty() && std::none_of(only_.begin(), only_.end(), [&](const auto& glob) { return glob_match(glob, name); })) continue;
      if (!names_.insert(name).second) return bad("two operations are called '" + name + "'", place);
      if (names_.size() > kOperationsMax) return fail(Errc::limit, "more than " + std::to_string(kOperationsMax) + " operations; name some with `only`", "openapi");
      auto made = operation(name, method, path, **item, *found, place);
      if (!made) return made.error();
      out.operations.push_back(std::move(*made));
    }
    return {};
  }

  static std::string name_of(const Json& operation, const std::string& method, const std::string& path) {
    std::string name = text_of(operation, "operationId");
    if (name.empty()) name = method + path;
    std::string out;
    for (const char c : name) {
      if (is_word(c)) out += c;
      else if (!out.empty() && out.back() != '_') out += '_';
    }
    while (!out.empty() && out.back() == '_') out.pop_back();
    return out.empty() ? method : out.substr(0, 64);
  }

  Result<ApiOperation> operation(const std::string& name, const std::string& method, const std::string& path, const Json& item, const Json& given, const std::string& where) {
    ApiOperation out;
    out.name = out.spec.name = name;
    out.path = path;
    out.method = method;
    for (char& c : out.method) c = static_cast<char>(c - 32);
    out.spec.description = (text_of(given, "summary").empty() ? text_of(given, "description") : text_of(given, "summary")).substr(0, 1000);
    if (out.spec.description.empty()) out.spec.description = out.method + " " + path;
    while (!out.spec.description.empty() && (static_cast<unsigned char>(out.spec.description.back()) & 0x80) && out.spec.description.size() >= 997) out.spec.description.pop_back();  // no half character
    out.spec.effect = method == "get" ? Effect::none : method == "put" || method == "delete" ? Effect::idempotent : Effect::once;
    out.spec.untrusted_output = true;
    out.spec.timeout_ms = 600'000;
    properties_ = Json::object();
    required_ = Json::array();
    definitions_ = Json::object();
    std::vector<std::pair<const Json*, std::string>> found;
    for (const auto& [owner, base] : {std::pair(&item, where.substr(0, where.rfind('/'))), std::pair(&given, where)}) {
      const auto list = owner->find("parameters");
      if (list == owner->end()) continue;
      if (!list->is_array() || list->size() > kParametersMax) return bad("'parameters' is a list of at most " + std::to_string(kParametersMax), base + "/parameters");
      for (std::size_t i = 0; i < list->size(); ++i) {
        const std::string place = base + "/parameters/" + std::to_string(i);
        auto parameter = resolved((*list)[i], "parameters", place);
        if (!parameter) return parameter.error();
        // The operation's own come last and replace those of the path.
        std::erase_if(found, [&](const auto& before) { return text_of(*before.first, "name") == text_of(**parameter, "name") && text_of(*before.first, "in") == text_of(**parameter, "in"); });
        found.emplace_back(*parameter, place);
      }
    }
    for (const auto& [parameter, place] : found) {
      if (auto done = add_parameter(*parameter, place, out); !done) return done.error();
    }
    if (auto fits = check_path(out, where); !fits) return fits.error();
    if (const auto body = given.find("requestBody"); body != given.end()) {
      if (auto done = add_body(*body, where + "/requestBody", out); !done) return done.error();
    }
    out.spec.parameters = Json{{"type", "object"}, {"properties", std::move(properties_)}, {"required", std::move(required_)}, {"additionalProperties", false}};
    if (!definitions_.empty()) out.spec.parameters["$defs"] = std::move(definitions_);
    const std::size_t bytes = out.spec.parameters.dump().size();
    all_bytes_ += bytes;
    if (bytes > kSchemaBytes || all_bytes_ > kAllBytes) return fail(Errc::limit, "the schema of the arguments of '" + name + "' is too long; name other operations with `only`", "openapi", where);
    return out;
  }

  /// Every {name} has its parameter, and every path parameter its {name}.
  static Result<void> check_path(const ApiOperation& operation, const std::string& where) {
    std::set<std::string> written;
    for (std::size_t at = operation.path.find('{'); at != std::string::npos; at = operation.path.find('{', at)) {
      const auto end = operation.path.find('}', at);
      if (end == std::string::npos) return bad("a '{' of the path is not closed", where);
      written.insert(operation.path.substr(at + 1, end - at - 1));
      at = end;
    }
    for (const auto& parameter : operation.parameters) {
      if (parameter.place == ApiParameter::Place::path && written.erase(parameter.name) == 0) return bad("the path has no {" + parameter.name.substr(0, 80) + "}", where);
    }
    if (!written.empty()) return bad("{" + written.begin()->substr(0, 80) + "} of the path is no parameter", where);
    return {};
  }

  Result<void> add_parameter(const Json& given, const std::string& where, ApiOperation& out) {
    ApiParameter parameter;
    parameter.name = text_of(given, "name");
    const std::string in = text_of(given, "in");
    if (parameter.name.empty() || parameter.name.size() > 200) return bad("a parameter has a 'name' of at most 200 bytes", where);
    bool required = given.contains("required") && given["required"] == Json(true);
    const std::string style = text_of(given, "style");
    using Place = ApiParameter::Place;
    using Style = ApiParameter::Style;
    if (in == "cookie") {
      if (required) return unsupported("a required parameter in a cookie", where);
      return {};
    }
    if (in == "header") {
      const std::string header = lower(parameter.name);
      if (header == "accept" || header == "content-type" || header == "authorization") return {};  // as the specification says
      constexpr std::array<std::string_view, 6> kOwn{"host", "content-length", "transfer-encoding", "connection", "expect", "cookie"};
      if (std::find(kOwn.begin(), kOwn.end(), header) != kOwn.end()) return unsupported("the header " + header + " as a parameter", where);
      if (!std::all_of(parameter.name.begin(), parameter.name.end(), is_word)) return bad("a header's name has letters, digits, '-' and '_'", where);
      parameter.place = Place::header;
      parameter.style = Style::simple;
    } else if (in == "path") {
      parameter.place = Place::path;
      parameter.style = Style::simple;
      required = true;
    } else if (in != "query") {
      return bad("'in' is path, query, header or cookie", where);
    }
    parameter.explode = parameter.style == Style::form;
    if (const auto explode = given.find("explode"); explode != given.end()) parameter.explode = *explode == Json(true);
    const char* usual = parameter.place == Place::query ? "form" : "simple";
    if (style == "deepObject" && parameter.place == Place::query) parameter.style = Style::deep_object;
    else if (!style.empty() && style != usual) return unsupported("style '" + style.substr(0, 40) + "' of a parameter", where);
    if (given.contains("allowReserved") && given["allowReserved"] == Json(true)) return unsupported("'allowReserved' of a parameter", where);
    Json schema = true;
    if (const auto content = given.find("content"); content != given.end()) {
      if (!content->is_object() || content->size() != 1 || !is_json_type(content->begin().key())) return unsupported("a parameter whose content is not JSON", where);
      parameter.style = Style::json;
      if (content->begin().value().is_object() && content->begin().value().contains("schema")) schema = content->begin().value()["schema"];
    } else if (given.contains("schema")) {
      schema = given["schema"];
    }
    parameter.key = free_key(parameter.name, in);
    if (auto done = add_property(parameter.key, std::move(schema), text_of(given, "description"), required, where); !done) return done.error();
    out.parameters.push_back(std::move(parameter));
    return {};
  }

  Result<void> add_body(const Json& given, const std::string& where, ApiOperation& out) {
    auto body = resolved(given, "requestBodies", where);
    if (!body) return body.error();
    const auto content = (*body)->find("content");
    if (content == (*body)->end() || !content->is_object() || content->empty()) return bad("a body has its 'content'", where);
    const Json* media = nullptr;
    for (const auto& [type, value] : content->items()) {
      const bool fits = is_json_type(type) || type.starts_with("text/plain") || is_form_type(type);
      if (!fits || (media && !is_json_type(type)) || type.size() > 100 || std::any_of(type.begin(), type.end(), [](unsigned char c) { return c < 0x20 || c > 0x7e; })) continue;
      media = &value;
      out.body_type = type;
      if (is_json_type(type)) break;
    }
    const bool required = (*body)->contains("required") && (**body)["required"] == Json(true);
    if (!media) return unsupported("a body that is neither JSON, a form of fields, nor plain text", where + "/content");
    Json schema = is_form_type(out.body_type) ? Json{{"type", "object"}} : Json(true);
    if (out.body_type.starts_with("text/")) schema = Json{{"type", "string"}};
    else if (media->is_object() && media->contains("schema")) schema = (*media)["schema"];
    if (is_form_type(out.body_type) && media->is_object() && media->contains("encoding")) return unsupported("'encoding' of a form", where + "/content");
    out.body_key = free_key("body", "request");
    return add_property(out.body_key, std::move(schema), text_of(**body, "description"), required, where);
  }

  std::string free_key(const std::string& name, const std::string& in) const {
    std::string key = name;
    if (properties_.contains(key)) key = in + "_" + name;
    while (properties_.contains(key)) key += "_";
    return key;
  }

  Result<void> add_property(const std::string& key, Json schema, const std::string& description, bool required, const std::string& where) {
    if (!schema.is_object() && !schema.is_boolean()) return bad("a schema is an object or true or false", where);
    if (auto done = localize(schema, where, 0); !done) return done.error();
    if (!description.empty() && description.size() <= 1000 && (schema == Json(true) || (schema.is_object() && !schema.contains("description")))) {
      if (schema.is_boolean()) schema = Json::object();
      schema["description"] = description;
    }
    properties_[key] = std::move(schema);
    if (required) required_.push_back(key);
    return {};
  }

  /// The keywords that OpenAPI 3.0 has in its own way, as JSON Schema 2020-12 writes them.
  static void modernize(Json& schema) {
    if (const auto reference = schema.find("$ref"); reference != schema.end()) {
      schema = Json{{"$ref", *reference}};  // what stands beside it does not count
      return;
    }
    const auto nullable = schema.find("nullable");
    const bool null = nullable != schema.end() && *nullable == Json(true);
    if (nullable != schema.end()) schema.erase(nullable);
    if (const auto type = schema.find("type"); null && type != schema.end() && type->is_string()) {
      *type = Json::array({*type, "null"});
      if (const auto list = schema.find("enum"); list != schema.end() && list->is_array() && std::find(list->begin(), list->end(), Json(nullptr)) == list->end()) list->push_back(nullptr);
    }
    for (const auto& [bound, exclusive] : {std::pair("minimum", "exclusiveMinimum"), std::pair("maximum", "exclusiveMaximum")}) {
      const auto flag = schema.find(exclusive);
      if (flag == schema.end() || !flag->is_boolean()) continue;
      const bool set = *flag == Json(true) && schema.contains(bound);
      if (set) *flag = schema[bound];
      schema.erase(set ? bound : exclusive);
    }
  }

  /// References to schemas of the document become references to $defs, and those schemas come along. `names`: the
  /// members are schemas under names of the document, not keywords.
  Result<void> localize(Json& value, const std::string& where, std::size_t depth, bool names = false) {
    if (++visits_ > kVisits) return fail(Errc::limit, "the document's schemas are too large; name some operations with `only`", "openapi", where);
    if (depth > 100) return fail(Errc::limit, "a schema is nested more than 100 deep", "openapi", where);
    if (value.is_array()) {
      for (auto& member : value) {
        if (auto done = localize(member, where, depth + 1); !done) return done;
      }
    }
    if (!value.is_object()) return {};
    if (names) {
      for (auto& member : value) {
        if (auto done = localize(member, where, depth + 1); !done) return done;
      }
      return {};
    }
    for (const char* note : {"example", "examples", "externalDocs", "xml", "discriminator"}) value.erase(note);  // annotations, often long
    if (schemas_of_3_0_) modernize(value);
    for (auto& [key, member] : value.items()) {
      if (key == "const" || key == "enum" || key == "default") continue;
      if (key != "$ref" || !member.is_string()) {
        if (key == "$id" && member.is_string()) return unsupported("'$id' in a schema", where);
        const bool map = key == "properties" || key == "patternProperties" || key == "dependentSchemas" || key == "$defs";
        if (auto done = localize(member, where, depth + 1, map); !done) return done;
        continue;
      }
      const std::string target = member.get<std::string>();
      const std::string name = target.starts_with(kSchemas) ? target.substr(kSchemas.size()) : std::string();
      if (name.empty() || name.find_first_of("/~%") != std::string::npos) return unsupported("references in schemas lead to " + std::string(kSchemas) + "NAME only, not to '" + target.substr(0, 100) + "'", where);
      member = "#/$defs/" + name;
      if (definitions_.contains(name)) continue;
      const Json* found = component("schemas", name);
      if (!found) return bad("'" + target.substr(0, 100) + "' does not exist", where);
      definitions_[name] = true;  // Schemas may refer to each other in circles.
      Json copy = *found;
      if (auto done = localize(copy, where, depth + 1); !done) return done;
      definitions_[name] = std::move(copy);
    }
    return {};
  }

  const Json& document_;
  const std::vector<std::string>& only_;
  std::set<std::string> names_;
  Json properties_, required_, definitions_;
  std::size_t visits_ = 0, all_bytes_ = 0;
  bool schemas_of_3_0_ = false;
};

std::string escaped(std::string_view text) {
  static constexpr char kHex[] = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (is_word(c) || c == '.' || c == '~') out += c;
    else out += std::string("%") + kHex[byte >> 4] + kHex[byte & 15];
  }
  return out;
}

std::string plain(const Json& value) { return value.is_string() ? value.get<std::string>() : value.is_null() ? "" : value.dump(); }

Error nested(const ApiParameter& parameter) { return fail(Errc::usage, "argument '" + parameter.key + "': lists and objects inside of it cannot be written into a request", "argument"); }

bool is_flat(const Json& value) { return std::none_of(value.begin(), value.end(), [](const Json& member) { return member.is_structured(); }); }

/// Lists and objects as "a,b" (objects: "k,v"; exploded "k=v").
template <class Write>
Result<std::string> joined(const ApiParameter& parameter, const Json& value, const Write& write) {
  if (parameter.style == ApiParameter::Style::json) return write(value.dump());
  if (!value.is_structured()) return write(plain(value));
  if (!is_flat(value)) return nested(parameter);
  std::string out;
  for (const auto& [key, member] : value.items()) {
    if (!out.empty()) out += ',';
    if (value.is_object()) out += write(key) + (parameter.explode ? "=" : ",");
    out += write(plain(member));
  }
  return out;
}

Result<std::string> query_part(const ApiParameter& parameter, const Json& value) {
  const std::string name = escaped(parameter.name);
  const bool deep = parameter.style == ApiParameter::Style::deep_object;
  if (deep && !value.is_object()) return fail(Errc::usage, "argument '" + parameter.key + "': an object is expected", "argument");
  if (value.is_structured() && parameter.style != ApiParameter::Style::json && (deep || parameter.explode)) {
    if (!is_flat(value)) return nested(parameter);
    std::string out;
    for (const auto& [key, member] : value.items()) {
      out += (out.empty() ? "" : "&") + (deep ? name + "%5B" + escaped(key) + "%5D" : value.is_object() ? escaped(key) : name) + "=" + escaped(plain(member));
    }
    return out;
  }
  auto text = joined(parameter, value, escaped);
  if (!text) return text;
  return name + "=" + *text;
}

}  // namespace

Result<ApiDocument> read_api_document(const Json& document, const std::vector<std::string>& only) { return Reader(document, only).read(); }

Result<std::string> api_target(const ApiOperation& operation, const Json& arguments) {
  std::string path = operation.path, query;
  std::size_t at = 0;
  std::string out;
  while (at < path.size()) {
    const auto open = path.find('{', at);
    out += path.substr(at, open == std::string::npos ? open : open - at);
    if (open == std::string::npos) break;
    const auto close = path.find('}', open);
    const std::string name = path.substr(open + 1, close - open - 1);
    at = close + 1;
    for (const auto& parameter : operation.parameters) {
      if (parameter.place != ApiParameter::Place::path || parameter.name != name) continue;
      auto text = joined(parameter, arguments.at(parameter.key), escaped);
      if (!text) return text;
      if (text->empty()) return fail(Errc::usage, "argument '" + parameter.key + "': a part of a path is not empty", "argument");
      out += *text;
    }
  }
  // "." and ".." would leave the place that the path names.
  for (std::size_t begin = 1; begin <= out.size();) {
    const std::size_t end = std::min(out.find('/', begin), out.size());
    const std::string part = out.substr(begin, end - begin);
    if (part == "." || part == "..") return fail(Errc::usage, "a part of the path would be '" + part + "'", "argument");
    begin = end + 1;
  }
  for (const auto& parameter : operation.parameters) {
    if (parameter.place != ApiParameter::Place::query || !arguments.contains(parameter.key)) continue;
    auto part = query_part(parameter, arguments.at(parameter.key));
    if (!part) return part;
    if (!part->empty()) query += (query.empty() ? "?" : "&") + *part;
  }
  return out + query;
}

Result<std::string> api_body(const ApiOperation& operation, const Json& body) {
  if (operation.body_type.starts_with("text/") && body.is_string()) return body.get<std::string>();
  if (!is_form_type(operation.body_type)) return body.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (!body.is_object()) return fail(Errc::usage, "argument '" + operation.body_key + "': an object of fields is expected", "argument");
  std::string out;
  const auto add = [&](const std::string& key, const Json& value) { out += (out.empty() ? "" : "&") + escaped(key) + "=" + escaped(plain(value)); };
  for (const auto& [key, value] : body.items()) {
    if (value.is_object() || (value.is_array() && !is_flat(value))) return fail(Errc::usage, "argument '" + operation.body_key + "." + key + "': lists of lists and objects cannot be written into a form", "argument");
    if (!value.is_array()) add(key, value);
    else for (const auto& member : value) add(key, member);
  }
  return out;
}

Result<std::string> api_header(const ApiParameter& parameter, const Json& value) {
  return joined(parameter, value, [](const std::string& text) { return text; });
}

}  // namespace kontor::tools
