#include "agent/spec/source_text.hpp"

#include "agent/spec/text_tools.hpp"

#include <algorithm>
#include <cstdio>

namespace kontor::agent {
namespace {

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

std::string code_point_name(std::uint32_t c) {
  char buffer[16];
  std::snprintf(buffer, sizeof buffer, "U+%04X", static_cast<unsigned>(c));
  return buffer;
}

bool is_allowed(std::uint32_t c) {
  if (c == '\t' || c == '\n' || c == '\r' || c == 0x85) return true;
  if (c < 0x20 || (c >= 0x7F && c < 0xA0)) return false;
  return c != 0xFFFE && c != 0xFFFF;
}

/// Reads one code point; false when the bytes are not UTF-8 (RFC 3629: shortest form, no surrogates, up to 10FFFF).
bool decode(std::string_view text, std::size_t at, std::uint32_t& c, std::size_t& length) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned lead = byte(at);
  length = 1;
  if (lead < 0x80) {
    c = lead;
    return true;
  }
  const std::size_t wanted = lead >= 0xC2 && lead <= 0xDF ? 2 : lead >= 0xE0 && lead <= 0xEF ? 3 : lead >= 0xF0 && lead <= 0xF4 ? 4 : 0;
  if (wanted == 0 || at + wanted > text.size()) return false;
  c = lead & (0x7Fu >> wanted);
  for (std::size_t i = 1; i < wanted; ++i) {
    if ((byte(at + i) & 0xC0) != 0x80) return false;
    c = c << 6 | (byte(at + i) & 0x3F);
  }
  static constexpr std::uint32_t kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};
  if (c < kSmallest[wanted] || c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF)) return false;
  length = wanted;
  return true;
}

}  // namespace

SourceText::SourceText(std::string bytes) : bytes_(std::move(bytes)), text_(bytes_) {
  if (text_.substr(0, kByteOrderMark.size()) == kByteOrderMark) text_.remove_prefix(kByteOrderMark.size());
}

std::optional<EncodingProblem> SourceText::check_encoding() const {
  const std::string_view start = text_.substr(0, 2);
  if (start == "\xFF\xFE" || start == "\xFE\xFF") return EncodingProblem{0, "the file is UTF-16; save it as UTF-8"};
  for (std::size_t at = 0; at < text_.size();) {
    std::uint32_t c = 0;
    std::size_t length = 1;
    if (!decode(text_, at, c, length)) {
      char buffer[64];
      std::snprintf(buffer, sizeof buffer, "the byte 0x%02X is not UTF-8; save the file as UTF-8", static_cast<unsigned char>(text_[at]));
      return EncodingProblem{at, buffer};
    }
    if (!is_allowed(c)) {
      return EncodingProblem{at, c == 0 ? "a NUL byte is not allowed in YAML" : "the control character " + code_point_name(c) + " is not allowed in YAML"};
    }
    at += length;
  }
  return std::nullopt;
}

Place SourceText::place(std::size_t offset) const {
  if (lines_.empty()) {
    lines_.push_back(0);
    for (std::size_t at = 0; at < text_.size(); ++at) {
      if (text_[at] == '\r' && at + 1 < text_.size() && text_[at + 1] == '\n') continue;
      if (text_[at] == '\n' || text_[at] == '\r') lines_.push_back(static_cast<std::uint32_t>(at + 1));
    }
  }
  offset = std::min(offset, text_.size());
  const auto after = std::upper_bound(lines_.begin(), lines_.end(), offset);
  const std::size_t line_start = *(after - 1);
  Place place;
  place.line = static_cast<int>(after - lines_.begin());
  const bool goes_on = last_offset_ >= line_start && last_offset_ <= offset;
  const std::size_t from = goes_on ? last_offset_ : line_start;
  const std::size_t column = (goes_on ? last_column_ : 0) + count_code_points(text_.substr(from), offset - from);
  const bool inside = offset < text_.size() && (static_cast<unsigned char>(text_[offset]) & 0xC0) == 0x80;
  if (!inside) last_offset_ = offset, last_column_ = column;
  place.column = static_cast<int>(column) + 1;
  return place;
}

}  // namespace kontor::agent
