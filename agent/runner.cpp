#include "agent/runner.hpp"

#include "agent/grammar/output_grammar.hpp"
#include "agent/early_calls.hpp"
#include "agent/planner.hpp"
#include "agent/prompt_ahead.hpp"
#include "agent/tool_gate.hpp"
#include "agent/turn.hpp"
#include "agent/vote.hpp"
#include "agent/workflow/scope.hpp"
#include "base/hash.hpp"

#include <algorithm>

namespace kontor::agent {
namespace {

constexpr int kMaxDepth = 8;
constexpr int kMaxTurnTokens = 8192;
constexpr float kRetryTemperature = 0.2f;
constexpr std::size_t kQueryBytes = 2000;
constexpr int kCompactionsMax = 16;

const ModelSpec* find_model(const Spec& spec, const std::string& name) {
  const auto found = std::find_if(spec.models.begin(), spec.models.end(), [&](const ModelSpec& model) { return model.name == name; });
  return found == spec.models.end() ? nullptr : &*found;
}

std::uint64_t mixed(std::uint64_t seed, const std::string& place) {
  // FNV-1a: every turn draws its own numbers, the same ones in every execution.
  std::uint64_t hash = 14695981039346656037ull ^ seed;
  for (const char c : place) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ull;
  return hash;
}

inference::Sampling sampling_of(const ModelSpec* model, std::uint64_t seed, const std::string& place) {
  inference::Sampling sampling;
  if (model) {
    if (model->temperature) sampling.temperature = static_cast<float>(*model->temperature);
    if (model->top_p) sampling.top_p = static_cast<float>(*model->top_p);
    if (model->min_p) sampling.min_p = static_cast<float>(*model->min_p);
    if (model->top_k) sampling.top_k = static_cast<int>(*model->top_k);
  }
  sampling.seed = mixed(seed, place);
  return sampling;
}

ToolSchema sub_agent_schema(const AgentSpec& agent) {
  ToolSchema schema;
  schema.name = agent.name;
  schema.description = "Asks " + (agent.role.empty() ? agent.name : agent.role) + ", another agent, and returns its answer.";
  schema.parameters = Json{{"type", "object"},
                           {"properties", Json{{"task", Json{{"type", "string"}, {"description", "What to do, with everything it needs to know."}}}}},
                           {"required", Json::array({"task"})},
                           {"additionalProperties", false}};
  return schema;
}

constexpr const char* kHandoff = "transfer_to_";

ToolSchema handoff_schema(const AgentSpec& agent) {
  ToolSchema schema = sub_agent_schema(agent);
  schema.name = kHandoff + agent.name;
  schema.description = "Passes the work over to " + (agent.role.empty() ? agent.name : agent.role) + ", who then answers instead of you.";
  return schema;
}

/// What an agent's tools, sub-agents and handoffs take, in the order in which the model is told.
Result<std::vector<ToolSchema>> declared_tools(const RunContext& run, const AgentSpec& agent, const std::string& place) {
  std::vector<ToolSchema> out;
  for (const auto& glob : agent.tools) {
    for (const auto& name : run.registry->match({glob})) {
      if (std::any_of(out.begin(), out.end(), [&](const ToolSchema& known) { return known.name == name; })) continue;
      const auto& spec = run.registry->find(name)->spec();
      out.push_back({spec.name, spec.description, spec.parameters});
    }
  }
  for (const auto& name : agent.sub_agents) {
    const AgentSpec* sub = find_agent(*run.spec, name);
    if (!sub) return fail(Errc::not_found, "there is no agent '" + name + "'", "unknown_agent", place);
    out.push_back(sub_agent_schema(*sub));
  }
  for (const auto& name : agent.handoffs) {
    const AgentSpec* next = find_agent(*run.spec, name);
    if (!next) return fail(Errc::not_found, "there is no agent '" + name + "'", "unknown_agent", place);
    out.push_back(handoff_schema(*next));
  }
  return out;
}

ToolChoice choice_of(const std::string& word) {
  return word == "auto" ? ToolChoice::automatic : word == "required" ? ToolChoice::required : word == "none" ? ToolChoice::none : ToolChoice::named;
}

/// A schema as the model sees it: without what only decoding obeys, so that marking a field changes no prompt.
Json shown_schema(Json schema) {
  if (schema.is_object()) schema.erase("x-verbatim");
  if (schema.is_structured())
    for (Json& part : schema) part = shown_schema(std::move(part));
  return schema;
}

class AgentRun {
 public:
  AgentRun(RunContext& run, const AgentTask& task, const Scope& scope, const AgentSpec& agent)
      : run_(run), task_(task), scope_(scope), agent_(agent), labels_(task.labels) {
    // Of a sub-agent, whose author may have written `${inputs...}` where its caller has not.
    labels_ |= StepScope(run.inputs, run.input_labels).labels_of(Json(agent.instruction));
  }

