#include "inference/unicode.hpp"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>
#include <vector>

namespace kontor::inference {
namespace {

std::uint8_t classify(std::uint32_t value) {
  // White_Space holds a few controls besides the separators.
  if ((value >= 9 && value <= 13) || value == 0x85) return kSpace;
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(value))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO: return kLetter;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO: return kNumber;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME: return kMark;
    case UTF8PROC_CATEGORY_PC:
    case UTF8PROC_CATEGORY_PD:
    case UTF8PROC_CATEGORY_PS:
    case UTF8PROC_CATEGORY_PE:
    case UTF8PROC_CATEGORY_PI:
    case UTF8PROC_CATEGORY_PF:
    case UTF8PROC_CATEGORY_PO: return kPunctuation;
    case UTF8PROC_CATEGORY_SM:
    case UTF8PROC_CATEGORY_SC:
    case UTF8PROC_CATEGORY_SK:
    case UTF8PROC_CATEGORY_SO: return kSymbol;
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP: return kSpace;
    default: return 0;
  }
}

constexpr std::array<std::uint8_t, 128> kAscii = [] {
  std::array<std::uint8_t, 128> table{};
  for (unsigned c = 0; c < 128; ++c) {
    if ((c >= 9 && c <= 13) || c == ' ') table[c] = kSpace;
    else if (c >= '0' && c <= '9') table[c] = kNumber;
    else if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) table[c] = kLetter;
    else if (c == '$' || c == '+' || c == '<' || c == '=' || c == '>' || c == '^' || c == '`' || c == '|' || c == '~') table[c] = kSymbol;
    else if (c > 32 && c < 127) table[c] = kPunctuation;
  }
  return table;
}();

/// True for code points that canonical composition may change or join to what stands before them.
bool may_compose(std::uint32_t value) {
  if (value < 0x300 || value == kBadByte) return false;
  if (value >= 0x1160 && value <= 0x11ff) return true;                                            // jamo vowels and finals
  if ((value >= 0x3400 && value <= 0x9fff) || (value >= 0xac00 && value <= 0xd7a3)) return false;  // ideographs, syllables
  if (character_class(value) == kMark) return true;
  std::array<utf8proc_int32_t, 8> buffer{};
  int boundary = 0;
  const auto length = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(value), buffer.data(), buffer.size(), UTF8PROC_DECOMPOSE, &boundary);
  if (length <= 0 || (length == 1 && buffer[0] == static_cast<utf8proc_int32_t>(value))) return false;
  if (length > static_cast<utf8proc_ssize_t>(buffer.size())) return true;
  return utf8proc_normalize_utf32(buffer.data(), length, static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE)) != 1 ||
         buffer[0] != static_cast<utf8proc_int32_t>(value);
}

/// Normalises valid text. Marks are sorted here, because utf8proc's own sorting takes quadratic time on long runs of
/// them.
void normalise_valid(std::string_view text, bool compatible, bool composed, std::string& out) {
  std::vector<utf8proc_int32_t> points;
  std::array<utf8proc_int32_t, 32> buffer{};
  const auto options = static_cast<utf8proc_option_t>(UTF8PROC_DECOMPOSE | (compatible ? UTF8PROC_COMPAT : 0));
  for (std::size_t at = 0; at < text.size();) {
    const CodePoint point = decode_utf8(text, at);
    at += point.bytes;
    int boundary = 0;
    const auto length = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(point.value), buffer.data(), buffer.size(), options, &boundary);
    if (length > 0 && length <= static_cast<utf8proc_ssize_t>(buffer.size())) points.insert(points.end(), buffer.begin(), buffer.begin() + length);
    else points.push_back(static_cast<utf8proc_int32_t>(point.value));
  }
  const auto rank = [](utf8proc_int32_t c) { return utf8proc_get_property(c)->combining_class; };
  for (std::size_t start = 0; start < points.size(); ++start) {
    if (rank(points[start]) == 0) continue;
    std::size_t end = start;
    while (end < points.size() && rank(points[end]) != 0) ++end;
    std::stable_sort(points.begin() + static_cast<std::ptrdiff_t>(start), points.begin() + static_cast<std::ptrdiff_t>(end),
                     [&](utf8proc_int32_t a, utf8proc_int32_t b) { return rank(a) < rank(b); });
    start = end - 1;
  }
  auto length = static_cast<utf8proc_ssize_t>(points.size());
  if (composed) length = utf8proc_normalize_utf32(points.data(), length, static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  for (utf8proc_ssize_t i = 0; i < length; ++i) append_utf8(out, static_cast<std::uint32_t>(points[static_cast<std::size_t>(i)]));
}

void compose(std::string_view text, std::string& out) { normalise_valid(text, false, true, out); }

}  // namespace

CodePoint decode_utf8(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned lead = byte(at);
  if (lead < 0x80) return {lead, 1};
  const std::size_t left = text.size() - at;
  const auto tail = [&](std::size_t i) { return (byte(at + i) & 0xc0) == 0x80; };
  if (lead >= 0xc2 && lead <= 0xdf && left >= 2 && tail(1)) return {((lead & 0x1fu) << 6) | (byte(at + 1) & 0x3fu), 2};
  if ((lead & 0xf0) == 0xe0 && left >= 3 && tail(1) && tail(2)) {
    const std::uint32_t value = ((lead & 0x0fu) << 12) | ((byte(at + 1) & 0x3fu) << 6) | (byte(at + 2) & 0x3fu);
    if (value >= 0x800 && (value < 0xd800 || value > 0xdfff)) return {value, 3};
  } else if ((lead & 0xf8) == 0xf0 && left >= 4 && tail(1) && tail(2) && tail(3)) {
    const std::uint32_t value =
        ((lead & 0x07u) << 18) | ((byte(at + 1) & 0x3fu) << 12) | ((byte(at + 2) & 0x3fu) << 6) | (byte(at + 3) & 0x3fu);
    if (value >= 0x10000 && value <= 0x10ffff) return {value, 4};
  }
  return {kBadByte, 1};
}

