#pragma once
// Incremental parser of R1-family model output: bytes in, reasoning / content / tool-call events out. The result does
// not depend on how the bytes were split. Time is linear; nothing recurses with the input.

#include "agent/message.hpp"

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kontor::agent {

/// Native notation of the output; the words of `kontor parse --format`.
/// deepseek-r1 | deepseek-r1-distill | deepseek-v3 | deepseek-v3.1 | deepseek-v3.2 | deepseek-v4 | hermes | ...
enum class Prefill { none, open, closed };       ///< What the prompt already wrote: nothing, "<think>", "</think>".
enum class ParseMode { lenient, strict };
enum class MarkerPolicy { text, token };         ///< token: only pieces flagged as control tokens are markup.
enum class Finish { stop, length };

struct ParserOptions {
  std::string format = "deepseek-r1";
  Prefill prefill = Prefill::none;
  ParseMode mode = ParseMode::lenient;
  MarkerPolicy markers = MarkerPolicy::text;
  bool fallbacks = false;
  std::optional<std::vector<std::string>> tools;  ///< Known names; absent: names are not checked.
  std::size_t max_bytes = 16u << 20;
  std::size_t max_calls = 64;
  std::size_t max_depth = 128;
};

struct ParseError {
  std::string kind;   ///< malformed_json, truncated_call, unknown_tool, ... (formats: r1-format.md section 5)
  std::string name;   ///< Tool name, when one was read.
  std::string raw;    ///< The slice of output at fault, for showing it to the model.
};

struct ParseResult {
  std::string reasoning;
  std::string content;
  std::vector<ToolCall> calls;
  std::vector<ParseError> errors;
  std::vector<std::string> warnings;  ///< Sorted.
};

/// What becomes known while the output streams in. Texts are deltas; concatenated they equal the final result's
/// reasoning and content up to outer white space.
struct ParseEvent {
  enum class Kind { reasoning, content, call_started, argument_delta, call_done } kind;
  std::string text;        ///< Delta; the tool's name for call_started.
  std::size_t call = 0;    ///< Index of the call for the call_* kinds.
};

class Parser {
 public:
  explicit Parser(ParserOptions options, std::function<void(const ParseEvent&)> sink = {});
  ~Parser();
  Parser(Parser&&) noexcept;
  Parser& operator=(Parser&&) noexcept;

  /// Appends raw bytes. `control`: the bytes are exactly one control token of the vocabulary.
  void feed(std::string_view bytes, bool control = false);
  /// Ends the output. Call once.
  ParseResult finish(Finish finish = Finish::stop);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace kontor::agent
