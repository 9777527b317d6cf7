#include "inference/json_scanner.hpp"

#include "inference/unicode.hpp"

#include <algorithm>
#include <charconv>
#include <system_error>
#include <utility>

namespace kontor::inference {
namespace {

constexpr int kMaxDepth = 64;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

}  // namespace

bool JsonScanner::fail_here(std::string message) {
  if (message_.empty()) message_ = std::move(message);
  return false;
}

Error JsonScanner::error(const std::string& file) const {
  const std::string_view before = text_.substr(0, std::min(at_, text_.size()));
  const auto lines = std::count(before.begin(), before.end(), '\n');
  const std::size_t line_start = before.rfind('\n') == std::string_view::npos ? 0 : before.rfind('\n') + 1;
  return fail(Errc::malformed, message_, "json_syntax", file + ":" + std::to_string(lines + 1) + ":" + std::to_string(before.size() - line_start + 1));
}

void JsonScanner::space() {
  while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\r' || text_[at_] == '\t')) ++at_;
}

bool JsonScanner::take(char c) {
  space();
  if (failed() || at_ >= text_.size() || text_[at_] != c) return false;
  ++at_;
  return true;
}

char JsonScanner::peek() {
  space();
  return failed() || at_ >= text_.size() ? '\0' : text_[at_];
}

bool JsonScanner::open(char bracket) {
  if (!take(bracket)) return fail_here(std::string("expected '") + bracket + "'");
  fresh_ = true;
  return true;
}

bool JsonScanner::element() {
  if (failed()) return false;
  const bool first = std::exchange(fresh_, false);
  if (take(']')) return false;
  if (!first && !take(',')) return fail_here("expected ',' or ']'");
  return true;
}

bool JsonScanner::member(std::string_view& key) {
  if (failed()) return false;
  const bool first = std::exchange(fresh_, false);
  if (take('}')) return false;
  if (!first && !take(',')) return fail_here("expected ',' or '}'");
  if (!text(key)) return false;
  return take(':') || fail_here("expected ':'");
}

bool JsonScanner::text(std::string_view& out) {
  if (!take('"')) return fail_here("expected a text");
  const std::size_t start = at_;
  for (; at_ < text_.size(); ++at_) {
    const auto c = static_cast<unsigned char>(text_[at_]);
    if (c == '"') {
      out = text_.substr(start, at_++ - start);
      return true;
    }
    if (c == '\\') break;
    if (c < 0x20) return fail_here("a control character in a text");
  }
  std::string& unescaped = unescaped_.emplace_back(text_.substr(start, at_ - start));
  while (at_ < text_.size()) {
    const char c = text_[at_];
    if (c == '"') {
      ++at_;
      out = unescaped;
      return true;
    }
    if (static_cast<unsigned char>(c) < 0x20) return fail_here("a control character in a text");
    ++at_;
    if (c != '\\') unescaped.push_back(c);
    else if (!escape(unescaped)) return false;
  }
  return fail_here("a text is not closed");
}

bool JsonScanner::hex(std::uint32_t& out) {
  if (text_.size() - at_ < 4) return fail_here("an escape is cut off");
  const auto [end, error] = std::from_chars(text_.data() + at_, text_.data() + at_ + 4, out, 16);
  if (error != std::errc() || end != text_.data() + at_ + 4) return fail_here("\\u without four hexadecimal digits");
  at_ += 4;
  return true;
}

bool JsonScanner::escape(std::string& out) {
  if (at_ >= text_.size()) return fail_here("a text is not closed");
  const char c = text_[at_++];
  constexpr std::string_view kNames = "\"\\/bfnrt", kValues = "\"\\/\b\f\n\r\t";
  if (const std::size_t i = kNames.find(c); i != std::string_view::npos) {
    out.push_back(kValues[i]);
    return true;
  }
  if (c != 'u') return fail_here("an unknown escape in a text");
  std::uint32_t value = 0;
  if (!hex(value)) return false;
  if (value >= 0xd800 && value < 0xdc00) {
    std::uint32_t low = 0;
    if (!text_.substr(at_).starts_with("\\u")) return fail_here("half of a surrogate pair");
    at_ += 2;
    if (!hex(low)) return false;
    if (low < 0xdc00 || low > 0xdfff) return fail_here("half of a surrogate pair");
    value = 0x10000 + ((value - 0xd800) << 10) + (low - 0xdc00);
  } else if (value >= 0xdc00 && value <= 0xdfff) {
    return fail_here("half of a surrogate pair");
  }
  append_utf8(out, value);
  return true;
}

bool JsonScanner::skip_number(std::size_t& start) {
  space();
  start = at_;
  const auto digits = [&] {
    const std::size_t before = at_;
    while (at_ < text_.size() && is_digit(text_[at_])) ++at_;
    return at_ > before;
  };
  if (at_ < text_.size() && text_[at_] == '-') ++at_;
  if (at_ < text_.size() && text_[at_] == '0') ++at_;
  else if (!digits()) return fail_here("expected a number");
  if (at_ < text_.size() && text_[at_] == '.') {
    ++at_;
    if (!digits()) return fail_here("a number without digits behind its point");
  }
  if (at_ < text_.size() && (text_[at_] == 'e' || text_[at_] == 'E')) {
    ++at_;
    if (at_ < text_.size() && (text_[at_] == '+' || text_[at_] == '-')) ++at_;
    if (!digits()) return fail_here("a number without digits in its exponent");
  }
  return true;
}

bool JsonScanner::integer(std::int64_t& out) {
  std::size_t start = 0;
  if (failed() || !skip_number(start)) return false;
  const auto [end, error] = std::from_chars(text_.data() + start, text_.data() + at_, out);
  return (error == std::errc() && end == text_.data() + at_) || fail_here("expected an integer");
}

bool JsonScanner::number(double& out) {
  std::size_t start = 0;
  if (failed() || !skip_number(start)) return false;
  const auto [end, error] = std::from_chars(text_.data() + start, text_.data() + at_, out);
  return (error == std::errc() && end == text_.data() + at_) || fail_here("a number out of range");
}

bool JsonScanner::skip_value(int depth) {
  if (depth > kMaxDepth) return fail_here("nested deeper than " + std::to_string(kMaxDepth));
  std::string_view ignored;
  std::size_t start = 0;
  switch (peek()) {
    case '{':
      open('{');
      while (member(ignored))
        if (!skip_value(depth + 1)) return false;
      return !failed();
    case '[':
      open('[');
      while (element())
        if (!skip_value(depth + 1)) return false;
      return !failed();
    case '"': return text(ignored);
    default: break;
  }
  for (const std::string_view word : {"true", "false", "null"})
    if (text_.substr(at_).starts_with(word)) {
      at_ += word.size();
      return true;
    }
  return skip_number(start);
}

bool JsonScanner::skip(std::string_view& raw) {
  space();
  const std::size_t start = at_;
  if (failed() || !skip_value(0)) return false;
  raw = text_.substr(start, at_ - start);
  return true;
}

bool JsonScanner::end() {
  space();
  return !failed() && (at_ >= text_.size() || fail_here("text behind the end"));
}

}  // namespace kontor::inference
