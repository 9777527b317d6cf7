#pragma once
// Walks JSON text without building values, for files whose bulk is lists of a hundred thousand texts (tokenizer.json).
// Small parts are cut out by `skip` and parsed with parse_json.

#include "base/error.hpp"

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>

namespace kontor::inference {

/// Functions return false at the end of an array or object and at an error; `failed` tells which. After an error
/// everything returns false. The text must be valid UTF-8; views point into it or, for texts with escapes, into the
/// scanner.
class JsonScanner {
 public:
  explicit JsonScanner(std::string_view text) : text_(text) {}

  /// Opening bracket of an object or array.
  bool open(char bracket);
  /// The next key of an object, with its colon; false behind the last (the closing bracket is taken).
  bool member(std::string_view& key);
  /// Whether another element of an array follows; false behind the last (the closing bracket is taken).
  bool element();
  bool text(std::string_view& out);
  bool integer(std::int64_t& out);
  bool number(double& out);
  /// Any value; `raw` is its spelling. Nesting is bounded.
  bool skip(std::string_view& raw);
  /// What comes next: '{', '[', '"', another first character of a value, or 0 at the end.
  char peek();
  /// Nothing but space may follow.
  bool end();

  bool failed() const { return !message_.empty(); }
  /// Records an error at the current place.
  bool fail_here(std::string message);
  /// Malformed, kind json_syntax; `where` gets line and column.
  Error error(const std::string& file) const;

 private:
  void space();
  bool take(char c);
  bool escape(std::string& out);
  bool hex(std::uint32_t& out);
  bool skip_value(int depth);
  bool skip_number(std::size_t& start);

  std::string_view text_;
  std::size_t at_ = 0;
  bool fresh_ = false;  // behind an opening bracket
  std::string message_;
  std::deque<std::string> unescaped_;
};

}  // namespace kontor::inference
