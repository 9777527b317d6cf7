#pragma once
// One line of a parse batch: how to parse, and the output in the pieces in which it arrives. The shape is that of
// tests/corpora/r1/parse.jsonl; `kontor parse --batch` and the tests read it.

#include "agent/dialect/parser.hpp"
#include "base/error.hpp"

#include <string>
#include <string_view>
#include <vector>

namespace kontor::agent {

struct ParseCase {
  struct Piece {
    std::string bytes;
    bool control = false;
  };
  std::string id;
  ParserOptions options;
  Finish finish = Finish::stop;
  std::vector<Piece> pieces;
};

/// Reads the words of the command line. Errors: usage, with what is allowed.
Result<Prefill> parse_prefill(std::string_view word);
Result<ParseMode> parse_mode(std::string_view word);
Result<Finish> parse_finish(std::string_view word);
Result<MarkerPolicy> parse_marker_policy(std::string_view word);
/// Errors: usage, with a suggestion.
Result<std::string> parse_format(std::string_view word);

/// Reads one line. Keys: id, format, prefill, mode, finish, tools, fallbacks, marker_policy (each optional, `defaults`
/// holds what counts instead) and exactly one of input, chunks, input_b64, chunks_b64, input_parts, pieces.
/// Errors: malformed, usage.
Result<ParseCase> read_parse_case(const Json& line, const ParseCase& defaults = {});

/// Feeds the pieces as they are, or `chunk` bytes at a time when that is not 0. A control token is never split.
ParseResult run_parse_case(const ParseCase& parse_case, std::size_t chunk = 0,
                           const std::function<void(const ParseEvent&)>& sink = {});

/// {"reasoning", "content", "tool_calls": [{"name", "arguments"}], "errors": [{"kind", "name"?}], "warnings"}.
Json to_json(ParseResult result);

}  // namespace kontor::agent
