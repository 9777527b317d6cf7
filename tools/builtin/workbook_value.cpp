#include "tools/builtin/workbook_value.hpp"

#include "base/decimal.hpp"

#include <charconv>
#include <chrono>
#include <cmath>
#include <cstdio>

namespace kontor::tools {
namespace {

constexpr int kDigitsShown = 15;
constexpr std::int64_t kDayMs = 86'400'000;
constexpr char kElapsed = '\1';
constexpr double kLastDay = 2'958'465;  // 9999-12-31

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }

std::optional<double> to_double(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || !std::isfinite(value)) return std::nullopt;
  return value;
}

int significant_digits(std::string_view text) {
  int digits = 0;
  for (const char c : text) {
    if (lower(c) == 'e') break;
    if (is_digit(c) && (c != '0' || digits > 0)) ++digits;
  }
  return digits;
}

std::string clock_text(std::int64_t hours, std::int64_t rest_ms) {
  char buffer[48];
  const auto seconds = rest_ms / 1000;
  std::snprintf(buffer, sizeof buffer, "%02lld:%02d:%02d", static_cast<long long>(hours), static_cast<int>(seconds / 60 % 60), static_cast<int>(seconds % 60));
  std::string out = buffer;
  if (rest_ms % 1000 != 0) {
    std::snprintf(buffer, sizeof buffer, ".%03d", static_cast<int>(rest_ms % 1000));
    out += buffer;
  }
  return out;
}

/// What of a format code is more than decoration, in small letters: without quoted and escaped characters, colours and
/// conditions; of several sections the first. [h] and its like become kElapsed.
std::string bare_code(std::string_view code) {
  std::string out;
  for (std::size_t i = 0; i < code.size() && code[i] != ';'; ++i) {
    const char c = code[i];
    if (c == '"') {
      while (++i < code.size() && code[i] != '"') {}
    } else if (c == '\\' || c == '_' || c == '*') {
      ++i;
    } else if (c == '[') {
      const auto end = std::min(code.find(']', i), code.size());
      const auto inside = code.substr(i + 1, end - i - 1);
      const char first = inside.empty() ? '\0' : lower(inside[0]);
      const bool elapsed = (first == 'h' || first == 'm' || first == 's') && inside.size() <= 2 && lower(inside.back()) == first;
      if (elapsed) out += kElapsed;
      i = end;
    } else {
      out += lower(c);
    }
  }
  return out;
}

}  // namespace

NumberKind kind_of_format(int id) {
  if ((id >= 14 && id <= 17) || (id >= 27 && id <= 31) || (id >= 50 && id <= 54) || id == 36 || id == 57 || id == 58) return NumberKind::date;
  if ((id >= 18 && id <= 21) || (id >= 32 && id <= 35) || id == 45 || id == 47 || id == 55 || id == 56) return NumberKind::time;
  if (id == 22) return NumberKind::date_time;
  if (id == 46) return NumberKind::duration;
  return NumberKind::number;
}

NumberKind kind_of_format(std::string_view code) {
  const std::string bare = bare_code(code);
  if (bare.find(kElapsed) != std::string::npos) return NumberKind::duration;
  if (bare == "general") return NumberKind::number;
  const bool clock = bare.find_first_of("hs") != std::string::npos;
  const bool month = bare.find('m') != std::string::npos;
  const bool date = bare.find_first_of("yd") != std::string::npos || (month && !clock);
  if (date && clock) return NumberKind::date_time;
  return date ? NumberKind::date : clock ? NumberKind::time : NumberKind::number;
}

std::string plain_number(std::string_view stored) {
  std::string text(stored);
  if (stored.find_first_of(".eE") != std::string_view::npos && significant_digits(stored) > kDigitsShown) {
    const auto value = to_double(stored);
    if (!value) return text;
    char buffer[40];
    std::snprintf(buffer, sizeof buffer, "%.*g", kDigitsShown, *value);
    text = buffer;
  }
  const auto number = Decimal::parse(text);
  return number ? number->normalised().to_string() : std::string(stored);
}

std::optional<std::string> date_text(std::string_view stored, NumberKind kind, bool from_1904) {
  const auto days = to_double(stored);
  if (!days || kind == NumberKind::number || *days < 0 || *days > kLastDay) return std::nullopt;
  const auto total_ms = static_cast<std::int64_t>(std::llround(*days * static_cast<double>(kDayMs)));
  if (kind == NumberKind::duration) return clock_text(total_ms / 3'600'000, total_ms % 3'600'000);
  const std::int64_t day = total_ms / kDayMs, rest = total_ms % kDayMs;
  if (kind == NumberKind::time && day == 0) return clock_text(rest / 3'600'000, rest);
  // Of the days from 1900, 60 is a 29th of February that never was, and 0 is none at all.
  if (!from_1904 && (day == 0 || day == 60)) return std::nullopt;
  using namespace std::chrono;
  const sys_days start = from_1904 ? sys_days(year{1904} / 1 / 1) : day < 60 ? sys_days(year{1899} / 12 / 31) : sys_days(year{1899} / 12 / 30);
  const year_month_day date(start + std::chrono::days(day));
  if (static_cast<int>(date.year()) > 9999) return std::nullopt;
  char buffer[24];
  std::snprintf(buffer, sizeof buffer, "%04d-%02u-%02u", static_cast<int>(date.year()), static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()));
  std::string out = buffer;
  if (kind != NumberKind::date || rest != 0) out += "T" + clock_text(rest / 3'600'000, rest);
  return out;
}

std::string unescaped_text(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size();) {
    unsigned code = 0;
    if (text.size() - i >= 7 && text[i] == '_' && text[i + 1] == 'x' && text[i + 6] == '_') {
      const char* const end = text.data() + i + 6;
      if (std::from_chars(text.data() + i + 2, end, code, 16).ptr != end) code = 0;
    }
    if (code == 0 || (code >= 0xd800 && code <= 0xdfff)) {  // halves of a pair and NUL stay as they are written
      out += text[i++];
      continue;
    }
    if (code < 0x80) {
      out += static_cast<char>(code);
    } else if (code < 0x800) {
      out += {static_cast<char>(0xc0 | code >> 6), static_cast<char>(0x80 | (code & 0x3f))};
    } else {
      out += {static_cast<char>(0xe0 | code >> 12), static_cast<char>(0x80 | (code >> 6 & 0x3f)), static_cast<char>(0x80 | (code & 0x3f))};
    }
    i += 7;
  }
  return out;
}

std::optional<CellPlace> parse_cell_place(std::string_view text) {
  CellPlace place;
  std::size_t i = 0;
  for (; i < text.size() && is_letter(text[i]); ++i) {
    place.column = place.column * 26 + static_cast<std::uint32_t>(lower(text[i]) - 'a' + 1);
    if (place.column > kSheetColumnsMax) return std::nullopt;
  }
  const std::size_t digits = i;
  for (; i < text.size() && is_digit(text[i]); ++i) {
    place.row = place.row * 10 + static_cast<std::uint32_t>(text[i] - '0');
    if (place.row > kSheetRowsMax) return std::nullopt;
  }
  if (text.empty() || i != text.size() || (i > digits && place.row == 0)) return std::nullopt;
  return place;
}

std::string column_letters(std::uint32_t column) {
  std::string out;
  for (; column > 0; column = (column - 1) / 26) out.insert(out.begin(), static_cast<char>('A' + (column - 1) % 26));
  return out;
}

}  // namespace kontor::tools
