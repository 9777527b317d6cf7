#include "agent/spec/yaml_scalars.hpp"

#include <algorithm>

namespace kontor::agent {

bool is_document_marker(std::string_view text, std::size_t at) {
  const std::string_view three = text.substr(at, 3);
  if (three != "---" && three != "...") return false;
  return at + 3 >= text.size() || is_yaml_blank(text[at + 3]) || is_yaml_break(text[at + 3]);
}

bool ScalarScanner::fail(std::size_t at, std::string message) {
  error_at = at;
  error = std::move(message);
  return false;
}

void ScalarScanner::put(char c, std::size_t from) {
  value += c;
  if (trace) trace->push_back(static_cast<std::uint32_t>(from));
}

void ScalarScanner::put_code_point(std::uint32_t c, std::size_t from) {
  if (c < 0x80) {
    put(static_cast<char>(c), from);
    return;
  }
  const int tail = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
  static constexpr std::uint32_t kLead[] = {0, 0xC0, 0xE0, 0xF0};
  put(static_cast<char>(kLead[tail] | (c >> (6 * tail))), from);
  for (int i = tail - 1; i >= 0; --i) put(static_cast<char>(0x80 | ((c >> (6 * i)) & 0x3F)), from);
}

bool ScalarScanner::space_or_end(std::size_t ahead) const {
  return at_ + ahead >= text_.size() || is_yaml_blank(text_[at_ + ahead]) || is_yaml_break(text_[at_ + ahead]);
}

void ScalarScanner::take_break() {
  at_ += peek() == '\r' && peek(1) == '\n' ? 2 : 1;
  line_start_ = at_;
}

bool ScalarScanner::at_document_marker() const { return at_ == line_start_ && is_document_marker(text_, at_); }

/// At a line break inside quotes: joins the lines. Blanks around the break do not count, empty lines are line feeds.
bool ScalarScanner::fold_quoted(std::size_t opened) {
  const std::size_t from = at_;
  std::size_t breaks = 0;
  multiline_ = true;
  while (!at_end()) {
    if (is_yaml_break(peek())) {
      take_break();
      ++breaks;
      if (at_document_marker()) return fail(opened, "this quote is never closed");
    } else if (is_yaml_blank(peek())) {
      ++at_;
    } else {
      break;
    }
  }
  if (at_end()) return fail(opened, "this quote is never closed");
  std::size_t spaces = 0;
  while (line_start_ + spaces < at_ && text_[line_start_ + spaces] == ' ') ++spaces;
  if (static_cast<int>(spaces) <= indent_) return fail(opened, "this quote is not closed before the next key; texts over several lines are indented");
  if (breaks == 1) put(' ', from);
  for (std::size_t i = 1; i < breaks; ++i) put('\n', from);
  return true;
}

bool ScalarScanner::single_quoted() {
  const std::size_t opened = at_++;
  while (true) {
    if (at_end()) return fail(opened, "this quote is never closed");
    const char c = peek();
    if (c == '\'') {
      if (peek(1) != '\'') break;
      put('\'', at_);
      at_ += 2;
    } else if (is_yaml_break(c)) {
      while (!value.empty() && is_yaml_blank(value.back())) {
        value.pop_back();
        if (trace) trace->pop_back();
      }
      if (!fold_quoted(opened)) return false;
    } else {
      put(c, at_++);
    }
  }
  ++at_;
  return true;
}

bool ScalarScanner::hex(int digits, std::uint32_t& c) {
  c = 0;
  for (int i = 0; i < digits; ++i) {
    const char d = peek();
    const int digit = d >= '0' && d <= '9' ? d - '0' : d >= 'a' && d <= 'f' ? d - 'a' + 10 : d >= 'A' && d <= 'F' ? d - 'A' + 10 : -1;
    if (digit < 0) return false;
    c = c << 4 | static_cast<std::uint32_t>(digit);
    ++at_;
  }
  return true;
}

/// At a backslash that does not stand before a line break.
bool ScalarScanner::escape(std::size_t opened) {
  const std::size_t from = at_;
  if (at_ + 1 >= text_.size()) return fail(opened, "this quote is never closed");
  const char c = peek(1);
  at_ += 2;
  static constexpr std::string_view kShort = "0abt\tnvfre \"/\\N_LP";
  static constexpr std::uint32_t kMeaning[] = {0,    7,   8,    9,    9,    0xA,  0xB,  0xC,    0xD,
                                               0x1B, ' ', '"', '/', '\\', 0x85, 0xA0, 0x2028, 0x2029};
  if (const auto found = kShort.find(c); found != std::string_view::npos) {
    put_code_point(kMeaning[found], from);
    return true;
  }
  const int digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
  if (digits == 0) return fail(from, "no such escape in double quotes; a backslash is written \\\\, or use single quotes");
  std::uint32_t point = 0;
  if (!hex(digits, point)) return fail(from, "an escape with too few hexadecimal digits");
  if (point >= 0xD800 && point <= 0xDBFF && peek() == '\\' && peek(1) == 'u') {  // as JSON writes them
    at_ += 2;
    std::uint32_t low = 0;
    if (!hex(4, low) || low < 0xDC00 || low > 0xDFFF) return fail(from, "half of a surrogate pair is not a character");
    point = 0x10000 + ((point - 0xD800) << 10) + (low - 0xDC00);
  }
  if (point > 0x10FFFF || (point >= 0xD800 && point <= 0xDFFF)) return fail(from, "the escape does not name a character");
  put_code_point(point, from);
  return true;
}

bool ScalarScanner::double_quoted() {
  const std::size_t opened = at_++;
  std::size_t kept = 0;  // length up to which blanks were escaped and stay at a line's end
  while (true) {
    if (at_end()) return fail(opened, "this quote is never closed");
    const char c = peek();
    if (c == '"') break;
    if (c == '\\' && is_yaml_break(peek(1))) {  // the line break does not count
      ++at_;
      const std::size_t length = value.size();
      const std::size_t trace_length = trace ? trace->size() : 0;
      if (!fold_quoted(opened)) return false;
      if (value.size() == length + 1 && value.back() == ' ') {
        value.resize(length);
        if (trace) trace->resize(trace_length);
      }
      kept = value.size();
    } else if (c == '\\') {
      if (!escape(opened)) return false;
      kept = value.size();
    } else if (is_yaml_break(c)) {
      while (value.size() > kept && is_yaml_blank(value.back())) {
        value.pop_back();
        if (trace) trace->pop_back();
      }
      if (!fold_quoted(opened)) return false;
    } else {
      put(c, at_++);
    }
  }
  ++at_;
  return true;
}

/// Takes plain characters up to the end of the line or of the scalar, without trailing blanks.
bool ScalarScanner::plain_line() {
  std::size_t end = at_;
  for (std::size_t i = at_; i < text_.size() && !is_yaml_break(text_[i]); ++i) {
    const char c = text_[i];
    if (c == '#' && i > 0 && is_yaml_blank(text_[i - 1])) break;
    if (in_flow_ && is_flow_indicator(c)) break;
    if (c == ':') {
      const char next = i + 1 < text_.size() ? text_[i + 1] : '\n';
      if (is_yaml_blank(next) || is_yaml_break(next) || (in_flow_ && is_flow_indicator(next))) break;
    }
    if (!is_yaml_blank(c)) end = i + 1;
  }
  for (; at_ < end; ++at_) put(text_[at_], at_);
  return true;
}

bool ScalarScanner::plain(bool one_line) {
  const char c = peek();
  static constexpr std::string_view kIndicators = ",[]{}#&*!|>'\"%@`";
  if (at_end() || kIndicators.find(c) != std::string_view::npos) return true;
  if (c == '-' || c == '?' || c == ':') {
    if (space_or_end(1) || (in_flow_ && is_flow_indicator(peek(1)))) return true;
  }
  plain_line();
  while (!one_line) {
    // Look at the next line with text; it continues the scalar when it is indented deeper.
    const std::size_t back_at = at_;
    const std::size_t back_line = line_start_;
    while (!at_end() && is_yaml_blank(peek())) ++at_;
    if (at_end() || !is_yaml_break(peek())) {
      at_ = back_at;
      return true;
    }
    std::size_t breaks = 0;
    while (!at_end() && (is_yaml_break(peek()) || is_yaml_blank(peek()))) {
      if (is_yaml_break(peek())) {
        take_break();
        ++breaks;
      } else {
        ++at_;
      }
    }
    std::size_t spaces = 0;
    while (line_start_ + spaces < at_ && text_[line_start_ + spaces] == ' ') ++spaces;
    const bool continues = !at_end() && static_cast<int>(spaces) > indent_ && peek() != '#' && !at_document_marker() &&
                           !(in_flow_ && is_flow_indicator(peek())) && !(peek() == ':' && (space_or_end(1) || (in_flow_ && is_flow_indicator(peek(1)))));
    if (!continues) {
      at_ = back_at;
      line_start_ = back_line;
      return true;
    }
    if (breaks == 1) put(' ', back_at);
    for (std::size_t i = 1; i < breaks; ++i) put('\n', back_at);
    multiline_ = true;
    last_line_content_ = at_;
    plain_line();
  }
  return true;
}

bool ScalarScanner::block_header(int& explicit_indent, char& chomp) {
  ++at_;
  explicit_indent = 0;
  chomp = 0;
  while (!space_or_end(0)) {
    const char c = peek();
    if ((c == '+' || c == '-') && chomp == 0) chomp = c;
    else if (c >= '1' && c <= '9' && explicit_indent == 0) explicit_indent = c - '0';
    else return fail(at_, "behind | or > only a digit from 1 to 9 and one of + and - may stand");
    ++at_;
  }
  while (!at_end() && is_yaml_blank(peek())) ++at_;
  if (peek() == '#' && !at_end()) {
    if (!is_yaml_blank(text_[at_ - 1])) return fail(at_, "a comment needs a blank before it");
    while (!at_end() && !is_yaml_break(peek())) ++at_;
  }
  if (!at_end() && !is_yaml_break(peek())) return fail(at_, "the text of a block scalar begins on the next line");
  return true;
}

bool ScalarScanner::block() {
  const bool folded = peek() == '>';
  int explicit_indent = 0;
  char chomp = 0;
  if (!block_header(explicit_indent, chomp)) return false;
  if (!at_end()) take_break();
  int content = explicit_indent > 0 ? (indent_ < 0 ? 0 : indent_) + explicit_indent : -1;
  if (content < 0) {
    // The first line with text fixes the indentation; blank lines before it may not be deeper.
    std::size_t deepest = 0;
    std::size_t deepest_at = 0;
    std::size_t i = at_;
    for (std::size_t line = at_; content < 0 && line < text_.size();) {
      i = line;
      while (i < text_.size() && text_[i] == ' ') ++i;
      const std::size_t spaces = i - line;
      if (i < text_.size() && !is_yaml_break(text_[i])) {
        if (static_cast<int>(spaces) > indent_) {
          if (deepest > spaces) return fail(deepest_at, "a blank line before the text is indented more than the text");
        }
        content = static_cast<int>(spaces);
        break;
      }
      if (spaces > deepest) deepest = spaces, deepest_at = i;
      while (i < text_.size() && !is_yaml_break(text_[i])) ++i;
      if (i >= text_.size()) break;
      line = i + (text_[i] == '\r' && i + 1 < text_.size() && text_[i + 1] == '\n' ? 2 : 1);
    }
    if (content <= indent_) content = std::max(indent_ + 1, static_cast<int>(deepest));  // nothing but blank lines
  }

  std::size_t pending = 0;          // line breaks not written yet
  bool first = true;
  bool last_indented = false;       // the line before begins with a blank: it is not folded
  std::size_t last_break = at_;
  while (!at_end()) {
    std::size_t i = at_;
    while (i < text_.size() && text_[i] == ' ' && static_cast<int>(i - at_) < content) ++i;
    const bool blank_line = i >= text_.size() || is_yaml_break(text_[i]);
    if (!blank_line && static_cast<int>(i - at_) < content) break;
    if (!blank_line && content == 0 && is_document_marker(text_, at_)) break;
    if (blank_line) {
      at_ = i;
      if (at_end()) break;
      last_break = at_;
      take_break();
      ++pending;
      continue;
    }
    const bool indented = is_yaml_blank(text_[i]);
    if (first || !folded || indented || last_indented) {
      for (; pending > 0; --pending) put('\n', last_break);
    } else {
      if (pending == 1) put(' ', last_break);
      for (std::size_t k = 1; k < pending; ++k) put('\n', last_break);
      pending = 0;
    }
    first = false;
    last_indented = indented;
    for (at_ = i; !at_end() && !is_yaml_break(peek()); ++at_) put(peek(), at_);
    if (at_end()) break;
    last_break = at_;
    take_break();
    pending = 1;
  }
  if (chomp == '+' || (chomp == 0 && pending > 0 && !value.empty())) {
    for (std::size_t i = 0, n = chomp == '+' ? pending : 1; i < n; ++i) put('\n', last_break);
  }
  return true;
}

}  // namespace kontor::agent
