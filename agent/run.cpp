#include "agent/run.hpp"

#include "agent/grammar/output_grammar.hpp"
#include "agent/model_embedder.hpp"
#include "agent/parked_state.hpp"
#include "agent/recorded_run.hpp"
#include "agent/runner.hpp"
#include "agent/traces.hpp"
#include "agent/turn.hpp"
#include "agent/workflow/executor.hpp"
#include "base/hash.hpp"
#include "inference/tokenizer.hpp"

#include <sys/random.h>

#include <algorithm>
#include <filesystem>

namespace kontor::agent {
namespace {

constexpr const char* kOverrideModel = "--model";
constexpr std::size_t kFailuresTold = 20;

std::uint64_t random_seed() {
  std::uint64_t seed = 0;
  if (::getrandom(&seed, sizeof seed, 0) != sizeof seed) seed = 1;
  return seed >> 12;  // Fits a JSON number without rounding everywhere.
}

JournalSync sync_of(const Spec& spec) { return spec.sync == "off" ? JournalSync::off : spec.sync == "batch" ? JournalSync::batch : JournalSync::step; }

/// Fingerprint of the rules: an approval counts only under the policy it was asked under.
std::string policy_hash(const PolicySpec& policy) {
  Json rules{{"deny", policy.deny}, {"allow", policy.allow}, {"untrusted", policy.untrusted}, {"trusted_only", policy.trusted_only}};
  for (const auto& ask : policy.ask) {
    rules["ask"].push_back(Json{{"tool", ask.tool}, {"when", ask.when ? ask.when->text() : ""}, {"who", ask.who}, {"people", ask.people},
                                {"expires", ask.expires_ms}, {"on_expire", ask.on_expire}});
  }
  if (policy.egress_allow) rules["egress_allow"] = *policy.egress_allow;
  if (!policy.egress_deny.empty()) rules["egress_deny"] = policy.egress_deny;
  return sha256_hex(rules.dump());
}

/// One process's work on a run.
class Execution {
 public:
  Execution(Journal& journal, const Spec& spec, const Json& inputs, RunOptions options, const RunWorld& world)
      : journal_(journal), spec_(spec), options_(std::move(options)), world_(world), models_([this](const std::string& name) { return open_model(name); }) {
    context_.spec = &spec_;
    context_.inputs = inputs;
    context_.input_labels.untrusted = options_.untrusted_inputs;
    context_.sink = world_.sink;
    context_.clock = world_.clock;
    context_.timers_park = world_.timers_park;
    context_.stop = world_.stop;
    context_.approver = world_.approver;
    context_.models = &models_;
    context_.memory = [this] { return memory(); };
    context_.embedder = [this](const std::string& name) { return embedder(name); };
    context_.energy = &energy_;
    context_.started_ns = context_.booked_ns = world_.clock->steady_ns();
  }

  /// Tools, policy, secrets. Nothing of it is journaled.
  Result<void> assemble(bool with_tools) {
    auto secrets = load_secrets(spec_);
    if (!secrets) return secrets.error();
    context_.secrets = std::move(*secrets);
    auto redactor = open_redactor(spec_, journal_);
    if (!redactor) return redactor.error();
    redactor_ = std::move(*redactor);
    context_.redactor = redactor_.get();
    context_.policy = build_policy(spec_, context_.inputs, context_.confidence);
    context_.policy_hash = policy_hash(spec_.policy);
    for (const auto& entry : spec_.tools) {
      const bool given = entry.settings.contains("config") && entry.settings.at("config").dump().find("{{secret:") != std::string::npos;
      if (given) context_.secret_groups.insert(entry.name);
    }
    auto egress = build_egress(spec_.policy, options_.airgap, [book = context_.egress_book](const tools::EgressDecision& decision) { book->add(decision); });
    if (!egress) return egress.error();
    context_.egress = std::move(*egress);
    auto budget = Budget::create(spec_.budget);
    if (!budget) return budget.error();
    context_.budget = std::move(*budget);
    if (!options_.model_path.empty()) context_.model_override = kOverrideModel;
    if (!options_.model_name.empty()) context_.model_override = options_.model_name;
    if (!with_tools) {
      context_.registry = std::make_shared<tools::Registry>();
      return {};
    }
    RegistryOptions registry;
    registry.shadow_folder = options_.shadow_folder;
    registry.state_folder = journal_.folder();
    registry.make_tools = world_.make_tools;
    registry.memory = context_.memory;
    registry.embedder = context_.embedder;
    registry.clock = world_.clock;
    registry.egress = context_.egress;
    auto built = build_registry(spec_, context_.inputs, context_.secrets, registry);
    if (!built) return built.error();
    context_.registry = std::move(*built);
    context_.grammars = std::make_shared<OutputGrammars>();
    return check_agent_schemas(context_);
  }

