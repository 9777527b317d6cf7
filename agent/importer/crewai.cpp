// agents.yaml and tasks.yaml of CrewAI: each task becomes a step of a workflow, in the order of the file.

#include "agent/importer/formats.hpp"
#include "agent/importer/placeholders.hpp"
#include "agent/spec/text_tools.hpp"

#include <algorithm>

namespace kontor::agent {
namespace {

class Reader {
 public:
  explicit Reader(Draft& draft) : draft_(draft) {}

  Result<void> read(const ForeignFile& agents, const ForeignFile* tasks) {
    const auto entries = agents.root().entries();
    if (entries.empty()) return fail(Errc::usage, "there are no agents in it", "foreign_file", agents.name + ":1:1");
    draft_.name = "crew";
    for (const auto& entry : entries) agent(agents, entry);
    if (draft_.agents.empty()) return fail(Errc::usage, "there are no agents in it", "foreign_file", agents.name + ":1:1");
    if (tasks) this->tasks(*tasks);
    return {};
  }

 private:
  static std::string trimmed(std::string text) {
    while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
    return text;
  }
  /// "{topic}" becomes an input; a run without it is refused, as a crew is.
  std::string with_inputs(const std::string& text) {
    return with_braces(trimmed(text), [&](const std::string& name) { return draft_.input(name, Json{{"type", "string"}, {"required", true}}); });
  }
  static bool has_braces(const std::string& text) {
    bool any = false;
    with_braces(text, [&](const std::string& name) {
      any = true;
      return name;
    });
    return any;
  }

  std::string model(const std::optional<std::string>& llm) {
    const std::string was = llm.value_or("");
    const auto known = models_.find(was);
    if (known != models_.end()) return known->second;
    return models_[was] = draft_.model(was.empty() ? "r1" : was.substr(was.rfind('/') + 1), was);
  }

  void agent(const ForeignFile& file, const Yaml::Entry& entry) {
    const std::string name(entry.key.text());
    if (!entry.value.is_mapping()) return draft_.unsupported(file, entry.key.offset(), "the agent '" + shown_text(name) + "' is not a mapping");
    Fields fields(draft_, file, entry.value, "the agent '" + shown_text(name) + "'");
    Json agent{{"model", model(fields.text("llm"))}};
    const std::string role = trimmed(fields.text("role").value_or("")), goal = with_inputs(fields.text("goal").value_or("")), backstory = with_inputs(fields.text("backstory").value_or(""));
    std::string instruction;
    // A role is a fixed text; one with placeholders belongs to the prompt.
    if (has_braces(role)) instruction = "Your role: " + with_inputs(role);
    else if (!role.empty()) agent["role"] = role;
    if (!goal.empty()) instruction += (instruction.empty() ? "" : "\n\n") + std::string("Your goal: ") + goal;
    if (!backstory.empty()) instruction += (instruction.empty() ? "" : "\n\n") + backstory;
    agent["instruction"] = instruction.empty() ? "Do the task." : instruction;
    if (const auto steps = fields.whole("max_iter"); steps && *steps > 0) agent["limits"] = Json{{"steps", *steps}};
    tools(file, fields);
    for (const char* key : {"verbose", "cache", "max_rpm", "use_system_prompt", "respect_context_window", "step_callback", "max_retry_limit"}) fields.leave_out(key, "a matter of CrewAI's own runner");
    fields.leave_out("memory", "`memory: {recall: 5, store: facts}` of an agent remembers here");
    fields.leave_out("function_calling_llm", "one model thinks and calls");
    if (fields.flag("allow_delegation").value_or(false)) fields.refuse("allow_delegation", "name the agents it may call in `sub_agents`");
    if (fields.flag("allow_code_execution").value_or(false)) fields.refuse("allow_code_execution", "give it a builtin.shell group");
    for (const char* key : {"reasoning", "max_reasoning_attempts", "inject_date", "date_format", "multimodal", "code_execution_mode", "max_execution_time"}) fields.refuse(key, "has no counterpart here");
    for (const char* key : {"system_template", "prompt_template", "response_template"}) fields.refuse(key, "prompts have the form that the model was trained on");
    for (const char* key : {"knowledge_sources", "embedder", "guardrail"}) fields.refuse(key, "has no counterpart here");
    fields.finish();
    const std::string id = proper_name(name, "agent");
    agents_[name] = id;
    draft_.agents[id] = std::move(agent);
  }

