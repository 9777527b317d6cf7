#include "agent/spec/build_spec.hpp"

#include "agent/spec/expression_tree.hpp"
#include "agent/spec/formats.hpp"
#include "agent/spec/rules.hpp"
#include "agent/spec/shape.hpp"

#include <cstdlib>

namespace kontor::agent {
namespace {

std::string text_of(const Yaml& value, const char* fallback = "") { return value ? std::string(value.text()) : fallback; }
std::int64_t integer_of(const Yaml& value, std::int64_t fallback) {
  if (!value) return fallback;
  const Json json = to_json(value);
  return json.is_number_integer() ? json.get<std::int64_t>() : fallback;
}
std::optional<double> number_of(const Yaml& value) {
  if (!value) return std::nullopt;
  return to_json(value).get<double>();
}
bool boolean_of(const Yaml& value, bool fallback) { return value ? to_json(value).get<bool>() : fallback; }
std::int64_t duration_of(const Yaml& value) {
  std::int64_t milliseconds = 0;
  if (value) read_duration(value.text(), milliseconds);
  return milliseconds;
}
std::vector<std::string> texts_of(const Yaml& value) {
  std::vector<std::string> list;
  if (!value) return list;
  for (const auto& item : value.items()) list.emplace_back(item.text());
  return list;
}
std::string path_of(const Section& owner, const Yaml& value) { return value ? resolved_path(owner.file->folder, value.text()) : std::string(); }

/// "expr" or "${expr}".
std::optional<Expression> expression_of(const Yaml& value) {
  if (!value) return std::nullopt;
  std::string_view text = value.text();
  std::vector<TemplatePiece> pieces;
  ExpressionProblem problem;
  if (split_template(text, pieces, problem) && pieces.size() == 1 && pieces[0].is_expression) {
    text = text.substr(pieces[0].begin, pieces[0].end - pieces[0].begin);
  }
  const auto expression = Expression::parse(text);
  if (!expression) return std::nullopt;
  return *expression;
}

InputSpec input(const Named& entry) {
  InputSpec spec;
  spec.name = entry.key.text();
  spec.type = text_of(entry.value["type"]);
  spec.required = boolean_of(entry.value["required"], false);
  spec.description = text_of(entry.value["description"]);
  if (const Yaml value = entry.value["default"]) spec.default_value = to_json(value);
  return spec;
}

SecretSpec secret(const Named& entry) {
  SecretSpec spec;
  spec.name = entry.key.text();
  spec.from = text_of(entry.value["from"]);
  if (spec.from.substr(0, 5) == "file:") spec.from = "file:" + resolved_path(entry.file->folder, spec.from.substr(5));
  spec.allow_tools = texts_of(entry.value["allow_tools"]);
  return spec;
}

ModelSpec model(const Named& entry) {
  ModelSpec spec;
  const Yaml& value = entry.value;
  spec.name = entry.key.text();
  spec.path = path_of(entry, value["path"]);
  spec.endpoint = text_of(value["endpoint"]);
  spec.endpoint_model = text_of(value["model"]);
  if (const Yaml key = value["api_key"]) spec.api_key_secret = key.text().substr(7);
  spec.replay = path_of(entry, value["replay"]);
  spec.device = text_of(value["device"], "auto");
  spec.kv = text_of(value["kv"], "f16");
  spec.context = integer_of(value["context"], 0);
  if (const Yaml seed = value["seed"]) spec.seed = to_json(seed).get<std::uint64_t>();
  if (const Yaml sampling = value["sampling"]) {
    spec.temperature = number_of(sampling["temperature"]);
    spec.top_p = number_of(sampling["top_p"]);
    spec.min_p = number_of(sampling["min_p"]);
    if (const Yaml top_k = sampling["top_k"]) spec.top_k = integer_of(top_k, 0);
  }
  if (const Yaml embedding = value["embedding"]) {
    if (const Yaml query = embedding["query"]) spec.query_prefix = query.text();
    if (const Yaml document = embedding["document"]) spec.document_prefix = document.text();
  }
  if (const Yaml thinking = value["thinking"]) {
    spec.think_budget = integer_of(thinking["budget"], 0);
    spec.think_keep = text_of(thinking["keep"], "turn");
  }
  return spec;
}

ToolEntry tool(const Named& entry) {
  ToolEntry spec;
  spec.name = entry.key.text();
  spec.use = text_of(entry.value["use"]);
  const MapRule& known = rule("tool." + spec.use);
  for (const auto& setting : entry.value.entries()) {
    const std::string key(setting.key.text());
    if (key == "use") continue;
    if (key == "effects") {
      for (const auto& effect : setting.value.entries()) spec.effects[std::string(effect.key.text())] = effect.value.text();
      continue;
    }
    const KeyRule* key_rule = known.find(key);
    const bool is_path = key_rule && key_rule->type == ValueType::path;
    spec.settings[key] = is_path ? Json(path_of(entry, setting.value)) : key_rule && key_rule->type == ValueType::hash ? Json(std::string(setting.value.text())) : to_json(setting.value);
  }
  return spec;
}

/// An entry of `mcpServers` as one of `tools`.
ToolEntry server(const Named& entry) {
  ToolEntry spec;
  spec.name = entry.key.text();
  spec.use = "mcp";
  for (const auto& setting : entry.value.entries()) {
    const std::string_view key = setting.key.text();
    const Yaml& value = setting.value;
    if (key == "env" || key == "headers") spec.settings["config"] = to_json(value);
    else if (key == "cwd" || key == "pin") spec.settings[std::string(key)] = path_of(entry, value);
    else if (key == "url" || key == "only" || key == "network" || key == "timeout_ms") spec.settings[std::string(key)] = to_json(value);
  }
  if (const auto timeout = number_of(entry.value["timeout"])) spec.settings["timeout_ms"] = foreign_timeout_ms(*timeout).value_or(60'000);
  if (const Yaml command = entry.value["command"]) {
    Json words = Json::array({std::string(command.text())});
    for (const auto& word : texts_of(entry.value["args"])) words.push_back(word);
    spec.settings["command"] = std::move(words);
  }
  if (const Yaml effects = entry.value["effects"]) {
    for (const auto& effect : effects.entries()) spec.effects[std::string(effect.key.text())] = effect.value.text();
  }
  return spec;
}

AgentSpec agent(const Project& project, const Named& entry) {
  AgentSpec spec;
  const Yaml& value = entry.value;
  spec.name = entry.key.text();
  spec.model = text_of(value["model"]);
  spec.role = text_of(value["role"]);
  spec.instruction = text_of(value["instruction"]);
  spec.tools = texts_of(value["tools"]);
  spec.sub_agents = texts_of(value["sub_agents"]);
  spec.handoffs = texts_of(value["handoffs"]);
  if (const Yaml choice = value["tool_choice"]) spec.tool_choice = text_of(choice);
  if (const Yaml memory = value["memory"]) {
    spec.memory_recall = integer_of(memory["recall"], 0);
    spec.memory_store = text_of(memory["store"]);
    if (spec.memory_store == "none") spec.memory_store.clear();
    spec.memory_namespace = text_of(memory["namespace"]);
    spec.memory_embedder = text_of(memory["embedder"]);
  }
  if (const Yaml output = value["output"]) {
    const auto file = project.json_files.find(path_of(entry, output["schema"]));
    if (file != project.json_files.end()) spec.output_schema = file->second.value;
  }
  if (const Yaml limits = value["limits"]) {
    spec.max_steps = integer_of(limits["steps"], spec.max_steps);
    spec.repeat_calls = integer_of(limits["repeat_calls"], spec.repeat_calls);
    spec.tool_errors = integer_of(limits["tool_errors"], spec.tool_errors);
    spec.think_tokens = integer_of(limits["think_tokens"], spec.think_tokens);
  }
  if (const Yaml invalid = value["on_invalid"]) {
    spec.repair = boolean_of(invalid["repair"], spec.repair);
    spec.repair_retries = integer_of(invalid["retries"], spec.repair_retries);
  }
  return spec;
}

std::vector<StepSpec> steps(const Yaml& list);

StepSpec step(const Yaml& value) {
  StepSpec spec;
  spec.id = text_of(value["id"]);
  const std::string_view action = step_action(value);
  using Kind = StepSpec::Kind;
  spec.kind = action == "agent" ? Kind::agent : action == "for_each" ? Kind::for_each : action == "switch" ? Kind::switch_ : action == "approval" ? Kind::approval : action == "fail" ? Kind::fail : action == "wait" ? Kind::wait : action == "procedure" ? Kind::procedure : Kind::tool;
  const Yaml subject = value[action];
  switch (spec.kind) {
    case Kind::for_each:
    case Kind::switch_: spec.subject = text_of(subject); break;
    case Kind::approval:
      spec.approval = to_json(subject);
      if (const Yaml expires = subject["expires"]) spec.approval["expires_ms"] = duration_of(expires);
      break;
    default: spec.target = text_of(subject); break;
  }
  if (const Yaml with = value["with"]) spec.with = to_json(with);
  spec.max_parallel = integer_of(value["max_parallel"], 1);
  spec.key = text_of(value["key"]);
  spec.body = steps(value["do"]);
  if (const Yaml cases = value["cases"]) {
    for (const auto& entry : cases.entries()) spec.cases.emplace_back(std::string(entry.key.text()), steps(entry.value));
  }
  spec.otherwise = steps(value["else"]);
  if (const Yaml retry = value["retry"]) {
    spec.retry_max = integer_of(retry["max"], 0);
    spec.backoff_ms = duration_of(retry["backoff"]);
  }
  spec.timeout_ms = duration_of(value["timeout"]);
  spec.vote = integer_of(value["vote"], 1);
  spec.check = expression_of(value["check"]);
  if (const Yaml on_error = value["on_error"]) spec.collect_errors = text_of(on_error["collect"]);
  return spec;
}

std::vector<StepSpec> steps(const Yaml& list) {
  std::vector<StepSpec> out;
  if (!list) return out;
  for (const auto& item : list.items()) out.push_back(step(item));
  return out;
}

ProcedureSpec procedure(const Named& entry) {
  ProcedureSpec spec;
  spec.name = entry.key.text();
  if (const Yaml inputs = entry.value["inputs"]) {
    for (const auto& item : inputs.entries()) spec.inputs.push_back(input(Named{entry.file, item.key, item.value}));
  }
  spec.steps = steps(entry.value["do"]);
  return spec;
}

void policy(PolicySpec& spec, const Yaml& value) {
  const auto append = [](std::vector<std::string>& list, const Yaml& given) {
    for (auto& text : texts_of(given)) list.push_back(std::move(text));
  };
  append(spec.deny, value["deny"]);
  append(spec.allow, value["allow"]);
  append(spec.untrusted, value["untrusted"]);
  append(spec.trusted_only, value["trusted_only"]);
  if (const Yaml egress = value["egress"]) {
    append(spec.egress_deny, egress["deny"]);
    if (egress["allow"]) append(spec.egress_allow ? *spec.egress_allow : spec.egress_allow.emplace(), egress["allow"]);
  }
  const Yaml asks = value["ask"];
  if (!asks) return;
  for (const auto& item : asks.items()) {
    AskSpec ask;
    ask.tool = text_of(item["tool"]);
    ask.when = expression_of(item["when"]);
    ask.who = texts_of(item["who"]);
    ask.expires_ms = duration_of(item["expires"]);
    ask.on_expire = text_of(item["on_expire"]);
    ask.people = integer_of(item["people"], 1);
    spec.ask.push_back(std::move(ask));
  }
}

BudgetSpec budget(const Yaml& value) {
  BudgetSpec spec;
  spec.on_exceed = text_of(value["on_exceed"], "stop");
  const Yaml run = value["run"];
  if (!run) return spec;
  const auto amount = [&](const char* key) -> std::optional<Decimal> {
    Decimal number;
    const Yaml text = run[key];
    if (!text || read_amount(text.text(), false, number)) return std::nullopt;
    return number;
  };
  if (const auto tokens = amount("tokens")) spec.tokens = std::stoll(tokens->normalised().to_string());
  if (const auto seconds = amount("seconds")) spec.seconds = seconds->to_double();
  if (const auto joules = amount("joules")) spec.joules = joules->to_double();
  spec.money = text_of(run["money"]);
  return spec;
}

TriggerSpec trigger(const Section& item) {
  TriggerSpec spec;
  spec.schedule = text_of(item.value["schedule"]);
  spec.time_zone = text_of(item.value["tz"], "UTC");
  spec.webhook = text_of(item.value["webhook"]);
  spec.secret = text_of(item.value["secret"]);
  spec.watch = path_of(item, item.value["watch"]);
  if (const Yaml inputs = item.value["inputs"]) spec.inputs = to_json(inputs);
  spec.overlap = text_of(item.value["overlap"], "skip");
  spec.missed = text_of(item.value["missed"], "once");
  return spec;
}

TestSpec test(const Section& item) {
  TestSpec spec;
  spec.name = text_of(item.value["name"]);
  if (const Yaml inputs = item.value["inputs"]) spec.inputs = to_json(inputs);
  spec.model = text_of(item.value["model"]);
  const Yaml expect = item.value["expect"];
  spec.expect_file = text_of(expect["file"]);
  spec.expect_equals = path_of(item, expect["equals"]);
  spec.expect_at_least = number_of(expect["at_least"]).value_or(1);
  spec.expect_calls = texts_of(expect["calls"]);
  spec.decisions = path_of(item, item.value["decisions"]);
  if (const Yaml also = expect["also"]) {
    for (const auto& entry : also.items()) spec.expect_also.emplace_back(text_of(entry["file"]), path_of(item, entry["equals"]));
  }
  return spec;
}

}  // namespace

Spec build_spec(const Project& project) {
  Spec spec;
  spec.path = project.path;
  spec.folder = project.folder;
  const auto first_text = [&](const char* key) {
    const auto parts = project.sections(key);
    return parts.empty() ? std::string() : std::string(parts.front().value.text());
  };
  spec.name = first_text("name");
  spec.description = first_text("description");
  for (const auto& entry : project.named("inputs")) spec.inputs.push_back(input(entry));
  for (const auto& entry : project.named("secrets")) spec.secrets.push_back(secret(entry));
  for (const auto& entry : project.named("models")) spec.models.push_back(model(entry));
  for (const auto& entry : project.named("tools")) spec.tools.push_back(tool(entry));
  for (const auto& entry : project.servers()) spec.tools.push_back(server(entry));
  for (const auto& part : project.sections("policy")) policy(spec.policy, part.value);
  for (const auto& entry : project.servers()) {
    for (const char* key : {"autoApprove", "alwaysAllow"}) {
      for (const auto& function : texts_of(entry.value[key])) spec.policy.allow.push_back(std::string(entry.key.text()) + "." + function);
    }
  }
  for (const auto& entry : project.named("agents")) spec.agents.push_back(agent(project, entry));
  for (const auto& part : project.sections("workflow")) spec.workflow = steps(part.value);
  for (const auto& entry : project.named("procedures")) spec.procedures.push_back(procedure(entry));
  for (const auto& item : project.items("triggers")) spec.triggers.push_back(trigger(item));
  for (const auto& part : project.sections("budgets")) spec.budget = budget(part.value);
  for (const auto& part : project.sections("durability")) spec.sync = text_of(part.value["sync"], "step");
  for (const auto& part : project.sections("observe")) {
    spec.otlp = text_of(part.value["otlp"]);
    spec.redact = texts_of(part.value["redact"]);
  }
  for (const auto& item : project.items("tests")) spec.tests.push_back(test(item));
  return spec;
}

}  // namespace kontor::agent
