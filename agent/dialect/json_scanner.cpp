#include "agent/dialect/json_scanner.hpp"

#include "agent/dialect/markers.hpp"

#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <utility>

namespace kontor::agent::dialect {
namespace {

constexpr std::size_t kLinearKeys = 16;

bool is_word_char(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}
bool is_word_start(char c) { return is_word_char(c) && !(c >= '0' && c <= '9'); }
bool is_number_char(char c) { return (c >= '0' && c <= '9') || c == '+' || c == '-' || c == '.' || c == 'e' || c == 'E'; }

// Bytes that end the fast path inside a string: quotes, backslash, control characters, the mark of ill-formed input.
constexpr std::array<bool, 256> kStops = [] {
  std::array<bool, 256> table{};
  for (int c = 0; c < 0x20; ++c) table[c] = true;
  table['"'] = table['\''] = table['\\'] = table[0xFF] = true;
  return table;
}();

void append_utf8(std::string& out, unsigned code) {
  if (code < 0x80) {
    out += static_cast<char>(code);
  } else if (code < 0x800) {
    out += static_cast<char>(0xC0 | code >> 6);
    out += static_cast<char>(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    out += static_cast<char>(0xE0 | code >> 12);
    out += static_cast<char>(0x80 | (code >> 6 & 0x3F));
    out += static_cast<char>(0x80 | (code & 0x3F));
  } else {
    out += static_cast<char>(0xF0 | code >> 18);
    out += static_cast<char>(0x80 | (code >> 12 & 0x3F));
    out += static_cast<char>(0x80 | (code >> 6 & 0x3F));
    out += static_cast<char>(0x80 | (code & 0x3F));
  }
}

/// Could more text make it a literal?
bool begins_word(std::string_view text, bool lenient) {
  for (const std::string_view word : {"true", "false", "null"}) {
    if (word.starts_with(text)) return true;
  }
  return lenient && (std::string_view("True").starts_with(text) || std::string_view("False").starts_with(text) || std::string_view("None").starts_with(text));
}

/// -?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?; `real` tells whether there is a fraction or an exponent.
bool is_json_number(std::string_view text, bool& real) {
  std::size_t i = 0;
  const auto digits = [&] {
    const std::size_t from = i;
    while (i < text.size() && text[i] >= '0' && text[i] <= '9') ++i;
    return i - from;
  };
  real = false;
  if (i < text.size() && text[i] == '-') ++i;
  const bool zero = i < text.size() && text[i] == '0';
  const std::size_t whole = digits();
  if (whole == 0 || (zero && whole > 1)) return false;
  if (i < text.size() && text[i] == '.') {
    real = true;
    ++i;
    if (digits() == 0) return false;
  }
  if (i < text.size() && (text[i] == 'e' || text[i] == 'E')) {
    real = true;
    ++i;
    if (i < text.size() && (text[i] == '+' || text[i] == '-')) ++i;
    if (digits() == 0) return false;
  }
  return i == text.size();
}

}  // namespace

void JsonScanner::reset(std::size_t begin, bool lenient, std::size_t max_depth) {
  *this = JsonScanner();
  pos_ = begin;
  lenient_ = lenient;
  max_depth_ = max_depth;
}

JsonScanner::Status JsonScanner::resume(std::string_view text, bool final) {
  if (error_) return Status::error;
  while (state_ != State::done) {
    if (pos_ >= text.size()) {
      if (!final) return Status::more;
      // Only a bare number or word at the top can end with the output.
      if (stack_.empty() && (state_ == State::number || state_ == State::word)) {
        const std::string_view lexeme = text.substr(token_);
        if (state_ == State::number ? end_number(lexeme) : end_word(lexeme)) continue;
      }
      if (state_ == State::word && !begins_word(text.substr(token_), lenient_)) return fail("malformed_json");
      return fail("truncated_call");
    }
    const char c = text[pos_];
    bool fine = true;
    switch (state_) {
      case State::string:
        pos_ = read_string(text);
        fine = error_ == nullptr;
        break;
      case State::escape:
      case State::low_escape:
      case State::low_u: fine = read_escape(c); break;
      case State::hex: fine = read_hex(c); break;
      case State::number:
        if (is_number_char(c)) ++pos_;
        else fine = end_number(text.substr(token_, pos_ - token_));
        break;
      case State::word:
        if (is_word_char(c)) ++pos_;
        else fine = end_word(text.substr(token_, pos_ - token_));
        break;
      case State::bare_key:
        if (is_word_char(c)) ++pos_;
        else fine = add_key(std::string(text.substr(token_, pos_ - token_)));
        break;
      case State::comment:
        if (c != '/' && c != '*') { fine = malformed(); break; }
        state_ = c == '/' ? State::line_comment : State::block_comment;
        ++pos_;
        break;
      case State::line_comment:
        if (c == '\n') state_ = back_;
        ++pos_;
        break;
      case State::block_comment:
        if (c == '*') state_ = State::block_star;
        ++pos_;
        break;
      case State::block_star:
        state_ = c == '/' ? back_ : c == '*' ? State::block_star : State::block_comment;
        ++pos_;
        break;
      default:
        if (is_space(c)) ++pos_;
        else if (c == '/' && lenient_) fine = enter_comment(state_);
        else if (c == kInvalidByte) return fail("invalid_utf8");
        else fine = read_structure(c);
    }
    if (!fine) return Status::error;
  }
  return Status::done;
}

bool JsonScanner::enter_comment(State back) {
  back_ = back;
  state_ = State::comment;
  repaired_ = true;
  ++pos_;
  return true;
}

/// The first byte of a token between values.
bool JsonScanner::read_structure(char c) {
  switch (state_) {
    case State::value_or_end:
      if (c == ']') return close(), ++pos_, true;
      [[fallthrough]];
    case State::value: return read_value_start(c);
    case State::key_or_end:
      if (c == '}') return close(), ++pos_, true;
      [[fallthrough]];
    case State::key:
      if (c == '"' || (c == '\'' && lenient_)) {
        repaired_ |= c == '\'';
        quote_ = c;
        string_is_key_ = true;
        scratch_.clear();
        state_ = State::string;
        return ++pos_, true;
      }
      if (is_word_start(c) && lenient_) {
        repaired_ = true;
        token_ = pos_;
        state_ = State::bare_key;
        return true;
      }
      // A closing brace here stands behind a comma.
      if (c == '}' && lenient_) return repaired_ = true, close(), ++pos_, true;
      return malformed();
    case State::colon:
      if (c != ':') return malformed();
      state_ = State::value;
      return ++pos_, true;
    case State::after: {
      const bool object = stack_.back().value.is_object();
      if (c == ',') return state_ = object ? State::key : State::value, ++pos_, true;
      if (c == (object ? '}' : ']')) return close(), ++pos_, true;
      return malformed();
    }
    default: return malformed();
  }
}

bool JsonScanner::read_value_start(char c) {
  if (c == '{') return open(Json::object());
  if (c == '[') return open(Json::array());
  if (c == '"' || (c == '\'' && lenient_)) {
    repaired_ |= c == '\'';
    quote_ = c;
    string_is_key_ = false;
    scratch_.clear();
    state_ = State::string;
    return ++pos_, true;
  }
  if (c == '-' || (c >= '0' && c <= '9')) return token_ = pos_, state_ = State::number, true;
  if (is_word_start(c)) return token_ = pos_, state_ = State::word, true;
  // A closing bracket here stands behind a comma (an empty array is State::value_or_end).
  if (c == ']' && lenient_ && state_ == State::value && !stack_.empty() && stack_.back().value.is_array()) {
    return repaired_ = true, close(), ++pos_, true;
  }
  return malformed();
}

std::size_t JsonScanner::read_string(std::string_view text) {
  std::size_t i = pos_;
  for (;;) {
    std::size_t run = i;
    while (run < text.size() && !kStops[static_cast<unsigned char>(text[run])]) ++run;
    scratch_.append(text.substr(i, run - i));
    i = run;
    if (i >= text.size()) return i;
    const char c = text[i];
    if (c == quote_) {
      pos_ = i + 1;
      end_string();
      return error_ ? i : pos_;
    }
    if (c == '\\') return state_ = State::escape, i + 1;
    if (c == kInvalidByte) return error_ = "invalid_utf8", i;
    const bool raw = c == '\n' || c == '\r' || c == '\t';
    if (static_cast<unsigned char>(c) < 0x20 && !(raw && lenient_)) return malformed(), i;
    repaired_ |= raw;
    scratch_ += c;  // the other kind of quote, or a repaired line break
    ++i;
  }
}

bool JsonScanner::read_escape(char c) {
  if (state_ == State::low_escape) {
    if (c != '\\') return malformed();
    return state_ = State::low_u, ++pos_, true;
  }
  if (state_ == State::low_u && c != 'u') return malformed();
  switch (c) {
    case '"': case '\\': case '/': scratch_ += c; break;
    case 'b': scratch_ += '\b'; break;
    case 'f': scratch_ += '\f'; break;
    case 'n': scratch_ += '\n'; break;
    case 'r': scratch_ += '\r'; break;
    case 't': scratch_ += '\t'; break;
    case '\'':
      if (!lenient_) return malformed();
      repaired_ = true;
      scratch_ += c;
      break;
    case 'u':
      code_ = 0;
      digits_ = 0;
      state_ = State::hex;
      return ++pos_, true;
    default: return malformed();
  }
  state_ = State::string;
  return ++pos_, true;
}

bool JsonScanner::read_hex(char c) {
  unsigned digit;
  if (c >= '0' && c <= '9') digit = c - '0';
  else if (c >= 'a' && c <= 'f') digit = c - 'a' + 10;
  else if (c >= 'A' && c <= 'F') digit = c - 'A' + 10;
  else return malformed();
  code_ = code_ << 4 | digit;
  ++pos_;
  if (++digits_ < 4) return true;
  if (high_ != 0) {
    if (code_ < 0xDC00 || code_ > 0xDFFF) return malformed();
    append_utf8(scratch_, 0x10000 + ((high_ - 0xD800) << 10) + (code_ - 0xDC00));
    high_ = 0;
  } else if (code_ >= 0xD800 && code_ <= 0xDBFF) {
    high_ = code_;
    return state_ = State::low_escape, true;
  } else if (code_ >= 0xDC00 && code_ <= 0xDFFF) {
    return malformed();
  } else {
    append_utf8(scratch_, code_);
  }
  return state_ = State::string, true;
}

bool JsonScanner::end_string() {
  if (string_is_key_) return add_key(std::move(scratch_));
  put(Json(std::move(scratch_)));
  return true;
}

bool JsonScanner::end_number(std::string_view lexeme) {
  bool real = false;
  if (!is_json_number(lexeme, real)) return malformed();
  const char* const begin = lexeme.data();
  const char* const end = begin + lexeme.size();
  if (real) {
    double value = 0;
    const auto parsed = std::from_chars(begin, end, value);
    // from_chars also calls underflow out of range; that is a harmless zero.
    if (parsed.ec != std::errc() || !std::isfinite(value)) {
      const double nearest = std::strtod(std::string(lexeme).c_str(), nullptr);
      if (!std::isfinite(nearest)) objection_ = objection_ ? objection_ : "number_out_of_range";
      value = std::isfinite(nearest) ? nearest : 0;
    }
    put(Json(value));
    return true;
  }
  if (lexeme.front() == '-') {
    std::int64_t value = 0;
    if (std::from_chars(begin, end, value).ec != std::errc()) objection_ = objection_ ? objection_ : "number_out_of_range";
    put(Json(value));
    return true;
  }
  std::uint64_t value = 0;
  if (std::from_chars(begin, end, value).ec != std::errc()) objection_ = objection_ ? objection_ : "number_out_of_range";
  put(Json(value));
  return true;
}

bool JsonScanner::end_word(std::string_view word) {
  if (word == "true") return put(Json(true)), true;
  if (word == "false") return put(Json(false)), true;
  if (word == "null") return put(Json(nullptr)), true;
  if (!lenient_) return malformed();
  if (word == "True") put(Json(true));
  else if (word == "False") put(Json(false));
  else if (word == "None") put(Json(nullptr));
  else return malformed();
  repaired_ = true;
  return true;
}

/// The next value is that of the top object's "arguments".
bool JsonScanner::in_arguments() const {
  return stack_.size() == 1 && stack_[0].value.is_object() && (stack_[0].key == "arguments" || stack_[0].key == "parameters");
}

bool JsonScanner::open(Json container) {
  if (arguments_begin_ == 0 && in_arguments()) arguments_begin_ = pos_;
  if (stack_.size() >= max_depth_) return error_ = "depth_exceeded", false;
  state_ = container.is_object() ? State::key_or_end : State::value_or_end;
  stack_.push_back({std::move(container), {}, {}});
  ++pos_;
  return true;
}

void JsonScanner::close() {
  Json value = std::move(stack_.back().value);
  stack_.pop_back();
  if (arguments_end_ == 0 && arguments_begin_ != 0 && in_arguments()) arguments_end_ = pos_ + 1;
  put(std::move(value));
}

void JsonScanner::put(Json value) {
  if (stack_.empty()) {
    root_ = std::move(value);
    state_ = State::done;
    return;
  }
  Frame& frame = stack_.back();
  state_ = State::after;
  if (frame.value.is_array()) {
    frame.value.push_back(std::move(value));
    return;
  }
  if (stack_.size() == 1 && value.is_string() && frame.key == "name" && name_.empty()) name_ = value.get_ref<const std::string&>();
  // Appended directly: the map's own insert would search all members again.
  using Members = std::vector<std::pair<const std::string, Json>>;
  auto& members = static_cast<Members&>(frame.value.get_ref<Json::object_t&>());
  members.emplace_back(std::move(frame.key), std::move(value));
}

bool JsonScanner::add_key(std::string key) {
  Frame& frame = stack_.back();
  const auto& members = frame.value.get_ref<const Json::object_t&>();
  bool seen = false;
  if (members.size() < kLinearKeys) {
    for (const auto& [name, value] : members) seen |= name == key;
  } else {
    if (frame.keys.empty()) for (const auto& [name, value] : members) frame.keys.insert(name);
    seen = !frame.keys.insert(key).second;
  }
  if (seen && !objection_) objection_ = "duplicate_key";
  frame.key = std::move(key);
  state_ = State::colon;
  return true;
}

ScannedJson scan_json(std::string_view text, std::size_t begin, bool lenient, std::size_t max_depth) {
  JsonScanner scanner;
  scanner.reset(begin, lenient, max_depth);
  ScannedJson out;
  if (scanner.resume(text, true) == JsonScanner::Status::error) out.error = scanner.error();
  else out.value = scanner.take();
  out.objection = scanner.objection();
  out.repaired = scanner.repaired();
  out.end = scanner.pos();
  return out;
}

}  // namespace kontor::agent::dialect
