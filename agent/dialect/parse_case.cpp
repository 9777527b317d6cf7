#include "agent/dialect/parse_case.hpp"

#include "agent/dialect/formats.hpp"

#include <algorithm>
#include <array>
#include <utility>

namespace kontor::agent {
namespace {

// What a repeat may expand to: more than any parser limit, less than the machine.
constexpr std::size_t kInputBytes = 64u << 20;

Error wrong(const std::string& what, std::string_view word, std::string_view allowed) {
  return fail(Errc::usage, what + " '" + std::string(word) + "' is not one of " + std::string(allowed));
}

Result<std::string> decode_base64(std::string_view text) {
  std::string out;
  out.reserve(text.size() / 4 * 3);
  std::uint32_t bits = 0;
  int count = 0;
  while (!text.empty() && text.back() == '=') text.remove_suffix(1);
  for (const char c : text) {
    int value;
    if (c >= 'A' && c <= 'Z') value = c - 'A';
    else if (c >= 'a' && c <= 'z') value = c - 'a' + 26;
    else if (c >= '0' && c <= '9') value = c - '0' + 52;
    else if (c == '+' || c == '-') value = 62;
    else if (c == '/' || c == '_') value = 63;
    else return fail(Errc::malformed, "not base64");
    bits = bits << 6 | static_cast<std::uint32_t>(value);
    if ((count += 6) >= 8) out += static_cast<char>(bits >> (count -= 8) & 0xFF);
  }
  return out;
}

Result<std::string> decode(const Json& value, bool base64) {
  if (!value.is_string()) return fail(Errc::malformed, "input must be a string");
  const auto& text = value.get_ref<const std::string&>();
  return base64 ? decode_base64(text) : Result<std::string>(text);
}

/// [text | {"repeat", "count"}, ...], concatenated.
Result<std::string> expand(const Json& parts) {
  std::string out;
  for (const auto& part : parts) {
    if (part.is_string()) {
      out += part.get_ref<const std::string&>();
      continue;
    }
    if (!part.is_object() || !part.contains("repeat") || !part["repeat"].is_string() || !part.contains("count") ||
        !part["count"].is_number_unsigned()) {
      return fail(Errc::malformed, "input_parts holds texts and {\"repeat\": text, \"count\": number}");
    }
    const auto& text = part["repeat"].get_ref<const std::string&>();
    const auto count = part["count"].get<std::uint64_t>();
    if (!text.empty() && count > (kInputBytes - std::min(out.size(), kInputBytes)) / text.size()) {
      return fail(Errc::limit, "input_parts expands to more than 64 MiB");
    }
    for (std::uint64_t i = 0; i < count && !text.empty(); ++i) out += text;
  }
  return out;
}

Result<ParseCase::Piece> read_piece(const Json& value) {
  if (!value.is_object() || !value.contains("t") || !value["t"].is_string()) {
    return fail(Errc::malformed, "pieces holds {\"t\": text, \"special\": bool}");
  }
  const auto special = value.find("special");
  return ParseCase::Piece{value["t"].get<std::string>(), special != value.end() && special->is_boolean() && special->get<bool>()};
}

Result<std::vector<ParseCase::Piece>> read_input(const Json& line) {
  constexpr std::array<const char*, 6> kKeys = {"input", "chunks", "input_b64", "chunks_b64", "input_parts", "pieces"};
  const char* key = nullptr;
  for (const char* candidate : kKeys) {
    if (!line.contains(candidate)) continue;
    if (key) return fail(Errc::malformed, std::string(key) + " and " + candidate + " exclude each other");
    key = candidate;
  }
  if (!key) return fail(Errc::malformed, "no input: one of input, chunks, input_b64, chunks_b64, input_parts, pieces is needed");
  const std::string_view name = key;
  const Json& value = line[key];
  const bool base64 = name.ends_with("_b64");
  std::vector<ParseCase::Piece> pieces;
  if (name == "input" || name == "input_b64" || name == "input_parts") {
    if (name == "input_parts" && !value.is_array()) return fail(Errc::malformed, "input_parts must be an array");
    auto text = name == "input_parts" ? expand(value) : decode(value, base64);
    if (!text) return text.error();
    pieces.push_back({std::move(*text), false});
    return pieces;
  }
  if (!value.is_array()) return fail(Errc::malformed, std::string(key) + " must be an array");
  for (const auto& item : value) {
    if (name == "pieces") {
      auto piece = read_piece(item);
      if (!piece) return piece.error();
      pieces.push_back(std::move(*piece));
    } else {
      auto text = decode(item, base64);
      if (!text) return text.error();
      pieces.push_back({std::move(*text), false});
    }
  }
  return pieces;
}

template <class T>
Result<void> read_word(const Json& line, const char* key, T& out, Result<T> (*read)(std::string_view)) {
  const auto found = line.find(key);
  if (found == line.end() || found->is_null()) return {};
  if (!found->is_string()) return fail(Errc::malformed, std::string(key) + " must be a string");
  auto value = read(found->template get_ref<const std::string&>());
  if (!value) return value.error();
  out = std::move(*value);
  return {};
}

}  // namespace

Result<Prefill> parse_prefill(std::string_view word) {
  if (word == "none") return Prefill::none;
  if (word == "open") return Prefill::open;
  if (word == "closed") return Prefill::closed;
  return wrong("prefill", word, "none, open, closed");
}

Result<ParseMode> parse_mode(std::string_view word) {
  if (word == "lenient") return ParseMode::lenient;
  if (word == "strict") return ParseMode::strict;
  return wrong("mode", word, "lenient, strict");
}

Result<Finish> parse_finish(std::string_view word) {
  if (word == "stop") return Finish::stop;
  if (word == "length") return Finish::length;
  return wrong("finish", word, "stop, length");
}

Result<MarkerPolicy> parse_marker_policy(std::string_view word) {
  if (word == "text") return MarkerPolicy::text;
  if (word == "token") return MarkerPolicy::token;
  return wrong("marker_policy", word, "text, token");
}

Result<std::string> parse_format(std::string_view word) {
  if (dialect::known_format(word)) return std::string(word);
  std::string names;
  for (const auto& name : dialect::format_names()) names += (names.empty() ? "" : ", ") + name;
  return wrong("format", word, names);
}

Result<ParseCase> read_parse_case(const Json& line, const ParseCase& defaults) {
  if (!line.is_object()) return fail(Errc::malformed, "a case must be a JSON object");
  ParseCase out = defaults;
  if (const auto id = line.find("id"); id != line.end()) out.id = id->is_string() ? id->get<std::string>() : id->dump();
  for (const auto& done : {read_word(line, "format", out.options.format, parse_format),
                           read_word(line, "prefill", out.options.prefill, parse_prefill),
                           read_word(line, "mode", out.options.mode, parse_mode),
                           read_word(line, "marker_policy", out.options.markers, parse_marker_policy),
                           read_word(line, "finish", out.finish, parse_finish)}) {
    if (!done) return done.error();
  }
  if (const auto flag = line.find("fallbacks"); flag != line.end() && flag->is_boolean()) out.options.fallbacks = flag->get<bool>();
  if (const auto tools = line.find("tools"); tools != line.end() && tools->is_array()) {
    out.options.tools.emplace();
    for (const auto& tool : *tools) {
      if (!tool.is_string()) return fail(Errc::malformed, "tools must be an array of names");
      out.options.tools->push_back(tool.get<std::string>());
    }
  }
  auto pieces = read_input(line);
  if (!pieces) return pieces.error();
  out.pieces = std::move(*pieces);
  return out;
}

ParseResult run_parse_case(const ParseCase& parse_case, std::size_t chunk, const std::function<void(const ParseEvent&)>& sink) {
  Parser parser(parse_case.options, sink);
  for (const auto& piece : parse_case.pieces) {
    const std::string_view bytes = piece.bytes;
    if (chunk == 0 || piece.control) {
      parser.feed(bytes, piece.control);
      continue;
    }
    for (std::size_t at = 0; at < bytes.size(); at += chunk) parser.feed(bytes.substr(at, chunk), false);
  }
  return parser.finish(parse_case.finish);
}

Json to_json(ParseResult result) {
  Json calls = Json::array();
  for (auto& call : result.calls) {
    Json item = Json::object();
    item["name"] = std::move(call.name);
    item["arguments"] = std::move(call.arguments);
    calls.push_back(std::move(item));
  }
  Json errors = Json::array();
  for (auto& error : result.errors) {
    Json item = Json::object();
    item["kind"] = std::move(error.kind);
    if (!error.name.empty()) item["name"] = std::move(error.name);
    errors.push_back(std::move(item));
  }
  Json out = Json::object();
  out["reasoning"] = std::move(result.reasoning);
  out["content"] = std::move(result.content);
  out["tool_calls"] = std::move(calls);
  out["errors"] = std::move(errors);
  out["warnings"] = Json(result.warnings);
  return out;
}

}  // namespace kontor::agent
