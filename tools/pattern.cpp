#include "tools/pattern.hpp"

#include <re2/re2.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <utility>

namespace kontor::tools {
namespace {

constexpr std::size_t kPatternBytesMax = 8192;
constexpr std::int64_t kPatternMemory = 4 << 20;

// WhiteSpace and LineTerminator of ECMA-262, and everything else.
constexpr const char* kSpace = R"(\t\n\x{b}\f\r \x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}\x{feff})";
constexpr const char* kNotSpace =
    R"(\x{0}-\x{8}\x{e}-\x{1f}!-\x{9f}\x{a1}-\x{167f}\x{1681}-\x{1fff}\x{200b}-\x{2027}\x{202a}-\x{202e}\x{2030}-\x{205e})"
    R"(\x{2060}-\x{2fff}\x{3001}-\x{fefe}\x{ff00}-\x{10ffff})";

constexpr std::array<std::pair<std::string_view, std::string_view>, 21> kCategories{{
    {"Letter", "L"}, {"Lowercase_Letter", "Ll"}, {"Uppercase_Letter", "Lu"}, {"Titlecase_Letter", "Lt"},
    {"Modifier_Letter", "Lm"}, {"Other_Letter", "Lo"}, {"Mark", "M"}, {"Nonspacing_Mark", "Mn"}, {"Number", "N"},
    {"Decimal_Number", "Nd"}, {"digit", "Nd"}, {"Letter_Number", "Nl"}, {"Punctuation", "P"}, {"punct", "P"},
    {"Symbol", "S"}, {"Math_Symbol", "Sm"}, {"Currency_Symbol", "Sc"}, {"Separator", "Z"}, {"Space_Separator", "Zs"},
    {"Control", "Cc"}, {"cntrl", "Cc"}}};

class Translator {
 public:
  explicit Translator(std::string_view text) : text_(text) {}

  Result<std::string> run() {
    while (at_ < text_.size() && !failed_) {
      const char c = text_[at_];
      if (c == '\\') escape(false);
      else if (c == '[') bracket();
      else if (c == '(') group();
      else if (c == '.') out_ += R"([^\n\r\x{2028}\x{2029}])", ++at_;
      else out_ += c, ++at_;
    }
    if (failed_) return error_;
    return std::move(out_);
  }

  bool unsupported_only = false;  ///< The failure is a feature of ECMA that RE2 lacks.
  bool foreign_groups = false;    ///< Has a kind of group that ECMA lacks.

 private:
  void stop(Errc code, const std::string& message) {
    if (failed_) return;
    failed_ = true;
    unsupported_only = code == Errc::unsupported;
    error_ = fail(code, message + " at byte " + std::to_string(at_) + " of the pattern", "pattern");
  }
  std::string_view rest() const { return text_.substr(at_); }

  void group() {
    const auto here = rest();
    if (here.starts_with("(?=") || here.starts_with("(?!") || here.starts_with("(?<=") || here.starts_with("(?<!")) {
      return stop(Errc::unsupported, "look-around cannot be checked in linear time");
    }
    if (here.starts_with("(?<")) {
      out_ += "(?P<";
      at_ += 3;
      return;
    }
    // Inline flags such as (?i) are not ECMA, but schemas made by other languages use them and RE2 knows them.
    if (here.starts_with("(?") && !here.starts_with("(?:")) foreign_groups = true;
    out_ += '(';
    ++at_;
  }

  void bracket() {
    ++at_;
    const bool negated = rest().starts_with("^");
    if (negated) ++at_;
    if (rest().starts_with("]")) {
      ++at_;
      out_ += negated ? "(?s:.)" : R"([^\x{0}-\x{10ffff}])";
      return;
    }
    out_ += negated ? "[^" : "[";
    while (at_ < text_.size() && text_[at_] != ']' && !failed_) {
      if (text_[at_] == '\\') escape(true);
      else if (text_[at_] == '[') out_ += "\\[", ++at_;  // No POSIX classes in ECMA.
      else out_ += text_[at_++];
    }
    if (at_ >= text_.size()) return stop(Errc::malformed, "unclosed '['");
    out_ += ']';
    ++at_;
  }

  void append_code(std::uint32_t code) {
    char buffer[16];
    std::snprintf(buffer, sizeof buffer, "\\x{%x}", code);
    out_ += buffer;
  }

  /// Reads exactly `digits` hexadecimal digits at `from`; -1 when they are not there.
  std::int64_t hex(std::size_t from, std::size_t digits) const {
    if (from + digits > text_.size()) return -1;
    std::int64_t value = 0;
    for (std::size_t i = 0; i < digits; ++i) {
      const char c = text_[from + i];
      const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
      if (digit < 0) return -1;
      value = value * 16 + digit;
    }
    return value;
  }

