#include "agent/spec/text_tools.hpp"

#include <cstdint>
#include <cstdio>

namespace kontor::agent {

std::string shown_text(std::string_view text, std::size_t limit) {
  std::string out;
  std::size_t shown = 0;
  for (std::size_t at = 0; at < text.size(); ++shown) {
    if (shown == limit) return out + "...";
    const std::size_t length = tools::code_point_length(text, at);
    const std::uint32_t c = tools::code_point_at(text, at, length);
    if (tools::is_hidden(c) || (length == 1 && c >= 0x80)) {
      char buffer[16];
      std::snprintf(buffer, sizeof buffer, "\\u{%X}", static_cast<unsigned>(c));
      out += buffer;
    } else {
      out += text.substr(at, length);
    }
    at += length;
  }
  return out;
}

std::string did_you_mean(std::string_view suggestion) {
  return suggestion.empty() ? std::string() : " (did you mean '" + shown_text(suggestion, 120) + "'?)";
}

}  // namespace kontor::agent