  void attach(RunLog* log, const std::string& id, History history) {
    context_.log = log;
    context_.run_id_ = id;
    context_.ledger = history.spent();
    context_.budget.booked(context_.ledger);
    context_.recalled_secret = history.recalled_secret();
    context_.history = std::move(history);
    context_.seed = options_.seed.value_or(0);
    if (log && !spec_.otlp.empty()) trace(id);
    // Who verifies plays tapes from their beginning.
    if (!context_.verifier) played_ = context_.history.generated_texts();
  }

  RunContext& context() { return context_; }

  RunReport go() {
    std::lock_guard turn(context_.baton);
    RunReport report;
    report.id = context_.run_id();
    report.name = spec_.name;
    context_.booked_ns = world_.clock->steady_ns();
    if (auto value = work()) {
      report.status = "done";
      report.result = std::move(*value);
    } else {
      const Error error = value.error();
      report.note = error.message;
      report.where = error.where;
      report.kind = error.kind;
      report.status = error.kind == kParked ? "parked" : error.kind == kUnknown ? "unknown" : error.kind == kInterrupted ? "interrupted"
                    : error.kind == kBudget ? "budget" : error.kind == kModelFailed || error.kind == kJournalFailed || error.kind == kDiverged ? "error"
                    : error.kind == kEndOfLog ? "end_of_log" : "failed";
    }
    close(report);
    return report;
  }

 private:
  /// What everybody else is told goes to the collector as well, redacted like it.
  void trace(const std::string& id) {
    auto sender = TraceSender::create(spec_.otlp, context_.egress, id, spec_.name, *world_.clock);
    if (!sender) return context_.emit("notice", "", Json{{"text", sender.error().message}});
    traces_ = std::move(*sender);
    context_.sink = [this](const RunEvent& event) {
      traces_->on_event(event);
      if (world_.sink) world_.sink(event);
    };
  }

  Result<Json> work() {
    if (!spec_.workflow.empty()) {
      auto result = run_workflow(context_);
      if (!result) return result.error();
      return result;
    }
    AgentTask task;
    task.agent = task.place = task.key = spec_.agents.front().name;
    task.text = options_.task;
    const Scope scope = [this](std::string_view name) -> const Json* { return name == "inputs" ? &context_.inputs : nullptr; };
    context_.emit("step_started", task.place, Json{{"kind", "agent"}, {"target", task.agent}});
    auto answer = run_agent(context_, task, scope);
    if (!answer) return answer.error();
    context_.emit("step_finished", task.place, Json{{"kind", "agent"}, {"result", answer->value}});
    return std::move(answer->value);
  }

  /// The last event of this process.
  void close(RunReport& report) {
    const Ledger spent = context_.book();
    report.ledger = context_.ledger;
    report.failed_items = context_.collected.size();
    for (const auto& failure : context_.collected) {
      if (report.failures.size() == kFailuresTold) break;
      auto told = failure;
      if (redactor_) told.error = redactor_->mask(Json(failure.error)).get<std::string>(), told.item = redactor_->mask(failure.item);
      report.failures.push_back(std::move(told));
    }
    if (!context_.log) return;
    if (traces_) {
      const std::string note = redactor_ ? redactor_->mask(Json(report.note)).get<std::string>() : report.note;
      const std::string lost = traces_->finish(report.status, note);
      if (!lost.empty()) context_.emit("notice", "", Json{{"text", "observe.otlp: " + lost}});
    }
    // When this cannot be written, neither can what follows, and that says so.
    (void)context_.record_egress("");
    const bool over = report.status == "done" || report.status == "failed";
    Json data{{"status", report.status}, {"note", report.note}, {"where", report.where}, {"result", report.result},
              {"failed_items", report.failed_items}, {"ledger", to_json(report.ledger)}, {"spent", to_json(spent)}};
    const std::string note = redactor_ ? redactor_->mask(Json(report.note)).get<std::string>() : report.note;
    auto written = context_.log->append(over ? "run_finished" : "run_stopped", "", redactor_ ? redactor_->seal(data) : data, report.status, note);
    if (!written) {
      report.note = written.error().message + (report.note.empty() ? "" : "; before that: " + report.note);
      report.status = "error";
      report.kind = kJournalFailed;
    }
    keep_models(report.status, over);
    auto events = journal_.events(report.id);
    if (events) report.pending = History(*events).pending();
    // A crash of the other kind waits first: until it is resolved nothing else helps.
    if (report.status == "parked" && std::any_of(report.pending.begin(), report.pending.end(), [](const PendingItem& item) { return item.is_unknown; })) {
      report.status = "unknown";
    }
  }