  void unicode_escape() {
    if (at_ + 2 < text_.size() && text_[at_ + 2] == '{') {
      const auto close = text_.find('}', at_ + 3);
      if (close == std::string_view::npos || close == at_ + 3 || close - at_ > 11) return stop(Errc::malformed, "bad \\u{...}");
      const auto code = hex(at_ + 3, close - at_ - 3);
      if (code < 0 || code > 0x10ffff) return stop(Errc::malformed, "bad \\u{...}");
      append_code(static_cast<std::uint32_t>(code));
      at_ = close + 1;
      return;
    }
    auto code = hex(at_ + 2, 4);
    if (code < 0) return stop(Errc::malformed, "\\u needs four hexadecimal digits");
    at_ += 6;
    if (code >= 0xd800 && code < 0xdc00 && rest().starts_with("\\u")) {
      if (const auto low = hex(at_ + 2, 4); low >= 0xdc00 && low < 0xe000) {
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
        at_ += 6;
      }
    }
    if (code >= 0xd800 && code < 0xe000) return stop(Errc::unsupported, "half of a surrogate pair");
    append_code(static_cast<std::uint32_t>(code));
  }

  void property_escape() {
    const char kind = text_[at_ + 1];
    if (at_ + 2 >= text_.size() || text_[at_ + 2] != '{') return stop(Errc::malformed, "\\p needs {...}");
    const auto close = text_.find('}', at_);
    if (close == std::string_view::npos) return stop(Errc::malformed, "\\p{ without }");
    auto name = text_.substr(at_ + 3, close - at_ - 3);
    for (const std::string_view prefix : {"Script=", "sc=", "General_Category=", "gc="}) {
      if (name.starts_with(prefix)) name.remove_prefix(prefix.size());
    }
    for (const auto& [spelled_out, shorthand] : kCategories) {
      if (name == spelled_out) name = shorthand;
    }
    out_ += '\\';
    out_ += kind;
    out_ += '{';
    out_ += name;
    out_ += '}';
    at_ = close + 1;
  }

  void escape(bool in_class) {
    if (at_ + 1 >= text_.size()) return stop(Errc::malformed, "a lone backslash");
    const char c = text_[at_ + 1];
    switch (c) {
      case 's': out_ += in_class ? std::string(kSpace) : "[" + std::string(kSpace) + "]"; break;
      case 'S': out_ += in_class ? std::string(kNotSpace) : "[^" + std::string(kSpace) + "]"; break;
      case 'd': case 'D': case 'w': case 'W': case 't': case 'n': case 'r': case 'f': case 'v':
        out_ += '\\';
        out_ += c;
        break;
      case 'b':
        out_ += in_class ? "\\x{8}" : "\\b";
        break;
      case 'B':
        if (in_class) return stop(Errc::malformed, "\\B inside brackets");
        out_ += "\\B";
        break;
      case '0': append_code(0); break;
      case 'c': {
        const char letter = at_ + 2 < text_.size() ? text_[at_ + 2] : '\0';
        if (!((letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z'))) return stop(Errc::malformed, "\\c needs a letter");
        append_code(static_cast<std::uint32_t>(letter) % 32);
        at_ += 3;
        return;
      }
      case 'u': return unicode_escape();
      case 'x': {
        const auto code = hex(at_ + 2, 2);
        if (code < 0) return stop(Errc::malformed, "\\x needs two hexadecimal digits");
        append_code(static_cast<std::uint32_t>(code));
        at_ += 4;
        return;
      }
      case 'p': case 'P': return property_escape();
      case 'k': return stop(Errc::unsupported, "back-references cannot be checked in linear time");
      default:
        if (c >= '1' && c <= '9') return stop(Errc::unsupported, "back-references cannot be checked in linear time");
        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) return stop(Errc::malformed, std::string("unknown escape \\") + c);
        if (static_cast<unsigned char>(c) < 0x80) out_ += '\\';
        out_ += c;
    }
    at_ += 2;
  }

  std::string_view text_;
  std::size_t at_ = 0;
  std::string out_;
  bool failed_ = false;
  Error error_;
};

}  // namespace

Result<std::shared_ptr<const re2::RE2>> compile_pattern(std::string_view pattern) {
  if (pattern.size() > kPatternBytesMax) {
    return fail(Errc::limit, "pattern longer than " + std::to_string(kPatternBytesMax) + " bytes", "pattern");
  }
  auto spelled = Translator(pattern).run();
  if (!spelled) return spelled.error();
  re2::RE2::Options options;
  options.set_log_errors(false);
  options.set_max_mem(kPatternMemory);
  auto compiled = std::make_shared<const re2::RE2>(*spelled, options);
  if (!compiled->ok()) {
    const bool size = compiled->error_code() == re2::RE2::ErrorRepeatSize || compiled->error_code() == re2::RE2::ErrorPatternTooLarge;
    return fail(size ? Errc::unsupported : Errc::malformed, "pattern: " + compiled->error(), "pattern");
  }
  return compiled;
}

bool pattern_found(const re2::RE2& pattern, std::string_view text) {
  return re2::RE2::PartialMatch(re2::StringPiece(text.data(), text.size()), pattern);
}

bool is_pattern(std::string_view text) {
  if (text.size() > kPatternBytesMax) return false;
  Translator translator(text);
  const auto spelled = translator.run();
  if (!spelled) return translator.unsupported_only;
  if (translator.foreign_groups) return false;
  re2::RE2::Options options;
  options.set_log_errors(false);
  options.set_max_mem(kPatternMemory);
  const re2::RE2 compiled(*spelled, options);
  return compiled.ok() || compiled.error_code() == re2::RE2::ErrorRepeatSize || compiled.error_code() == re2::RE2::ErrorPatternTooLarge;
}

}  // namespace kontor::tools
