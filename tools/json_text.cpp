#include "tools/json_text.hpp"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <cstring>
#include <string_view>

namespace kontor::tools {
namespace {

/// The length of the start of `text` that is written as it stands: ASCII without controls, quotes and backslashes.
std::size_t plain_length(std::string_view text) {
  constexpr std::uint64_t kOnes = 0x0101010101010101, kHigh = 0x8080808080808080;
  std::size_t at = 0;
  for (; at + 8 <= text.size(); at += 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, text.data() + at, 8);
    const std::uint64_t quotes = word ^ (kOnes * '"'), slashes = word ^ (kOnes * '\\');
    // A borrow can mark a byte behind one that is really special, never hide one.
    if (((word | (word - kOnes * 0x20) | (quotes - kOnes) | (slashes - kOnes)) & kHigh) != 0) break;
  }
  while (at < text.size()) {
    const auto byte = static_cast<unsigned char>(text[at]);
    if (byte < 0x20 || byte >= 0x80 || byte == '"' || byte == '\\') break;
    ++at;
  }
  return at;
}

/// Of one byte that JSON writes as a backslash and a letter; 0 for others.
char short_escape(char byte) {
  switch (byte) {
    case '"': return '"';
    case '\\': return '\\';
    case '\b': return 'b';
    case '\f': return 'f';
    case '\n': return 'n';
    case '\r': return 'r';
    case '\t': return 't';
    default: return 0;
  }
}

void append_string(const std::string& text, std::string& out) {
  const std::size_t begin = out.size();
  out += '"';
  for (std::string_view rest = text; !rest.empty();) {
    const std::size_t plain = plain_length(rest);
    out += rest.substr(0, plain);
    rest.remove_prefix(plain);
    if (rest.empty()) break;
    const char escape = short_escape(rest.front());
    if (escape == 0) {  // Other controls, and what has to be checked for being UTF-8.
      out.resize(begin);
      out += Json(text).dump(-1, ' ', false, Json::error_handler_t::replace);
      return;
    }
    out += '\\';
    out += escape;
    rest.remove_prefix(1);
  }
  out += '"';
}

}  // namespace

void append_json(const Json& value, std::string& out) {
  char before = 0;
  if (const auto* members = value.get_ptr<const Json::object_t*>()) {
    if (members->empty()) out += '{';
    for (const auto& [key, member] : *members) {
      out += before == 0 ? '{' : ',';
      before = ',';
      append_string(key, out);
      out += ':';
      append_json(member, out);
    }
    out += '}';
  } else if (const auto* elements = value.get_ptr<const Json::array_t*>()) {
    if (elements->empty()) out += '[';
    for (const auto& element : *elements) {
      out += before == 0 ? '[' : ',';
      before = ',';
      append_json(element, out);
    }
    out += ']';
  } else if (const auto* text = value.get_ptr<const std::string*>()) {
    append_string(*text, out);
  } else {
    out += value.dump(-1, ' ', false, Json::error_handler_t::replace);
  }
}

std::string compact_json(const Json& value) {
  std::string out;
  append_json(value, out);
  return out;
}

}  // namespace kontor::tools
