#include "tools/schema_format.hpp"

#include "tools/pattern.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

namespace kontor::tools {
namespace {

constexpr std::array<std::pair<std::string_view, Format>, 19> kNames{{
    {"date-time", Format::date_time}, {"date", Format::date}, {"time", Format::time}, {"duration", Format::duration},
    {"email", Format::email}, {"idn-email", Format::idn_email}, {"hostname", Format::hostname},
    {"idn-hostname", Format::idn_hostname}, {"ipv4", Format::ipv4}, {"ipv6", Format::ipv6}, {"uri", Format::uri},
    {"uri-reference", Format::uri_reference}, {"iri", Format::iri}, {"iri-reference", Format::iri_reference},
    {"uuid", Format::uuid}, {"uri-template", Format::uri_template}, {"json-pointer", Format::json_pointer},
    {"relative-json-pointer", Format::relative_json_pointer}, {"regex", Format::regex}}};

bool digit(char c) { return c >= '0' && c <= '9'; }
bool letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool hex(char c) { return digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }
bool high(char c) { return static_cast<unsigned char>(c) >= 0x80; }
bool among(char c, std::string_view set) { return set.find(c) != std::string_view::npos; }

/// Takes exactly `count` digits off the front; -1 when they are not there.
int take_number(std::string_view& text, std::size_t count) {
  if (text.size() < count) return -1;
  int value = 0;
  for (std::size_t i = 0; i < count; ++i) {
    if (!digit(text[i])) return -1;
    value = value * 10 + (text[i] - '0');
  }
  text.remove_prefix(count);
  return value;
}

bool take(std::string_view& text, char c) {
  if (!text.starts_with(c)) return false;
  text.remove_prefix(1);
  return true;
}

bool take_date(std::string_view& text) {
  constexpr std::array<int, 12> kDays{31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  const int year = take_number(text, 4);
  if (year < 0 || !take(text, '-')) return false;
  const int month = take_number(text, 2);
  if (month < 1 || month > 12 || !take(text, '-')) return false;
  const int day = take_number(text, 2);
  const bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
  return day >= 1 && day <= kDays[static_cast<std::size_t>(month - 1)] + (month == 2 && leap ? 1 : 0);
}

bool take_time(std::string_view& text) {
  const int hour = take_number(text, 2);
  if (hour < 0 || hour > 23 || !take(text, ':')) return false;
  const int minute = take_number(text, 2);
  if (minute < 0 || minute > 59 || !take(text, ':')) return false;
  const int second = take_number(text, 2);
  if (second < 0 || second > 60) return false;
  if (take(text, '.')) {
    std::size_t digits = 0;
    while (digits < text.size() && digit(text[digits])) ++digits;
    if (digits == 0) return false;
    text.remove_prefix(digits);
  }
  int offset = 0;
  if (!take(text, 'Z') && !take(text, 'z')) {
    const bool minus = text.starts_with('-');
    if (!take(text, '+') && !take(text, '-')) return false;
    const int hours = take_number(text, 2);
    if (hours < 0 || hours > 23 || !take(text, ':')) return false;
    const int minutes = take_number(text, 2);
    if (minutes < 0 || minutes > 59) return false;
    offset = (hours * 60 + minutes) * (minus ? -1 : 1);
  }
  if (second < 60) return true;
  return (hour * 60 + minute - offset + 2880) % 1440 == 1439;  // A leap second ends a day of UTC.
}

bool is_date_time(std::string_view text) {
  return take_date(text) && (take(text, 'T') || take(text, 't')) && take_time(text) && text.empty();
}

/// Units in order; each that is present follows its neighbour directly (RFC 3339, appendix A).
bool take_units(std::string_view& text, std::string_view units) {
  std::size_t next = 0;
  bool first = true;
  while (!text.empty() && digit(text.front())) {
    std::size_t digits = 0;
    while (digits < text.size() && digit(text[digits])) ++digits;
    if (digits == text.size()) return false;
    const auto unit = units.find(text[digits], next);
    if (unit == std::string_view::npos || (!first && unit != next)) return false;
    next = unit + 1;
    first = false;
    text.remove_prefix(digits + 1);
  }
  return !first;
}

bool is_duration(std::string_view text) {
  if (!take(text, 'P') || text.empty()) return false;
  auto weeks = text;
  if (take_units(weeks, "W") && weeks.empty()) return true;
  if (text.front() != 'T' && !take_units(text, "YMD")) return false;
  if (text.empty()) return true;
  return take(text, 'T') && take_units(text, "HMS") && text.empty();
}

bool is_ipv4(std::string_view text) {
  for (int part = 0; part < 4; ++part) {
    if (part > 0 && !take(text, '.')) return false;
    int value = 0;
    std::size_t digits = 0;
    while (digits < text.size() && digits < 4 && digit(text[digits])) value = value * 10 + (text[digits++] - '0');
    if (digits == 0 || digits > 3 || value > 255 || (digits > 1 && text[0] == '0')) return false;
    text.remove_prefix(digits);
  }
  return text.empty();
}

bool is_ipv6(std::string_view text) {
  int groups = 0;
  bool gap = false;
  if (text.starts_with("::")) {
    gap = true;
    text.remove_prefix(2);
  }
  while (!text.empty()) {
    if (text.find(':') == std::string_view::npos && text.find('.') != std::string_view::npos) {
      if (!is_ipv4(text)) return false;
      groups += 2;
      break;
    }
    std::size_t digits = 0;
    while (digits < text.size() && digits < 5 && hex(text[digits])) ++digits;
    if (digits == 0 || digits > 4) return false;
    text.remove_prefix(digits);
    ++groups;
    if (text.empty()) break;
    if (!take(text, ':') || text.empty()) return false;
    if (text.front() == ':') {
      if (gap) return false;
      gap = true;
      text.remove_prefix(1);
    }
  }
  return gap ? groups < 8 : groups == 8;
}

bool is_hostname(std::string_view text) {
  if (text.empty() || text.size() > 253) return false;
  std::size_t label = 0;
  for (std::size_t i = 0; i <= text.size(); ++i) {
    if (i < text.size() && text[i] != '.') {
      if (!letter(text[i]) && !digit(text[i]) && text[i] != '-') return false;
      continue;
    }
    const auto part = text.substr(label, i - label);
    if (part.empty() || part.size() > 63 || part.front() == '-' || part.back() == '-') return false;
    // "--" in third and fourth place is reserved; only xn-- has a meaning.
    if (part.size() >= 4 && part.substr(2, 2) == "--" && !((part[0] == 'x' || part[0] == 'X') && (part[1] == 'n' || part[1] == 'N') && part.size() > 4)) return false;
    label = i + 1;
  }
  return true;
}

/// Code points of UTF-8 text; the text is known to be well-formed.
std::vector<char32_t> decoded(std::string_view text) {
  std::vector<char32_t> out;
  for (std::size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const std::size_t length = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    char32_t code = lead < 0x80 ? lead : lead & (0xffu >> (length + 1));
    for (std::size_t k = 1; k < length && i + k < text.size(); ++k) code = (code << 6) | (static_cast<unsigned char>(text[i + k]) & 0x3f);
    out.push_back(code);
    i += length;
  }
  return out;
}

bool combining(char32_t c) {
  return (c >= 0x300 && c <= 0x36f) || (c >= 0x483 && c <= 0x489) || (c >= 0x591 && c <= 0x5bd) || (c >= 0x610 && c <= 0x61a) ||
         (c >= 0x64b && c <= 0x65f) || (c >= 0x900 && c <= 0x903) || (c >= 0x93a && c <= 0x94f && c != 0x93d) || (c >= 0x1ab0 && c <= 0x1aff) ||
         (c >= 0x20d0 && c <= 0x20ff) || (c >= 0x302a && c <= 0x302f) || (c >= 0xfe20 && c <= 0xfe2f);
}

/// Contextual rules of RFC 5892, appendix A, for one label.
bool label_allowed(const std::vector<char32_t>& label) {
  const auto in = [](char32_t c, char32_t low, char32_t top) { return c >= low && c <= top; };
  bool arabic_indic = false, extended_indic = false, japanese = false, katakana_dot = false;
  for (std::size_t i = 0; i < label.size(); ++i) {
    const char32_t c = label[i], before = i > 0 ? label[i - 1] : 0, after = i + 1 < label.size() ? label[i + 1] : 0;
    if (c < 0x80 && !(in(c, 'a', 'z') || in(c, 'A', 'Z') || in(c, '0', '9') || c == '-')) return false;
    if (c == 0x640 || c == 0x7fa || c == 0x302e || c == 0x302f || in(c, 0x3031, 0x3035) || c == 0x303b || in(c, 0x80, 0xb6) || c == 0x2025 || in(c, 0x2028, 0x202e)) return false;
    if (c == 0xb7 && !(before == 'l' && after == 'l')) return false;
    if (c == 0x375 && !in(after, 0x370, 0x3ff)) return false;
    if ((c == 0x5f3 || c == 0x5f4) && !in(before, 0x590, 0x5ff)) return false;
    if ((c == 0x200d || c == 0x200c) && !(before == 0x94d || before == 0x9cd || before == 0xa4d || before == 0xacd || before == 0xb4d || before == 0xbcd || before == 0xc4d || before == 0xccd || before == 0xd4d)) {
      // A joiner without virama is only right between joining letters; Arabic and Syriac blocks stand in for them.
      if (c == 0x200d || !(in(before, 0x600, 0x7ff) && in(after, 0x600, 0x7ff))) return false;
    }
    katakana_dot = katakana_dot || c == 0x30fb;
    japanese = japanese || (in(c, 0x3041, 0x30ff) && c != 0x30fb) || in(c, 0x3400, 0x9fff);
    arabic_indic = arabic_indic || in(c, 0x660, 0x669);
    extended_indic = extended_indic || in(c, 0x6f0, 0x6f9);
  }
  return !(arabic_indic && extended_indic) && !(katakana_dot && !japanese);
}

bool is_idn_hostname(std::string_view text) {
  if (text.empty() || text.size() > 1000) return false;
  auto points = decoded(text);
  points.push_back('.');
  std::vector<char32_t> label;
  std::size_t total = 0;
  for (std::size_t i = 0; i < points.size(); ++i) {
    const char32_t c = points[i];
    if (c != '.' && c != 0x3002 && c != 0xff0e && c != 0xff61) {
      label.push_back(c);
      continue;
    }
    std::size_t ascii = 0;
    for (const char32_t p : label) ascii += p < 0x80 ? 1 : 0;
    // Punycode needs at least one letter for each character it encodes, plus "xn--".
    const std::size_t length = ascii == label.size() ? ascii : label.size() + 4;
    if (label.empty() || length > 63 || label.front() == '-' || label.back() == '-' || combining(label.front())) return false;
    if (label.size() >= 4 && label[2] == '-' && label[3] == '-' && !(ascii == label.size() && (label[0] | 32) == 'x' && (label[1] | 32) == 'n')) return false;
    if (!label_allowed(label)) return false;
    total += length + 1;
    label.clear();
  }
  return total <= 254;
}

bool is_email(std::string_view text, bool international) {
  const auto at = text.rfind('@');
  if (at == std::string_view::npos || at == 0 || text.size() > 320) return false;
  const auto local = text.substr(0, at);
  auto domain = text.substr(at + 1);
  if (local.front() == '"') {
    if (local.size() < 2 || local.back() != '"') return false;
    for (std::size_t i = 1; i + 1 < local.size(); ++i) {
      if (local[i] == '\\') ++i;
      else if (local[i] == '"' || static_cast<unsigned char>(local[i]) < 0x20) return false;
      if (i + 1 >= local.size()) return false;
    }
  } else {
    char last = '.';
    for (const char c : local) {
      const bool atom = letter(c) || digit(c) || among(c, "!#$%&'*+-/=?^_`{|}~") || (international && high(c));
      if (!atom && !(c == '.' && last != '.')) return false;
      last = c;
    }
    if (last == '.') return false;
  }
  if (domain.starts_with('[') && domain.ends_with(']')) {
    domain = domain.substr(1, domain.size() - 2);
    return domain.starts_with("IPv6:") ? is_ipv6(domain.substr(5)) : is_ipv4(domain);
  }
  return international ? is_idn_hostname(domain) : is_hostname(domain);
}

constexpr std::string_view kSubDelimiters = "!$&'()*+,;=";

/// Characters of a URI component: unreserved, sub-delims, %XX, and the extra ones.
bool uri_characters(std::string_view text, std::string_view extra, bool international) {
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (letter(c) || digit(c) || among(c, "-._~") || among(c, kSubDelimiters) || among(c, extra) || (international && high(c))) continue;
    if (c == '%' && i + 2 < text.size() && hex(text[i + 1]) && hex(text[i + 2])) {
      i += 2;
      continue;
    }
    return false;
  }
  return true;
}

bool is_authority(std::string_view text, bool international) {
  if (const auto at = text.rfind('@'); at != std::string_view::npos) {
    if (!uri_characters(text.substr(0, at), ":", international)) return false;
    text = text.substr(at + 1);
  }
  auto host = text;
  if (text.starts_with('[')) {
    const auto close = text.find(']');
    if (close == std::string_view::npos) return false;
    host = text.substr(1, close - 1);
    text = text.substr(close + 1);
    const bool future = (host.starts_with('v') || host.starts_with('V')) && host.find('.') != std::string_view::npos && uri_characters(host, ":", false);
    if (!is_ipv6(host) && !future) return false;
  } else {
    const auto colon = text.rfind(':');
    host = text.substr(0, colon);
    text = colon == std::string_view::npos ? std::string_view{} : text.substr(colon);
    if (!uri_characters(host, "", international)) return false;
  }
  if (text.empty()) return true;
  if (text.front() != ':') return false;
  for (const char c : text.substr(1)) {
    if (!digit(c)) return false;
  }
  return true;
}

bool is_uri(std::string_view text, bool international, bool absolute) {
  if (const auto hash = text.find('#'); hash != std::string_view::npos) {
    if (!uri_characters(text.substr(hash + 1), ":@/?", international)) return false;
    text = text.substr(0, hash);
  }
  if (const auto mark = text.find('?'); mark != std::string_view::npos) {
    if (!uri_characters(text.substr(mark + 1), ":@/?", international)) return false;
    text = text.substr(0, mark);
  }
  const auto colon = text.find(':');
  const bool scheme = colon != std::string_view::npos && colon < text.find('/');
  if (scheme) {
    if (colon == 0 || !letter(text[0])) return false;
    for (const char c : text.substr(0, colon)) {
      if (!letter(c) && !digit(c) && !among(c, "+-.")) return false;
    }
    text = text.substr(colon + 1);
  } else if (absolute) {
    return false;
  }
  if (text.starts_with("//")) {
    const auto end = std::min(text.find('/', 2), text.size());
    if (!is_authority(text.substr(2, end - 2), international)) return false;
    text = text.substr(end);
  }
  return uri_characters(text, ":@/", international);
}

bool is_uuid(std::string_view text) {
  if (text.size() != 36) return false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool dash = i == 8 || i == 13 || i == 18 || i == 23;
    if (dash ? text[i] != '-' : !hex(text[i])) return false;
  }
  return true;
}

bool is_template_expression(std::string_view text) {
  if (text.empty()) return false;
  if (among(text.front(), "+#./;?&=,!@|")) text.remove_prefix(1);
  while (true) {
    const auto end = std::min(text.find(','), text.size());
    auto name = text.substr(0, end);
    if (name.ends_with('*')) {
      name.remove_suffix(1);
    } else if (const auto colon = name.find(':'); colon != std::string_view::npos) {
      const auto length = name.substr(colon + 1);
      if (length.empty() || length.size() > 4 || length[0] == '0') return false;
      for (const char c : length) {
        if (!digit(c)) return false;
      }
      name = name.substr(0, colon);
    }
    if (name.empty() || name.front() == '.' || name.back() == '.') return false;
    for (std::size_t i = 0; i < name.size(); ++i) {
      if (name[i] == '%' && i + 2 < name.size() && hex(name[i + 1]) && hex(name[i + 2])) i += 2;
      else if (!letter(name[i]) && !digit(name[i]) && name[i] != '_' && !(name[i] == '.' && name[i - 1] != '.')) return false;
    }
    if (end == text.size()) return true;
    text = text.substr(end + 1);
  }
}

bool is_uri_template(std::string_view text) {
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '{') {
      const auto close = text.find('}', i);
      if (close == std::string_view::npos || !is_template_expression(text.substr(i + 1, close - i - 1))) return false;
      i = close;
    } else if (c == '%') {
      if (i + 2 >= text.size() || !hex(text[i + 1]) || !hex(text[i + 2])) return false;
    } else if (static_cast<unsigned char>(c) <= 0x20 || among(c, "\"<>\\^`|}\x7f")) {
      return false;
    }
  }
  return true;
}

