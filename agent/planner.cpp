#include "agent/planner.hpp"

#include <algorithm>

namespace kontor::agent {
namespace {

/// At most `limit` bytes, cut at a character.
std::string shorten(const std::string& text, std::size_t limit) {
  if (text.size() <= limit) return text;
  std::size_t end = limit;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return text.substr(0, end) + " ...";
}

std::string trimmed(const std::string& text) {
  const auto first = text.find_first_not_of(" \t\r\n");
  if (first == std::string::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1);
}

std::string joined(const std::vector<std::string>& words) {
  std::string out;
  for (const auto& word : words) out += (out.empty() ? "" : ", ") + word;
  return out;
}

std::string explain(const ParseError& error, const std::vector<std::string>& tools, std::size_t echo_bytes) {
  std::string text = error.kind;
  if (!error.name.empty()) text += " in the call of '" + shorten(error.name, 80) + "'";
  if (error.kind == "unknown_tool" || error.kind == "invalid_name") {
    text += tools.empty() ? "; there are no tools" : "; the tools are " + joined(tools);
  } else if (error.kind == "unterminated_think") {
    text = "the reasoning did not come to an end; think less and answer";
  }
  if (!error.raw.empty() && error.kind != "unterminated_think") text += ": " + shorten(error.raw, echo_bytes);
  return text;
}

/// nlohmann's default object sorts its keys; ordered_json keeps the model's order.
nlohmann::json sorted(const Json& value) { return nlohmann::json::parse(value.dump(-1, ' ', false, Json::error_handler_t::replace), nullptr, false); }

}  // namespace

std::string canonical_json(const Json& value) { return sorted(value).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace); }

Result<Json> read_answer(const std::string& text) {
  const std::string whole = trimmed(text);
  auto value = parse_json(whole);
  if (value) return value;
  const Error first = value.error();
  // Models like to wrap an answer in prose and a fence; the last fence that closes counts.
  const auto close = whole.rfind("```");
  if (close == std::string::npos || close == 0) return first;
  const auto open = whole.rfind("```", close - 1);
  if (open == std::string::npos) return first;
  auto begin = whole.find('\n', open);
  if (begin == std::string::npos || begin > close) return first;
  return parse_json(trimmed(whole.substr(begin, close - begin)));
}

Message result_message(const ToolCall& call, const CallOutcome& outcome) {
  Message result;
  result.role = Role::tool;
  result.call_id = call.id;
  result.name = call.name;
  result.content = outcome.text;
  result.trusted = outcome.trusted;
  return result;
}

Planner::Planner(PlannerOptions options) : options_(std::move(options)), messages_(options_.opening) {}

PlannerAction Planner::resume(const PlannerEvent& event) {
  if (std::holds_alternative<Started>(event) && state_ == State::idle) return next_turn();
  if (const auto* turn = std::get_if<TurnDone>(&event); turn && state_ == State::generating) return on_turn(*turn);
  if (const auto* done = std::get_if<CallsDone>(&event); done && state_ == State::calling) return on_calls(*done);
  return give_up("internal", "the planner was given an event it did not ask for");
}

PlannerAction Planner::next_turn() {
  if (turns_ >= options_.limits.steps) {
    return give_up("steps", "no answer after " + std::to_string(turns_) + " turns (limits.steps)");
  }
  ++turns_;
  state_ = State::generating;
  return Generate{};
}

PlannerAction Planner::give_up(std::string kind, std::string reason) {
  state_ = State::over;
  return GiveUp{std::move(kind), std::move(reason)};
}

PlannerAction Planner::on_turn(const TurnDone& turn) {
  if (!turn.parsed.errors.empty()) {
    std::string complaint;
    for (std::size_t i = 0; i < turn.parsed.errors.size() && i < 4; ++i) {
      complaint += (i ? "; " : "") + explain(turn.parsed.errors[i], options_.tools, options_.limits.echo_bytes);
    }
    return send_back(turn, complaint);
  }
  if (const std::string complaint = against_choice(turn); !complaint.empty()) return send_back(turn, complaint);
  if (turn.parsed.calls.empty()) return on_answer(turn);

  Message message;
  message.role = Role::assistant;
  message.content = turn.parsed.content;
  message.reasoning = turn.parsed.reasoning;
  message.tokens = turn.tokens;
  message.generated_text = turn.text;
  pending_ = turn.parsed.calls;
  for (std::size_t i = 0; i < pending_.size(); ++i) {
    ToolCall& call = pending_[i];
    call.id = std::to_string(turns_) + "." + std::to_string(i + 1);
    const auto count = ++seen_calls_[call.name + '\n' + canonical_json(call.arguments)];
    if (count > options_.limits.repeat_calls) {
      return give_up("repeated_call", "'" + call.name + "' was called more than " + std::to_string(options_.limits.repeat_calls) +
                                          " times with the same arguments (limits.repeat_calls)");
    }
  }
  called_ = true;
  message.calls = pending_;
  messages_.push_back(std::move(message));
  state_ = State::calling;
  return CallTools{pending_};
}

