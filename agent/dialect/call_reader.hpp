#pragma once
// Readers of the call notations. A reader starts behind an opening marker and works through the growing text as far as
// it has arrived; it can be resumed at any byte. Internal to agent/dialect.

#include "agent/dialect/call_log.hpp"
#include "agent/dialect/json_scanner.hpp"
#include "agent/dialect/markers.hpp"

#include <cstdint>
#include <memory>
#include <string>

namespace kontor::agent::dialect {

enum class Verdict {
  more,    ///< Everything that has arrived is read.
  closed,  ///< The block is over at pos(); text goes on there.
  stray,   ///< No call stands behind the marker: the text up to pos() is literal.
  stop,    ///< A syntactic error was reported: nothing behind counts.
};

class CallReader {
 public:
  virtual ~CallReader() = default;
  virtual Verdict resume(const Source& source) = 0;
  std::size_t pos() const { return pos_; }

 protected:
  CallReader(CallLog& log, std::size_t begin, std::size_t pos) : log_(log), begin_(begin), pos_(pos), call_begin_(begin) {}

  /// One step of a reader: go on, or a verdict.
  enum class Step { go, more, closed, stray, stop };
  static Verdict verdict(Step step) {
    return step == Step::more ? Verdict::more : step == Step::closed ? Verdict::closed : step == Step::stray ? Verdict::stray : Verdict::stop;
  }

  Step stop(const Source& source, const char* kind, std::string_view name = {});
  /// Runs the scanner. go: arguments_ is set. A text end inside the value becomes truncated_call, also when the
  /// end-of-output marker stands there.
  Step scan_value(const Source& source, std::string_view error_name, bool stream);
  void begin_value(bool lenient);
  /// The call has no argument text (yet).
  void no_value();
  /// The value that was read, with its text.
  ReadArguments take_arguments(const Source& source);
  /// Skips white space; false when the arrived text is used up and more may come.
  bool skip_space(const Source& source);
  /// A run of backticks at pos_: its length, or npos while it may grow.
  std::size_t backticks(const Source& source) const;
  /// Skips the language word behind an opening fence; false while it may grow.
  bool skip_language(const Source& source);
  bool at_end(const Source& source) const { return pos_ >= source.size(); }

  CallLog& log_;
  std::size_t begin_;        ///< Of the opening marker.
  std::size_t pos_;
  std::size_t call_begin_;   ///< Of the call being read.
  JsonScanner scanner_;
  bool faulted_ = false;
  std::size_t value_begin_ = 0;
  std::size_t value_end_ = 0;
  std::size_t streamed_ = 0; ///< Argument text up to here was sent.
  ReadArguments arguments_;
};

/// R1 blocks and V3.1 blocks. `block_open`: the marker was that of the block, not that of a single call.
std::unique_ptr<CallReader> native_reader(CallLog& log, std::size_t begin, std::size_t pos, bool block_open);
/// The same in canonical spelling only. `v31`: NAME SEP {..} without type and fence.
std::unique_ptr<CallReader> strict_native_reader(CallLog& log, std::size_t begin, std::size_t pos, bool v31);
/// DSML blocks of V3.2 and V4. `invoke`: the marker was <｜DSML｜invoke (lenient: the block's own is missing).
std::unique_ptr<CallReader> dsml_reader(CallLog& log, std::size_t begin, std::size_t pos, bool invoke);
/// <tool_call> elements.
std::unique_ptr<CallReader> hermes_reader(CallLog& log, std::size_t begin, std::size_t pos);

/// What an object {"name", "arguments"}, its OpenAI wrapper or an array of them says. `named` false: no name is given.
struct NamedCall {
  std::string name;
  bool named = false;
  bool has_arguments = false;
  Json arguments;
};
/// Reads one such object; false when the value is no object at all.
bool read_named_call(Json& value, NamedCall& out);

}  // namespace kontor::agent::dialect
