#include "inference/string_steps.hpp"

#include <algorithm>

namespace kontor::inference {
namespace {

/// Fenced code of Markdown as the parser of the output sees it, in a few bits.
struct Code {
  static constexpr std::uint32_t kLong = 31;  ///< That many signs or more: such a fence never closes.
  bool behind_backtick, open, tilde;
  std::uint32_t length;       ///< Signs of the fence that is open.
  std::uint32_t line;         ///< 0 indent, 1 signs, 2 rest.
  std::uint32_t sign;         ///< Of the line: 0 other, 1 backtick, 2 tilde.
  std::uint32_t signs;
  bool rest_visible, rest_backtick;

  explicit Code(std::uint64_t data)
      : behind_backtick(data & 1), open(data >> 1 & 1), tilde(data >> 2 & 1), length(data >> 3 & 31), line(data >> 8 & 3),
        sign(data >> 10 & 3), signs(data >> 12 & 31), rest_visible(data >> 17 & 1), rest_backtick(data >> 18 & 1) {}
  std::uint64_t bits() const {
    return std::uint64_t{behind_backtick} | std::uint64_t{open} << 1 | std::uint64_t{tilde} << 2 | std::uint64_t{length} << 3 |
           std::uint64_t{line} << 8 | std::uint64_t{sign} << 10 | std::uint64_t{signs} << 12 | std::uint64_t{rest_visible} << 17 |
           std::uint64_t{rest_backtick} << 18;
  }
  bool in_code() const { return behind_backtick || open || (signs >= 3 && !(sign == 1 && rest_backtick)); }

  void end_line() {
    const bool fence = signs >= 3;
    if (open) {
      if (fence && (sign == 2) == tilde && signs >= length && length < kLong && !rest_visible) open = false;
    } else if (fence && !(sign == 1 && rest_backtick)) {
      open = true;
      tilde = sign == 2;
      length = signs;
    }
    line = sign = signs = 0;
    rest_visible = rest_backtick = false;
  }

  void take(std::uint8_t byte) {
    behind_backtick = byte == '`';
    if (byte == '\n') return end_line();
    const bool space = byte == ' ' || byte == '\t' || byte == '\r';
    const std::uint32_t here = byte == '`' ? 1 : byte == '~' ? 2 : 0;
    if (line == 0) {
      if (space) return;
      line = here != 0 ? 1 : 2;
      sign = here;
    }
    if (line == 1) {
      if (here == sign) {
        signs = std::min(signs + 1, kLong);
        return;
      }
      line = 2;
    }
    rest_visible |= !space;
    rest_backtick |= here == 1;
  }
};

std::uint16_t follow(const FreeText& text, std::uint16_t prefix, std::uint8_t byte) {
  for (const auto& [symbol, to] : text.prefixes[prefix].next)
    if (symbol == byte) return to;
  return 0;
}

}  // namespace

TextStep text_step(std::uint64_t data, std::uint8_t byte, const FreeText& text) {
  const std::uint8_t character = utf8_step(text_character(data), byte);
  if (character == kUtf8Bad) return {true, -1, 0};
  // Markers begin with '<' and have no other, so a prefix that fails leaves at most a new '<'.
  auto prefix = follow(text, static_cast<std::uint16_t>(data), byte);
  if (prefix == 0) prefix = follow(text, 0, byte);
  Code code(data >> 20);
  // Whether a marker is code is decided where it begins.
  const bool in_code = byte == '<' ? code.in_code() : (data >> 39 & 1) != 0;
  if (const auto marker = text.prefixes[prefix].marker; marker >= 0) {
    const TextMarker& found = text.markers[static_cast<std::size_t>(marker)];
    if (!found.literal_in_code || !in_code) return found.to == kNoNode ? TextStep{true, -1, 0} : TextStep{false, marker, 0};
    if (text.prefixes[prefix].next.empty()) prefix = 0;
  }
  code.take(byte);
  const bool space = byte == ' ' || byte == '\t' || byte == '\r' || byte == '\n';
  const bool visible = (data >> 19 & 1) || !space;
  const bool tracks = std::any_of(text.markers.begin(), text.markers.end(), [](const TextMarker& m) { return m.literal_in_code; });
  return {false, -1, std::uint64_t{prefix} | std::uint64_t{character} << 16 | std::uint64_t{visible && text.visible} << 19 | (tracks ? code.bits() << 20 | std::uint64_t{in_code && prefix != 0} << 39 : 0)};
}

}  // namespace kontor::inference