bool is_json_pointer(std::string_view text) {
  if (!text.empty() && text.front() != '/') return false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '~' && (i + 1 >= text.size() || (text[i + 1] != '0' && text[i + 1] != '1'))) return false;
  }
  return true;
}

bool is_relative_json_pointer(std::string_view text) {
  std::size_t digits = 0;
  while (digits < text.size() && digit(text[digits])) ++digits;
  if (digits == 0 || (digits > 1 && text[0] == '0')) return false;
  text = text.substr(digits);
  return text == "#" || is_json_pointer(text);
}

}  // namespace

Format format_named(std::string_view name) {
  for (const auto& [known, format] : kNames) {
    if (name == known) return format;
  }
  return Format::none;
}

bool format_matches(Format format, std::string_view text) {
  switch (format) {
    case Format::none: return true;
    case Format::date_time: return is_date_time(text);
    case Format::date: return take_date(text) && text.empty();
    case Format::time: return take_time(text) && text.empty();
    case Format::duration: return is_duration(text);
    case Format::email: return is_email(text, false);
    case Format::idn_email: return is_email(text, true);
    case Format::hostname: return is_hostname(text);
    case Format::idn_hostname: return is_idn_hostname(text);
    case Format::ipv4: return is_ipv4(text);
    case Format::ipv6: return is_ipv6(text);
    case Format::uri: return is_uri(text, false, true);
    case Format::uri_reference: return is_uri(text, false, false);
    case Format::iri: return is_uri(text, true, true);
    case Format::iri_reference: return is_uri(text, true, false);
    case Format::uuid: return is_uuid(text);
    case Format::uri_template: return is_uri_template(text);
    case Format::json_pointer: return is_json_pointer(text);
    case Format::relative_json_pointer: return is_relative_json_pointer(text);
    case Format::regex: return is_pattern(text);
  }
  return true;
}

}  // namespace kontor::tools
