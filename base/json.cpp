#include "base/json.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

namespace kontor {
namespace {

/// Builds the value while counting depth, so that nothing deeper than the bound ever exists.
class Builder final : public nlohmann::json_sax<Json> {
 public:
  Builder(std::string_view text, const JsonLimits& limits) : text_(text), limits_(limits) {}

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(number_integer_t value) override { return add(value); }
  bool number_unsigned(number_unsigned_t value) override { return add(value); }
  bool number_float(number_float_t value, const string_t&) override { return add(value); }
  bool string(string_t& value) override { return add(std::move(value)); }
  bool binary(binary_t&) override { return false; }
  bool start_object(std::size_t) override { return open(Json::object()); }
  bool start_array(std::size_t) override { return open(Json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool key(string_t& name) override {
    known_key_ = !is_new_key(name);
    if (known_key_ && limits_.refuse_duplicate_keys) {
      error = fail(Errc::malformed, "the key \"" + name + "\" stands twice in one object", "json_duplicate_key");
      return false;
    }
    key_ = std::move(name);
    return true;
  }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::json::exception& exception) override {
    std::string what = exception.what();
    if (const auto colon = what.find("] "); colon != std::string::npos) what.erase(0, colon + 2);
    error = fail(Errc::malformed, std::move(what), "json_syntax", place(position));
    return false;
  }

  Json root;
  Error error;

 private:
  template <class Value>
  Json& insert(Value&& value) {
    if (stack_.empty()) return root = Json(std::forward<Value>(value));
    Json& parent = *stack_.back();
    if (parent.is_array()) return parent.emplace_back(std::forward<Value>(value));
    if (known_key_) return parent[key_] = Json(std::forward<Value>(value));
    // The key was just looked up; operator[] would search all members again.
    Json::object_t::Container& members = *parent.get_ptr<Json::object_t*>();
    return members.emplace_back(std::move(key_), Json(std::forward<Value>(value))).second;
  }
  template <class Value>
  bool add(Value&& value) {
    insert(std::forward<Value>(value));
    return true;
  }
  bool open(Json value) {
    if (stack_.size() >= limits_.depth) {
      error = fail(Errc::limit, "JSON nested deeper than " + std::to_string(limits_.depth) + " levels", "json_depth");
      return false;
    }
    // Pointers stay valid: a parent is only appended to after its open child has been closed.
    stack_.push_back(&insert(std::move(value)));
    keys_.emplace_back();
    return true;
  }
  /// Small objects are searched, large ones have a set: a hostile object must not cost the square of its size.
  bool is_new_key(const std::string& name) {
    constexpr std::size_t kSearched = 16;
    const Json& object = *stack_.back();
    auto& keys = keys_.back();
    if (object.size() < kSearched) return !object.contains(name);
    if (keys.empty()) {
      for (const auto& member : object.items()) keys.insert(member.key());
    }
    return keys.insert(name).second;
  }
  bool close() {
    stack_.pop_back();
    keys_.pop_back();
    return true;
  }
  std::string place(std::size_t position) const {
    const auto end = text_.begin() + static_cast<std::ptrdiff_t>(std::min(position, text_.size()));
    const auto line = 1 + std::count(text_.begin(), end, '\n');
    const auto line_start = text_.substr(0, static_cast<std::size_t>(end - text_.begin())).rfind('\n');
    const auto column = (end - text_.begin()) - (line_start == std::string_view::npos ? 0 : static_cast<std::ptrdiff_t>(line_start) + 1);
    return std::to_string(line) + ":" + std::to_string(std::max<std::ptrdiff_t>(column, 1));
  }

  std::string_view text_;
  const JsonLimits& limits_;
  std::vector<Json*> stack_;
  std::vector<std::unordered_set<std::string>> keys_;  ///< Of each open object that has grown beyond a few members.
  std::string key_;
  bool known_key_ = false;
};

/// Reads the JSON that is usual, quickly: strings go in runs, not byte by byte. Whatever it does not take (errors, a byte
/// order mark, numbers beyond their types) is read again by the library, whose word counts. So it may refuse too much, and
/// never takes what the library would not, or as something else.
class Scanner {
 public:
  Scanner(std::string_view text, Builder& builder) : at_(text.data()), end_(text.data() + text.size()), builder_(builder) {}

