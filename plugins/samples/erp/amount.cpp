#include "plugins/samples/erp/amount.hpp"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

namespace erp {
namespace {

constexpr std::size_t kAmountBytesMax = 64;
constexpr std::size_t kWholeDigitsMax = 14;
constexpr std::array<std::string_view, 6> kBlanks = {"\u00a0", "\u202f", "\u2009", "\u2007", "\u2002", "\u3000"};

/// Bytes of the blank at the front, or 0.
std::size_t blank_length(std::string_view text) {
  if (text.empty()) return 0;
  if (text[0] == ' ' || (text[0] >= '\t' && text[0] <= '\r')) return 1;
  for (const auto blank : kBlanks) {
    if (text.substr(0, blank.size()) == blank) return blank.size();
  }
  return 0;
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

/// Every blank as ' ', every apostrophe as '\'', the minus sign as '-'; without currency symbols.
std::string plain(std::string_view text) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 14> kWords = {{
      {"\u2019", "'"}, {"\u2018", "'"}, {"\u00b4", "'"}, {"\u2212", "-"}, {"\u2013", "-"}, {"\u20ac", ""}, {"\u00a3", ""}, {"\u00a5", ""}, {"$", ""},
      {"\u20b9", ""}, {"\u20ba", ""}, {"\u20bd", ""}, {"z\u0142", ""}, {"K\u010d", ""}}};
  std::string out;
  while (!text.empty()) {
    if (const auto blank = blank_length(text)) {
      out += ' ';
      text.remove_prefix(blank);
      continue;
    }
    const auto word = std::find_if(kWords.begin(), kWords.end(), [&](const auto& w) { return text.substr(0, w.first.size()) == w.first; });
    out += word != kWords.end() ? std::string(word->second) : std::string(1, text[0]);
    text.remove_prefix(word != kWords.end() ? word->first.size() : 1);
  }
  return trimmed(out);
}

/// Takes a currency word ("EUR", "Fr.") off one end.
bool strip_currency(std::string& text) {
  std::size_t front = 0;
  while (front < text.size() && is_letter(text[front])) ++front;
  if (front == 1 || front > 4) return false;
  if (front > 0 && front < text.size() && text[front] == '.') ++front;
  text = trimmed(std::string_view(text).substr(front));
  std::size_t back = text.size();
  if (back > 1 && text[back - 1] == '.' && is_letter(text[back - 2])) --back;
  std::size_t letters = 0;
  while (back > 0 && is_letter(text[back - 1])) --back, ++letters;
  if (letters == 1 || letters > 4) return false;
  if (letters > 0) text = trimmed(std::string_view(text).substr(0, back));
  return true;
}

enum class Sign { none, plus, minus };

/// "-12", "12-", "(12)", "+12".
Sign strip_sign(std::string& text) {
  if (text.size() > 2 && text.front() == '(' && text.back() == ')') {
    text = trimmed(std::string_view(text).substr(1, text.size() - 2));
    return Sign::minus;
  }
  if (!text.empty() && (text.front() == '-' || text.front() == '+')) {
    const bool negative = text.front() == '-';
    text = trimmed(std::string_view(text).substr(1));
    return negative ? Sign::minus : Sign::plus;
  }
  if (text.size() > 1 && text.back() == '-' && (is_digit(text[text.size() - 2]) || text[text.size() - 2] == ' ')) {
    text = trimmed(std::string_view(text).substr(0, text.size() - 1));
    return Sign::minus;
  }
  return Sign::none;
}

/// Where the decimal mark stands, or npos when there is none.
std::size_t find_decimal_mark(std::string_view text) {
  const std::size_t last = text.find_last_of(".,");
  if (last == std::string_view::npos) return last;
  const char mark = text[last];
  const bool repeated = std::count(text.begin(), text.end(), mark) > 1;
  const bool other = text.find(mark == '.' ? ',' : '.') != std::string_view::npos;
  if (repeated) return std::string_view::npos;
  if (other) return last;
  const bool grouped = text.find_first_of(" '") != std::string_view::npos;
  const bool first_group = last >= 1 && last <= 3 && text[0] != '0';
  if (!grouped && first_group && text.size() - last - 1 == 3) return std::string_view::npos;
  return last;
}

/// Digits of the whole part with one kind of grouping mark; empty when the groups are wrong.
std::optional<std::string> join_groups(std::string_view text) {
  std::string digits;
  char mark = 0;
  std::size_t group = 0, groups = 0;
  for (const char c : text) {
    if (is_digit(c)) {
      digits += c;
      ++group;
      continue;
    }
    if (c != ' ' && c != '\'' && c != '.' && c != ',') return std::nullopt;
    if ((mark != 0 && c != mark) || group == 0 || group > 3 || (groups > 0 && group != 3)) return std::nullopt;
    mark = c;
    group = 0;
    ++groups;
  }
  if (digits.empty() || (groups > 0 && group != 3)) return std::nullopt;
  return digits;
}

/// Cents behind the decimal mark: "5" is 50, "-" and "--" are 0, digits behind the second must be zero.
std::optional<std::int64_t> read_decimals(std::string_view text) {
  if (text == "-" || text == "--") return 0;
  if (text.empty() || !std::all_of(text.begin(), text.end(), is_digit)) return std::nullopt;
  if (text.size() > 2 && text.find_first_not_of('0', 2) != std::string_view::npos) return std::nullopt;
  return (text[0] - '0') * 10 + (text.size() > 1 ? text[1] - '0' : 0);
}

}  // namespace

std::optional<std::int64_t> parse_amount(std::string_view printed) {
  if (printed.size() > kAmountBytesMax) return std::nullopt;
  std::string text = plain(printed);
  Sign sign = strip_sign(text);
  if (!strip_currency(text)) return std::nullopt;
  if (sign == Sign::none) sign = strip_sign(text);
  const std::size_t mark = find_decimal_mark(text);
  const auto whole = join_groups(std::string_view(text).substr(0, mark));
  if (!whole || whole->size() > kWholeDigitsMax) return std::nullopt;
  const auto decimals = mark == std::string::npos ? std::optional<std::int64_t>(0) : read_decimals(std::string_view(text).substr(mark + 1));
  if (!decimals) return std::nullopt;
  std::int64_t cents = 0;
  for (const char c : *whole) cents = cents * 10 + (c - '0');
  cents = cents * 100 + *decimals;
  return sign == Sign::minus ? -cents : cents;
}

std::string print_amount(std::int64_t cents) {
  const std::uint64_t value = cents < 0 ? 0 - static_cast<std::uint64_t>(cents) : static_cast<std::uint64_t>(cents);
  const std::string rest = std::to_string(value % 100);
  return (cents < 0 ? "-" : "") + std::to_string(value / 100) + "." + (rest.size() < 2 ? "0" : "") + rest;
}

std::string compact(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const auto blank = blank_length(text);
    if (blank == 0) out += text[0] >= 'a' && text[0] <= 'z' ? static_cast<char>(text[0] - 32) : text[0];
    text.remove_prefix(blank > 0 ? blank : 1);
  }
  return out;
}

std::string trimmed(std::string_view text) {
  while (const auto blank = blank_length(text)) text.remove_prefix(blank);
  std::size_t end = 0;
  for (std::size_t at = 0; at < text.size();) {
    const auto blank = blank_length(text.substr(at));
    at += blank > 0 ? blank : 1;
    if (blank == 0) end = at;
  }
  return std::string(text.substr(0, end));
}

}  // namespace erp
