#include "agent/workflow/executor.hpp"

#include "agent/runner.hpp"
#include "agent/tool_gate.hpp"
#include "agent/workflow/scope.hpp"

#include <algorithm>
#include <optional>
#include <thread>

namespace kontor::agent {
namespace {

using Kind = StepSpec::Kind;

constexpr std::size_t kMaxItems = 100'000;

const char* kind_name(Kind kind) {
  switch (kind) {
    case Kind::tool: return "tool";
    case Kind::agent: return "agent";
    case Kind::for_each: return "for_each";
    case Kind::switch_: return "switch";
    case Kind::approval: return "approval";
    case Kind::fail: return "fail";
  }
  return "tool";
}

struct StepResult {
  Json value = nullptr;
  bool untrusted = false;
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
  explicit Walker(RunContext& run) : run_(run), scope_(run.inputs) {}

  Result<WorkflowResult> walk() {
    auto result = block(run_.spec->workflow, "", "");
    if (!result) return result.error();
    return WorkflowResult{std::move(result->value), failed_items_};
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
      auto result = attempt(step, here, key.empty() ? name : key + "/" + name);
      if (!result) return result.error();
      if (!step.id.empty()) scope_.set_result(step.id, result->value, result->untrusted);
      if (result->gives) last = std::move(*result);
    }
    return last;
  }

  /// One step with its retries, its time limit and its check.
  Result<StepResult> attempt(const StepSpec& step, const std::string& place, const std::string& key) {
    for (std::int64_t retry = 0;; ++retry) {
      const std::string suffix = retry == 0 ? "" : "~" + std::to_string(retry);
      const std::int64_t began = run_.clock->steady_ns();
      run_.emit("step_started", place + suffix, Json{{"kind", kind_name(step.kind)}, {"target", step.target}});
      const std::int64_t deadline = step.timeout_ms > 0 ? began + step.timeout_ms * 1'000'000 : 0;
      // A fixed call is the same call in every attempt; what an agent calls can differ.
      attempt_ = retry;
      auto result = one(step, place + suffix, step.kind == Kind::tool ? key : key + suffix, deadline);
      if (result && step.check) {
        if (auto holds = check(step, *result, place); !holds) result = holds.error();
      }
      const double seconds = static_cast<double>(run_.clock->steady_ns() - began) / 1e9;
      if (result) {
        run_.emit("step_finished", place + suffix, Json{{"kind", kind_name(step.kind)}, {"result", result->value}, {"seconds", seconds}});
        return result;
      }
      Error error = result.error();
      if (error.where.empty()) error.where = place;
      if (ends_run(error)) return error;
      run_.emit("step_failed", place + suffix, Json{{"error", error.message}, {"kind", error.kind}, {"seconds", seconds}});
      if (retry >= step.retry_max) return error;
      if (const auto done = effect_inside(place + suffix); !done.empty() && step.kind != Kind::tool) {
        error.message += " (not tried again, because " + done + " took effect)";
        return error;
      }
      if (auto waited = pause(step.backoff_ms << std::min<std::int64_t>(retry, 10)); !waited) return waited.error();
    }
  }

  /// A `once` call that took effect inside a step, or "".
  std::string effect_inside(const std::string& place) const {
    const auto at = run_.effects_done.lower_bound(place);
    if (at == run_.effects_done.end() || at->rfind(place, 0) != 0) return {};
    return at->size() == place.size() || std::string_view("#/").find((*at)[place.size()]) != std::string_view::npos ? *at : std::string();
  }

