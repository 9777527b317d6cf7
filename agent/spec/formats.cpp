#include "agent/spec/formats.hpp"

#include "agent/spec/text_tools.hpp"

#include <algorithm>
#include <array>

namespace kontor::agent {
namespace {

FormatProblem bad(std::string message, std::string suggestion = {}) { return {"bad-format", std::move(message), std::move(suggestion)}; }
FormatProblem range(std::string message) { return {"out-of-range", std::move(message), {}}; }

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

/// [+-]digits[.digits] at the beginning; its length, or 0.
std::size_t number_length(std::string_view text) {
  std::size_t at = !text.empty() && (text[0] == '-' || text[0] == '+') ? 1 : 0;
  const std::size_t first = at;
  while (at < text.size() && is_digit(text[at])) ++at;
  if (at == first) return 0;
  if (at + 1 < text.size() && text[at] == '.' && is_digit(text[at + 1])) {
    ++at;
    while (at < text.size() && is_digit(text[at])) ++at;
  }
  return at;
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return out;
}

struct Unit {
  std::string_view name;
  std::int64_t milliseconds;
};
constexpr std::array<Unit, 5> kUnits{{{"ms", 1}, {"s", 1'000}, {"m", 60'000}, {"h", 3'600'000}, {"d", 86'400'000}}};

/// The unit someone means who writes it out.
std::string_view meant_unit(std::string_view word) {
  static constexpr std::array<std::pair<std::string_view, std::string_view>, 20> kLong{{
      {"", "s"}, {"ms", "ms"}, {"msec", "ms"}, {"millisecond", "ms"}, {"milliseconds", "ms"}, {"s", "s"}, {"sec", "s"}, {"secs", "s"},
      {"second", "s"}, {"seconds", "s"}, {"m", "m"}, {"min", "m"}, {"mins", "m"}, {"minute", "m"}, {"minutes", "m"},
      {"h", "h"}, {"hour", "h"}, {"hours", "h"}, {"day", "d"}, {"days", "d"},
  }};
  const std::string small = lower(word);
  for (const auto& [name, unit] : kLong) {
    if (name == small) return unit;
  }
  return small == "d" ? "d" : small == "hr" || small == "hrs" ? "h" : "";
}

}  // namespace

FormatProblem read_duration(std::string_view text, std::int64_t& milliseconds) {
  static const char* kForm = "a duration is a number and ms, s, m, h or d, such as 90s";
  const std::size_t length = number_length(text);
  if (length == 0) return bad(kForm);
  const std::string_view digits = text.substr(0, length);
  const std::string_view word = text.substr(length);
  const auto unit = std::find_if(kUnits.begin(), kUnits.end(), [&](const Unit& candidate) { return candidate.name == word; });
  if (unit == kUnits.end()) {
    const std::string_view meant = meant_unit(trim(word));
    return bad(kForm, meant.empty() || digits[0] == '-' ? "" : std::string(digits) + std::string(meant));
  }
  if (digits[0] == '+') return bad(kForm, std::string(text.substr(1)));
  static const Decimal kMost(9'223'372'036'854);  // as many nanoseconds as 64 bits hold
  const auto number = Decimal::parse(digits);
  if (!number) return range("the duration is longer than 292 years");
  const auto product = multiply(*number, Decimal(unit->milliseconds));
  if (!product) return range("the duration is longer than 292 years");
  if (product->is_negative() || product->is_zero()) return range("a duration is above zero");
  if (*product > kMost) return range("the duration is longer than 292 years");
  const auto whole = round(*product, 0);
  if (!whole) return range("the duration is longer than 292 years");
  milliseconds = std::max<std::int64_t>(1, std::stoll(whole->to_string()));
  return {};
}

FormatProblem read_amount(std::string_view text, bool whole, Decimal& amount) {
  static const char* kForm = "an amount is a decimal number with an optional k, M or G, such as 400k";
  const std::size_t length = number_length(text);
  if (length == 0 || text[0] == '+') return bad(kForm);
  const std::string_view suffix = text.substr(length);
  std::int64_t factor = 1;
  if (suffix == "k") factor = 1'000;
  else if (suffix == "M") factor = 1'000'000;
  else if (suffix == "G") factor = 1'000'000'000;
  else if (!suffix.empty()) {
    std::string meant = lower(trim(suffix));
    meant = meant == "k" || meant == "kilo" ? "k" : meant == "m" || meant == "mega" ? "M" : meant == "g" || meant == "giga" ? "G" : "";
    return bad(kForm, meant.empty() ? "" : std::string(text.substr(0, length)) + meant);
  }
  const auto number = Decimal::parse(text.substr(0, length));
  const auto product = number ? multiply(*number, Decimal(factor)) : number;
  if (!product) return range("the amount is too large");
  if (product->is_negative()) return range("an amount is not negative");
  if (product->is_zero()) return range("an amount is above zero");
  if (*product > Decimal(1'000'000'000'000'000'000)) return range("the amount is too large");
  if (whole && product->normalised().scale() != 0) return bad("tokens are counted in whole numbers");
  amount = *product;
  return {};
}

FormatProblem read_money(std::string_view text, Decimal& amount, std::string& currency) {
  static const char* kForm = "money is a decimal number, a blank and a currency code, such as 0.50 EUR";
  const std::size_t length = number_length(text);
  const std::string_view rest = text.substr(length);
  const auto has_form = length > 0 && text[0] != '+' && rest.size() == 4 && rest[0] == ' ';
  if (!has_form || !is_currency(rest.substr(1))) {
    // What was meant: the first number and the nearest currency among the words.
    std::string digits;
    std::string word;
    for (std::size_t i = 0; i < text.size();) {
      if (is_digit(text[i])) {
        std::size_t end = i;
        while (end < text.size() && (is_digit(text[end]) || ((text[end] == '.' || text[end] == ',') && end + 1 < text.size() && is_digit(text[end + 1])))) ++end;
        if (digits.empty()) digits = text.substr(i, end - i);
        i = end;
      } else if (is_letter(text[i])) {
        std::size_t end = i;
        while (end < text.size() && is_letter(text[end])) ++end;
        if (word.empty()) word = text.substr(i, end - i);
        i = end;
      } else {
        i += code_point_length(text, i);
      }
    }
    std::replace(digits.begin(), digits.end(), ',', '.');
    if (digits.size() > 20 || std::count(digits.begin(), digits.end(), '.') > 1) digits.clear();
    std::string upper = word;
    for (char& c : upper) {
      if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
    }
    std::string code = word.empty() ? (text.find("\u20AC") != std::string_view::npos || digits == text ? "EUR" : text.find('$') != std::string_view::npos ? "USD" : "")
                       : is_currency(upper) ? upper
                       : upper.size() > 3 && is_currency(upper.substr(0, 3)) ? upper.substr(0, 3)
                                            : nearest(upper.substr(0, 10), currencies());
    return bad(kForm, digits.empty() || code.empty() || word == "e" ? "" : digits + " " + code);
  }
  const auto number = Decimal::parse(text.substr(0, length));
  if (!number) return range("the amount is too large");
  if (number->is_negative()) return range("money is not negative");
  if (number->is_zero()) return range("a limit of money is above zero");
  amount = *number;
  currency = rest.substr(1);
  return {};
}

FormatProblem check_url(std::string_view text) {
  static const char* kForm = "an address begins with http:// or https:// and a host";
  for (const char c : text) {
    if (static_cast<unsigned char>(c) <= 0x20 || c == 0x7F || c == '\\') return bad("an address holds no blanks, backslashes or control characters");
  }
  const auto colon = text.find("://");
  if (colon == std::string_view::npos) return bad(kForm, text.find('@') == std::string_view::npos && text.find("{{") == std::string_view::npos && text.size() < 100 ? "http://" + std::string(text) : "");
  const std::string scheme = lower(text.substr(0, colon));
  if (scheme != "http" && scheme != "https") return bad(kForm);
  std::string_view authority = text.substr(colon + 3);
  authority = authority.substr(0, authority.find_first_of("/?#"));
  if (authority.find('@') != std::string_view::npos) return bad("an address holds no user and password");
  std::string_view host = authority;
  std::string_view port;
  if (!authority.empty() && authority[0] == '[') {
    const auto end = authority.find(']');
    if (end == std::string_view::npos) return bad("the '[' of an IPv6 address is never closed");
    host = authority.substr(1, end - 1);
    for (const char c : host) {
      if (!is_digit(c) && !is_letter(c) && c != ':' && c != '.') return bad("the host is not an IPv6 address");
    }
    const std::string_view rest = authority.substr(end + 1);
    if (!rest.empty() && rest[0] != ':') return bad("unexpected text behind the host");
    if (!rest.empty()) port = rest.substr(1);
    if (!rest.empty() && port.empty()) return bad("a port is missing behind ':'");
  } else {
    const auto separator = authority.find(':');
    if (separator != std::string_view::npos) {
      host = authority.substr(0, separator);
      port = authority.substr(separator + 1);
      if (port.empty()) return bad("a port is missing behind ':'");
    }
    for (const char c : host) {
      if (!is_digit(c) && !is_letter(c) && c != '-' && c != '.' && c != '_' && static_cast<unsigned char>(c) < 0x80) return bad("a host is made of letters, digits, '-' and '.'");
    }
  }
  if (host.empty()) return bad(kForm);
  if (!port.empty()) {
    if (port.size() > 5 || !std::all_of(port.begin(), port.end(), is_digit)) return bad("a port is a number from 1 to 65535");
    const int value = std::stoi(std::string(port));
    if (value < 1 || value > 65535) return bad("a port is a number from 1 to 65535");
  }
  return {};
}

std::optional<std::int64_t> foreign_timeout_ms(double value) {
  if (value > 0 && value <= 600) return std::max<std::int64_t>(1, static_cast<std::int64_t>(value * 1000));
  if (value >= 10'000 && value <= 600'000) return static_cast<std::int64_t>(value);
  return std::nullopt;
}

FormatProblem check_sha256(std::string_view text) {
  if (text.size() == 64 && std::all_of(text.begin(), text.end(), [](char c) { return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); })) return {};
  if (text.substr(0, 7) == "sha256:" && !check_sha256(text.substr(7))) return bad("a SHA-256 is 64 hexadecimal digits without a prefix", std::string(text.substr(7)));
  return bad("a SHA-256 is 64 hexadecimal digits");
}

