#pragma once
// Calls written without the model's own markup: tagged JSON, ReAct, bare JSON, code fences, Python calls. Only used on
// request, on a complete answer, and only for known tools (r1-format section 8). Internal to agent/dialect.

#include "agent/dialect/call_log.hpp"
#include "agent/dialect/parser.hpp"

#include <string>
#include <string_view>
#include <vector>

namespace kontor::agent::dialect {

/// Tells while the answer still grows how much of it can be shown: up to the first place that may become a call.
class FallbackWatch {
 public:
  std::size_t safe(std::string_view text, const std::vector<std::string>& tools);

 private:
  bool line_start(std::string_view text, const std::vector<std::string>& tools);
  bool line_body(std::string_view text);
  bool fence_body(std::string_view text);

  std::size_t pos_ = 0;        ///< Looked at up to here.
  std::size_t hold_ = 0;       ///< Start of what is held back.
  std::size_t search_ = 0;
  bool stuck_ = false;         ///< Held back to the end.
  bool holding_ = false;
  bool in_fence_ = false;
  bool mid_line_ = false;
};

/// Looks for calls in a complete answer. True: `log` has calls or errors and `content` is what remains beside them.
bool read_fallbacks(const ParserOptions& options, std::string& content, CallLog& log);

}  // namespace kontor::agent::dialect