  Result<StepResult> one(const StepSpec& step, const std::string& place, const std::string& key, std::int64_t deadline) {
    switch (step.kind) {
      case Kind::tool: return tool(step, place, key);
      case Kind::agent: return agent(step, place, key, deadline);
      case Kind::for_each: return for_each(step, place, key);
      case Kind::switch_: return branch(step, place, key);
      case Kind::approval: return approval(step, place);
      case Kind::fail: return stop_with(step, place);
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
    call.untrusted = scope_.draws_on_untrusted(step.with);
    call.timeout_ms = step.timeout_ms;
    find_handles(step.with, "", call.secret_pointers);
    auto result = call_through_gate(run_, call);
    if (!result) return result.error();
    if (result->is_error) return fail(Errc::io, step.target + ": " + message_of(*result), result->error_kind.empty() ? "tool_error" : result->error_kind, place);
    return StepResult{result->value, call.untrusted || gives_untrusted(run_, step.target), true};
  }

  static std::string message_of(const tools::ToolResult& result) {
    if (result.value.is_object() && result.value.contains("error") && result.value.at("error").is_string()) return result.value.at("error").get<std::string>();
    return result_text(result);
  }

  Result<StepResult> agent(const StepSpec& step, const std::string& place, const std::string& key, std::int64_t deadline) {
    auto with = evaluate_templates(step.with, scope_.lookup());
    if (!with) return at(with.error(), place);
    AgentTask task;
    task.place = place;
    task.key = key;
    task.agent = step.target;
    task.text = task_text(*with);
    task.untrusted = scope_.draws_on_untrusted(step.with);
    task.deadline_ns = deadline;
    task.attempt = attempt_;
    auto answer = run_agent(run_, task, scope_.lookup());
    if (!answer) return answer.error();
    return StepResult{std::move(answer->value), answer->untrusted, true};
  }

  Result<StepResult> for_each(const StepSpec& step, const std::string& place, const std::string& key) {
    auto items = evaluated(step.subject, place);
    if (!items) return items.error();
    if (!items->is_array()) return fail(Errc::malformed, "for_each needs a list, not " + std::string(items->type_name()), "expression", place);
    if (items->size() > kMaxItems) return fail(Errc::limit, "for_each over more than " + std::to_string(kMaxItems) + " items", "limit", place);
    const bool untrusted = scope_.draws_on_untrusted(Json(step.subject));
    Json results = Json::array(), errors = Json::array();
    bool results_untrusted = untrusted;
    std::optional<Error> waiting;
    for (std::size_t i = 0; i < items->size(); ++i) {
      run_.emit("item", place, Json{{"index", i}, {"total", items->size()}, {"item", (*items)[i]}});
      const auto mark = scope_.enter();
      scope_.push_item((*items)[i], untrusted);
      auto result = item(step, place + "/" + std::to_string(i), key, i);
      scope_.pop_item();
      scope_.leave(mark);
      if (result) {
        results_untrusted = results_untrusted || result->untrusted;
        results.push_back(std::move(result->value));
      } else if (waits(result.error())) {
        if (!waiting) waiting = result.error();  // The other items need not wait with this one.
      } else if (ends_run(result.error()) || step.collect_errors.empty()) {
        return result.error();
      } else {
        ++failed_items_;
        errors.push_back(Json{{"index", i}, {"item", (*items)[i]}, {"error", result.error().message}, {"kind", result.error().kind}});
      }
    }
    if (waiting) return *waiting;
    Json value{{"results", std::move(results)}};
    if (!step.collect_errors.empty()) value[step.collect_errors] = std::move(errors);
    return StepResult{std::move(value), results_untrusted, true};
  }

  Result<StepResult> item(const StepSpec& step, const std::string& place, const std::string& key, std::size_t index) {
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
    item.binding = binding_of("approval " + place, item.arguments);
    auto answer = ask_person(run_, std::move(item), 0);
    if (!answer) return answer.error();
    std::string choice = answer->choice;
    if (choice.empty()) choice = answer->kind == ApprovalAnswer::Kind::approved ? "approve" : "reject";
    return StepResult{Json{{"choice", choice}, {"approved", answer->kind == ApprovalAnswer::Kind::approved}, {"by", answer->by}}, false, false};
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

  Result<void> pause(std::int64_t ms) {
    if (!run_.log) return {};  // A replay does not wait.
    const std::int64_t until = run_.clock->steady_ns() + ms * 1'000'000;
    while (run_.clock->steady_ns() < until) {
      if (run_.stop.stop_requested()) return fail(Errc::cancelled, "interrupted", kInterrupted);
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    return {};
  }

  static Error at(Error error, const std::string& place) {
    error.message = error.describe();
    error.where = place;
    if (error.kind.empty()) error.kind = "expression";
    return error;
  }

  RunContext& run_;
  StepScope scope_;
  std::size_t failed_items_ = 0;
  std::int64_t attempt_ = 0;
};

}  // namespace

Result<WorkflowResult> run_workflow(RunContext& run) { return Walker(run).walk(); }

}  // namespace kontor::agent