FormatProblem check_name(std::string_view text) {
  if (text.empty()) return bad("a name is not empty");
  if (text.size() > 128) return bad("a name has at most 128 characters");
  std::string meant;
  for (const char c : text) {
    const bool good = is_letter(c) || is_digit(c) || c == '.' || c == '_' || c == '-';
    if (good || c == ' ' || c == '/') meant += good ? c : '-';
  }
  if (meant != text) return bad("a name is made of letters, digits, '.', '_' and '-'", check_name(meant) ? "" : meant);
  if (text.find_first_not_of('.') == std::string_view::npos) return bad("a name becomes a folder; dots alone are not one");
  return {};
}

FormatProblem check_id(std::string_view text) {
  if (text.empty()) return bad("an id is not empty");
  if (text.size() > 128) return bad("an id has at most 128 characters");
  std::string meant;
  for (const char c : text) {
    const bool good = is_letter(c) || is_digit(c) || c == '_';
    if (good || c == ' ' || c == '-' || c == '.') meant += good ? c : '_';
  }
  if (meant != text) return bad("an id is a name in expressions: letters, digits and '_'", meant);
  return {};
}

FormatProblem check_path_text(std::string_view text) {
  if (text.empty()) return bad("a path is not empty");
  if (text.size() > 4096) return bad("a path has at most 4096 bytes");
  for (const char c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) return bad("a path holds no NUL and no control characters");
  }
  return {};
}

FormatProblem check_webhook_path(std::string_view text) {
  static const char* kForm = "a webhook path begins with '/' and holds letters, digits, '/', '-', '_', '.' and '~'";
  std::string meant = text.substr(0, 1) == "/" ? "" : "/";
  for (const char c : text) {
    if (is_letter(c) || is_digit(c) || c == '/' || c == '-' || c == '_' || c == '.' || c == '~') meant += c;
    else return bad(kForm);
  }
  if (meant != text) return bad(kForm, meant == "/" ? "" : meant);
  if (text.find("//") != std::string_view::npos || text.find("/../") != std::string_view::npos || (text.size() >= 3 && text.substr(text.size() - 3) == "/..")) return bad("a webhook path holds no empty parts and no '..'");
  return {};
}

}  // namespace kontor::agent