ToolChoice Planner::tool_choice() const {
  return called_ && options_.choice != ToolChoice::none ? ToolChoice::automatic : options_.choice;
}

std::string Planner::against_choice(const TurnDone& turn) const {
  const auto choice = tool_choice();
  const auto& calls = turn.parsed.calls;
  if (choice == ToolChoice::none) return calls.empty() ? "" : "no calls may be made here (tool_choice: none); answer";
  if (choice == ToolChoice::required) return calls.empty() ? "a call has to be made before the answer (tool_choice: required)" : "";
  if (choice != ToolChoice::named) return {};
  const bool right = !calls.empty() && std::all_of(calls.begin(), calls.end(), [&](const ToolCall& call) { return call.name == options_.named; });
  return right ? "" : "'" + options_.named + "' has to be called first, and nothing else beside it (tool_choice)";
}

/// The answer that a turn without calls gives. Errors: what the model is told; kind schema where it must see the schema.
Result<Json> Planner::read_final(const TurnDone& turn) const {
  const bool cut = turn.stop == inference::StopReason::length;
  const std::string content = trimmed(turn.parsed.content);
  if (content.empty()) return fail(Errc::malformed, cut ? "the output was cut before an answer came" : "there was neither a call nor an answer");
  if (!options_.output) {
    if (cut) return fail(Errc::malformed, "the answer was cut because it is too long; make it shorter");
    return Json(content);
  }
  auto value = read_answer(content);
  if (!value) return fail(Errc::malformed, "the answer is not JSON: " + value.error().describe(), "schema");
  std::string complaint;
  for (const auto& violation : options_.output->validate(*value)) {
    complaint += (complaint.empty() ? "the answer does not fit: " : "; ") +
                 (violation.pointer.empty() ? std::string() : violation.pointer + ": ") + violation.message;
  }
  if (!complaint.empty()) return fail(Errc::malformed, complaint, "schema");
  return value;
}

std::string Planner::choice(const TurnDone& turn) const {
  if (!turn.parsed.errors.empty() || !against_choice(turn).empty()) return {};
  std::string text = "calls";
  for (const auto& call : turn.parsed.calls) text += "\n" + call.name + "\n" + canonical_json(call.arguments);
  if (!turn.parsed.calls.empty()) return text;
  const auto answer = read_final(turn);
  return answer ? "answer\n" + canonical_json(*answer) : std::string();
}

PlannerAction Planner::on_answer(const TurnDone& turn) {
  auto answer = read_final(turn);
  if (!answer) {
    std::string complaint = answer.error().message;
    if (answer.error().kind == "schema") {
      if (!schema_shown_ && !options_.output_text.empty()) complaint += ". JSON Schema of the answer: " + shorten(options_.output_text, 4000);
      schema_shown_ = true;
    }
    return send_back(turn, complaint);
  }
  Message message;
  message.role = Role::assistant;
  message.content = trimmed(turn.parsed.content);
  message.reasoning = turn.parsed.reasoning;
  message.tokens = turn.tokens;
  message.generated_text = turn.text;
  messages_.push_back(std::move(message));
  state_ = State::over;
  return Answered{std::move(*answer)};
}

