#include "agent/tool_gate.hpp"

#include "agent/approval.hpp"
#include "agent/planner.hpp"
#include "base/hash.hpp"

namespace kontor::agent {
namespace {

using tools::Effect;
using tools::ToolResult;

/// Only what differs from the usual: most outcomes are a value.
Json to_json(const ToolResult& result) {
  Json data{{"value", result.value}};
  if (result.is_error) data["is_error"] = true;
  if (!result.error_kind.empty()) data["error_kind"] = result.error_kind;
  if (!result.text.empty() && result.text != spaced_json(result.value)) data["text"] = result.text;
  if (result.labels.untrusted) data["untrusted"] = true;
  if (result.labels.secret) data["secret"] = true;
  return data;
}

ToolResult result_from_json(const Json& data) {
  ToolResult result;
  const auto text = [&](const char* key) { return data.contains(key) && data.at(key).is_string() ? data.at(key).get<std::string>() : std::string(); };
  result.is_error = data.contains("is_error") && data.at("is_error").is_boolean() && data.at("is_error").get<bool>();
  if (data.contains("value")) result.value = data.at("value");
  result.labels = {data.contains("untrusted") && data.at("untrusted") == Json(true), data.contains("secret") && data.at("secret") == Json(true)};
  result.error_kind = text("error_kind");
  result.text = text("text");
  return result;
}

/// The tool did not say how it ended.
bool is_open_ended(const ToolResult& result) {
  return result.is_error && (result.error_kind == "timeout" || result.error_kind == "cancelled" || result.error_kind == "crashed");
}

void replace_all(std::string& text, const std::string& from, const std::string& to) {
  for (auto at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) text.replace(at, from.size(), to);
}

/// Puts secret values into the arguments. Only at places where the author of the agent file wrote a handle: text from
/// models and documents cannot ask for one.
Json with_secrets(const RunContext& run, const GateCall& call) {
  Json arguments = call.arguments;
  for (const auto& pointer : call.secret_pointers) {
    const Json::json_pointer at(pointer);
    if (!arguments.contains(at) || !arguments.at(at).is_string()) continue;
    std::string text = arguments.at(at).get<std::string>();
    for (const auto& [name, value] : run.secrets) replace_all(text, "{{secret:" + name + "}}", value);
    arguments[at] = text;
  }
  return arguments;
}

/// A tool that repeats a secret must not carry it into journal or prompt.
void hide_secrets(const RunContext& run, ToolResult& result) {
  constexpr std::size_t kShortest = 4;
  if (run.secrets.empty()) return;
  bool found = false;
  std::string text = result.text.empty() ? result.value.dump(-1, ' ', false, Json::error_handler_t::replace) : result.text;
  for (const auto& [name, value] : run.secrets) {
    if (value.size() < kShortest || text.find(value) == std::string::npos) continue;
    replace_all(text, value, "{{secret:" + name + "}}");
    found = true;
  }
  if (!found) return;
  result.text = text;
  if (auto value = parse_json(text)) result.value = std::move(*value);
  else result.value = text;
}

class Gate {
 public:
  Gate(RunContext& run, const GateCall& call) : run_(run), call_(call) {}

  Result<ToolResult> pass() {
    if (const Json* outcome = run_.history.outcome(call_.place)) {
      ToolResult result = result_from_json(*outcome);
      const Json* intent = run_.history.intent(call_.place);
      if (!result.is_error && intent && intent->contains("effect") && intent->at("effect") == Json("once")) run_.effects_done.insert(call_.place);
      run_.emit("call_result", call_.place, shown(result, true));
      return result;
    }
    if (run_.stop.stop_requested()) return fail(Errc::cancelled, "interrupted", kInterrupted, call_.place);
    const tools::Tool* tool = run_.registry->find(call_.tool);
    if (!tool) {
      const std::string near = run_.registry->suggest(call_.tool);
      return finish(ToolResult::error("unknown_tool", "there is no tool '" + call_.tool + "'" + (near.empty() ? "" : " (did you mean '" + near + "'?)")));
    }
    run_.emit("call", call_.place, Json{{"tool", call_.tool}, {"arguments", call_.arguments}});
    if (const Json* intent = run_.history.intent(call_.place)) return resume_after(*intent, tool->spec());
    if (run_.log) {
      if (auto room = run_.budget.check_for_tool(run_.ledger); !room) {
        Error error = room.error();
        error.message += ", before " + call_.place;
        error.where = call_.place;
        return error;
      }
    }
    if (auto problem = run_.registry->check_arguments(call_.tool, call_.arguments)) return finish(ToolResult::error("invalid_arguments", *problem));
    auto refused = check_policy(tool->spec());
    if (!refused) return refused.error();
    if (*refused) return finish(std::move(**refused));
    if (tool->spec().asks_person) return ask();
    return act(tool->spec());
  }