  /// A run that will go on leaves behind what its models have computed.
  void keep_models(const std::string& status, bool over) {
    const std::string& folder = journal_.folder();
    if (over) return remove_parked_state(folder, context_.run_id());
    if (status != "parked" && status != "unknown" && status != "interrupted") return;
    for (const auto& [name, model] : models_.all()) {
      auto kept = make_parked_state_folder(folder);
      if (kept) kept = model->save_state(parked_state_file(folder, context_.run_id(), name));
      if (!kept) context_.emit("model_state", "", Json{{"model", name}, {"error", kept.error().message}});
    }
  }

  /// Nothing is lost where it cannot be read but the time to compute it again.
  void restore_model(const std::string& name, inference::TextModel& model) {
    const auto loaded = model.load_state(parked_state_file(journal_.folder(), context_.run_id(), name));
    if (!loaded && loaded.error().code == Errc::not_found) return;
    context_.emit("model_state", "", loaded ? Json{{"model", name}, {"restored", true}} : Json{{"model", name}, {"error", loaded.error().message}});
  }

  /// As named by tools and agents, on any of their threads. `--model` replaces what writes, not what embeds.
  Result<memory::Embedder*> embedder(const std::string& name) {
    const std::lock_guard lock(embedders_mutex_);
    auto& embedder = embedders_[name];
    if (!embedder) {
      auto model = open_model(name, true);
      if (!model) return model.error();
      const auto spec = std::find_if(spec_.models.begin(), spec_.models.end(), [&](const ModelSpec& candidate) { return candidate.name == name; });
      auto made = ModelEmbedder::create(std::move(*model), *spec, &context_.budget);
      if (!made) return made.error();
      embedder = std::move(*made);
    }
    return embedder.get();
  }

  Result<std::unique_ptr<inference::TextModel>> open_model(const std::string& name, bool embeds = false) {
    ModelSpec model;
    if (name == kOverrideModel) {
      model.name = name;
      model.path = options_.model_path;
    } else {
      const auto found = std::find_if(spec_.models.begin(), spec_.models.end(), [&](const ModelSpec& candidate) { return candidate.name == name; });
      if (found == spec_.models.end()) return fail(Errc::not_found, "there is no model '" + name + "'");
      model = *found;
      model.embeds = embeds;
    }
    if (auto given = give_key(model, spec_, context_.secrets); !given) return given.error();
    model.egress = context_.egress.named("models." + name);
    const std::int64_t began = world_.clock->steady_ns();
    auto opened = world_.open_model(model, options_, played_);
    if (!opened) return opened.error();
    if (!embeds) restore_model(name, **opened);
    const auto& info = (*opened)->info();
    context_.emit("model_loaded", "", Json{{"model", name}, {"name", info.name}, {"description", info.description}, {"architecture", info.architecture}, {"quantization", info.quantization},
                                           {"device", info.device}, {"parameters", info.parameters}, {"constrained", (*opened)->tokenizer() != nullptr},
                                           {"seconds", static_cast<double>(world_.clock->steady_ns() - began) / 1e9}});
    return opened;
  }

  Result<memory::Store*> memory() {
    if (!store_) {
      auto opened = memory::Store::open(journal_.folder() + "/memory.db", *world_.clock);
      if (!opened) return opened.error();
      store_ = std::move(*opened);
    }
    return store_.get();
  }

