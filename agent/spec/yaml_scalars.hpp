#pragma once
// Scanning of scalars: from a position in the text to the value they stand for. Used while reading a file, and again to
// find out which byte of the file a byte of a value came from.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace kontor::agent {

inline bool is_yaml_break(char c) { return c == '\n' || c == '\r'; }
inline bool is_yaml_blank(char c) { return c == ' ' || c == '\t'; }

class ScalarScanner {
 public:
  /// `line_start`: first byte of the line of `at`. `indent`: column of the block the scalar belongs to; lines that
  /// continue it are indented deeper.
  ScalarScanner(std::string_view text, std::size_t at, std::size_t line_start, int indent, bool in_flow)
      : text_(text), at_(at), line_start_(line_start), indent_(indent), in_flow_(in_flow) {}

  /// Each reads from the scalar's first byte to behind its end. false: `error_at` and `error` are set.
  bool single_quoted();
  bool double_quoted();
  /// `one_line`: a key, which ends with its line. An empty result means that no plain scalar begins here.
  bool plain(bool one_line);
  bool block();

  std::size_t at() const { return at_; }
  std::size_t line_start() const { return line_start_; }
  /// Where a line begins that continues a plain scalar and holds ": ", 0 when there is none.
  std::size_t last_line_content() const { return last_line_content_; }
  bool is_multiline() const { return multiline_; }

  std::string value;
  std::vector<std::uint32_t>* trace = nullptr;  ///< filled with the source byte of each byte of `value`
  std::size_t error_at = 0;
  std::string error;

 private:
  bool fail(std::size_t at, std::string message);
  void put(char c, std::size_t from);
  void put_code_point(std::uint32_t c, std::size_t from);
  bool at_end() const { return at_ >= text_.size(); }
  char peek(std::size_t ahead = 0) const { return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0'; }
  bool space_or_end(std::size_t ahead) const;
  bool is_flow_indicator(char c) const { return c == ',' || c == '[' || c == ']' || c == '{' || c == '}'; }
  void take_break();
  bool at_document_marker() const;
  bool fold_quoted(std::size_t opened);
  bool escape(std::size_t opened);
  bool hex(int digits, std::uint32_t& c);
  bool plain_line();
  bool block_header(int& explicit_indent, char& chomp);

  std::string_view text_;
  std::size_t at_;
  std::size_t line_start_;
  int indent_;
  bool in_flow_;
  bool multiline_ = false;
  std::size_t last_line_content_ = 0;
};

/// "---" or "..." at the beginning of a line, followed by a blank or the line's end.
bool is_document_marker(std::string_view text, std::size_t at);

}  // namespace kontor::agent
