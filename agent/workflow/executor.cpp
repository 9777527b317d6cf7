#include "agent/workflow/executor.hpp"

#include "agent/approval.hpp"
#include "agent/assembly.hpp"
#include "agent/runner.hpp"
#include "agent/tool_gate.hpp"
#include "agent/workflow/parallel.hpp"
#include "agent/workflow/scope.hpp"
#include "agent/workflow/step_labels.hpp"
#include "agent/workflow/waiting.hpp"

#include <algorithm>
#include <atomic>
#include <optional>

namespace kontor::agent {
namespace {

using Kind = StepSpec::Kind;

using tools::Labels;

constexpr std::size_t kMaxItems = 100'000;
constexpr int kMaxProcedureDepth = 16;
// Shorter pauses between tries are not worth an event.
constexpr std::int64_t kDurableWaitMs = 1000;

const char* kind_name(Kind kind) {
  switch (kind) {
    case Kind::tool: return "tool";
    case Kind::agent: return "agent";
    case Kind::for_each: return "for_each";
    case Kind::switch_: return "switch";
    case Kind::approval: return "approval";
    case Kind::fail: return "fail";
    case Kind::wait: return "wait";
    case Kind::procedure: return "procedure";
  }
  return "tool";
}

struct StepResult {
  Json value = nullptr;
  Labels labels;
  bool gives = true;   ///< False for steps that only steer: they are not the result of their block.
};

/// JSON pointers of texts in which the author wrote a secret's handle.
void find_handles(const Json& value, const std::string& pointer, std::vector<std::string>& found) {
  if (value.is_string()) {
    if (value.get_ref<const std::string&>().find("{{secret:") != std::string::npos) found.push_back(pointer);
  } else if (value.is_object()) {
    for (const auto& [key, member] : value.items()) {
      std::string token;
      for (const char c : key) token += c == '~' ? "~0" : c == '/' ? "~1" : std::string(1, c);
      find_handles(member, pointer + "/" + token, found);
    }
  } else if (value.is_array()) {
    for (std::size_t i = 0; i < value.size(); ++i) find_handles(value[i], pointer + "/" + std::to_string(i), found);
  }
}

class Walker {
 public:
  explicit Walker(RunContext& run) : run_(run), scope_(run.inputs, run.input_labels) {}
  /// For one more thread: sees what the first sees now.
  Walker(const Walker& other) = default;

  Result<Json> walk() {
    auto result = block(run_.spec->workflow, "", "");
    if (!result) return result.error();
    return std::move(result->value);
  }

 private:
  /// Steps one after the other; the result is that of the last step which gives one.
  Result<StepResult> block(const std::vector<StepSpec>& steps, const std::string& place, const std::string& key) {
    StepResult last;
    last.gives = false;
    for (std::size_t i = 0; i < steps.size(); ++i) {
      const StepSpec& step = steps[i];
      const std::string name = step.id.empty() ? "@" + std::to_string(i + 1) : step.id;
      const std::string here = place.empty() ? name : place + "/" + name;
      auto result = caught(step, here, attempt(step, here, key.empty() ? name : key + "/" + name));
      if (!result) return result.error();
      if (!step.id.empty()) scope_.set_result(step.id, result->value, result->labels);
      if (result->gives) last = std::move(*result);
    }
    return last;
  }

  /// `on_error` of a step that is no loop: its result stands beside the list of its errors, which has one or none.
  Result<StepResult> caught(const StepSpec& step, const std::string& place, Result<StepResult> result) {
    if (step.collect_errors.empty() || step.kind == Kind::for_each || (!result && ends_run(result.error()))) return result;
    Json errors = Json::array();
    if (!result) {
      note_collected(place, result.error());
      errors.push_back(Json{{"error", result.error().message}, {"kind", result.error().kind}});
    }
    StepResult both;
    both.labels = result ? result->labels : labels_of_failure(step);
    both.gives = result ? result->gives : step.kind != Kind::switch_;
    both.value = Json{{"result", result ? std::move(result->value) : Json()}, {step.collect_errors, std::move(errors)}};
    return both;
  }

  void note_collected(const std::string& place, const Error& error, const Json& item = nullptr) {
    run_.collected.push_back({error.where.empty() ? place : error.where, error.kind, error.message, item});
  }