  bool scan() {
    for (;;) {
      skip_blanks();
      if (!value()) return false;
      // A value is complete: so may be what it stands in.
      for (;;) {
        skip_blanks();
        if (open_.empty()) return at_ == end_;
        const bool array = open_.back() == ']';
        if (take(',')) {
          if (!array && !member()) return false;
          break;
        }
        if (!take(open_.back())) return false;
        open_.pop_back();
        if (!(array ? builder_.end_array() : builder_.end_object())) return false;
      }
    }
  }

 private:
  bool take(char wanted) {
    if (at_ == end_ || *at_ != wanted) return false;
    ++at_;
    return true;
  }
  bool take(std::string_view word) {
    if (static_cast<std::size_t>(end_ - at_) < word.size() || std::string_view(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }
  void skip_blanks() {
    while (at_ != end_ && (*at_ == ' ' || *at_ == '\n' || *at_ == '\r' || *at_ == '\t')) ++at_;
  }

  /// A whole scalar, an empty container, or the start of one up to its first element.
  bool value() {
    for (;;) {
      if (at_ == end_) return false;
      switch (*at_) {
        case '"': return string() && builder_.string(text_);
        case 't': return take("true") && builder_.boolean(true);
        case 'f': return take("false") && builder_.boolean(false);
        case 'n': return take("null") && builder_.null();
        case '[':
          ++at_;
          if (!builder_.start_array(0)) return false;
          skip_blanks();
          if (take(']')) return builder_.end_array();
          open_ += ']';
          break;
        case '{':
          ++at_;
          if (!builder_.start_object(0)) return false;
          skip_blanks();
          if (take('}')) return builder_.end_object();
          open_ += '}';
          if (!member()) return false;
          break;
        default: return number();
      }
    }
  }

  /// A name and its colon, up to the value.
  bool member() {
    skip_blanks();
    if (!string() || !builder_.key(text_)) return false;
    skip_blanks();
    if (!take(':')) return false;
    skip_blanks();
    return true;
  }

  bool digits() {
    const char* begin = at_;
    while (at_ != end_ && *at_ >= '0' && *at_ <= '9') ++at_;
    return at_ != begin;
  }

  bool number() {
    const char* begin = at_;
    const bool negative = take('-');
    if (!take('0') && !digits()) return false;
    bool whole = true;
    if (take('.')) {
      whole = false;
      if (!digits()) return false;
    }
    if (take('e') || take('E')) {
      whole = false;
      if (!take('+')) (void)take('-');
      if (!digits()) return false;
    }
    if (!whole) return convert<double>(begin, [this](double read) { return builder_.number_float(read, {}); });
    if (negative) return convert<std::int64_t>(begin, [this](std::int64_t read) { return builder_.number_integer(read); });
    return convert<std::uint64_t>(begin, [this](std::uint64_t read) { return builder_.number_unsigned(read); });
  }

  template <class Number, class Give>
  bool convert(const char* begin, Give give) {
    Number read{};
    const auto [end, status] = std::from_chars(begin, at_, read);
    return status == std::errc{} && end == at_ && give(read);
  }

  /// Into text_.
  bool string() {
    if (!take('"')) return false;
    text_.clear();
    for (;;) {
      const char* const begin = at_;
      while (at_ != end_ && kPlain[static_cast<unsigned char>(*at_)]) ++at_;
      text_.append(begin, at_);
      if (at_ == end_) return false;
      if (take('"')) return true;
      if (!(take('\\') ? escape() : character())) return false;
    }
  }

  /// One character of several bytes, as RFC 3629 allows them.
  bool character() {
    const auto first = static_cast<unsigned char>(*at_);
    const int more = first >= 0xF0 ? 3 : first >= 0xE0 ? 2 : 1;
    if (first < 0xC2 || first > 0xF4 || end_ - at_ <= more) return false;
    const auto second = static_cast<unsigned char>(at_[1]);
    const unsigned low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80, high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
    if (second < low || second > high) return false;
    for (int i = 2; i <= more; ++i) {
      if ((static_cast<unsigned char>(at_[i]) & 0xC0) != 0x80) return false;
    }
    text_.append(at_, static_cast<std::size_t>(more) + 1);
    at_ += more + 1;
    return true;
  }

  bool escape() {
    if (at_ == end_) return false;
    switch (*at_++) {
      case '"': text_ += '"'; return true;
      case '\\': text_ += '\\'; return true;
      case '/': text_ += '/'; return true;
      case 'b': text_ += '\b'; return true;
      case 'f': text_ += '\f'; return true;
      case 'n': text_ += '\n'; return true;
      case 'r': text_ += '\r'; return true;
      case 't': text_ += '\t'; return true;
      case 'u': return code_point();
      default: return false;
    }
  }

  bool hex(std::uint32_t& read) {
    if (end_ - at_ < 4) return false;
    const auto [end, status] = std::from_chars(at_, at_ + 4, read, 16);
    if (status != std::errc{} || end != at_ + 4) return false;
    at_ += 4;
    return true;
  }

  bool code_point() {
    std::uint32_t point = 0, second = 0;
    if (!hex(point)) return false;
    if (point >= 0xD800 && point <= 0xDFFF) {
      if (point >= 0xDC00 || !take("\\u") || !hex(second) || second < 0xDC00 || second > 0xDFFF) return false;
      point = 0x10000 + ((point - 0xD800) << 10) + (second - 0xDC00);
    }
    const auto put = [this](std::uint32_t byte) { text_ += static_cast<char>(byte); };
    const auto put_rest = [&](int shift) { put(0x80 | ((point >> shift) & 0x3F)); };
    if (point < 0x80) return put(point), true;
    if (point < 0x800) return put(0xC0 | (point >> 6)), put_rest(0), true;
    if (point < 0x10000) return put(0xE0 | (point >> 12)), put_rest(6), put_rest(0), true;
    return put(0xF0 | (point >> 18)), put_rest(12), put_rest(6), put_rest(0), true;
  }

  /// Bytes that stand in a string for themselves.
  static constexpr auto kPlain = [] {
    std::array<bool, 256> plain{};
    for (std::size_t byte = 0x20; byte < 0x80; ++byte) plain[byte] = byte != '"' && byte != '\\';
    return plain;
  }();

  const char* at_;
  const char* const end_;
  Builder& builder_;
  std::string open_;   ///< What closes each open container.
  std::string text_;
};

void write_spaced(const Json& value, std::string& out) {
  if (value.is_object()) {
    out += '{';
    bool first = true;
    for (const auto& [key, member] : value.items()) {
      if (!first) out += ", ";
      first = false;
      out += Json(key).dump(-1, ' ', false, Json::error_handler_t::replace);
      out += ": ";
      write_spaced(member, out);
    }
    out += '}';
  } else if (value.is_array()) {
    out += '[';
    bool first = true;
    for (const auto& element : value) {
      if (!first) out += ", ";
      first = false;
      write_spaced(element, out);
    }
    out += ']';
  } else {
    out += value.dump(-1, ' ', false, Json::error_handler_t::replace);
  }
}

}  // namespace

Result<Json> parse_json(std::string_view text, const JsonLimits& limits) {
  if (text.size() > limits.bytes) {
    return fail(Errc::limit, "JSON text longer than " + std::to_string(limits.bytes) + " bytes", "json_size");
  }
  if (Builder quick(text, limits); Scanner(text, quick).scan()) return std::move(quick.root);
  Builder builder(text, limits);
  if (!Json::sax_parse(text.begin(), text.end(), &builder)) return std::move(builder.error);
  return std::move(builder.root);
}

std::string spaced_json(const Json& value) {
  std::string out;
  write_spaced(value, out);
  return out;
}

}  // namespace kontor