PlannerAction Planner::send_back(const TurnDone& turn, const std::string& complaint) {
  ++unusable_;
  if (!options_.limits.repair || unusable_ > options_.limits.retries) {
    return give_up("invalid_output", complaint + (options_.limits.repair ? " (after " + std::to_string(unusable_ - 1) + " repairs)" : ""));
  }
  ++repairs_;
  Message message;
  message.role = Role::assistant;
  message.content = shorten(trimmed(turn.parsed.content), options_.limits.echo_bytes);
  if (!turn.parsed.calls.empty()) {
    // Calls that could be read stand beside one that could not: none runs, and each gets a result that says so.
    message.calls = turn.parsed.calls;
    for (std::size_t i = 0; i < message.calls.size(); ++i) message.calls[i].id = std::to_string(turns_) + "." + std::to_string(i + 1);
    messages_.push_back(message);
    for (const auto& call : message.calls) {
      Message result;
      result.role = Role::tool;
      result.call_id = call.id;
      result.name = call.name;
      result.content = spaced_json(Json{{"error", "not run, because the turn could not be used: " + complaint + ". Make all calls again."}});
      messages_.push_back(std::move(result));
    }
    return next_turn();
  }
  if (message.content.empty()) message.content = "(no usable output)";
  messages_.push_back(std::move(message));
  Message correction;
  correction.role = Role::user;
  correction.content = "Your last output could not be used: " + complaint + ". Nothing was executed. Try again.";
  messages_.push_back(std::move(correction));
  return next_turn();
}

std::vector<Planner::Dropped> Planner::compact(std::size_t bytes) {
  constexpr std::size_t kWorthwhile = 200;
  std::vector<Dropped> out;
  std::size_t saved = 0, last_round = messages_.size();
  while (last_round > options_.opening.size() && messages_[last_round - 1].role != Role::assistant) --last_round;
  if (last_round > options_.opening.size()) --last_round;
  const auto note = [&](std::size_t at, const char* what, std::size_t size) {
    out.push_back({at, what, messages_[at].name, size});
    saved += size;
  };
  for (std::size_t i = options_.opening.size(); i < last_round && saved < bytes; ++i) {
    Message& message = messages_[i];
    if (message.role != Role::assistant || message.reasoning.empty()) continue;
    note(i, "reasoning", message.reasoning.size());
    message.reasoning.clear();
    message.tokens.clear();  // They hold the reasoning; the turn is rendered from its calls and its text.
    message.generated_text.clear();
  }
  for (std::size_t i = options_.opening.size(); i < last_round && saved < bytes; ++i) {
    Message& message = messages_[i];
    if (message.role == Role::tool && message.content.size() > kWorthwhile) {
      const std::string rest = spaced_json(Json{{"left_out", std::to_string(message.content.size()) + " bytes of an earlier result; call the tool again if you need it"}});
      note(i, "result", message.content.size() - rest.size());
      message.content = rest;
    } else if (message.role != Role::tool && message.content.size() > kWorthwhile) {
      const std::string rest = shorten(message.content, kWorthwhile / 2);
      note(i, "text", message.content.size() - rest.size());
      message.content = rest;
      message.tokens.clear();
      message.generated_text.clear();
    }
  }
  return out;
}

PlannerAction Planner::on_calls(const CallsDone& done) {
  if (done.outcomes.size() != pending_.size()) return give_up("internal", "calls and results do not pair up");
  std::vector<Message> results;
  std::string last_error;
  bool any_invalid = false;
  for (const auto& call : pending_) {
    const auto outcome = std::find_if(done.outcomes.begin(), done.outcomes.end(), [&](const CallOutcome& o) { return o.call_id == call.id; });
    if (outcome == done.outcomes.end()) return give_up("internal", "calls and results do not pair up");
    results.push_back(result_message(call, *outcome));
    if (outcome->is_invalid) {
      any_invalid = true;
      last_error = call.name + ": " + outcome->text;
    } else if (outcome->is_error) {
      ++tool_errors_;
      last_error = call.name + ": " + outcome->text;
    } else {
      tool_errors_ = 0;
    }
  }
  for (auto& result : results) messages_.push_back(std::move(result));
  pending_.clear();
  unusable_ = any_invalid ? unusable_ + 1 : 0;
  if (any_invalid) ++repairs_;
  if (any_invalid && (!options_.limits.repair || unusable_ > options_.limits.retries)) {
    return give_up("invalid_output", "the arguments do not fit: " + shorten(last_error, options_.limits.echo_bytes));
  }
  if (tool_errors_ > 0 && tool_errors_ >= options_.limits.tool_errors) {
    return give_up("tool_errors", std::to_string(tool_errors_) + " failed calls in a row (limits.tool_errors); the last: " +
                                      shorten(last_error, options_.limits.echo_bytes));
  }
  return next_turn();
}

}  // namespace kontor::agent