  /// An error may repeat anything that the step has read.
  Labels labels_of_failure(const StepSpec& step) const {
    Labels labels = possible_labels(run_, step) | scope_.labels_of(step.with) | scope_.labels_of(Json(step.subject)) | scope_.labels_of(Json(step.target));
    for (const auto& inner : step.body) labels |= labels_of_failure(inner);
    for (const auto& inner : step.otherwise) labels |= labels_of_failure(inner);
    for (const auto& entry : step.cases) {
      for (const auto& inner : entry.second) labels |= labels_of_failure(inner);
    }
    return labels;
  }

  /// One step with its retries, its time limit and its check.
  Result<StepResult> attempt(const StepSpec& step, const std::string& place, const std::string& key) {
    const std::int64_t outer_deadline = deadline_ns_;
    for (std::int64_t retry = 0;; ++retry) {
      const std::string here = place + (retry == 0 ? "" : "~" + std::to_string(retry));
      // A fixed call is the same call in every attempt; what an agent calls can differ.
      attempt_ = retry;
      if (step.timeout_ms > 0) {
        const std::int64_t own = run_.clock->steady_ns() + step.timeout_ms * 1'000'000;
        deadline_ns_ = outer_deadline > 0 ? std::min(outer_deadline, own) : own;
      }
      auto result = once(step, place, here, step.kind == Kind::tool ? key : key + here.substr(place.size()));
      deadline_ns_ = outer_deadline;
      if (result || ends_run(result.error()) || retry >= step.retry_max) return result;
      if (const auto done = effect_inside(here); !done.empty() && step.kind != Kind::tool) {
        Error error = result.error();
        error.message += " (not tried again, because " + done + " took effect)";
        return error;
      }
      if (auto waited = pause(here, step.backoff_ms << std::min<std::int64_t>(retry, 10)); !waited) return waited.error();
    }
  }

  /// One try.
  Result<StepResult> once(const StepSpec& step, const std::string& place, const std::string& here, const std::string& key) {
    const std::int64_t began = run_.clock->steady_ns();
    run_.emit("step_started", here, Json{{"kind", kind_name(step.kind)}, {"target", step.target}});
    auto result = recorded_failure(here);
    const bool was_recorded = !result;
    if (result) result = time_is_over() ? Result<StepResult>(fail(Errc::timeout, "the time of this step is over", "timeout", here)) : one(step, here, key);
    if (result && step.check) {
      if (auto holds = check(step, *result, place); !holds) result = holds.error();
    }
    const double seconds = static_cast<double>(run_.clock->steady_ns() - began) / 1e9;
    if (result) {
      run_.emit("step_finished", here, Json{{"kind", kind_name(step.kind)}, {"result", result->value}, {"seconds", seconds}});
      return result;
    }
    Error error = result.error();
    if (error.where.empty()) error.where = place;
    if (ends_run(error)) return error;
    if (!was_recorded) {
      if (auto kept = keep_failure(here, error); !kept) return kept.error();
    }
    run_.emit("step_failed", here, Json{{"error", error.message}, {"kind", error.kind}, {"seconds", seconds}});
    return error;
  }

  bool time_is_over() const { return run_.log && deadline_ns_ > 0 && run_.clock->steady_ns() >= deadline_ns_; }

  /// Failures that depend on the moment are journaled: a resumed run takes the same way.
  Result<void> keep_failure(const std::string& here, const Error& error) {
    static const std::vector<std::string> kOfTheMoment = {"timeout", "context_full", "memory", "prompt"};
    if (std::find(kOfTheMoment.begin(), kOfTheMoment.end(), error.kind) == kOfTheMoment.end() || run_.history.outcome(here)) return {};
    return run_.record("step_failed", here, Json{{"kind", error.kind}, {"error", error.message}, {"where", error.where}});
  }
  Result<StepResult> recorded_failure(const std::string& here) const {
    const Json* failure = run_.history.failure(here);
    if (!failure) return StepResult{};
    return fail(Errc::timeout, failure->at("error").get<std::string>(), failure->at("kind").get<std::string>(), failure->at("where").get<std::string>());
  }

  /// A `once` call that took effect inside a step, or "".
  std::string effect_inside(const std::string& place) const {
    const auto at = run_.effects_done.lower_bound(place);
    if (at == run_.effects_done.end() || at->rfind(place, 0) != 0) return {};
    return at->size() == place.size() || std::string_view("#/").find((*at)[place.size()]) != std::string_view::npos ? *at : std::string();
  }

