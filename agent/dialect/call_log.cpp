#include "agent/dialect/call_log.hpp"

#include "agent/dialect/json_scanner.hpp"
#include "agent/dialect/markers.hpp"

#include <algorithm>
#include <utility>

namespace kontor::agent::dialect {
namespace {

// A slice for showing to the model; the output itself is in the journal.
constexpr std::size_t kRawBytes = 4096;

std::string shown(std::string_view raw) {
  std::string out;
  if (raw.size() <= kRawBytes) {
    append_shown(out, raw);
    return out;
  }
  std::size_t cut = kRawBytes;
  while (cut > 0 && (static_cast<unsigned char>(raw[cut]) & 0xC0) == 0x80) --cut;
  append_shown(out, raw.substr(0, cut));
  return out;
}

}  // namespace

void CallLog::error(const char* kind, std::string_view name, std::string_view raw) {
  errors_.push_back({kind, is_tool_name(name) ? std::string(name) : std::string(), shown(raw)});
  started_ = streamed_ = false;
}

bool CallLog::is_known(std::string_view name) const {
  return !options_->tools || std::find(options_->tools->begin(), options_->tools->end(), name) != options_->tools->end();
}

void CallLog::emit(ParseEvent::Kind kind, std::string text) {
  if (sink_ && *sink_) (*sink_)({kind, std::move(text), calls_.size()});
}

void CallLog::start(std::string_view name) {
  started_ = is_tool_name(name) && is_known(name) && calls_.size() < options_->max_calls;
  streamed_ = false;
  if (started_ && sink_) emit(ParseEvent::Kind::call_started, std::string(name));
}

void CallLog::delta(std::string_view text) {
  if (!started_ || text.empty() || !sink_) return;
  streamed_ = true;
  emit(ParseEvent::Kind::argument_delta, std::string(text));
}

bool CallLog::finish(std::string_view name, ReadArguments arguments) {
  const auto skip = [&](const char* kind) {
    error(kind, name, arguments.raw);
    return true;
  };
  if (arguments.repaired) warn("repaired");
  if (!is_tool_name(name)) return skip("invalid_name");
  if (!is_known(name)) return skip("unknown_tool");
  if (arguments.objection) return skip(arguments.objection);
  bool verbatim = !arguments.repaired;
  Json value = Json::object();
  if (arguments.value && arguments.value->is_string() && lenient()) {
    const std::string& text = arguments.value->get_ref<const std::string&>();
    ScannedJson inner = scan_json(text, 0, true, options_->max_depth);
    const bool whole = !inner.error && trim(std::string_view(text).substr(inner.end)).empty();
    if (!whole || !inner.value.is_object()) return skip("arguments_not_object");
    if (inner.objection) return skip(inner.objection);
    if (inner.repaired) warn("repaired");
    warn("string_arguments");
    value = std::move(inner.value);
    verbatim = false;
  } else if (arguments.value && arguments.value->is_object()) {
    value = std::move(*arguments.value);
  } else if (arguments.value && !arguments.value->is_null()) {
    return skip("arguments_not_object");
  } else {
    verbatim = false;
  }
  if (!started_) start(name);
  return keep({{}, std::string(name), std::move(value), std::string(arguments.raw)}, verbatim);
}

bool CallLog::keep(ToolCall call, bool verbatim) {
  if (calls_.size() >= options_->max_calls) {
    calls_.clear();
    errors_.clear();
    errors_.push_back({"too_many_calls", {}, {}});
    return false;
  }
  if (sink_ && *sink_) {
    // Text that deltas cannot spell (repaired, decoded, or never streamed) is sent normalised, once.
    std::string text = verbatim ? call.raw_arguments : spaced_json(call.arguments);
    if (!streamed_) emit(ParseEvent::Kind::argument_delta, text);
    emit(ParseEvent::Kind::call_done, std::move(text));
  }
  calls_.push_back(std::move(call));
  started_ = streamed_ = false;
  return true;
}

bool CallLog::adopt(CallLog&& other) {
  warnings_.merge(other.warnings_);
  for (auto& error : other.errors_) errors_.push_back(std::move(error));
  for (auto& call : other.calls_) {
    start(call.name);
    if (!keep(std::move(call), false)) return false;
  }
  return true;
}

void CallLog::move_into(ParseResult& result) {
  result.calls = std::move(calls_);
  result.errors = std::move(errors_);
  result.warnings.assign(warnings_.begin(), warnings_.end());
}

}  // namespace kontor::agent::dialect