  Result<AgentAnswer> go() {
    auto planner = prepare();
    if (!planner) return planner.error();
    PlannerAction action = planner->resume(Started{});
    for (;;) {
      if (std::holds_alternative<Generate>(action)) {
        auto turn = next_turn(*planner);
        if (!turn) return turn.error();
        const auto before = planner->repairs();
        action = planner->resume(turn->done);
        last_turn_ = std::move(*turn);
        if (planner->repairs() > before) run_.emit("repair", task_.place, Json{{"reason", planner->messages().back().content}});
      } else if (const auto* calls = std::get_if<CallTools>(&action)) {
        if (const ToolCall* call = handoff_in(*calls)) return hand_over(*call);
        auto done = make_calls(*calls, planner->messages());
        if (!done) return done.error();
        action = planner->resume(*done);
      } else if (auto* finish = std::get_if<Answered>(&action)) {
        if (auto stored = remember(finish->answer); !stored) return stored.error();
        return AgentAnswer{std::move(finish->answer), labels_};
      } else {
        const auto& give_up = std::get<GiveUp>(action);
        return fail(Errc::malformed, agent_.name + ": " + give_up.reason, give_up.kind, task_.place);
      }
    }
  }

 private:
  Result<Planner> prepare() {
    PlannerOptions options;
    Message system;
    system.role = Role::system;
    auto instruction = evaluated(agent_.instruction);
    if (!instruction) return instruction.error();
    system.content = agent_.role.empty() ? *instruction : agent_.role + "\n\n" + *instruction;
    auto declared = declared_tools(run_, agent_, task_.place);
    if (!declared) return declared.error();
    declared_ = std::move(*declared);
    for (const auto& tool : declared_) {
      options.tools.push_back(tool.name);
      schemas_.push_back({tool.name, tool.description, shown_schema(tool.parameters)});
    }
    auto facts = recall();
    if (!facts) return facts.error();
    Message user;
    user.content = facts->empty() ? task_.text : *facts + "\n\n" + task_.text;
    user.trusted = !labels_.untrusted;
    options.opening = {std::move(system), std::move(user)};
    if (agent_.output_schema) {
      auto schema = tools::Schema::compile(*agent_.output_schema);
      if (!schema) return fail(Errc::malformed, "output schema of " + agent_.name + ": " + schema.error().describe(), "bad_schema");
      options.output = std::move(*schema);
      options.output_text = spaced_json(*agent_.output_schema);
    }
    options.limits.steps = agent_.max_steps;
    options.limits.repeat_calls = agent_.repeat_calls;
    options.limits.tool_errors = agent_.tool_errors;
    options.limits.repair = agent_.repair;
    options.limits.retries = agent_.repair_retries;
    options.choice = choice_of(agent_.tool_choice);
    options.named = agent_.tool_choice;
    return Planner(std::move(options));
  }

  Result<std::string> evaluated(const std::string& text) {
    auto parsed = Template::parse(text);
    if (!parsed) return fail(Errc::malformed, parsed.error().describe(), "expression", task_.place);
    auto value = parsed->evaluate(scope_);
    if (!value) return fail(Errc::malformed, value.error().describe(), "expression", task_.place);
    return value->is_string() ? value->get<std::string>() : spaced_json(*value);
  }