  Result<StepResult> one(const StepSpec& step, const std::string& place, const std::string& key) {
    switch (step.kind) {
      case Kind::tool: return tool(step, place, key);
      case Kind::agent: return agent(step, place, key);
      case Kind::for_each: return for_each(step, place, key);
      case Kind::switch_: return branch(step, place, key);
      case Kind::approval: return approval(step, place);
      case Kind::fail: return stop_with(step, place);
      case Kind::wait: return wait(step, place);
      case Kind::procedure: return procedure(step, place, key);
    }
    return fail(Errc::internal, "unknown kind of step", "internal", place);
  }

  Result<StepResult> tool(const StepSpec& step, const std::string& place, const std::string& key) {
    auto arguments = evaluate_templates(step.with, scope_.lookup());
    if (!arguments) return at(arguments.error(), place);
    GateCall call;
    call.place = place;
    call.key = key;
    call.tool = step.target;
    call.arguments = std::move(*arguments);
    if (call.arguments.is_null()) call.arguments = Json::object();
    call.labels = scope_.labels_of(step.with);
    call.deadline_ns = deadline_ns_;
    find_handles(step.with, "", call.secret_pointers);
    auto result = call_through_gate(run_, call);
    if (!result) return result.error();
    if (result->is_error) return fail(Errc::io, step.target + ": " + message_of(*result), result->error_kind.empty() ? "tool_error" : result->error_kind, place);
    return StepResult{result->value, call.labels | labels_of_result(run_, step.target, *result), true};
  }

  static std::string message_of(const tools::ToolResult& result) {
    if (result.value.is_object() && result.value.contains("error") && result.value.at("error").is_string()) return result.value.at("error").get<std::string>();
    return result_text(result);
  }

  Result<StepResult> agent(const StepSpec& step, const std::string& place, const std::string& key) {
    auto with = evaluate_templates(step.with, scope_.lookup());
    if (!with) return at(with.error(), place);
    AgentTask task;
    task.place = place;
    task.key = key;
    task.agent = step.target;
    task.text = task_text(*with);
    task.labels = scope_.labels_of(step.with);
    if (const AgentSpec* agent = find_agent(*run_.spec, step.target)) task.labels |= scope_.labels_of(Json(agent->instruction));
    task.deadline_ns = deadline_ns_;
    task.attempt = attempt_;
    task.vote = step.vote;
    auto answer = run_agent(run_, task, scope_.lookup());
    if (!answer) return answer.error();
    return StepResult{std::move(answer->value), answer->labels, true};
  }

  Result<StepResult> for_each(const StepSpec& step, const std::string& place, const std::string& key) {
    auto items = evaluated(step.subject, place);
    if (!items) return items.error();
    if (!items->is_array()) return fail(Errc::malformed, "for_each needs a list, not " + std::string(items->type_name()), "expression", place);
    if (items->size() > kMaxItems) return fail(Errc::limit, "for_each over more than " + std::to_string(kMaxItems) + " items", "limit", place);
    const Labels labels = scope_.labels_of(Json(step.subject));
    std::vector<std::optional<Result<StepResult>>> outcomes(items->size());
    std::atomic<bool> broken = false;
    const auto work = [&](Walker& walker, std::size_t i) {
      outcomes[i] = walker.item(step, (*items)[i], labels, place, key, i, items->size());
      const auto& outcome = *outcomes[i];
      // The other items need not wait with one that waits.
      if (!outcome && !waits(outcome.error()) && (ends_run(outcome.error()) || step.collect_errors.empty())) broken = true;
      return !broken;
    };
    const int threads = loop_threads(run_, step.max_parallel, items->size());
    if (threads <= 1) {
      for (std::size_t i = 0; i < items->size() && work(*this, i); ++i) {}
    } else {
      std::vector<Walker> walkers(static_cast<std::size_t>(threads), *this);
      run_parallel(run_, walkers.size(), items->size(), [&](std::size_t thread, std::size_t i) { return work(walkers[thread], i); });
    }
    return collected(step, place, *items, outcomes, labels);
  }

