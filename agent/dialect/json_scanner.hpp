#pragma once
// Incremental reader of one JSON value inside model output. It knows strings, so the end of the value is found by
// reading and never by searching for what should follow. Keeps its own stack; nothing recurses. Internal to agent/dialect.

#include "base/json.hpp"

#include <nlohmann/json.hpp>

#include <cstddef>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

namespace kontor::agent::dialect {

/// RFC 8259, plus the repairs of r1-format section 5.4 when lenient. Feed it the same growing text again and again.
class JsonScanner {
 public:
  enum class Status { more, done, error };

  /// Starts a value at `begin` of the text that resume() will be given.
  void reset(std::size_t begin, bool lenient, std::size_t max_depth);
  /// Reads on to the end of the text. `final`: no more text will come, an open value is an error.
  Status resume(std::string_view text, bool final);

  /// Done: just behind the value. Error: the byte at fault.
  std::size_t pos() const { return pos_; }
  /// Error only: malformed_json, truncated_call, depth_exceeded or invalid_utf8.
  const char* error() const { return error_; }
  /// Done: nullptr, or why the value must not be used: duplicate_key or number_out_of_range.
  const char* objection() const { return objection_; }
  bool repaired() const { return repaired_; }
  /// While the top value, an object, is read: its member "name" once that is known, and where the value of "arguments"
  /// (or "parameters") begins and ends; 0 as long as that is not known.
  const std::string& name() const { return name_; }
  std::size_t arguments_begin() const { return arguments_begin_; }
  std::size_t arguments_end() const { return arguments_end_; }
  /// The value, once done.
  Json take() { return std::move(root_); }

 private:
  enum class State { value, value_or_end, key, key_or_end, colon, after, string, escape, hex, low_escape, low_u, number, word, bare_key, comment, line_comment, block_comment, block_star, done };
  struct Frame {
    Json value;
    std::string key;
    std::unordered_set<std::string> keys;  ///< Filled when the object outgrows a linear search.
  };

  Status fail(const char* kind) { error_ = kind; return Status::error; }
  bool read_value_start(char c);
  bool read_structure(char c);
  bool read_escape(char c);
  bool read_hex(char c);
  std::size_t read_string(std::string_view text);
  bool end_string();
  bool end_number(std::string_view lexeme);
  bool end_word(std::string_view word);
  bool in_arguments() const;
  bool open(Json container);
  void close();
  void put(Json value);
  bool add_key(std::string key);
  bool enter_comment(State back);
  bool malformed() { error_ = "malformed_json"; return false; }

  State state_ = State::value;
  State back_ = State::value;         ///< Where a comment returns to.
  std::vector<Frame> stack_;
  Json root_;
  std::string scratch_;               ///< The string being read, decoded.
  bool string_is_key_ = false;
  char quote_ = '"';
  unsigned code_ = 0;
  unsigned high_ = 0;                 ///< Waiting high surrogate.
  int digits_ = 0;
  std::string name_;
  std::size_t arguments_begin_ = 0;
  std::size_t arguments_end_ = 0;
  std::size_t token_ = 0;             ///< Where the number or word began.
  std::size_t pos_ = 0;
  std::size_t max_depth_ = 128;
  bool lenient_ = true;
  bool repaired_ = false;
  const char* error_ = nullptr;
  const char* objection_ = nullptr;
};

/// Reads a whole text that must be one value with nothing but white space around it. False on any error; then `error`
/// (when given) names it, else `out` and the scanner's remarks are set.
struct ScannedJson {
  Json value;
  const char* error = nullptr;
  const char* objection = nullptr;
  bool repaired = false;
  std::size_t end = 0;  ///< Behind the value.
};
/// Reads one value at `begin` of a complete text.
ScannedJson scan_json(std::string_view text, std::size_t begin, bool lenient, std::size_t max_depth);

}  // namespace kontor::agent::dialect