  /// The next turn; where the conversation does not fit into the context, its oldest parts are left out until it does.
  Result<Turn> next_turn(Planner& planner) {
    const std::string place = task_.place + "#" + std::to_string(planner.turns());
    if (const Json* times = run_.history.compacted(place)) {
      for (const auto& bytes : *times)
        if (bytes.is_number_unsigned() || bytes.is_number_integer()) compact(planner, bytes.get<std::size_t>());
    }
    bool fill_context = false;
    for (int times = 0;; ++times) {
      auto turn = one_turn(planner, place, fill_context);
      const bool tight = !turn && turn.error().kind == "context_tight";
      if (turn || !(tight || turn.error().kind == "context_full") || !run_.log) return turn;
      fill_context = tight && times >= kCompactionsMax;
      if (fill_context) continue;
      if (times >= kCompactionsMax) return turn;
      std::size_t size = 0;
      for (const auto& message : planner.messages()) size += message.content.size() + message.reasoning.size();
      const std::size_t bytes = std::max<std::size_t>(size / 4, 512);
      Json dropped = Json::array();
      for (const auto& part : compact(planner, bytes)) {
        Json entry{{"message", part.message}, {"what", part.what}, {"bytes", part.bytes}};
        if (!part.name.empty()) entry["tool"] = part.name;
        dropped.push_back(std::move(entry));
      }
      fill_context = dropped.empty() && tight;
      if (fill_context) continue;
      if (dropped.empty()) return turn;
      const Json data{{"bytes", bytes}, {"dropped", std::move(dropped)}};
      if (auto recorded = run_.record("context_compacted", place, data); !recorded) return recorded.error();
      run_.emit("context_compacted", place, data);
    }
  }

  std::vector<Planner::Dropped> compact(Planner& planner, std::size_t bytes) {
    prompt_.forget();
    return planner.compact(bytes);
  }

  /// `fill_context`: as TurnRequest's.
  Result<Turn> one_turn(const Planner& planner, const std::string& place, bool fill_context) {
    const Json* const known = run_.history.generation(place);
    if (known && !run_.verifier) {
      Turn turn = turn_from_json(*known);
      run_.emit("turn", place, Json{{"agent", agent_.name}, {"content", turn.done.parsed.content}, {"reasoning", turn.done.parsed.reasoning}, {"replayed", true}});
      return turn;
    }
    if (run_.stop.stop_requested()) return fail(Errc::cancelled, "interrupted", kInterrupted, place);
    if (!run_.log && !known) return fail(Errc::not_found, "the journal ends here", kEndOfLog, place);
    if (!known) {
      if (auto room = run_.budget.check(run_.ledger); !room) return fail(Errc::budget, room.error().message + ", before " + place, kBudget, place);
    }
    const std::string name = run_.model_override.empty() ? agent_.model : run_.model_override;
    auto model = run_.models->get(name);
    if (!model) return fail(model.error().code, model.error().describe(), kModelFailed, place);
    if (run_.grammars && (*model)->tokenizer() && writes_elements((*model)->info().dialect) && run_.models_checked.insert(name).second) {
      if (auto fits = check_agent_schemas(run_, name, (*model)->info().dialect); !fits) return fits.error();
    }
    const ModelSpec* model_spec = find_model(*run_.spec, name);
    TurnRequest request;
    request.place = place;
    request.messages = &planner.messages();
    request.tools = &schemas_;
    request.prompt = &prompt_;
    request.sampling = sampling_of(model_spec ? model_spec : find_model(*run_.spec, agent_.model), run_.seed, place);
    if (task_.attempt > 0) request.sampling.temperature = std::max(request.sampling.temperature, kRetryTemperature * static_cast<float>(std::min<std::int64_t>(task_.attempt, 3)));
    if (model_spec) request.think_keep = model_spec->think_keep;
    request.think_tokens = agent_.think_tokens;
    if (model_spec && model_spec->think_budget > 0) {
      request.think_tokens = request.think_tokens > 0 ? std::min(request.think_tokens, model_spec->think_budget) : model_spec->think_budget;
    }
    request.max_tokens = kMaxTurnTokens;
    request.fill_context = fill_context;
    request.grammars = run_.grammars.get();
    request.grammar_name = agent_.name;
    request.output = &agent_.output_schema;
    request.tool_parameters = &declared_;
    request.choice = planner.tool_choice();
    request.named = agent_.tool_choice;
    const inference::Prefilled ahead = std::exchange(ahead_, {});
    request.ahead = &ahead;
    if (known) return verified(place, turn_from_json(*known), **model, request);
    request.deadline_ns = task_.deadline_ns;
    if (task_.deadline_ns > 0 && run_.clock->steady_ns() >= task_.deadline_ns) return fail(Errc::timeout, "the step took longer than its timeout", "timeout", place);
    early_ = std::make_unique<EarlyCalls>(run_, place, labels_);
    request.early = early_.get();
    written_by_ = *model;
    run_.emit("turn_started", place, Json{{"agent", agent_.name}, {"model", name}});
    auto turn = written(planner, **model, request, static_cast<std::size_t>(task_.vote), name);
    if (!turn) return turn.error();
    Ledger spent = turn->spent;
    spent.add(run_.book());
    if (turn->over_budget) {
      // What was generated is paid for, but not used: it may end anywhere.
      if (auto recorded = run_.record("generation_cut", place, Json{{"reason", "budget"}, {"spent", delta_json(spent)}}); !recorded) return recorded.error();
      return fail(Errc::budget, "budget reached during " + place + ": " + turn->budget_reason, kBudget, place);
    }
    Json data = to_json(*turn);
    data["agent"] = agent_.name;
    data["model"] = (*model)->info().name;
    data["spent"] = delta_json(spent);
    if (auto recorded = run_.record("generation", place, data); !recorded) return recorded.error();
    if (!turn->others.empty()) {
      const auto agree = 1 + std::count_if(turn->others.begin(), turn->others.end(), [](const Turn& other) { return other.agrees; });
      run_.emit("vote", place, Json{{"branches", turn->others.size() + 1}, {"agree", agree}, {"branch", turn->branch}});
    }
    run_.emit("turn", place, Json{{"agent", agent_.name}, {"content", turn->done.parsed.content}, {"reasoning", turn->done.parsed.reasoning}, {"spent", to_json(spent)}, {"think_forced", turn->think_forced}, {"wound_down", turn->wound_down}});
    return turn;
  }