void append_utf8(std::string& out, std::uint32_t value) {
  const auto put = [&](std::uint32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (value < 0x80) {
    put(value);
  } else if (value < 0x800) {
    put(0xc0 | (value >> 6));
    put(0x80 | (value & 0x3f));
  } else if (value < 0x10000) {
    put(0xe0 | (value >> 12));
    put(0x80 | ((value >> 6) & 0x3f));
    put(0x80 | (value & 0x3f));
  } else {
    put(0xf0 | (value >> 18));
    put(0x80 | ((value >> 12) & 0x3f));
    put(0x80 | ((value >> 6) & 0x3f));
    put(0x80 | (value & 0x3f));
  }
}

bool is_valid_utf8(std::string_view bytes) {
  for (std::size_t at = 0; at < bytes.size();) {
    std::uint64_t word;
    if (at + 8 <= bytes.size() && (std::memcpy(&word, bytes.data() + at, 8), (word & 0x8080808080808080ull) == 0)) {
      at += 8;
      continue;
    }
    const CodePoint point = decode_utf8(bytes, at);
    if (point.value == kBadByte) return false;
    at += point.bytes;
  }
  return true;
}

std::uint8_t character_class(std::uint32_t value) {
  if (value < 128) return kAscii[value];
  if (value > 0x10ffff) return 0;
  return classify(value);
}

bool normalise_nfc(std::string_view text, std::string& out) {
  out.clear();
  std::size_t copied = 0;    // text up to here is in `out`
  std::size_t previous = 0;  // start of the code point before `at`
  bool valid_before = false;
  for (std::size_t at = 0; at < text.size();) {
    if (static_cast<unsigned char>(text[at]) < 0xcc) {  // below U+0300: never changes, never joins
      valid_before = static_cast<unsigned char>(text[at]) < 0x80 || decode_utf8(text, at).value != kBadByte;
      previous = at;
      at += static_cast<unsigned char>(text[at]) < 0x80 ? 1 : decode_utf8(text, at).bytes;
      continue;
    }
    CodePoint point = decode_utf8(text, at);
    if (!may_compose(point.value)) {
      valid_before = point.value != kBadByte;
      previous = at;
      at += point.bytes;
      continue;
    }
    const std::size_t start = valid_before ? previous : at;
    while (at < text.size()) {
      point = decode_utf8(text, at);
      if (!may_compose(point.value)) break;
      at += point.bytes;
    }
    out.append(text.substr(copied, start - copied));
    compose(text.substr(start, at - start), out);
    copied = at;
    valid_before = false;  // what was composed is complete: the next code point does not join it
  }
  if (copied == 0) return false;
  out.append(text.substr(copied));
  return true;
}

std::string normalise(std::string_view text, NormalForm form) {
  std::string out;
  if (form == NormalForm::nfc) return normalise_nfc(text, out) ? out : std::string(text);
  out.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    std::size_t end = at;  // of a valid stretch
    while (end < text.size()) {
      const CodePoint point = decode_utf8(text, end);
      if (point.value == kBadByte) break;
      end += point.bytes;
    }
    normalise_valid(text.substr(at, end - at), form != NormalForm::nfd, form == NormalForm::nfkc, out);
    if (end < text.size()) out.push_back(text[end++]);
    at = end;
  }
  return out;
}

GeneralCategory general_category(std::uint32_t value) {
  return value > 0x10ffff ? GeneralCategory::cn : static_cast<GeneralCategory>(utf8proc_category(static_cast<utf8proc_int32_t>(value)));
}

std::uint32_t lower_case(std::uint32_t value) {
  return value > 0x10ffff ? value : static_cast<std::uint32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(value)));
}
std::uint32_t upper_case(std::uint32_t value) {
  return value > 0x10ffff ? value : static_cast<std::uint32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(value)));
}

void append_lower(std::uint32_t value, std::string& out) {
  if (value == 0x130) out += "i\xcc\x87";  // the only one that becomes two
  else append_utf8(out, lower_case(value));
}

namespace {

template <class Append>
void append_parts(std::uint32_t value, const Append& append) {
  std::array<utf8proc_int32_t, 32> buffer{};
  int boundary = 0;
  const auto length = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(value), buffer.data(), buffer.size(), UTF8PROC_DECOMPOSE, &boundary);
  if (length <= 0 || length > static_cast<utf8proc_ssize_t>(buffer.size())) return append(value);
  for (utf8proc_ssize_t i = 0; i < length; ++i) {
    const utf8proc_int32_t part = buffer[static_cast<std::size_t>(i)];
    if (utf8proc_category(part) != UTF8PROC_CATEGORY_MN) append(static_cast<std::uint32_t>(part));
  }
}

}  // namespace

void append_without_accents(std::uint32_t value, std::string& out) {
  append_parts(value, [&](std::uint32_t part) { append_utf8(out, part); });
}

void append_folded(std::uint32_t value, std::string& out) {
  append_parts(value, [&](std::uint32_t part) { append_lower(part, out); });
}

bool is_word_character(std::uint32_t value) {
  if (value == kBadByte) return false;
  const auto holds = [value](const auto& range) { return value >= range.first && value <= range.second; };
  return (kWordCategories & category_bit(general_category(value))) != 0 || std::any_of(std::begin(kEnclosedLetters), std::end(kEnclosedLetters), holds);
}

bool is_control_or_format(std::uint32_t value) {
  if (value == kBadByte) return true;
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(value))) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CO: return true;
    default: return false;
  }
}

}  // namespace kontor::inference
