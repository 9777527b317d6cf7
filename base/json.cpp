#include "base/json.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <string>
#include <unordered_set>
#include <utility>
#include <unordered_set>
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