 private:
  /// Policy and, where it wants one, a person. An inner value is the refusal to show.
  Result<std::optional<ToolResult>> check_policy(const tools::ToolSpec& spec) {
    *run_.confidence = call_.confidence;
    const tools::Decision decision = tools::decide(run_.policy, spec, call_.arguments, call_.labels);
    run_.confidence->clear();
    rule_ = decision.rule;
    if (decision.verdict == tools::Decision::Verdict::allow) return std::optional<ToolResult>();
    if (decision.verdict == tools::Decision::Verdict::deny) {
      return std::optional<ToolResult>(ToolResult::error("denied", "not allowed: " + decision.rule));
    }
    PendingItem item;
    item.call = call_.place;
    item.tool = call_.tool;
    item.reason = decision.rule;
    item.arguments = call_.arguments;
    item.binding = binding_of(call_.tool, call_.arguments, canonical_json(spec.parameters) + "\n" + run_.policy_hash);
    if (decision.ask) item.who = decision.ask->who, item.on_expire = decision.ask->on_expire, item.people = decision.ask->people;
    approval_asked_ = true;
    auto answer = ask_person(run_, std::move(item), decision.ask ? decision.ask->expires_ms : 0);
    if (!answer) return answer.error();
    if (answer->kind == ApprovalAnswer::Kind::approved) return std::optional<ToolResult>();
    return std::optional<ToolResult>(ToolResult::error("denied", "rejected by " + (answer->by.empty() ? std::string("a person") : answer->by) + (answer->reason.empty() ? "" : ": " + answer->reason)));
  }

  /// The question of the arguments, to a person. It waits as an approval does.
  Result<ToolResult> ask() {
    PendingItem item;
    item.call = call_.place + (approval_asked_ ? "/answer" : "");  // An approval of the call has the place already.
    item.tool = call_.tool;
    item.reason = call_.arguments.value("question", std::string());
    item.arguments = call_.arguments;
    item.is_question = true;
    if (const auto choices = call_.arguments.find("choices"); choices != call_.arguments.end()) item.choices = choices->get<std::vector<std::string>>();
    item.binding = binding_of(call_.tool, call_.arguments, run_.policy_hash);
    auto answer = ask_person(run_, std::move(item), 0);
    if (!answer) return answer.error();
    if (answer->kind == ApprovalAnswer::Kind::approved) return finish(ToolResult::ok(Json{{"answer", answer->choice}, {"by", answer->by}}));
    return finish(ToolResult::error("declined", answer->by + " does not answer" + (answer->reason.empty() ? "" : ": " + answer->reason)));
  }

