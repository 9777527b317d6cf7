// What a server says about a tool, checked: the parts that do not depend on the connection.

#include "tools/base64.hpp"
#include "tools/mcp/client.hpp"
#include "tools/mcp/headers.hpp"

#include <algorithm>
#include <set>

namespace kontor::tools::mcp {
namespace {

constexpr const char* kHeaderMark = "x-mcp-header";
constexpr std::size_t kNameBytesMax = 128;
constexpr int kSchemaDepthMax = 32;

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : static_cast<char>(c); });
  return text;
}

bool is_token(std::string_view text) {
  constexpr std::string_view kMarks = "!#$%&'*+-.^_`|~";
  return !text.empty() && std::all_of(text.begin(), text.end(), [&](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || kMarks.find(c) != std::string_view::npos;
  });
}

Error wrong(const std::string& what) { return fail(Errc::malformed, std::string(kHeaderMark) + ": " + what, "tool_definition"); }

/// How often the mark occurs in a schema as a keyword, wherever. Values of `properties` are schemas, their names are not.
int count_marks(const Json& schema, bool names, int depth) {
  if (depth > kSchemaDepthMax * 2) return 0;
  int count = 0;
  if (schema.is_array()) {
    for (const auto& item : schema) count += count_marks(item, false, depth + 1);
  } else if (schema.is_object()) {
    for (const auto& [key, value] : schema.items()) {
      if (!names && key == kHeaderMark) ++count;
      else if (!names && (key == "const" || key == "enum" || key == "default" || key == "examples")) continue;
      else count += count_marks(value, !names && (key == "properties" || key == "patternProperties" || key == "$defs"), depth + 1);
    }
  }
  return count;
}

struct Walk {
  std::set<std::string> names;
  Headers headers;
  int marks = 0;
};

std::string text_of(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_boolean()) return value.get<bool>() ? "true" : "false";
  return value.dump();
}

/// Properties reached by `properties` alone. `values` is null where the arguments have nothing.
Result<void> walk(const Json& schema, const Json* values, Walk& state, int depth) {
  if (depth > kSchemaDepthMax) return wrong("the schema is too deep");
  for (const auto& [property, described] : object_at(schema, "properties").items()) {
    if (!described.is_object()) continue;
    const Json* value = nullptr;
    if (values && values->is_object() && values->contains(property)) value = &values->at(property);
    if (const auto mark = described.find(kHeaderMark); mark != described.end()) {
      ++state.marks;
      if (!mark->is_string() || !is_token(mark->get<std::string>())) return wrong("the name for '" + property + "' is not the name of a header");
      const std::string name = mark->get<std::string>();
      if (!state.names.insert(lower(name)).second) return wrong("'" + name + "' is used twice");
      const std::string type = text_at(described, "type");
      if (type != "string" && type != "integer" && type != "boolean") return wrong("'" + property + "' is no text, whole number or boolean");
      if (value && !value->is_null() && value->is_primitive()) state.headers.emplace_back("Mcp-Param-" + name, header_value(text_of(*value)));
    }
    if (auto inner = walk(described, value, state, depth + 1); !inner) return inner.error();
  }
  return {};
}

}  // namespace

std::string header_value(const std::string& text) {
  const bool plain = std::all_of(text.begin(), text.end(), [](char c) { return (c >= 0x20 && c < 0x7f) || c == '\t'; });
  const auto blank = [](char c) { return c == ' ' || c == '\t'; };
  const bool edges = !text.empty() && (blank(text.front()) || blank(text.back()));
  const bool looks_encoded = text.starts_with("=?base64?") && text.ends_with("?=");
  return plain && !edges && !looks_encoded ? text : "=?base64?" + base64(text) + "?=";
}

std::optional<std::string> from_header_value(std::string_view value) {
  constexpr std::string_view kBegin = "=?base64?", kEnd = "?=";
  if (!value.starts_with(kBegin) || !value.ends_with(kEnd) || value.size() < kBegin.size() + kEnd.size()) return std::string(value);
  return from_base64(value.substr(kBegin.size(), value.size() - kBegin.size() - kEnd.size()));
}

Result<Headers> argument_headers(const Json& input_schema, const Json& arguments) {
  const int all = count_marks(input_schema, false, 0);
  if (all == 0) return Headers();
  Walk state;
  if (input_schema.contains(kHeaderMark)) return wrong("it stands at the whole schema");
  if (auto walked = walk(input_schema, &arguments, state, 0); !walked) return walked.error();
  if (state.marks != all) return wrong("it stands at a place that is not reached by properties alone");
  return std::move(state.headers);
}

std::string problem_of_definition(const Json& tool) {
  if (!tool.is_object()) return "it is not an object";
  const std::string name = text_at(tool, "name");
  if (name.empty()) return "it has no name";
  if (name.size() > kNameBytesMax) return "its name is longer than " + std::to_string(kNameBytesMax) + " bytes";
  const auto schema = tool.find("inputSchema");
  if (schema == tool.end() || !schema->is_object()) return "its inputSchema is not an object";
  return {};
}

}  // namespace kontor::tools::mcp