  Result<Turn> written(const Planner& planner, inference::TextModel& model, const TurnRequest& request, std::size_t branches, const std::string& model_name) {
    std::mutex& one_at_a_time = run_.models->turn_of(model_name);
    if (branches <= 1) return generate_turn(run_, model, request, one_at_a_time);
    return generate_vote(run_, model, request, branches, [&](const TurnDone& turn) { return planner.choice(turn); }, one_at_a_time);
  }

  /// Lets the model write a recorded turn again, each branch within its own limit; the run goes on with the recorded one.
  Result<Turn> verified(const std::string& place, Turn recorded, inference::TextModel& model, const TurnRequest& request) {
    const std::size_t branches = recorded.others.size() + 1;
    std::vector<TurnRequest> requests;
    for (std::size_t branch = 0; branch < branches; ++branch) {
      const Turn& before = branch_of(recorded, branch);
      TurnRequest& own = requests.emplace_back(branch_request(request, branch));
      own.fill_context = true;  // The recorded turn was written there.
      own.wind_down = before.limit > 0;
      if (own.wind_down) own.max_tokens = static_cast<int>(std::min<std::int64_t>(before.limit, kMaxTurnTokens));
      const std::size_t tokens = before.done.stop == inference::StopReason::length ? before.done.tokens.size() : 0;
      if (tokens > 0 && own.wind_down) own.cut_after = tokens;
      else if (tokens > 0) own.max_tokens = static_cast<int>(tokens);
    }
    auto again = write_branches(run_, model, requests, run_.models->turn_of(run_.model_override.empty() ? agent_.model : run_.model_override));
    for (std::size_t branch = 0; branch < branches; ++branch) {
      if (!again[branch]) continue;
      if (!*again[branch]) return again[branch]->error();
      const std::string name = branches == 1 ? place : place + ", branch " + std::to_string(branch + 1);
      run_.verifier(name, branch_of(recorded, branch), **again[branch], model);
    }
    return recorded;
  }

  static const Turn& branch_of(const Turn& elected, std::size_t branch) {
    return branch == elected.branch ? elected : elected.others[branch < elected.branch ? branch : branch - 1];
  }