  /// INTENT, call, OUTCOME.
  Result<ToolResult> act(const tools::ToolSpec& spec) {
    if (spec.effect != Effect::none) {
      auto recorded = run_.record("call_intent", call_.place,
                                  Json{{"tool", call_.tool}, {"arguments", call_.arguments}, {"effect", std::string(tools::to_string(spec.effect))},
                                       {"key", idempotency_key()}, {"rule", rule_}});
      if (!recorded) return recorded.error();
      recorded_intent_ = true;
    } else if (!run_.log) {
      return fail(Errc::not_found, "the journal ends here", kEndOfLog, call_.place);
    }
    auto running = spec.effect == Effect::none ? call_.running : nullptr;
    const bool here = !running && (spec.ends_on_stop || (spec.at_once && !run_.slow_tools.contains(call_.tool)));
    if (!running && !here) running = RunningCall::start(run_, call_.tool, with_secrets(run_, call_), context());
    // Of a run with secrets one could stand there, which is hidden in the whole result only.
    const auto partial = run_.secrets.empty() ? call_.partial : nullptr;
    if (running && partial) running->on_partial(partial);
    std::int64_t limit = std::max<std::int64_t>(1, (spec.timeout_ms > 0 ? spec.timeout_ms : 30'000) - (running ? running->age_ms() : 0));
    // Rounded up: when the call has ended for its step's time, that time is over.
    if (call_.deadline_ns > 0) limit = std::min(limit, std::max<std::int64_t>(1, (call_.deadline_ns - run_.clock->steady_ns() + 999'999) / 1'000'000));
    if (const auto left = run_.budget.seconds_left(run_.ledger)) limit = std::min(limit, std::max<std::int64_t>(1, static_cast<std::int64_t>(*left * 1000)));
    ToolResult result;
    if (here) {
      tools::CallContext own = context();
      own.partial = partial;
      result = call_here(run_, call_.tool, with_secrets(run_, call_), std::move(own), limit);
    } else {
      result = running->wait(run_, limit);
    }
    executed_ = true;
    if (result.is_error && spec.effect != Effect::once) {
      // Memory could not embed: the call has not been made, and is when the run may go on.
      if (auto room = run_.budget.check_embedding(); !room) return fail(Errc::budget, room.error().message + ", in " + call_.place, kBudget, call_.place);
    }
    if (is_open_ended(result) && spec.effect == Effect::once) return settle(spec, std::move(result));
    if (result.is_error && result.error_kind == "cancelled" && run_.stop.stop_requested()) {
      return fail(Errc::cancelled, "interrupted", kInterrupted, call_.place);
    }
    return finish(std::move(result));
  }

  /// The process died between INTENT and OUTCOME.
  Result<ToolResult> resume_after(const Json& intent, const tools::ToolSpec& spec) {
    const auto member = [&](const char* key) { return intent.contains(key) && intent.at(key).is_string() ? intent.at(key).get<std::string>() : std::string(); };
    const Json before = intent.contains("arguments") ? intent.at("arguments") : Json();
    if (member("tool") != call_.tool || canonical_json(before) != canonical_json(call_.arguments)) {
      return fail(Errc::conflict, "the run takes another way than in its journal: " + call_.place + " was " + member("tool"), kDiverged, call_.place);
    }
    if (!run_.log) return fail(Errc::not_found, "the journal ends here", kEndOfLog, call_.place);
    // The stricter of then and now decides.
    const bool once = member("effect") == tools::to_string(Effect::once) || spec.effect == Effect::once;
    if (!once) return act(spec);
    if (const Json* resolution = run_.history.resolution(call_.place)) {
      const bool happened = resolution->contains("state") && resolution->at("state") == Json("happened");
      if (!happened) return act(spec);
      return finish(ToolResult::ok(resolution->contains("value") && !resolution->at("value").is_null() ? resolution->at("value") : Json{{"status", "happened"}}));
    }
    return settle(spec, std::nullopt);
  }

  /// Finds out whether a `once` effect took place. `seen`: the error of the call just made; absent after a restart.
  Result<ToolResult> settle(const tools::ToolSpec& spec, std::optional<ToolResult> seen) {
    tools::Probe probe;
    if (spec.has_probe && !run_.stop.stop_requested()) {
      try {
        tools::Tool* tool = run_.registry->find(call_.tool);
        Pause others_may_work(run_);
        probe = tool->probe(call_.arguments, context());
      } catch (const std::exception&) {
        probe.state = tools::Probe::State::unknown;
      }
    }
    if (probe.state == tools::Probe::State::happened) return finish(ToolResult::ok(probe.value));
    if (probe.state == tools::Probe::State::not_happened) return seen && !run_.stop.stop_requested() ? finish(std::move(*seen)) : seen ? interrupted() : act(spec);
    if (run_.stop.stop_requested()) return interrupted();
    const std::string reason = seen ? "the call ended without an answer (" + seen->error_kind + ") and the tool cannot tell whether it took effect"
                                    : "the run stopped during the call and the tool cannot tell whether it took effect";
    if (run_.log) {
      auto recorded = run_.record("call_unknown", call_.place, Json{{"tool", call_.tool}, {"arguments", call_.arguments}, {"reason", reason}});
      if (!recorded) return recorded.error();
    }
    run_.emit("call_unknown", call_.place, Json{{"tool", call_.tool}, {"reason", reason}});
    return fail(Errc::conflict, call_.tool + " at " + call_.place + ": " + reason, kUnknown, call_.place);
  }

  static Error interrupted() { return fail(Errc::cancelled, "interrupted", kInterrupted); }

  Result<ToolResult> finish(ToolResult result) {
    hide_secrets(run_, result);
    Json data = to_json(result);
    Ledger spent = run_.book();
    spent.tool_calls = executed_ ? 1 : 0;
    run_.ledger.tool_calls += spent.tool_calls;
    data["spent"] = delta_json(spent);
    if (!rule_.empty() && !run_.history.intent(call_.place) && !recorded_intent_) data["rule"] = rule_;
    // When power fails before it is on the disk, the call is read again, repeated with its key, or probed.
    auto recorded = run_.record("call_outcome", call_.place, data, Durable::later);
    if (!recorded) return recorded.error();
    const tools::Tool* tool = run_.registry->find(call_.tool);
    if (!result.is_error && tool && tool->spec().effect == Effect::once) run_.effects_done.insert(call_.place);
    run_.emit("call_result", call_.place, shown(result, false));
    return result;
  }

  Json shown(const ToolResult& result, bool replayed) const {
    Json data{{"tool", call_.tool}, {"is_error", result.is_error}, {"text", result_text(result)}};
    if (replayed) data["replayed"] = true;
    return data;
  }

  std::string idempotency_key() const { return sha256_hex(run_.run_id() + "\n" + call_.key).substr(0, 32); }

  tools::CallContext context() const {
    tools::CallContext context;
    context.run_id = run_.run_id();
    context.call_id = call_.place;
    context.idempotency_key = idempotency_key();
    context.labels = call_.labels;
    return context;
  }

  RunContext& run_;
  const GateCall& call_;
  std::string rule_;
  bool executed_ = false, recorded_intent_ = false, approval_asked_ = false;
};

}  // namespace

Result<ToolResult> call_through_gate(RunContext& run, const GateCall& call) { return Gate(run, call).pass(); }

std::string result_text(const ToolResult& result) { return result.text.empty() ? spaced_json(result.value) : result.text; }

namespace {

/// What the source says of every result.
tools::Labels labels_of_source(const RunContext& run, const std::string& tool) {
  tools::Labels labels;
  const tools::Tool* found = run.registry->find(tool);
  labels.untrusted = found && found->spec().untrusted_output;
  for (const auto& glob : run.policy.untrusted) labels.untrusted = labels.untrusted || tools::glob_match(glob, tool);
  labels.secret = run.secret_groups.contains(tool.substr(0, tool.find('.')));
  for (const auto& secret : run.spec->secrets) {
    for (const auto& glob : secret.allow_tools) labels.secret = labels.secret || tools::glob_match(glob, tool);
  }
  return labels;
}

}  // namespace

tools::Labels labels_of_result(const RunContext& run, const std::string& tool, const ToolResult& result) { return labels_of_source(run, tool) | result.labels; }

tools::Labels possible_labels(const RunContext& run, const std::string& tool) {
  tools::Labels labels = labels_of_source(run, tool);
  const tools::Tool* found = run.registry->find(tool);
  if (found && found->spec().labelled_output) labels |= {true, true};
  return labels;
}

}  // namespace kontor::agent
