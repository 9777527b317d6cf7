#pragma once
// Valid UTF-8 byte by byte (RFC 3629: no surrogates, no overlong forms, nothing above U+10FFFF).

#include <cstdint>

namespace kontor::inference {

inline constexpr std::uint8_t kUtf8Bad = 255;

/// 0 is between characters; 1 to 7 inside one. `state` and `byte` to the next state, or kUtf8Bad.
constexpr std::uint8_t utf8_step(std::uint8_t state, std::uint8_t byte) {
  const bool continues = (byte & 0xC0) == 0x80;
  switch (state) {
    case 0:
      if (byte < 0x80) return 0;
      if (byte < 0xC2) return kUtf8Bad;
      if (byte < 0xE0) return 1;
      if (byte < 0xF0) return byte == 0xE0 ? 4 : byte == 0xED ? 5 : 2;
      if (byte < 0xF5) return byte == 0xF0 ? 6 : byte == 0xF4 ? 7 : 3;
      return kUtf8Bad;
    case 1: return continues ? 0 : kUtf8Bad;
    case 2: return continues ? 1 : kUtf8Bad;
    case 3: return continues ? 2 : kUtf8Bad;
    case 4: return continues && byte >= 0xA0 ? 1 : kUtf8Bad;
    case 5: return continues && byte < 0xA0 ? 1 : kUtf8Bad;
    case 6: return continues && byte >= 0x90 ? 2 : kUtf8Bad;
    case 7: return continues && byte < 0x90 ? 2 : kUtf8Bad;
    default: return kUtf8Bad;
  }
}

}  // namespace kontor::inference
