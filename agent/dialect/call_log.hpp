#pragma once
// Where the readers of call notations report: checks what they found (name, arguments), keeps calls, errors and warnings,
// and streams call events. Internal to agent/dialect.

#include "agent/dialect/parser.hpp"

#include <functional>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace kontor::agent::dialect {

/// Arguments as they were read.
struct ReadArguments {
  std::optional<Json> value;        ///< Absent: the call carries none.
  std::string_view raw;             ///< The text they were read from.
  const char* objection = nullptr;  ///< duplicate_key, number_out_of_range.
  bool repaired = false;
};

class CallLog {
 public:
  using Sink = std::function<void(const ParseEvent&)>;

  /// `sink` may be null: then nothing is streamed. Both must outlive the log.
  CallLog(const ParserOptions& options, const Sink* sink) : options_(&options), sink_(sink) {}

  void warn(std::string_view kind) { warnings_.emplace(kind); }
  void error(const char* kind, std::string_view name, std::string_view raw);

  /// The name of a call is complete. Announces the call unless its name will be refused.
  void start(std::string_view name);
  /// A piece of the argument text as the model wrote it.
  void delta(std::string_view text);
  /// The call is complete: keeps it, or the reason why not. False: too many calls, nothing more is to be read.
  bool finish(std::string_view name, ReadArguments arguments);

  /// Takes over what another log gathered in silence.
  bool adopt(CallLog&& other);

  bool refuses(std::string_view name) const { return !is_known(name); }
  bool has_warning(const char* kind) const { return warnings_.contains(kind); }
  const std::vector<ToolCall>& calls() const { return calls_; }
  const std::vector<ParseError>& errors() const { return errors_; }
  bool lenient() const { return options_->mode == ParseMode::lenient; }
  std::size_t max_depth() const { return options_->max_depth; }

  void move_into(ParseResult& result);

 private:
  bool is_known(std::string_view name) const;
  bool keep(ToolCall call, bool verbatim);
  void emit(ParseEvent::Kind kind, std::string text);

  const ParserOptions* options_;
  const Sink* sink_;
  std::vector<ToolCall> calls_;
  std::vector<ParseError> errors_;
  std::set<std::string> warnings_;
  bool started_ = false;    ///< call_started was sent for the call being read.
  bool streamed_ = false;   ///< Deltas were sent for it.
};

}  // namespace kontor::agent::dialect
