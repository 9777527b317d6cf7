#pragma once
// Bytes to text: UTF-8 that may be split anywhere, parts of reasoning or content with outer white space removed, and
// Markdown code fences. Internal to agent/dialect.

#include "agent/dialect/markers.hpp"

#include <string>
#include <string_view>

namespace kontor::agent::dialect {

/// Checks UTF-8 as it arrives. Ill-formed input becomes one kInvalidByte for each maximal subpart.
class Utf8Feed {
 public:
  void append(std::string& out, std::string_view bytes);
  /// No continuation will come for a sequence that has begun.
  void flush(std::string& out);
  bool saw_invalid() const { return invalid_; }

 private:
  void mark(std::string& out) { out += kInvalidByte, invalid_ = true; }

  std::string tail_;  ///< An incomplete sequence, at most three bytes.
  bool invalid_ = false;
};

/// Reasoning or content: parts, each without outer white space, joined with one newline.
class TextChannel {
 public:
  void append(std::string_view text, bool may_be_invalid);
  void end_part() { pending_.clear(), part_started_ = false; }
  const std::string& text() const { return text_; }
  std::string take() { return std::move(text_); }
  void set(std::string text) { text_ = std::move(text); }
  bool part_started() const { return part_started_; }

 private:
  std::string text_;
  std::string pending_;        ///< White space that belongs to the part only if text follows.
  bool part_started_ = false;
};

/// Is a place of a Markdown text inside a code fence? Follows CommonMark: a fence ends at a line of as many signs and
/// nothing else, so a quoted ```json inside an open fence does not end it.
class FenceTracker {
 public:
  void reset(std::size_t begin) { *this = FenceTracker(); pos_ = begin; }
  /// Whether text at `pos` (not before the last one asked for) is code: behind an open fence or a backtick.
  bool in_code(std::string_view text, std::size_t pos);
  /// Whether the place last asked for stands right behind the signs that end a fence.
  bool behind_closing_fence() const { return open_ && line_ == Line::signs && line_sign_ == sign_ && line_signs_ >= length_; }

 private:
  void take(char c);

  std::size_t pos_ = 0;
  bool open_ = false;
  char sign_ = 0;              ///< Of the open fence.
  std::size_t length_ = 0;     ///< Of the open fence.
  bool after_backtick_ = false;
  enum class Line { indent, signs, rest } line_ = Line::indent;
  char line_sign_ = 0;
  std::size_t line_signs_ = 0;
  bool rest_blank_ = true;
  bool rest_backtick_ = false;
};

}  // namespace kontor::agent::dialect