  Result<StepResult> collected(const StepSpec& step, const std::string& place, const Json& items, std::vector<std::optional<Result<StepResult>>>& outcomes, Labels labels) {
    Json results = Json::array(), errors = Json::array();
    std::optional<Error> waiting;
    for (std::size_t i = 0; i < outcomes.size(); ++i) {
      if (!outcomes[i]) continue;
      auto& result = *outcomes[i];
      if (result) {
        labels |= result->labels;
        results.push_back(std::move(result->value));
      } else if (waits(result.error())) {
        if (!waiting) waiting = result.error();
      } else if (ends_run(result.error()) || step.collect_errors.empty()) {
        return result.error();
      } else {
        note_collected(place + "/" + std::to_string(i), result.error(), items[i]);
        labels |= labels_of_failure(step);
        errors.push_back(Json{{"index", i}, {"item", items[i]}, {"error", result.error().message}, {"kind", result.error().kind}});
      }
    }
    if (waiting) return *waiting;
    Json value{{"results", std::move(results)}};
    if (!step.collect_errors.empty()) value[step.collect_errors] = std::move(errors);
    return StepResult{std::move(value), labels, true};
  }

  Result<StepResult> item(const StepSpec& step, const Json& value, Labels labels, const std::string& loop, const std::string& key, std::size_t index, std::size_t total) {
    const std::string place = loop + "/" + std::to_string(index);
    run_.emit("item", loop, Json{{"index", index}, {"total", total}, {"item", value}});
    const auto mark = scope_.enter();
    scope_.push_item(value, labels);
    auto result = item_block(step, place, key, index);
    scope_.pop_item();
    scope_.leave(mark);
    return result;
  }

  Result<StepResult> item_block(const StepSpec& step, const std::string& place, const std::string& key, std::size_t index) {
    std::string item_key = std::to_string(index);
    if (!step.key.empty()) {
      auto value = evaluated(step.key, place);
      if (!value) return value.error();
      item_key = value->is_string() ? value->get<std::string>() : spaced_json(*value);
    }
    return block(step.body, place, key + "/[" + item_key + "]");
  }

  Result<StepResult> branch(const StepSpec& step, const std::string& place, const std::string& key) {
    auto value = evaluated(step.subject, place);
    if (!value) return value.error();
    const std::string word = value->is_string() ? value->get<std::string>() : spaced_json(*value);
    const auto chosen = std::find_if(step.cases.begin(), step.cases.end(), [&](const auto& entry) { return entry.first == word; });
    const auto mark = scope_.enter();
    auto result = chosen != step.cases.end() ? block(chosen->second, place + "/" + word_for_path(word), key + "/" + word_for_path(word))
                                             : block(step.otherwise, place + "/else", key + "/else");
    scope_.leave(mark);
    if (!result) return result.error();
    result->gives = false;  // A switch routes; the decision before it stays the result of the block.
    return result;
  }

  static std::string word_for_path(const std::string& word) {
    std::string out;
    for (const char c : word.substr(0, 64)) out += c == '/' || c == '#' || static_cast<unsigned char>(c) < 0x20 ? '_' : c;
    return out;
  }

  Result<StepResult> approval(const StepSpec& step, const std::string& place) {
    PendingItem item;
    item.call = place;
    item.reason = "the workflow asks a person";
    if (step.approval.is_object() && step.approval.contains("message") && step.approval.at("message").is_string()) {
      auto message = evaluated(step.approval.at("message").get<std::string>(), place);
      if (!message) return message.error();
      item.reason = message->is_string() ? message->get<std::string>() : spaced_json(*message);
    }
    const auto strings = [&](const char* key) {
      std::vector<std::string> list;
      if (step.approval.is_object() && step.approval.contains(key) && step.approval.at(key).is_array()) {
        for (const auto& value : step.approval.at(key)) {
          if (value.is_string()) list.push_back(value.get<std::string>());
        }
      }
      return list;
    };
    item.who = strings("who");
    item.choices = strings("choices");
    item.arguments = Json::object();
    for (const auto& id : strings("show")) {
      if (const Json* shown = scope_.result_of(id)) item.arguments[id] = *shown;
    }
    const auto integer = [&](const char* key, std::int64_t otherwise) {
      return step.approval.is_object() && step.approval.contains(key) && step.approval.at(key).is_number_integer() ? step.approval.at(key).get<std::int64_t>() : otherwise;
    };
    item.people = integer("people", 1);
    if (step.approval.is_object() && step.approval.contains("on_expire") && step.approval.at("on_expire").is_string()) item.on_expire = step.approval.at("on_expire").get<std::string>();
    std::int64_t expires_ms = integer("expires_ms", 0);
    if (step.timeout_ms > 0 && (expires_ms == 0 || step.timeout_ms < expires_ms)) expires_ms = step.timeout_ms;
    item.binding = binding_of("approval " + place, item.arguments, item.reason + "\n" + run_.policy_hash);
    auto answer = ask_person(run_, std::move(item), expires_ms);
    if (!answer) return answer.error();
    std::string choice = answer->choice;
    if (choice.empty()) choice = answer->kind == ApprovalAnswer::Kind::approved ? "approve" : "reject";
    return StepResult{Json{{"choice", choice}, {"approved", answer->kind == ApprovalAnswer::Kind::approved}, {"by", answer->by},
                           {"reason", answer->reason}, {"escalated", answer->escalated}},
                      Labels{}, false};
  }