  /// `messages`: of the conversation, with the turn that makes the calls.
  Result<CallsDone> make_calls(const CallTools& calls, const std::vector<Message>& messages) {
    CallsDone done;
    std::optional<Error> waiting;
    std::unique_ptr<PromptAhead> computing;
    const auto ahead = [&]() -> PromptAhead* {
      if (!computing && !waiting) computing = begin_ahead(messages);
      return waiting ? nullptr : computing.get();
    };
    for (std::size_t i = 0; i < calls.calls.size(); ++i) {
      const ToolCall& call = calls.calls[i];
      const bool tool = run_.registry->find(call.name) != nullptr;
      std::function<void(std::string_view)> partial;
      if (tool && ahead()) partial = ahead()->partial_of(result_message(call));
      auto outcome = !tool && find_agent(*run_.spec, call.name) ? ask_agent(call) : call_tool(call, i, std::move(partial));
      if (outcome) {
        if (i + 1 < calls.calls.size() && ahead()) ahead()->result(result_message(call, *outcome));
        done.outcomes.push_back(std::move(*outcome));
      } else if (waits(outcome.error())) {
        waiting = outcome.error();  // The other calls of the turn need not wait with it.
      } else {
        return outcome.error();
      }
    }
    early_.reset();
    if (computing) {
      Pause others_may_work(run_);  // A pass that was begun is waited for.
      ahead_ = computing->take();
    }
    if (waiting) return *waiting;
    return done;
  }

  /// Null where the model that wrote the turn computes nothing ahead. A budget of tokens is not spent on guesses.
  std::unique_ptr<PromptAhead> begin_ahead(const std::vector<Message>& messages) {
    if (!written_by_ || !written_by_->computes_ahead() || run_.budget.limits_tokens()) return nullptr;
    const ModelSpec* spec = find_model(*run_.spec, run_.model_override.empty() ? agent_.model : run_.model_override);
    auto dialect = turn_dialect(written_by_->info(), spec ? spec->think_keep : TurnRequest().think_keep);
    if (!dialect) return nullptr;
    return std::make_unique<PromptAhead>(*written_by_, PromptAhead::Conversation{std::move(*dialect), &prompt_, &messages, &schemas_});
  }

  Result<CallOutcome> call_tool(const ToolCall& call, std::size_t index, std::function<void(std::string_view)> partial) {
    GateCall gate;
    gate.place = task_.place + "#" + call.id;
    gate.key = task_.key + "#" + call.id;
    gate.tool = call.name;
    gate.arguments = call.arguments;
    gate.labels = labels_;
    gate.partial = std::move(partial);
    if (early_) gate.running = early_->take(index, call.name, call.arguments);
    gate.deadline_ns = task_.deadline_ns;
    if (index < last_turn_.confidence.size()) gate.confidence = last_turn_.confidence[index];
    auto result = call_through_gate(run_, gate);
    if (!result) return result.error();
    CallOutcome outcome;
    outcome.call_id = call.id;
    outcome.is_error = result->is_error;
    outcome.is_invalid = result->error_kind == "invalid_arguments" || result->error_kind == "unknown_tool";
    outcome.text = result_text(*result);
    const tools::Labels labels = labels_of_result(run_, call.name, *result);
    labels_ |= labels;
    outcome.trusted = !labels.untrusted;
    return outcome;
  }

  Result<CallOutcome> ask_agent(const ToolCall& call) {
    CallOutcome outcome;
    outcome.call_id = call.id;
    if (!call.arguments.contains("task") || !call.arguments.at("task").is_string()) {
      outcome.is_invalid = true;
      outcome.text = spaced_json(Json{{"error", "argument 'task': expected a string"}});
      return outcome;
    }
    if (task_.depth + 1 >= kMaxDepth) {
      outcome.is_error = true;
      outcome.text = spaced_json(Json{{"error", "agents are nested too deeply"}});
      return outcome;
    }
    AgentTask sub = task_;
    sub.place = task_.place + "#" + call.id;
    sub.key = task_.key + "#" + call.id;
    sub.agent = call.name;
    sub.text = call.arguments.at("task").get<std::string>();
    sub.labels = labels_;
    sub.vote = 1;
    sub.depth = task_.depth + 1;
    auto answer = run_agent(run_, sub, scope_);
    if (!answer && ends_run(answer.error())) return answer.error();
    if (!answer) {
      outcome.is_error = true;
      outcome.text = spaced_json(Json{{"error", answer.error().message}});
      return outcome;
    }
    labels_ |= answer->labels;
    outcome.trusted = !answer->labels.untrusted;
    outcome.text = answer->value.is_string() ? answer->value.get<std::string>() : spaced_json(answer->value);
    return outcome;
  }