  void tools(const ForeignFile& file, Fields& fields) {
    for (const auto& tool : fields.texts("tools")) draft_.unsupported(file, tool.offset(), "the tool '" + shown_text(tool.text()) + "' is Python code; give " + fields.place() + " a tool of Kontor in its place");
  }

  // ---- tasks --------------------------------------------------------------------------------------------------------
  void tasks(const ForeignFile& file) {
    for (const auto& entry : file.root().entries()) task(file, entry);
  }

  void task(const ForeignFile& file, const Yaml::Entry& entry) {
    const std::string name(entry.key.text());
    if (!entry.value.is_mapping()) return draft_.unsupported(file, entry.key.offset(), "the task '" + shown_text(name) + "' is not a mapping");
    Fields fields(draft_, file, entry.value, "the task '" + shown_text(name) + "'");
    std::string id = proper_id(name, "task");
    while (std::any_of(steps_.begin(), steps_.end(), [&](const auto& step) { return step.second == id; })) id += "_";
    Json with{{"task", with_inputs(fields.text("description").value_or(""))}};
    if (const auto wanted = fields.text("expected_output")) with["expected_output"] = with_inputs(*wanted);
    context(file, fields, with);
    const auto agent = agent_of(file, fields, entry.key.offset());
    tools(file, fields);
    const auto output_file = fields.text("output_file");
    const bool human = fields.flag("human_input").value_or(false);
    fields.leave_out("async_execution", "steps run one after the other");
    fields.leave_out("name", "the step has the task's name");
    for (const char* key : {"markdown", "create_directory"}) fields.leave_out(key, "the agent writes what the task says");
    for (const char* key : {"output_json", "output_pydantic", "guardrail", "guardrails", "callback", "converter_cls", "condition"}) fields.refuse(key, "is Python code; a JSON Schema is given as `output: {schema: FILE}` of the agent");
    fields.finish();
    if (!agent) return;
    draft_.workflow.push_back(Json{{"id", id}, {"agent", *agent}, {"with", std::move(with)}});
    steps_.emplace_back(name, id);
    if (human) draft_.workflow.push_back(Json{{"id", id + "_review"}, {"approval", {{"show", {id}}, {"message", "Is the result of " + id + " good?"}}}});
    if (output_file) write_step(file, fields, id, *output_file);
  }

  void write_step(const ForeignFile& file, Fields& fields, const std::string& id, const std::string& path) {
    if (path.empty() || path[0] == '/' || path.find("..") != std::string::npos) return draft_.unsupported(file, fields.offset_of("output_file"), "'output_file' of " + fields.place() + " lies outside of the folder of the agent file");
    const std::string group = draft_.group("files", Json{{"use", "builtin.files"}, {"root", "."}, {"write", "."}});
    draft_.workflow.push_back(Json{{"id", id + "_file"}, {"tool", group + ".write"}, {"with", {{"path", with_inputs(path)}, {"text", "${string(steps." + id + ")}"}}}});
  }

  /// Without `context` a task sees what all earlier ones gave.
  void context(const ForeignFile& file, Fields& fields, Json& with) {
    if (!fields.has("context")) {
      for (const auto& [name, id] : steps_) with["result_of_" + id] = "${steps." + id + "}";
      return;
    }
    for (const auto& item : fields.texts("context")) {
      const auto known = std::find_if(steps_.begin(), steps_.end(), [&](const auto& step) { return step.first == item.text(); });
      if (known != steps_.end()) with["result_of_" + known->second] = "${steps." + known->second + "}";
      else draft_.unsupported(file, item.offset(), "the task '" + shown_text(item.text()) + "' in 'context' does not stand before this one");
    }
  }

  std::optional<std::string> agent_of(const ForeignFile& file, Fields& fields, std::size_t offset) {
    const auto name = fields.text("agent");
    if (!name && agents_.size() == 1) return agents_.begin()->second;
    if (!name) {
      draft_.unsupported(file, offset, fields.place() + " names no agent (it may stand in Python code, which is not read); add `agent: NAME`");
      return std::nullopt;
    }
    const auto known = agents_.find(*name);
    if (known != agents_.end()) return known->second;
    draft_.unsupported(file, fields.offset_of("agent"), "there is no agent '" + shown_text(*name) + "'");
    return std::nullopt;
  }

  Draft& draft_;
  std::map<std::string, std::string> agents_, models_;
  std::vector<std::pair<std::string, std::string>> steps_;  // task and step, in order
};

}  // namespace

Result<void> read_crewai(Draft& draft, const ForeignFile& agents, const ForeignFile* tasks) { return Reader(draft).read(agents, tasks); }

}  // namespace kontor::agent