  Result<StepResult> stop_with(const StepSpec& step, const std::string& place) {
    auto text = evaluated(step.target, place);
    if (!text) return text.error();
    return fail(Errc::usage, text->is_string() ? text->get<std::string>() : spaced_json(*text), "failed_step", place);
  }

  Result<Json> evaluated(const std::string& text, const std::string& place) {
    auto parsed = Template::parse(text);
    if (!parsed) return at(parsed.error(), place);
    auto value = parsed->evaluate(scope_.lookup());
    if (!value) return at(value.error(), place);
    return value;
  }

  Result<void> check(const StepSpec& step, const StepResult& result, const std::string& place) {
    scope_.check_result = &result.value;
    auto holds = step.check->evaluate(scope_.lookup());
    scope_.check_result = nullptr;
    if (!holds) return at(holds.error(), place);
    if (*holds == Json(true)) return {};
    return fail(Errc::malformed, "check failed: " + step.check->text(), "check", place);
  }

  /// Between two tries.
  Result<void> pause(const std::string& place, std::int64_t ms) {
    if (!run_.log || ms <= 0) return {};  // A replay does not wait.
    if (ms >= kDurableWaitMs) return wait_until(run_, place + "~wait", run_.clock->unix_ms() + ms);
    return run_.sleep_until(run_.clock->unix_ms() + ms);
  }

  Result<StepResult> wait(const StepSpec& step, const std::string& place) {
    auto value = evaluated(step.target, place);
    if (!value) return value.error();
    auto until = wait_end(*value, run_.clock->unix_ms());
    if (!until) return at(until.error(), place);
    if (auto waited = wait_until(run_, place, *until); !waited) return waited.error();
    return StepResult{nullptr, Labels{}, false};
  }

  /// Steps under a name: they see their own inputs and nothing else.
  Result<StepResult> procedure(const StepSpec& step, const std::string& place, const std::string& key) {
    const auto& all = run_.spec->procedures;
    const auto found = std::find_if(all.begin(), all.end(), [&](const ProcedureSpec& candidate) { return candidate.name == step.target; });
    if (found == all.end()) return fail(Errc::not_found, "there is no procedure '" + step.target + "'", "unknown_procedure", place);
    if (depth_ >= kMaxProcedureDepth) return fail(Errc::limit, "procedures are nested too deeply", "limit", place);
    auto with = evaluate_templates(step.with, scope_.lookup());
    if (!with) return at(with.error(), place);
    auto inputs = procedure_inputs(*found, *with);
    if (!inputs) return at(inputs.error(), place);
    Walker inner(*this);
    inner.scope_ = StepScope(*inputs, scope_.labels_of(step.with));
    ++inner.depth_;
    auto result = inner.block(found->steps, place, key);
    if (result) result->gives = true;
    return result;
  }

  static Error at(Error error, const std::string& place) {
    error.message = error.describe();
    error.where = place;
    if (error.kind.empty()) error.kind = "expression";
    return error;
  }

  RunContext& run_;
  StepScope scope_;
  std::int64_t attempt_ = 0;
  std::int64_t deadline_ns_ = 0;  ///< Of the steps around this one; 0: none.
  int depth_ = 0;                 ///< Procedures around this one.
};

}  // namespace

Result<Json> run_workflow(RunContext& run) { return Walker(run).walk(); }

}  // namespace kontor::agent