  Journal& journal_;
  const Spec& spec_;
  RunOptions options_;
  const RunWorld& world_;
  EnergyMeter energy_;
  std::unique_ptr<Redactor> redactor_;
  std::unique_ptr<memory::Store> store_;
  std::mutex embedders_mutex_;
  std::map<std::string, std::unique_ptr<ModelEmbedder>> embedders_;
  ModelPool models_;
  std::vector<std::string> played_;
  std::unique_ptr<TraceSender> traces_;
  RunContext context_;
};

}  // namespace

Result<RunReport> start_run(Journal& journal, const Spec& spec, const Json& inputs, const RunOptions& given, const RunWorld& world) {
  RunOptions options = given;
  if (spec.workflow.empty() && spec.agents.empty()) return fail(Errc::usage, spec.path + " has neither a workflow nor an agent");
  if (spec.workflow.empty() && options.task.empty()) return fail(Errc::usage, spec.path + " has no workflow; say what to do with --task");
  if (!spec.workflow.empty() && !options.task.empty()) return fail(Errc::usage, spec.path + " has a workflow, which takes inputs (--input) and no --task");
  if (!options.seed) {
    for (const auto& model : spec.models) {
      if (model.seed && !options.seed) options.seed = model.seed;
    }
    if (!options.seed) options.seed = random_seed();
  }
  Execution execution(journal, spec, inputs, options, world);
  if (auto ready = execution.assemble(true); !ready) return ready.error();
  std::error_code code;
  const std::string file = std::filesystem::absolute(spec.path, code).string();
  auto redactor = open_redactor(spec, journal);
  if (!redactor) return redactor.error();
  auto log = journal.create(spec.name, file,
                            Json{{"format", 1}, {"name", spec.name}, {"file", file}, {"folder", spec.folder}, {"yaml", spec.text},
                                 {"inputs", *redactor ? (*redactor)->seal(inputs) : inputs},
                                 {"options", options_to_json(options, *options.seed)}},
                            world.mark, sync_of(spec));
  if (!log) return log.error();
  execution.attach(&*log, log->id(), History());
  if (world.created) world.created(log->id());
  if (world.sink) world.sink({"run_started", "", Json{{"id", log->id()}, {"name", spec.name}, {"file", file}, {"inputs", inputs}}});
  return execution.go();
}

Result<RunReport> resume_run(Journal& journal, const std::string& id, const RunOptions& overrides, const RunWorld& world) {
  std::vector<JournalEvent> read;
  auto log = journal.reopen(id, &read);
  if (!log) return log.error();
  const auto* const events = &read;
  auto row = journal.find(id);
  if (!row) return row.error();
  auto recorded = read_start(*events);
  if (recorded && !recorded->spec.redact.empty()) {
    if (auto opened = open_sealed(recorded->spec, journal, read); !opened) return opened.error();
    recorded = read_start(*events);
  }
  History history(*events);
  if (auto open = check_open(*row); !open) {
    RunReport report;
    report.id = id, report.name = row->name, report.status = row->status, report.note = row->note;
    report.ledger = history.spent();
    for (const auto& event : *events) {
      if (event.type == "run_finished" && event.data.contains("result")) report.result = event.data.at("result");
    }
    return report;
  }
  if (!recorded) return recorded.error();
  RunOptions options = recorded->options;
  if (!overrides.model_path.empty()) options.model_path = overrides.model_path;
  if (overrides.device != "auto") options.device = overrides.device;
  if (overrides.threads > 0) options.threads = overrides.threads;
  options.airgap = options.airgap || overrides.airgap;
  Execution execution(journal, recorded->spec, recorded->inputs, options, world);
  if (auto ready = execution.assemble(true); !ready) return ready.error();
  log->set_sync(sync_of(recorded->spec));
  if (auto noted = log->append("run_resumed", "", Json{{"events", events->size()}}, "running"); !noted) return noted.error();
  execution.attach(&*log, id, std::move(history));
  if (world.sink) world.sink({"run_started", "", Json{{"id", id}, {"name", recorded->spec.name}, {"file", recorded->spec.path}, {"inputs", recorded->inputs}, {"resumed", true}}});
  return execution.go();
}

Result<RunReport> replay_run(Journal& journal, const std::string& id, const RunWorld& world) {
  auto events = journal.events(id);
  if (!events) return events.error();
  auto recorded = read_start(*events);
  if (!recorded) return recorded.error();
  if (auto opened = open_sealed(recorded->spec, journal, *events); !opened) return opened.error();
  if (!recorded->spec.redact.empty()) recorded = read_start(*events);
  if (!recorded) return recorded.error();
  Execution execution(journal, recorded->spec, recorded->inputs, recorded->options, world);
  if (auto ready = execution.assemble(false); !ready) return ready.error();
  History history(*events);
  const Ledger spent = history.spent();
  execution.attach(nullptr, id, std::move(history));
  if (world.sink) world.sink({"run_started", "", Json{{"id", id}, {"name", recorded->spec.name}, {"file", recorded->spec.path}, {"inputs", recorded->inputs}, {"replayed", true}}});
  RunReport report = execution.go();
  report.ledger = spent;
  return report;
}

namespace {

/// Where two turns first differ; nothing where they are the same.
std::optional<VerifyReport::Difference> difference(const std::string& place, const Turn& recorded, const Turn& again, const inference::TextModel& model) {
  constexpr std::size_t kShown = 60;
  const auto& a = recorded.done;
  const auto& b = again.done;
  VerifyReport::Difference result;
  result.place = place;
  const auto* tokenizer = model.tokenizer();
  if (!a.tokens.empty() && !b.tokens.empty() && tokenizer) {
    const auto at = std::mismatch(a.tokens.begin(), a.tokens.end(), b.tokens.begin(), b.tokens.end());
    if (at.first == a.tokens.end() && at.second == b.tokens.end()) return std::nullopt;
    result.token = static_cast<std::size_t>(at.first - a.tokens.begin());
    result.recorded = tokenizer->decode(std::span(at.first, a.tokens.end()), true).substr(0, kShown);
    result.again = tokenizer->decode(std::span(at.second, b.tokens.end()), true).substr(0, kShown);
    return result;
  }
  if (a.text == b.text) return std::nullopt;
  result.token = static_cast<std::size_t>(std::mismatch(a.text.begin(), a.text.end(), b.text.begin(), b.text.end()).first - a.text.begin());
  result.recorded = a.text.substr(result.token, kShown);
  result.again = b.text.substr(std::min(result.token, b.text.size()), kShown);
  return result;
}

}  // namespace

Result<VerifyReport> verify_run(Journal& journal, const std::string& id, const RunOptions& overrides, const RunWorld& world) {
  auto events = journal.events(id);
  if (!events) return events.error();
  auto recorded = read_start(*events);
  if (!recorded) return recorded.error();
  RunOptions options = recorded->options;
  if (!overrides.model_path.empty()) options.model_path = overrides.model_path;
  if (overrides.device != "auto") options.device = overrides.device;
  if (overrides.threads > 0) options.threads = overrides.threads;
  std::size_t turns = 0;
  for (const auto& event : *events) {
    if (event.type == "generation") turns += 1 + turn_from_json(event.data).others.size();
  }
  Execution execution(journal, recorded->spec, recorded->inputs, options, world);
  // With the tools: what they are called and take stands in the prompts.
  if (auto ready = execution.assemble(true); !ready) return ready.error();
  VerifyReport report;
  report.id = id;
  execution.context().verifier = [&](const std::string& place, const Turn& before, const Turn& again, const inference::TextModel& model) {
    ++report.turns;
    report.tokens += again.usage.generated + again.usage.forced;
    auto differs = difference(place, before, again, model);
    if (!differs) ++report.same;
    if (!model.is_reproducible()) ++report.unpromised;
    if (world.sink) world.sink({"turn_verified", place, Json{{"same", !differs}, {"tokens", again.done.tokens.size()}}});
    if (differs && !report.first) report.first = std::move(differs);
  };
  execution.context().budget = Budget();  // What was spent then is not spent again.
  execution.attach(nullptr, id, History(*events));
  const RunReport walked = execution.go();
  report.complete = report.turns >= turns;
  if (!report.complete) report.note = walked.note;
  if (walked.kind == kModelFailed) return fail(Errc::internal, walked.note, kModelFailed);
  if (walked.kind == kInterrupted) return fail(Errc::cancelled, walked.note, kInterrupted);
  return report;
}

}  // namespace kontor::agent
