#include "agent/spec/rules.hpp"

#include <algorithm>
#include <array>
#include <iterator>

namespace kontor::agent {
namespace {

using T = ValueType;

template <std::size_t N, std::size_t M>
constexpr std::array<KeyRule, N + M> joined(const KeyRule (&own)[N], const KeyRule (&shared)[M]) {
  std::array<KeyRule, N + M> keys{};
  std::copy(std::begin(own), std::end(own), keys.begin());
  std::copy(std::begin(shared), std::end(shared), keys.begin() + N);
  return keys;
}

constexpr KeyRule kRoot[] = {
    {"kontor", T::version, {}, {}, "Version of the file format: 1.", true},
    {"name", T::name, {}, {}, "Name of the agent or workflow; folders and labels carry it.", true},
    {"description", T::text, {}, {}, "What it does, for people."},
    {"include", T::include, {}, {}, "A file or a list of files with more sections."},
    {"inputs", T::named, "input", {}, "What a run is given."},
    {"secrets", T::named, "secret", {}, "Passwords and keys by name; their values never stand in this file."},
    {"models", T::named, "model", {}, "Models by name."},
    {"tools", T::named, "tool", {}, "Groups of tools by name; a tool is called GROUP.FUNCTION."},
    {"mcpServers", T::named, "mcp_server", {}, "Servers of the Model Context Protocol, written as other programs list them; `include: mcp.json` reads such a list."},
    {"policy", T::mapping, "policy", {}, "What agents and steps may do: deny, then ask, then allow."},
    {"agents", T::named, "agent", {}, "Agents by name; `kontor run --task` starts the first."},
    {"workflow", T::steps, {}, {}, "Steps that run in order."},
    {"procedures", T::named, "procedure", {}, "Steps under a name, for `procedure` steps."},
    {"triggers", T::list, "trigger", {}, "When `kontor serve` starts a run."},
    {"budgets", T::mapping, "budgets", {}, "Limits of cost."},
    {"durability", T::mapping, "durability", {}, "How the journal is written."},
    {"observe", T::mapping, "observe", {}, "Traces and redaction."},
    {"tests", T::list, "test", {}, "Cases for `kontor eval`."},
};
constexpr KeyRule kInput[] = {
    {"type", T::words, "string|number|integer|boolean|file|dir|list|object", {}, "Type of the value.", true},
    {"required", T::boolean, {}, "false", "A run without it is refused."},
    {"default", T::any, {}, {}, "Value when none is given."},
    {"description", T::text, {}, {}, "What it is, for people."},
};
constexpr KeyRule kSecret[] = {
    {"from", T::secret_source, {}, {}, "env:NAME or file:PATH.", true},
    {"allow_tools", T::globs, {}, {}, "Tools that may receive it."},
};
constexpr KeyRule kModel[] = {
    {"path", T::model_path, {}, {}, "GGUF or safetensors file."},
    {"endpoint", T::url, {}, {}, "OpenAI-compatible engine instead of a file."},
    {"model", T::text, {}, {}, "Name of the model at the endpoint."},
    {"api_key", T::api_key, {}, {}, "secret:NAME."},
    {"replay", T::path, {}, {}, "Tape of recorded model text, for tests."},
    {"device", T::device, {}, "auto", "Where it runs: auto, cpu, cuda (as few GPUs as hold the model), or GPUs by number as in cuda:0,1, which share the layers."},
    {"kv", T::words, "f16|q8_0", "f16", "Type of the KV cache; q8_0 takes half the memory and is a little less exact."},
    {"context", T::integer, {}, {}, "Tokens of context; what the model file says when left out.", false, 1, 16'777'216},
    {"seed", T::integer, {}, {}, "Makes sampling repeatable.", false, 0, 18446744073709551615.0},
    {"sampling", T::mapping, "sampling", {}, "How tokens are chosen; the dialect's defaults when left out."},
    {"thinking", T::mapping, "thinking", {}, "How much the model thinks and how much of it is kept."},
    {"embedding", T::mapping, "embedding", {}, "What an embedding model wants before a text; known models need none."},
};
constexpr KeyRule kSampling[] = {
    {"temperature", T::number, {}, {}, "0 takes the most likely token.", false, 0, 2},
    {"top_p", T::number, {}, {}, "Share of probability to choose from.", false, 0, 1, true},
    {"top_k", T::integer, {}, {}, "Number of tokens to choose from; 0 is all.", false, 0, 1'000'000},
    {"min_p", T::number, {}, {}, "Least probability relative to the best token.", false, 0, 1},
};
constexpr KeyRule kEmbedding[] = {
    {"query", T::text, {}, {}, "Before a question."},
    {"document", T::text, {}, {}, "Before a text that is kept."},
};
constexpr KeyRule kThinking[] = {
    {"budget", T::integer, {}, {}, "Most tokens of one thought; unlimited when left out.", false, 1, 100'000'000},
    {"keep", T::words, "none|turn|all", "turn", "Which thoughts stay in the context."},
};
constexpr KeyRule kTool[] = {
    {"use", T::text, {}, {}, "builtin.NAME, openapi, plugin or mcp.", true},
    {"effects", T::effects, {}, {}, "FUNCTION: none, idempotent or once; may only be stricter than the tool says."},
};
constexpr KeyRule kFiles[] = {
    {"use", T::text, {}, {}, "builtin.files", true},
    {"root", T::path, {}, ".", "Folder that is read."},
    {"write", T::path, {}, {}, "Folder that is written to; nothing is written when left out."},
    {"effects", T::effects, {}, {}, "FUNCTION: none, idempotent or once; may only be stricter."},
};
constexpr KeyRule kTable[] = {
    {"use", T::text, {}, {}, "builtin.table", true},
    {"root", T::path, {}, ".", "Folder that is read."},
    {"max_rows", T::integer, {}, "10000", "Most rows of a result.", false, 1, 1'000'000},
    {"timeout_ms", T::integer, {}, "10000", "Longest time of a query.", false, 1, 600'000},
    {"memory_mb", T::integer, {}, "512", "Most memory of a query.", false, 1, 65'536},
    {"effects", T::effects, {}, {}, "FUNCTION: none, idempotent or once; may only be stricter."},
};
/// How far and how long requests of a group go: builtin.http and openapi.
constexpr KeyRule kWeb[] = {
    {"private", T::boolean, {}, "false", "Whether addresses of this machine and of private networks may be reached."},
    {"plain", T::boolean, {}, "false", "Whether http is allowed beside https."},
    {"config", T::any_mapping, {}, {}, "Headers of every request to the first host; may hold {{secret:NAME}} and ${inputs.x}."},
    {"ca_file", T::path, {}, {}, "Certificates of authorities in place of the system's."},
    {"timeout_ms", T::integer, {}, "30000", "Longest time of a call.", false, 1, 600'000},
    {"max_body", T::integer, {}, "4194304", "Most bytes of an answer.", false, 1, 67'108'864},
    {"redirects", T::integer, {}, "5", "Most redirects of a call.", false, 1, 20},
    {"effects", T::effects, {}, {}, "FUNCTION: none, idempotent or once; may only be stricter."},
};
constexpr KeyRule kHttpOwn[] = {
    {"use", T::text, {}, {}, "builtin.http", true},
    {"hosts", T::texts, {}, {}, "Hosts that may be reached: a.example, *.b.example, with :PORT where it is not the usual one.", true},
};
constexpr auto kHttp = joined(kHttpOwn, kWeb);
constexpr KeyRule kMail[] = {
    {"use", T::text, {}, {}, "builtin.mail", true},
    {"from", T::text, {}, {}, "The sender: accounts@a.example, or Accounts <accounts@a.example>.", true},
    {"recipients", T::texts, {}, {}, "Who may be written to: domains (a.example, *.a.example) and addresses; needed with 'server'."},
    {"server", T::text, {}, {}, "Mail server, HOST or HOST:PORT; nothing is sent when left out."},
    {"tls", T::words, "starttls|implicit|none", "starttls", "How the connection is kept secret; none is for servers on this machine, without a password."},
    {"config", T::any_mapping, {}, {}, "user, and password as {{secret:NAME}}."},
    {"root", T::path, {}, ".", "Folder that attachments are read from."},
    {"write", T::path, {}, {}, "Folder of drafts; none are written when left out."},
    {"ca_file", T::path, {}, {}, "Certificates of authorities in place of the system's."},
    {"timeout_ms", T::integer, {}, "60000", "Longest time of sending.", false, 1, 600'000},
    {"max_bytes", T::integer, {}, "20971520", "Most bytes of texts and attachments of a message.", false, 1, 67'108'864},
    {"effects", T::effects, {}, {}, "FUNCTION: none, idempotent or once; may only be stricter."},
};
constexpr KeyRule kText[] = {
    {"use", T::text, {}, {}, "builtin.text", true},
    {"root", T::path, {}, ".", "Folder that is read."},
    {"timeout_ms", T::integer, {}, "60000", "Longest time of reading a PDF file.", false, 1, 600'000},
    {"max_output", T::integer, {}, "4194304", "Most bytes of text from a PDF file.", false, 1, 67'108'864},
    {"pdftotext", T::text, {}, {}, "The program; found by its name when left out."},
    {"effects", T::effects, {}, {}, "FUNCTION: none, idempotent or once; may only be stricter."},
};
constexpr KeyRule kShell[] = {
    {"use", T::text, {}, {}, "builtin.shell", true},
    {"commands", T::texts, {}, {}, "Programs that may run: names, or absolute paths.", true},
    {"root", T::path, {}, ".", "Folder where programs start and may read."},
    {"write", T::path, {}, {}, "Folder that programs may change; none when left out."},
    {"network", T::boolean, {}, "false", "Whether programs may reach the network."},
    {"environment", T::texts, {}, {}, "Names of variables handed on beside PATH, LANG and HOME."},
    {"timeout_ms", T::integer, {}, "30000", "Longest time of a program.", false, 1, 600'000},
    {"max_output", T::integer, {}, "1048576", "Most bytes of what it writes.", false, 1, 16'777'216},
    {"memory_mb", T::integer, {}, "2048", "Most memory of a program.", false, 1, 1'048'576},
    {"effects", T::effects, {}, {}, "FUNCTION: none, idempotent or once; may only be stricter."},
};
constexpr KeyRule kTime[] = {
    {"use", T::text, {}, {}, "builtin.time", true},
    {"zone", T::text, {}, "UTC", "Time zone when a call names none."},
    {"effects", T::effects, {}, {}, "FUNCTION: none, idempotent or once; may only be stricter."},
};
constexpr KeyRule kFacts[] = {
    {"use", T::text, {}, {}, "builtin.memory", true},
    {"namespace", T::text, {}, "default", "Which memory when a call names none."},
    {"limit", T::integer, {}, "5", "Most facts of one recall.", false, 1, 100},
    {"embedder", T::text, {}, {}, "Model that compares by meaning beside words; words alone when left out."},
    {"effects", T::effects, {}, {}, "FUNCTION: none, idempotent or once; may only be stricter."},
};
constexpr KeyRule kPlugin[] = {
    {"use", T::text, {}, {}, "plugin", true},
    {"library", T::path, {}, {}, "Shared library with the functions.", true},
    {"sha256", T::hash, {}, {}, "Pin: the library must have this SHA-256."},
    {"isolation", T::words, "process|in_process", "process", "in_process needs the pin."},
    {"config", T::any_mapping, {}, {}, "Handed to the plugin; may hold {{secret:NAME}} and ${inputs.x}."},
    {"effects", T::effects, {}, {}, "FUNCTION: none, idempotent or once; may only be stricter."},
};
constexpr KeyRule kMcp[] = {
    {"use", T::text, {}, {}, "mcp", true},
    {"command", T::command, {}, {}, "Program and arguments of the server.", true},
    {"url", T::url, {}, {}, "Address of a server on the network, in place of 'command'."},
    {"cwd", T::path, {}, {}, "Folder where 'command' starts; that of the agent file when left out."},
    {"network", T::words, "none|unchecked", {}, "Whether 'command' may reach the network; with policy.egress none when left out, since nobody sees what it connects to."},
    {"pin", T::path, {}, {}, "The server's tools/list result as it was reviewed."},
    {"only", T::plain_globs, {}, {}, "Functions that are let through."},
    {"timeout_ms", T::integer, {}, "60000", "Longest time of a call.", false, 1, 600'000},
    {"config", T::any_mapping, {}, {}, "Environment of the server, or headers of requests to 'url'; may hold {{secret:NAME}} and ${inputs.x}."},
    {"effects", T::effects, {}, {}, "FUNCTION: none, idempotent or once; may only be stricter."},
};
/// An entry of the map that other programs keep their servers in; the last four keys and `network` are ours.
constexpr KeyRule kMcpServer[] = {
    {"command", T::text, {}, {}, "Program of the server."},
    {"args", T::texts, {}, {}, "Arguments of the program."},
    {"env", T::any_mapping, {}, {}, "Environment of the program; may hold {{secret:NAME}} and ${inputs.x}."},
    {"cwd", T::path, {}, {}, "Folder where the program starts; that of the agent file when left out."},
    {"network", T::words, "none|unchecked", {}, "Whether the program may reach the network; with policy.egress none when left out, since nobody sees what it connects to."},
    {"url", T::url, {}, {}, "Address of a server on the network, in place of 'command'."},
    {"headers", T::any_mapping, {}, {}, "Headers of requests to 'url'; may hold {{secret:NAME}} and ${inputs.x}."},
    {"type", T::words, "stdio|http|streamable-http|streamableHttp|streamable_http", {}, "Transport; what 'command' or 'url' says when left out."},
    {"disabled", T::boolean, {}, "false", "The server is left out."},
    {"description", T::text, {}, {}, "What it is, for people."},
    {"timeout", T::number, {}, {}, "Longest time of a call: seconds up to 600, milliseconds from 10000.", false, 0, 600'000, true},
    {"autoApprove", T::plain_globs, {}, {}, "Functions that do not ask, as rules of 'policy.allow'; what 'policy' denies or asks stays so."},
    {"alwaysAllow", T::plain_globs, {}, {}, "Another name of 'autoApprove'."},
    {"pin", T::path, {}, {}, "The server's tools/list result as it was reviewed."},
    {"only", T::plain_globs, {}, {}, "Functions that are let through."},
    {"timeout_ms", T::integer, {}, "60000", "Longest time of a call.", false, 1, 600'000},
    {"effects", T::effects, {}, {}, "FUNCTION: none, idempotent or once; may only be stricter."},
};
constexpr KeyRule kOpenApiOwn[] = {
    {"use", T::text, {}, {}, "openapi", true},
    {"document", T::path, {}, {}, "OpenAPI document (3.0 or 3.1), JSON or YAML.", true},
    {"hosts", T::texts, {}, {}, "Hosts that may be reached: a.example, *.b.example, with :PORT where it is not the usual one.", true},
    {"server", T::url, {}, {}, "Address that paths are appended to; the document's first server when left out."},
    {"only", T::plain_globs, {}, {}, "Operations that are let through."},
};
constexpr auto kOpenApi = joined(kOpenApiOwn, kWeb);
constexpr KeyRule kPolicy[] = {
    {"deny", T::globs, {}, {}, "Never called."},
    {"ask", T::list, "ask", {}, "A person is asked."},
    {"allow", T::globs, {}, {}, "Called without asking."},
    {"untrusted", T::globs, {}, {}, "Tools whose results are untrusted."},
    {"trusted_only", T::globs, {}, {}, "Refused when influenced by untrusted text."},
    {"egress", T::mapping, "egress", {}, "Hosts that tools, plugins, MCP servers and models may be reached at."},
};
constexpr KeyRule kEgress[] = {
    {"deny", T::hosts, {}, {}, "Never reached: a.example, *.a.example, 10.0.0.0/8, each with :PORT for that port alone."},
    {"allow", T::hosts, {}, {}, "Nothing else is reached; every host that is not denied when left out."},
};
constexpr KeyRule kAsk[] = {
    {"tool", T::text, {}, {}, "Tool or glob.", true},
    {"when", T::condition, {}, {}, "Asks only when this is true; knows args and inputs."},
    {"who", T::texts, {}, {}, "Who may answer."},
    {"people", T::integer, {}, "1", "How many different people must approve.", false, 1, 10},
    {"expires", T::duration, {}, {}, "How long the question stays open."},
    {"on_expire", T::on_expire, {}, "deny", "deny, stop or escalate(WHO)."},
};
constexpr KeyRule kAgent[] = {
    {"model", T::text, {}, {}, "Name of a model.", true},
    {"role", T::text, {}, {}, "Who the agent is."},
    {"instruction", T::template_text, {}, {}, "What the agent does.", true},
    {"tools", T::globs, {}, {}, "Tools it may call."},
    {"sub_agents", T::names, {}, {}, "Agents it may call; they return."},
    {"handoffs", T::names, {}, {}, "Agents it may pass the run to."},
    {"tool_choice", T::text, {}, "auto", "auto; required: it calls something before it answers; none: it calls nothing; or the name of what it calls first."},
    {"memory", T::mapping, "memory", {}, "What it remembers."},
    {"output", T::mapping, "output", {}, "Form of its answer."},
    {"limits", T::mapping, "limits", {}, "When it is stopped."},
    {"on_invalid", T::mapping, "on_invalid", {}, "What happens to malformed output."},
};
constexpr KeyRule kMemory[] = {
    {"recall", T::integer, {}, "0", "Records recalled before each turn.", false, 0, 10'000},
    {"store", T::words, "facts|none", "none", "What is stored after a run."},
    {"namespace", T::template_text, {}, {}, "Keeps memories apart."},
    {"embedder", T::text, {}, {}, "Model that compares by meaning beside words; words alone when left out."},
};
constexpr KeyRule kOutput[] = {
    {"schema", T::path, {}, {}, "JSON Schema file, enforced while decoding.", true},
};
constexpr KeyRule kLimits[] = {
    {"steps", T::integer, {}, "16", "Turns of one call.", false, 1, 1'000'000},
    {"repeat_calls", T::integer, {}, "3", "Identical calls in a row.", false, 1, 1'000'000},
    {"tool_errors", T::integer, {}, "3", "Failed calls.", false, 0, 1'000'000},
    {"think_tokens", T::integer, {}, {}, "Tokens of one thought.", false, 1, 100'000'000},
};
constexpr KeyRule kOnInvalid[] = {
    {"repair", T::boolean, {}, "true", "The model sees the error and may try again."},
    {"retries", T::integer, {}, "2", "How often.", false, 0, 1'000},
};

// Steps: `id` and one action, and what belongs to it.
constexpr KeyRule kId{"id", T::id, {}, {}, "Name in expressions: steps.ID."};
constexpr KeyRule kWith{"with", T::any_mapping, {}, {}, "Arguments; texts may hold ${...}."};
constexpr KeyRule kVote{"vote", T::integer, {}, "1", "Branches of every turn; the call or answer of most of them counts.", false, 1, 32};
constexpr KeyRule kRetry{"retry", T::mapping, "retry", {}, "How often a failed step is tried again."};
constexpr KeyRule kTimeout{"timeout", T::duration, {}, {}, "Longest time of one try."};
constexpr KeyRule kCheck{"check", T::check, {}, {}, "Must be true for the result."};
constexpr KeyRule kOnError{"on_error", T::mapping, "on_error", {}, "Errors do not stop the workflow: of a loop those of single items."};

constexpr KeyRule kToolStep[] = {kId, {"tool", T::text, {}, {}, "Tool to call.", true}, kWith, kRetry, kTimeout, kCheck, kOnError};
constexpr KeyRule kAgentStep[] = {kId, {"agent", T::text, {}, {}, "Agent to call.", true}, kWith, kVote, kRetry, kTimeout, kCheck, kOnError};
constexpr KeyRule kLoopStep[] = {
    kId,
    {"for_each", T::template_text, {}, {}, "List to go through: ${...}.", true},
    {"do", T::steps, {}, {}, "Steps for each item; they know `item`.", true},
    {"max_parallel", T::integer, {}, "1", "Items at the same time.", false, 1, 10'000},
    {"key", T::template_text, {}, {}, "Names an item, so that a resumed run does not repeat it."},
    kOnError, kRetry, kTimeout, kCheck,
};
constexpr KeyRule kSwitchStep[] = {
    kId,
    {"switch", T::template_text, {}, {}, "Value to decide by: ${...}.", true},
    {"cases", T::cases, {}, {}, "Steps for each value.", true},
    {"else", T::steps, {}, {}, "Steps for any other value."},
    kTimeout, kOnError,
};
constexpr KeyRule kApprovalStep[] = {kId, {"approval", T::mapping, "approval", {}, "Waits for a person.", true}, kTimeout};
constexpr KeyRule kFailStep[] = {kId, {"fail", T::template_text, {}, {}, "Ends the run with this error.", true}};
constexpr KeyRule kWaitStep[] = {kId, {"wait", T::template_text, {}, {}, "How long (90s, 2h) or until when (2026-11-24T09:30:00Z).", true}};
constexpr KeyRule kProcedureStep[] = {kId, {"procedure", T::text, {}, {}, "Procedure to run.", true}, kWith, kRetry, kTimeout, kCheck, kOnError};
constexpr KeyRule kProcedure[] = {
    {"inputs", T::named, "input", {}, "What it is given; its steps see nothing else."},
    {"do", T::steps, {}, {}, "Its steps; the result is that of the last one that gives one.", true},
};
constexpr KeyRule kRetryKeys[] = {
    {"max", T::integer, {}, "0", "Tries after the first.", false, 0, 1'000},
    {"backoff", T::duration, {}, {}, "Pause before the next try; doubles."},
};
constexpr KeyRule kOnErrorKeys[] = {{"collect", T::id, {}, {}, "Errors are collected in steps.ID.NAME.", true}};
constexpr KeyRule kApproval[] = {
    {"who", T::texts, {}, {}, "Who may answer."},
    {"show", T::names, {}, {}, "Steps whose results are shown."},
    {"choices", T::texts, {}, "[approve, reject]", "Possible answers."},
    {"message", T::template_text, {}, {}, "What the person is asked."},
    {"people", T::integer, {}, "1", "How many different people must approve.", false, 1, 10},
    {"expires", T::duration, {}, {}, "How long the question stays open."},
    {"on_expire", T::on_expire, {}, "deny", "deny, stop or escalate(WHO)."},
};
constexpr KeyRule kTrigger[] = {
    {"schedule", T::cron, {}, {}, "Five cron fields."},
    {"tz", T::zone, {}, "UTC", "Time zone of the schedule."},
    {"webhook", T::webhook_path, {}, {}, "Path that is posted to."},
    {"secret", T::secret_name, {}, {}, "Secret that signs webhook calls."},
    {"watch", T::path, {}, {}, "Folder whose changes start a run."},
    {"inputs", T::inputs, {}, {}, "Inputs of the started run."},
    {"overlap", T::words, "skip|queue", "skip", "While its last run still works: leave this one out, or start it afterwards."},
    {"missed", T::words, "once|skip", "once", "Times that passed while nothing listened: one run for all of them, or none."},
};
constexpr KeyRule kBudgets[] = {
    {"run", T::mapping, "run_budget", {}, "Limits of one run."},
    {"on_exceed", T::words, "stop", "stop", "What happens at a limit."},
};
constexpr KeyRule kRunBudget[] = {
    {"tokens", T::amount, {}, {}, "Tokens, such as 400k."},
    {"seconds", T::amount, {}, {}, "Seconds."},
    {"joules", T::amount, {}, {}, "Energy."},
    {"money", T::money, {}, {}, "Money, such as 0.50 EUR."},
};
constexpr KeyRule kDurability[] = {{"sync", T::words, "step|batch|off", "step", "When the journal is forced to disk: for each step, or (batch, off) only when its log is moved."}};
constexpr KeyRule kObserve[] = {
    {"otlp", T::url, {}, {}, "OpenTelemetry collector."},
    {"redact", T::texts, {}, {}, "Fields whose values are not logged."},
};
constexpr KeyRule kTest[] = {
    {"name", T::text, {}, {}, "Name of the case.", true},
    {"inputs", T::inputs, {}, {}, "Inputs of the run."},
    {"model", T::text, {}, {}, "Model that replaces every agent's model."},
    {"decisions", T::path, {}, {}, "Answers of people on a simulated clock, as JSON lines."},
    {"expect", T::mapping, "expect", {}, "What must come out.", true},
};
constexpr KeyRule kExpect[] = {
    {"file", T::path, {}, {}, "File the run writes."},
    {"equals", T::path, {}, {}, "File it must be equal to."},
    {"at_least", T::number, {}, "1", "Share of the rows of a CSV file that must be right.", false, 0, 1},
    {"calls", T::names, {}, {}, "Tools that must be called, in order."},
    {"also", T::list, "expect_file", {}, "More files."},
};
constexpr KeyRule kExpectFile[] = {
    {"file", T::path, {}, {}, "File the run writes.", true},
    {"equals", T::path, {}, {}, "File it must be equal to.", true},
};

constexpr MapRule kRules[] = {
    {"root", "An agent file of Kontor.", kRoot},
    {"input", "One input.", kInput},
    {"secret", "One secret.", kSecret},
    {"model", "One model: exactly one of path, endpoint and replay.", kModel},
    {"sampling", "Sampling.", kSampling},
    {"thinking", "Thinking.", kThinking},
    {"embedding", "Texts of an embedding model.", kEmbedding},
    {"tool", "One group of tools.", kTool},
    {"tool.builtin.ask_user", "Questions to a person.", kTool},
    {"tool.builtin.files", "Files below two folders.", kFiles},
    {"tool.builtin.table", "SQL over CSV and JSON files, read-only.", kTable},
    {"tool.builtin.math", "Exact arithmetic.", kTool},
    {"tool.builtin.http", "GET and POST to allowed hosts.", kHttp},
    {"tool.builtin.mail", "Drafts of mail, and sending it.", kMail},
    {"tool.builtin.text", "Search, differences, text of PDF files.", kText},
    {"tool.builtin.shell", "Allowed programs, confined.", kShell},
    {"tool.builtin.time", "Dates and times.", kTime},
    {"tool.builtin.memory", "Vector memory.", kFacts},
    {"tool.plugin", "A plugin library.", kPlugin},
    {"tool.mcp", "A server that speaks the Model Context Protocol.", kMcp},
    {"mcp_server", "One server: exactly one of command and url.", kMcpServer},
    {"tool.openapi", "Operations of an OpenAPI document.", kOpenApi},
    {"policy", "Policy.", kPolicy},
    {"egress", "Hosts that may be reached.", kEgress},
    {"ask", "One rule that asks.", kAsk},
    {"agent", "One agent.", kAgent},
    {"memory", "Memory of an agent.", kMemory},
    {"output", "Answer of an agent.", kOutput},
    {"limits", "Limits of an agent.", kLimits},
    {"on_invalid", "Malformed output.", kOnInvalid},
    {"step.tool", "Calls a tool.", kToolStep},
    {"step.agent", "Calls an agent.", kAgentStep},
    {"step.for_each", "Runs steps for each item of a list.", kLoopStep},
    {"step.switch", "Chooses steps by a value.", kSwitchStep},
    {"step.approval", "Waits for a person.", kApprovalStep},
    {"step.fail", "Ends the run with an error.", kFailStep},
    {"step.wait", "Waits, also when the process ends meanwhile.", kWaitStep},
    {"step.procedure", "Runs the steps of a procedure.", kProcedureStep},
    {"procedure", "Steps under a name.", kProcedure},
    {"retry", "Retries of a step.", kRetryKeys},
    {"on_error", "Errors of a step.", kOnErrorKeys},
    {"approval", "A question to a person.", kApproval},
    {"trigger", "Exactly one of schedule, webhook and watch.", kTrigger},
    {"budgets", "Budgets.", kBudgets},
    {"run_budget", "Limits of one run.", kRunBudget},
    {"durability", "Durability.", kDurability},
    {"observe", "Observability.", kObserve},
    {"test", "One test.", kTest},
    {"expect", "file with equals, or calls.", kExpect},
    {"expect_file", "One more file.", kExpectFile},
};

}  // namespace

const KeyRule* MapRule::find(std::string_view key) const {
  for (const auto& candidate : keys) {
    if (candidate.key == key) return &candidate;
  }
  return nullptr;
}

const MapRule* find_rule(std::string_view name) {
  for (const auto& candidate : kRules) {
    if (candidate.name == name) return &candidate;
  }
  return nullptr;
}

const MapRule& rule(std::string_view name) {
  const MapRule* found = find_rule(name);
  return found ? *found : kRules[0];  // names in the table itself are checked by a test
}

std::span<const MapRule> all_rules() { return kRules; }

}  // namespace kontor::agent
