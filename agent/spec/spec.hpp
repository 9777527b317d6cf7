#pragma once
// A checked agent file as data. Strings that may hold `${...}` are kept as written and evaluated by the runtime.

#include "agent/spec/diagnostic.hpp"
#include "agent/spec/expression.hpp"
#include "base/json.hpp"
#include "tools/egress.hpp"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace kontor::agent {

struct InputSpec {
  std::string name;
  std::string type;                        ///< string number integer boolean file dir list object
  bool required = false;
  std::optional<Json> default_value;
  std::string description;
};

struct SecretSpec {
  std::string name;
  std::string from;                        ///< env:NAME or file:PATH
  std::vector<std::string> allow_tools;
};

struct ModelSpec {
  std::string name;
  std::string path;                        ///< Resolved against the file's folder.
  std::string endpoint, endpoint_model, api_key_secret;
  std::string api_key;                     ///< The secret's value: only in the copy that a model is opened with.
  tools::Egress egress;                    ///< What the endpoint may be: only in that copy, too.
  bool embeds = false;                     ///< Opened to embed texts: only in that copy, too.
  std::optional<std::string> query_prefix, document_prefix;  ///< What embedding models want before a text.
  std::string replay;                      ///< Tape, resolved.
  std::string device = "auto";
  std::string kv = "f16";  ///< Type of the KV cache.
  std::int64_t context = 0;                ///< 0: what the model file says.
  std::optional<std::uint64_t> seed;
  std::optional<double> temperature, top_p, min_p;
  std::optional<std::int64_t> top_k;
  std::int64_t think_budget = 0;           ///< 0: unlimited.
  std::string think_keep = "turn";         ///< none | turn | all
};

struct ToolEntry {
  std::string name;                        ///< Group: "files", "erp".
  std::string use;                         ///< builtin.files, plugin, mcp, ...
  Json settings = Json::object();          ///< Every other key as written; paths resolved (root, write, library, pin).
  std::map<std::string, std::string> effects;
};

struct AskSpec {
  std::string tool;
  std::optional<Expression> when;
  std::vector<std::string> who;
  std::int64_t expires_ms = 0;
  std::string on_expire;
  std::int64_t people = 1;
};

struct PolicySpec {
  std::vector<std::string> deny, allow, untrusted, trusted_only;
  std::vector<AskSpec> ask;
  std::vector<std::string> egress_deny;    ///< Hosts, checked.
  std::optional<std::vector<std::string>> egress_allow;
};

struct AgentSpec {
  std::string name;
  std::string model;
  std::string role;
  std::string instruction;                 ///< May hold `${...}`.
  std::vector<std::string> tools;          ///< Names and globs.
  std::vector<std::string> sub_agents, handoffs;
  std::string tool_choice = "auto";        ///< auto, required, none, or the name of what it calls first.
  std::int64_t memory_recall = 0;
  std::string memory_store;                ///< "" or "facts"
  std::string memory_namespace;            ///< May hold `${...}`.
  std::string memory_embedder;             ///< Model whose vectors are compared beside words; "": words only.
  std::optional<Json> output_schema;
  std::int64_t max_steps = 16, repeat_calls = 3, tool_errors = 3, think_tokens = 0;
  bool repair = true;
  std::int64_t repair_retries = 2;
};

struct StepSpec {
  enum class Kind { tool, agent, for_each, switch_, approval, fail, wait, procedure } kind = Kind::tool;
  std::string id;                          ///< "" when not given; the runtime then uses its place ("3", "3.1").
  std::string target;                      ///< Tool, agent or procedure name; text of `fail` and `wait`.
  Json with = Json::object();              ///< Templates inside strings.
  std::string subject;                     ///< for_each / switch: the expression, with braces as written.
  std::int64_t max_parallel = 1;
  std::string key;                         ///< Idempotency scope, a template.
  std::vector<StepSpec> body;              ///< for_each: do.
  std::vector<std::pair<std::string, std::vector<StepSpec>>> cases;
  std::vector<StepSpec> otherwise;         ///< switch: else.
  Json approval = nullptr;                 ///< {who, show, choices, ...}
  std::int64_t vote = 1;                   ///< agent: branches of every turn.
  std::int64_t retry_max = 0, backoff_ms = 0, timeout_ms = 0;
  std::optional<Expression> check;
  std::string collect_errors;              ///< on_error: {collect: NAME}
};

/// Steps under a name, called by `procedure` steps with inputs of their own.
struct ProcedureSpec {
  std::string name;
  std::vector<InputSpec> inputs;
  std::vector<StepSpec> steps;
};

struct TestSpec {
  std::string name;
  Json inputs = Json::object();            ///< Templates not allowed; paths relative to the file.
  std::string model;                       ///< Model name that replaces every agent's model; "" keeps them.
  std::string expect_file, expect_equals;  ///< expect.file relative to the write folder, equals resolved.
  double expect_at_least = 1;              ///< Share of the rows of a CSV file that must be right.
  std::vector<std::string> expect_calls;
  std::string decisions;                   ///< Script of people's answers on a simulated clock, resolved; "": none.
  /// More files: relative to the write folder, and what each must be equal to.
  std::vector<std::pair<std::string, std::string>> expect_also;
};

/// What starts a run in `kontor serve`: exactly one of schedule, webhook and watch.
struct TriggerSpec {
  std::string schedule;                    ///< Five cron fields, checked.
  std::string time_zone = "UTC";           ///< IANA name.
  std::string webhook, secret;             ///< Path that is posted to, and the name of its secret.
  std::string watch;                       ///< Folder, resolved.
  Json inputs = Json::object();
  std::string overlap = "skip";            ///< skip | queue: what happens while its last run still works.
  std::string missed = "once";             ///< skip | once: what happens to times that passed while nothing listened.
};

struct BudgetSpec {
  std::optional<std::int64_t> tokens;
  std::optional<double> seconds, joules;
  std::string money;                       ///< "0.50 EUR" or ""
  std::string on_exceed = "stop";
};

struct Spec {
  std::string path;                        ///< The file as given; `folder` is its directory, absolute.
  std::string folder;
  std::string text;                        ///< Bytes it was read from; runs resume on them.
  std::string name, description;
  std::vector<InputSpec> inputs;
  std::vector<SecretSpec> secrets;
  std::vector<ModelSpec> models;
  std::vector<ToolEntry> tools;
  PolicySpec policy;
  std::vector<AgentSpec> agents;           ///< In the order of the file; the first is the one `--task` starts.
  std::vector<StepSpec> workflow;
  std::vector<ProcedureSpec> procedures;
  BudgetSpec budget;
  std::string sync = "step";               ///< durability.sync: step | batch | off
  std::string otlp;                        ///< Address of a collector, or "".
  std::vector<std::string> redact;
  std::vector<TriggerSpec> triggers;
  std::vector<TestSpec> tests;
};

struct Checked {
  std::vector<Diagnostic> diagnostics;     ///< Empty: the file is fine and `spec` is filled.
  std::optional<Spec> spec;
};

/// Reads and checks a file. Everything wrong with it is a diagnostic; nothing is thrown.
Checked check_file(const std::string& path);
/// The same for bytes at hand; paths are resolved against `folder`. Used by `runs resume`.
Checked check_text(const std::string& text, const std::string& path, const std::string& folder);

}  // namespace kontor::agent