  /// The first call that passes the work over; calls beside it are not made, because nobody would read their results.
  const ToolCall* handoff_in(const CallTools& calls) const {
    for (const auto& call : calls.calls) {
      for (const auto& name : agent_.handoffs) {
        if (call.name == kHandoff + name && !run_.registry->find(call.name)) return &call;
      }
    }
    return nullptr;
  }

  Result<AgentAnswer> hand_over(const ToolCall& call) {
    if (task_.depth + 1 >= kMaxDepth) return fail(Errc::limit, agent_.name + ": the work was passed on too often", "handoffs", task_.place);
    AgentTask next = task_;
    next.place = task_.place + "#" + call.id;
    next.key = task_.key + "#" + call.id;
    next.agent = call.name.substr(std::string_view(kHandoff).size());
    // The next agent reads the task as it was given, and what this one adds.
    if (call.arguments.contains("task") && call.arguments.at("task").is_string()) next.text += "\n\n" + call.arguments.at("task").get<std::string>();
    next.labels = labels_;
    next.depth = task_.depth + 1;
    run_.emit("handoff", task_.place, Json{{"from", agent_.name}, {"to", next.agent}});
    return run_agent(run_, next, scope_);
  }

  Error memory_failed(const Error& error) const {
    if (error.kind == kBudget) return fail(Errc::budget, error.message + ", before " + task_.place, kBudget, task_.place);
    return fail(error.code, "memory: " + error.message, "memory", task_.place);
  }

  /// What compares by meaning; null where the agent names no model for it. Facts of the namespace that the model does not
  /// know yet get their vectors.
  Result<memory::Embedder*> memory_embedder(memory::Store& store, const std::string& space) {
    if (agent_.memory_embedder.empty()) return nullptr;
    auto embedder = run_.embedder(agent_.memory_embedder);
    if (!embedder) return memory_failed(embedder.error());
    Result<std::int64_t> made = 0;
    {
      Pause others_may_work(run_);
      made = store.embed_missing(space, **embedder);
    }
    if (!made) return memory_failed(made.error());
    if (*made > 0) run_.emit("memory", task_.place, Json{{"embedded", *made}});
    return *embedder;
  }

  /// "memory:\n- fact\n- fact", or "" without memory. What was recalled is journaled: the store changes meanwhile.
  Result<std::string> recall() {
    if (agent_.memory_recall <= 0) return std::string();
    Json facts = Json::array();
    if (const Json* known = run_.history.recalled(task_.place)) {
      if (known->contains("facts") && known->at("facts").is_array()) facts = known->at("facts");
    } else {
      if (!run_.log) return fail(Errc::not_found, "the journal ends here", kEndOfLog, task_.place);
      auto space = evaluated(agent_.memory_namespace);
      if (!space) return space.error();
      auto store = run_.memory();
      if (!store) return store.error();
      auto embedder = memory_embedder(**store, *space);
      if (!embedder) return embedder.error();
      auto hits = (*store)->search(*space, task_.text.substr(0, kQueryBytes), static_cast<std::size_t>(agent_.memory_recall), *embedder);
      if (!hits) return memory_failed(hits.error());
      for (const auto& hit : *hits) facts.push_back(Json{{"text", hit.record.text}, {"trusted", hit.record.trusted}, {"secret", hit.record.secret}});
      if (auto recorded = run_.record("memory_recalled", task_.place, Json{{"facts", facts}}, Durable::later); !recorded) return recorded.error();
    }
    if (facts.empty()) return std::string();
    std::string text = "memory:";
    for (const auto& fact : facts) {
      if (!fact.contains("text") || !fact.at("text").is_string()) continue;
      std::string line = fact.at("text").get<std::string>();
      std::replace(line.begin(), line.end(), '\n', ' ');
      text += "\n- " + line;
      if (fact.contains("trusted") && fact.at("trusted") == Json(false)) labels_.untrusted = true;
      if (fact.contains("secret") && fact.at("secret") == Json(true)) labels_.secret = run_.recalled_secret = true;
    }
    run_.emit("memory", task_.place, Json{{"recalled", facts.size()}});
    return text;
  }

