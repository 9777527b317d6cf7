#include "agent/cli/mcp_offer.hpp"

#include "agent/assembly.hpp"
#include "agent/cli/run_world.hpp"
#include "agent/tool_gate.hpp"
#include "plugins/host/loader.hpp"
#include "plugins/host/plugin_tool.hpp"
#include "tools/mcp/content.hpp"
#include "tools/talking_tool.hpp"

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <map>
#include <mutex>

namespace kontor::agent::cli {
namespace {

using tools::mcp::Conversation;
using tools::mcp::Reply;
using tools::mcp::RpcError;

constexpr const char* kTask = "task";

RpcError invalid(const std::string& message) { return {tools::mcp::kInvalidParams, message}; }

/// Names of tools are made of letters, digits, '_', '-' and dots.
std::string tool_name(std::string text) {
  for (char& c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.';
    if (!plain) c = '_';
  }
  return text.substr(0, 64);
}

Json schema_of(const InputSpec& input) {
  const std::string& type = input.type;
  Json schema{{"type", type == "list" ? "array" : type == "file" || type == "dir" ? "string" : type}};
  std::string about = input.description;
  if (type == "file" || type == "dir") about += (about.empty() ? "" : " ") + std::string(type == "dir" ? "(A folder" : "(A file") + " below the agent file's own folder.)";
  if (!about.empty()) schema["description"] = about;
  if (input.default_value) schema["default"] = *input.default_value;
  return schema;
}

Json input_schema(const Spec& spec, bool with_task) {
  Json properties = Json::object(), required = Json::array();
  if (with_task) {
    properties[kTask] = Json{{"type", "string"}, {"description", "What to do."}};
    required.push_back(kTask);
  }
  for (const auto& input : spec.inputs) {
    properties[input.name] = schema_of(input);
    if (input.required && !input.default_value) required.push_back(input.name);
  }
  Json schema{{"type", "object"}, {"properties", std::move(properties)}, {"additionalProperties", false}};
  if (!required.empty()) schema["required"] = std::move(required);
  return schema;
}

/// A caller may name files of this agent, and no others.
Result<void> check_paths(const Spec& spec, const Json& given) {
  namespace fs = std::filesystem;
  for (const auto& input : spec.inputs) {
    if ((input.type != "file" && input.type != "dir") || !given.contains(input.name) || !given.at(input.name).is_string()) continue;
    std::error_code code;
    const fs::path folder = fs::canonical(spec.folder, code), path = fs::weakly_canonical(folder / given.at(input.name).get<std::string>(), code);
    const fs::path inside = path.lexically_relative(folder);
    if (inside.empty() || *inside.begin() == "..") return fail(Errc::denied, "input '" + input.name + "' is outside of the folder of the agent", "path");
  }
  return {};
}

/// A one-line note for what happens in a run.
std::string note_of(const RunEvent& event) {
  const auto text = [&](const char* key) { return event.data.contains(key) && event.data.at(key).is_string() ? event.data.at(key).get<std::string>() : std::string(); };
  if (event.type == "step_started") return event.step + ": " + text("target");
  if (event.type == "call") return event.step + ": calls " + text("tool");
  if (event.type == "model_loaded") return "model " + text("name") + " is ready";
  if (event.type == "step_finished") return event.step + ": done";
  return {};
}

ApprovalAnswer ask_client(Conversation& conversation, const PendingItem& item) {
  Json choices = Json::array();
  for (const auto& choice : item.choices) choices.push_back(choice);
  const bool chooses = !choices.empty(), free = item.is_question && !chooses;
  if (!chooses) choices = Json::array({"approve", "reject"});
  const std::string message = item.is_question ? item.reason : (item.tool.empty() ? "A step asks for a decision (" + item.call + "): " : "May " + item.tool + " be called? ") + item.reason + "\n" + item.arguments.dump(2, ' ', false, Json::error_handler_t::replace);
  const Json field = free ? Json{{"type", "string"}, {"minLength", 1}, {"maxLength", 10'000}} : Json{{"type", "string"}, {"enum", choices}};
  const Json form{{"type", "object"}, {"properties", Json{{"decision", field}}}, {"required", Json::array({"decision"})}};
  const Json question{{"method", "elicitation/create"}, {"params", Json{{"mode", "form"}, {"message", message.substr(0, 8000)}, {"requestedSchema", form}}}};
  const auto answers = conversation.ask(Json{{"approval", question}});
  if (!answers) return {};  // Nobody there: the run parks.
  const Json& answer = tools::mcp::object_at(*answers, "approval");
  const std::string action = tools::mcp::text_at(answer, "action"), decision = tools::mcp::text_at(tools::mcp::object_at(answer, "content"), "decision");
  const bool known = free ? !decision.empty() && decision.size() <= 10'000 : std::find(choices.begin(), choices.end(), Json(decision)) != choices.end();
  if (action == "decline") return {ApprovalAnswer::Kind::rejected, "the MCP client", {}};
  if (action != "accept" || !known) return {};
  if (item.is_question) return {ApprovalAnswer::Kind::approved, "the MCP client", decision};
  const bool yes = decision != "reject";
  return {yes ? ApprovalAnswer::Kind::approved : ApprovalAnswer::Kind::rejected, "the MCP client", chooses ? decision : std::string()};
}

/// `${` in texts that are no templates.
void escape_templates(Json& value) {
  if (value.is_string()) {
    std::string text = value.get<std::string>();
    for (auto at = text.find("${"); at != std::string::npos; at = text.find("${", at + 3)) text.insert(at, "$");
    value = text;
  } else if (value.is_structured()) {
    for (auto& member : value) escape_templates(member);
  }
}

class AgentOffer final : public tools::mcp::Offer {
 public:
  explicit AgentOffer(OfferSetup setup) : setup_(std::move(setup)) {}

  Result<void> prepare() {
    const Spec& spec = setup_.spec;
    if (setup_.agents && !spec.workflow.empty()) add_run(tool_name(spec.name), spec.description.empty() ? "Runs the workflow " + spec.name + "." : spec.description, spec, false);
    for (std::size_t i = 0; setup_.agents && spec.workflow.empty() && i < spec.agents.size(); ++i) {
      Spec one = spec;
      std::swap(one.agents[0], one.agents[i]);
      const std::string role = one.agents[0].role;
      add_run(tool_name(one.agents[0].name), (role.empty() ? "The agent " + one.agents[0].name : role) + (spec.description.empty() ? "." : ": " + spec.description), one, true);
    }
    return setup_.tools.empty() ? Result<void>() : add_tools();
  }

  Json info() const override { return Json{{"name", setup_.spec.name}, {"version", KONTOR_VERSION}}; }
  std::string instructions() const override { return setup_.spec.description; }

  Json more_capabilities() const override {
    Json capabilities = Json::object();
    for (const auto& [method, instance] : requests_) {
      if (method.starts_with("resources/")) capabilities["resources"] = Json{{"subscribe", requests_.contains("resources/subscribe")}};
      if (method.starts_with("prompts/")) capabilities["prompts"] = Json::object();
      if (method == "completion/complete") capabilities["completions"] = Json::object();
    }
    return capabilities;
  }

  Json tools() const override { return definitions_; }

  Reply call(const std::string& name, const Json& arguments, Conversation& conversation) override {
    if (const auto found = runs_.find(name); found != runs_.end()) return run(found->second, arguments, conversation);
    if (const auto found = direct_.find(name); found != direct_.end()) return call_tool(found->second, arguments, conversation);
    return invalid("there is no tool '" + name.substr(0, 128) + "'");
  }

  Reply other(const std::string& method, const Json& params, Conversation& conversation) override {
    const auto found = requests_.find(method);
    if (found == requests_.end()) return RpcError{tools::mcp::kMethodNotFound, "method '" + method + "' is not offered"};
    auto result = plugins::request_plugin(*found->second, method, params, context(conversation), talk(conversation, nullptr));
    if (!result.is_error) return result.value.is_object() ? Reply(std::move(result.value)) : Reply(RpcError{tools::mcp::kInternalError, "the plugin answered with something that is no object"});
    const std::string message = tools::mcp::text_at(result.value, "error");
    if (result.error_kind != "not_found") return RpcError{tools::mcp::kInternalError, message};
    if (method == "resources/read") return RpcError{tools::mcp::kResourceNotFound, message, Json{{"uri", tools::mcp::text_at(params, "uri")}}};
    return invalid(message);
  }

 private:
  struct Runnable {
    Spec spec;
    bool takes_task = false;
  };

  void add_run(const std::string& name, const std::string& description, const Spec& spec, bool takes_task) {
    definitions_.push_back(Json{{"name", name}, {"description", description}, {"inputSchema", input_schema(spec, takes_task)}});
    runs_[name] = {spec, takes_task};
  }

  Result<void> add_tools() {
    auto secrets = load_secrets(setup_.spec);
    if (!secrets) return secrets.error();
    auto inputs = resolve_inputs(setup_.spec, Json::object());
    inputs_ = inputs ? *inputs : Json::object();
    RegistryOptions options;
    options.state_folder = setup_.runs;
    auto egress = build_egress(setup_.spec.policy, setup_.run.airgap);
    if (!egress) return egress.error();
    options.egress = std::move(*egress);
    options.make_tools = [this](const ToolRequest& request) { return make(request); };
    options.memory = []() -> Result<memory::Store*> { return fail(Errc::unsupported, "memory is used through agents"); };
    Spec wanted = setup_.spec;
    std::erase_if(wanted.tools, [](const ToolEntry& entry) { return entry.use == "builtin.memory"; });
    auto built = build_registry(wanted, inputs_, *secrets, options);
    if (!built) return built.error();
    registry_ = std::move(*built);
    policy_ = build_policy(setup_.spec, inputs_, confidence_);
    for (const auto& glob : setup_.tools) {
      if (registry_->match({glob}).empty()) return fail(Errc::usage, "--tools " + glob + " fits no tool of the file", "unknown_tool");
    }
    for (const auto& full : registry_->match(setup_.tools)) {
      const auto& spec = registry_->find(full)->spec();
      const std::string name = setup_.short_names ? full.substr(full.find('.') + 1) : full;
      if (direct_.contains(name) || runs_.contains(name)) return fail(Errc::usage, "two tools would be called '" + name + "'", "tool_name");
      Json definition{{"name", name}, {"description", spec.description}, {"inputSchema", spec.parameters},
                      {"annotations", Json{{"readOnlyHint", spec.effect == tools::Effect::none}, {"idempotentHint", spec.effect != tools::Effect::once}}}};
      definitions_.push_back(std::move(definition));
      direct_[name] = full;
    }
    return {};
  }

  /// As for a run; plugins are remembered for the requests that they answer.
  Result<std::vector<std::shared_ptr<tools::Tool>>> make(const ToolRequest& request) {
    if (request.entry->use != "plugin") return make_tools(request);
    auto plugin = load_plugin_of(request);
    if (!plugin) return plugin.error();
    for (const auto& method : plugin->instance->declaration().requests) requests_.emplace(method, plugin->instance);
    return std::move(plugin->tools);
  }

  tools::CallContext context(Conversation& conversation) {
    tools::CallContext context;
    context.run_id = "mcp";
    context.call_id = std::to_string(++calls_);
    context.stop = conversation.stop();
    context.progress = [&conversation](double fraction, const std::string& note) { conversation.progress(fraction, note); };
    return context;
  }

  static tools::Talk talk(Conversation& conversation, Json* content) {
    tools::Talk talk;
    talk.message = [&conversation](const std::string& level, const Json& data) { conversation.log(level, data); };
    talk.ask = [&conversation](const Json& questions) { return conversation.ask(questions); };
    if (content) talk.content = [content](Json blocks) { *content = std::move(blocks); };
    return talk;
  }

  Reply call_tool(const std::string& full, const Json& arguments, Conversation& conversation) {
    tools::Tool* tool = registry_->find(full);
    if (auto problem = registry_->check_arguments(full, arguments)) return invalid(*problem);
    // What changes something is done once, journaled and approved like everything else that does.
    if (tool->spec().effect != tools::Effect::none || tool->spec().asks_person) return run_tool(full, arguments, conversation);
    tools::Decision decision;
    {
      const std::lock_guard lock(policy_mutex_);
      decision = tools::decide(policy_, tool->spec(), arguments, tools::Labels{.untrusted = true});
    }
    if (decision.verdict == tools::Decision::Verdict::deny) return tools::mcp::call_result_of(tools::ToolResult::error("denied", "not allowed: " + decision.rule), nullptr);
    if (decision.verdict == tools::Decision::Verdict::ask) {
      PendingItem item;
      item.tool = full, item.reason = decision.rule, item.arguments = arguments;
      const auto answer = ask_client(conversation, item);
      if (answer.kind != ApprovalAnswer::Kind::approved) return tools::mcp::call_result_of(tools::ToolResult::error("denied", "not approved: " + decision.rule), nullptr);
    }
    Json content = nullptr;
    tools::ToolResult result;
    if (auto* talking = dynamic_cast<tools::TalkingTool*>(tool)) result = talking->talk(arguments, context(conversation), talk(conversation, &content));
    else result = registry_->call(full, arguments, context(conversation));
    return tools::mcp::call_result_of(result, result.is_error ? Json() : content);
  }

  Reply run_tool(const std::string& full, const Json& arguments, Conversation& conversation) {
    Spec one = setup_.spec;
    StepSpec step;
    step.id = "call";
    step.target = full;
    step.with = arguments;
    escape_templates(step.with);
    one.workflow = {std::move(step)};
    return execute(one, inputs_, {}, conversation);
  }

  Reply run(const Runnable& runnable, const Json& arguments, Conversation& conversation) {
    Json given = arguments;
    RunOptions options = setup_.run;
    if (runnable.takes_task) {
      if (!given.contains(kTask) || !given.at(kTask).is_string()) return invalid("'task' is missing");
      options.task = given.at(kTask).get<std::string>();
      given.erase(kTask);
    }
    if (auto inside = check_paths(runnable.spec, given); !inside) return invalid(inside.error().message);
    auto inputs = resolve_inputs(runnable.spec, given);
    if (!inputs) return invalid(inputs.error().message);
    return execute(runnable.spec, *inputs, options.task, conversation);
  }

  Reply execute(const Spec& spec, const Json& inputs, const std::string& task, Conversation& conversation) {
    auto journal = Journal::open(setup_.runs);
    if (!journal) return RpcError{tools::mcp::kInternalError, journal.error().message};
    RunOptions options = setup_.run;
    options.task = task;
    RunWorld world;
    world.make_tools = make_tools;
    world.open_model = open_model_;
    world.stop = conversation.stop();
    world.sink = [&](const RunEvent& event) {
      if (const std::string note = note_of(event); !note.empty()) conversation.progress(-1, note);
    };
    world.approver = [&](const PendingItem& item) { return ask_client(conversation, item); };
    auto report = start_run(**journal, spec, inputs, options, world);
    if (!report) return tools::mcp::call_result_of(tools::ToolResult::error("failed", report.error().describe()), nullptr);
    if (report->status == "done") return tools::mcp::call_result_of(tools::ToolResult::ok(Json{{"run", report->id}, {"status", "done"}, {"result", report->result}}), nullptr);
    std::string text = "run " + report->id + " is " + report->status + (report->note.empty() ? "" : ": " + report->note);
    if (report->status == "parked") text += "; decide with: kontor runs approve " + report->id;
    return tools::mcp::call_result_of(tools::ToolResult::error(report->status, text), nullptr);
  }

  const OfferSetup setup_;
  Json definitions_ = Json::array();
  std::map<std::string, Runnable> runs_;
  std::map<std::string, std::string> direct_;      ///< Offered name -> name in the registry.
  std::map<std::string, std::shared_ptr<plugins::Instance>> requests_;
  Json inputs_ = Json::object();
  std::shared_ptr<tools::Registry> registry_;
  std::shared_ptr<std::map<std::string, double>> confidence_ = std::make_shared<std::map<std::string, double>>();
  std::mutex policy_mutex_;
  const ModelOpener open_model_ = make_model_opener();  ///< Runs share engines.
  tools::Policy policy_;
  std::atomic<std::int64_t> calls_{0};
};

}  // namespace

Result<std::unique_ptr<tools::mcp::Offer>> make_offer(OfferSetup setup) {
  auto offer = std::make_unique<AgentOffer>(std::move(setup));
  if (auto ready = offer->prepare(); !ready) return ready.error();
  return std::unique_ptr<tools::mcp::Offer>(std::move(offer));
}

}  // namespace kontor::agent::cli
