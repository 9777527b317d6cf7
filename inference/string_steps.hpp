#pragma once
// Text in the grammar byte by byte: JSON strings in their one canonical spelling, and free text with markers.

#include "inference/grammar.hpp"
#include "inference/utf8_steps.hpp"

#include <cstdint>

namespace kontor::inference {

// JSON strings. Every value has one spelling, as spaced_json prints it: characters stand for themselves, but \" \\ \b \f
// \n \r \t, and \u00XX with small hex digits for the other control characters.

inline constexpr std::uint8_t kStringBad = 255;
/// States 1 to 7 are those inside a UTF-8 character.
inline constexpr std::uint8_t kEscape = 8, kEscapeU = 9, kEscapeU0 = 10, kEscapeU00 = 11, kEscapeU000 = 12, kEscapeU001 = 13;

struct StringStep {
  std::uint8_t state = kStringBad;
  bool closes = false;
  int character = -1;  ///< The byte of the value that this byte completes.
};

constexpr int escaped_character(std::uint8_t byte) {
  switch (byte) {
    case '"': return '"';
    case '\\': return '\\';
    case 'b': return '\b';
    case 'f': return '\f';
    case 'n': return '\n';
    case 'r': return '\r';
    case 't': return '\t';
    default: return -1;
  }
}

constexpr int hex_digit(std::uint8_t byte) { return byte >= '0' && byte <= '9' ? byte - '0' : byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1; }

/// Whether a control character is spelled \u00XX.
constexpr bool spelled_in_hex(int c) { return c >= 0 && c < 0x20 && c != '\b' && c != '\f' && c != '\n' && c != '\r' && c != '\t'; }

constexpr StringStep string_step(std::uint8_t state, std::uint8_t byte) {
  switch (state) {
    case kEscape:
      if (byte == 'u') return {kEscapeU};
      return escaped_character(byte) < 0 ? StringStep{} : StringStep{0, false, escaped_character(byte)};
    case kEscapeU: return byte == '0' ? StringStep{kEscapeU0} : StringStep{};
    case kEscapeU0: return byte == '0' ? StringStep{kEscapeU00} : StringStep{};
    case kEscapeU00: return byte == '0' ? StringStep{kEscapeU000} : byte == '1' ? StringStep{kEscapeU001} : StringStep{};
    case kEscapeU000:
    case kEscapeU001: {
      const int digit = hex_digit(byte), c = digit < 0 ? -1 : digit + (state == kEscapeU001 ? 16 : 0);
      return spelled_in_hex(c) ? StringStep{0, false, c} : StringStep{};
    }
    default: break;
  }
  if (state == 0 && byte == '"') return {0, true, -1};
  if (state == 0 && byte == '\\') return {kEscape};
  if (state == 0 && byte < 0x20) return {};
  const std::uint8_t next = utf8_step(state, byte);
  return next == kUtf8Bad ? StringStep{} : StringStep{next, false, byte};
}

/// Whether an escape in this state can end in this character.
constexpr bool string_can_spell(std::uint8_t state, int c) {
  switch (state) {
    case kEscape: return c == '"' || c == '\\' || (c >= 0 && c < 0x20);
    case kEscapeU:
    case kEscapeU0:
    case kEscapeU00: return spelled_in_hex(c);
    case kEscapeU000: return spelled_in_hex(c) && c < 16;
    case kEscapeU001: return spelled_in_hex(c) && c >= 16;
    default: return false;
  }
}

// Free text. The register holds: prefix of a marker (16 bits) | state inside a character (3) | something visible was
// written (1) | Markdown code, as agent/dialect/text_stream tells it (from bit 20 on).

struct TextStep {
  bool dead = false;
  std::int32_t marker = -1;  ///< Completed; the text ends here.
  std::uint64_t data = 0;
};

constexpr std::uint8_t text_character(std::uint64_t data) { return static_cast<std::uint8_t>(data >> 16 & 7); }
constexpr bool text_is_plain(std::uint64_t data) { return (data & 0x7FFFF) == 0; }
/// `by_token`: through a control token; else by a jump or the end of the output, which visible text may be asked of.
inline bool text_may_leave(std::uint64_t data, const FreeText& text, bool by_token = false) {
  return text_character(data) == 0 && (by_token || !text.visible || (data >> 19 & 1));
}
TextStep text_step(std::uint64_t data, std::uint8_t byte, const FreeText& text);

}  // namespace kontor::inference