  Result<void> remember(const Json& answer) {
    if (agent_.memory_store.empty() || run_.history.stored(task_.place)) return {};
    if (!run_.log) return fail(Errc::not_found, "the journal ends here", kEndOfLog, task_.place);
    auto space = evaluated(agent_.memory_namespace);
    if (!space) return space.error();
    auto store = run_.memory();
    if (!store) return store.error();
    memory::Record record;
    record.space = *space;
    record.text = fact_text(answer);
    record.source = run_.run_id() + " " + task_.place;
    record.trusted = !labels_.untrusted;
    record.secret = labels_.secret;
    auto embedder = memory_embedder(**store, record.space);
    if (!embedder) return embedder.error();
    auto id = (*store)->add(record, *embedder);  // The same fact is kept once, so a repeat after a crash does no harm.
    if (!id) return memory_failed(id.error());
    return run_.record("memory_stored", task_.place, Json{{"id", *id}, {"text", record.text}});
  }

  RunContext& run_;
  const AgentTask& task_;
  const Scope& scope_;
  const AgentSpec& agent_;
  tools::Labels labels_;
  std::vector<ToolSchema> declared_, schemas_;  ///< As the tools declare them; as the model is shown them.
  Turn last_turn_;
  std::unique_ptr<EarlyCalls> early_;           ///< Of the turn that was written last.
  RollingPrompt prompt_;
  inference::TextModel* written_by_ = nullptr;  ///< The model of the last turn; null: it was in the journal.
  inference::Prefilled ahead_;                  ///< Of the next turn's prompt.
};

}  // namespace

const AgentSpec* find_agent(const Spec& spec, const std::string& name) {
  const auto found = std::find_if(spec.agents.begin(), spec.agents.end(), [&](const AgentSpec& agent) { return agent.name == name; });
  return found == spec.agents.end() ? nullptr : &*found;
}

Result<void> check_agent_schemas(const RunContext& run, const std::string& only, std::string_view dialect) {
  for (const auto& agent : run.spec->agents) {
    const std::string& name = run.model_override.empty() ? agent.model : run.model_override;
    if (!only.empty() && name != only) continue;
    const ModelSpec* model = find_model(*run.spec, name);
    if (model && model->path.empty()) continue;  // Tapes and endpoints say what they say.
    auto tools = declared_tools(run, agent, {});
    if (!tools) return tools.error();
    if (auto fits = check_output_schemas(*tools, agent.output_schema, dialect); !fits) {
      const Error error = fits.error();
      return fail(error.code, "agent " + agent.name + ": " + error.message + " (at " + (error.where.empty() ? "the root" : error.where) + " of the schema)", error.kind, error.where);
    }
  }
  return {};
}

Result<AgentAnswer> run_agent(RunContext& run, const AgentTask& task, const Scope& scope) {
  const AgentSpec* agent = find_agent(*run.spec, task.agent);
  if (!agent) return fail(Errc::not_found, "there is no agent '" + task.agent + "'", "unknown_agent", task.place);
  return AgentRun(run, task, scope, *agent).go();
}

std::string task_text(const Json& with) {
  std::string text;
  for (const auto& [key, value] : with.items()) {
    if (!text.empty()) text += "\n\n";
    const std::string shown = value.is_string() ? value.get<std::string>() : spaced_json(value);
    text += key + (shown.find('\n') == std::string::npos ? ": " : ":\n") + shown;
  }
  return text;
}

std::string fact_text(const Json& answer) {
  if (!answer.is_object()) return answer.is_string() ? answer.get<std::string>() : spaced_json(answer);
  std::string text;
  for (const auto& [key, value] : answer.items()) {
    if (!text.empty()) text += "; ";
    text += key + ": " + (value.is_string() ? value.get<std::string>() : spaced_json(value));
  }
  return text;
}

}  // namespace kontor::agent
