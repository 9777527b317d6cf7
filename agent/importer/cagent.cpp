// Agent files of cagent (docker agent): agents with toolsets, sub-agents and handoffs.

#include "agent/importer/cagent_tools.hpp"
#include "agent/importer/formats.hpp"
#include "agent/importer/mcp_entry.hpp"
#include "agent/importer/placeholders.hpp"
#include "agent/spec/formats.hpp"
#include "agent/spec/project.hpp"
#include "agent/spec/text_tools.hpp"

#include <algorithm>
#include <array>
#include <cctype>

namespace kontor::agent {
namespace {

constexpr const char* kOfTheModel = "belongs to the model that is replaced";

/// Functions of cagent's file tools, and what does their work here.
struct FileFunction {
  std::string_view theirs, ours;
};
constexpr std::array kFileFunctions{FileFunction{"read_file", "read"}, FileFunction{"read_multiple_files", "read"}, FileFunction{"list_directory", "list"}, FileFunction{"directory_tree", "list"},
                                    FileFunction{"search_files", "list"}, FileFunction{"write_file", "write"}, FileFunction{"edit_file", "write"}, FileFunction{"create_directory", "write"}};

class Reader {
 public:
  Reader(Draft& draft, const ForeignFile& file) : draft_(draft), file_(file), root_(file.root()) {}

  Result<void> read() {
    Fields root(draft_, file_, root_, "the file");
    root.take("version");
    if (const Yaml metadata = root.take("metadata")) draft_.left_out(file_, root.offset_of("metadata"), std::string("'metadata': text for people") + (metadata.is_mapping() ? "" : ", and not a mapping"));
    for (const char* section : {"models", "providers", "mcps"}) root.entries(section);
    const auto agents = root.entries("agents");
    if (agents.empty()) return fail(Errc::usage, "there are no 'agents' in it", "foreign_file", file_.name + ":1:1");
    permissions(root);
    documents_ = root.entries("rag");
    root.finish();
    name_agents(agents);
    // Kontor starts the first agent, cagent the one called root.
    const auto first = std::find_if(agents.begin(), agents.end(), [](const auto& entry) { return entry.key.text() == "root"; });
    if (first != agents.end()) agent(*first);
    for (const auto& entry : agents) {
      if (first == agents.end() || entry.key.offset() != first->key.offset()) agent(entry);
    }
    return {};
  }

 private:
  void name_agents(const std::vector<Yaml::Entry>& agents) {
    for (const auto& entry : agents) names_[std::string(entry.key.text())] = proper_name(entry.key.text(), "agent");
    const auto stem = file_.name.substr(file_.name.rfind('/') + 1);
    draft_.name = proper_name(stem.substr(0, stem.rfind('.')), "agent");
  }

  void permissions(Fields& root) {
    const Yaml section = root.take("permissions");
    if (!section) return;
    if (!section.is_mapping()) return draft_.unsupported(file_, section.offset(), "'permissions' is not a mapping");
    Fields fields(draft_, file_, section, "permissions");
    fields.leave_out("allow", "every call with an effect asks until a `policy: {allow: [...]}` of yours says otherwise");
    fields.refuse("ask", "write the rule as `policy: {ask: [{tool: ...}]}` with the names of the tools here");
    fields.refuse("deny", "write the rule as `policy: {deny: [...]}` with the names of the tools here");
    fields.finish();
  }

  // ---- models -------------------------------------------------------------------------------------------------------
  std::string model(const std::string& reference, std::size_t offset) {
    std::string first = reference;
    if (const auto comma = reference.find(','); comma != std::string::npos) {
      first = reference.substr(0, comma);
      draft_.left_out(file_, offset, "models that take turns (" + shown_text(reference) + "): the first stands for all");
    }
    const auto known = models_.find(first);
    if (known != models_.end()) return known->second;
    const Yaml section = root_["models"];
    const Yaml described = section && section.is_mapping() ? section[first] : Yaml();
    const std::string name = described && described.is_mapping() ? described_model(first, described) : draft_.model(first.substr(first.rfind('/') + 1), first);
    return models_[first] = name;
  }

  std::string described_model(const std::string& name, const Yaml& described) {
    Fields fields(draft_, file_, described, "the model '" + shown_text(name) + "'");
    const std::string provider = fields.text("provider").value_or(""), model = fields.text("model").value_or("");
    Json sampling = Json::object(), more = Json::object();
    if (const auto value = fields.number("temperature")) sampling["temperature"] = *value;
    if (const auto value = fields.number("top_p")) sampling["top_p"] = *value;
    if (!sampling.empty()) more["sampling"] = std::move(sampling);
    if (const Yaml budget = fields.take("thinking_budget")) {
      if (budget.type() == Yaml::Type::integer && to_json(budget).get<double>() > 0) more["thinking"] = Json{{"budget", to_json(budget)}};
      else draft_.left_out(file_, fields.offset_of("thinking_budget"), "'thinking_budget' of " + fields.place() + ": R1 models think on their own; `thinking: {budget: TOKENS}` bounds it");
    }
    for (const char* key : {"max_tokens", "frequency_penalty", "presence_penalty", "parallel_tool_calls", "provider_opts", "track_usage"}) fields.leave_out(key, kOfTheModel);
    fields.refuse("routing", "an agent has one model");
    std::string url = fields.text("base_url").value_or(""), key = fields.text("token_key").value_or("");
    provider_defaults(provider, url, key);
    fields.finish();
    if (!url.empty() && !model.empty() && !has_variables(url) && !check_url(url)) return draft_.endpoint(name, url, model, key, std::move(more));
    if (!url.empty()) draft_.left_out(file_, fields.offset_of("base_url"), "'base_url' of " + fields.place() + " is no fixed address");
    return draft_.model(name, provider + "/" + model, std::move(more));
  }

  void provider_defaults(const std::string& provider, std::string& url, std::string& key) {
    const Yaml section = root_["providers"];
    const Yaml described = section && section.is_mapping() ? section[provider] : Yaml();
    if (!described || !described.is_mapping()) return;
    Fields fields(draft_, file_, described, "the provider '" + shown_text(provider) + "'");
    const std::string own_url = fields.text("base_url").value_or(""), own_key = fields.text("token_key").value_or("");
    if (url.empty()) url = own_url;
    if (key.empty()) key = own_key;
    if (fields.text("api_type").value_or("openai_chatcompletions") != "openai_chatcompletions") draft_.unsupported(file_, fields.offset_of("api_type"), "'api_type' of " + fields.place() + ": only chat completions are spoken");
    fields.finish();
  }

  // ---- agents -------------------------------------------------------------------------------------------------------
  void agent(const Yaml::Entry& entry) {
    const std::string name(entry.key.text());
    if (!entry.value.is_mapping()) return draft_.unsupported(file_, entry.key.offset(), "the agent '" + shown_text(name) + "' is not a mapping");
    Fields fields(draft_, file_, entry.value, "the agent '" + shown_text(name) + "'");
    Json agent = Json::object();
    const auto reference = fields.text("model");
    if (!reference) draft_.unsupported(file_, entry.key.offset(), fields.place() + " names no model");
    agent["model"] = model(reference.value_or("auto"), fields.offset_of("model"));
    const std::string description = fields.text("description").value_or("");
    if (!description.empty()) agent["role"] = description;
    if (draft_.description.empty()) draft_.description = description;
    std::string instruction = with_inputs(fields, "instruction");
    Json tools = Json::array();
    toolsets(fields, tools, instruction);
    documents(fields, tools, instruction);
    if (fields.flag("add_date").value_or(false)) {
      tools.push_back(draft_.group("time", Json{{"use", "builtin.time"}}) + ".now");
      draft_.left_out(file_, fields.offset_of("add_date"), "the date in the prompt of " + fields.place() + ": it asks the tool time.now instead");
    }
    if (instruction.empty()) instruction = "Do the task.";
    agent["instruction"] = instruction;
    if (!tools.empty()) agent["tools"] = std::move(tools);
    others(fields, "sub_agents", agent);
    others(fields, "handoffs", agent);
    if (const auto steps = fields.whole("max_iterations"); steps && *steps > 0) agent["limits"] = Json{{"steps", *steps}};
    if (const Yaml output = fields.take("structured_output")) structured_output(output, name, agent);
    the_rest(fields);
    fields.finish();
    draft_.agents[names_[name]] = std::move(agent);
  }

  void the_rest(Fields& fields) {
    fields.leave_out("welcome_message", "a greeting of a chat window");
    fields.leave_out("commands", "prompts of a chat window; give them as --task");
    fields.leave_out("fallback", kOfTheModel);
    fields.leave_out("num_history_items", "the whole history is kept");
    fields.leave_out("add_environment_info", "nothing about this machine goes into the prompt");
    fields.leave_out("add_description_parameter", "calls are journaled with their arguments");
    fields.leave_out("code_mode_tools", "tools are called one by one");
    fields.refuse("add_prompt_files", "copy what the files say into `instruction`");
    fields.refuse("hooks", "write what has to be denied or asked as `policy:`");
    if (fields.flag("skills").value_or(false)) fields.refuse("skills", "copy what the skills say into `instruction`");
  }

  /// Variables of the environment in a prompt become inputs: a run says all that it depends on.
  std::string with_inputs(Fields& fields, const char* key) {
    const auto text = fields.text(key);
    if (!text) return {};
    if (text->find("${env.") == std::string::npos) return literal_text(*text);
    TextBuilder builder;
    const std::string_view rest = *text;
    for (std::size_t i = 0; i < rest.size();) {
      const std::size_t close = rest.substr(i, 6) == "${env." ? rest.find('}', i) : std::string_view::npos;
      const std::string name(close == std::string_view::npos ? std::string_view() : rest.substr(i + 6, close - i - 6));
      if (name.empty() || proper_id(name, "") != name) {
        builder.literal(rest.substr(i++, 1));
        continue;
      }
      if (!draft_.inputs.contains(name)) draft_.to_set("inputs." + name, "was the environment variable; give it with --input " + name + "=...");
      builder.expression("inputs." + draft_.input(name, Json{{"type", "string"}, {"required", true}}));
      i = close + 1;
    }
    return builder.text();
  }

  void others(Fields& fields, const char* key, Json& agent) {
    for (const auto& item : fields.texts(key)) {
      const auto known = names_.find(std::string(item.text()));
      if (known != names_.end()) agent[key].push_back(known->second);
      else draft_.unsupported(file_, item.offset(), "'" + shown_text(item.text()) + "' in '" + key + "' is not an agent of this file; nothing is fetched, import it and put it here");
    }
  }

  void structured_output(const Yaml& output, const std::string& agent_name, Json& agent) {
    if (!output.is_mapping() || !output["schema"] || !output["schema"].is_mapping()) return draft_.unsupported(file_, output.offset(), "'structured_output' has no schema");
    Fields fields(draft_, file_, output, "structured_output");
    for (const char* key : {"name", "description", "strict"}) fields.take(key);  // the schema is always enforced
    const Json schema = to_json(fields.take("schema"));
    fields.finish();
    const std::string path = "schemas/" + names_[agent_name] + ".json";
    draft_.files.push_back({path, schema.dump(2) + "\n"});
    agent["output"] = Json{{"schema", path}};
  }

  void documents(Fields& fields, Json& tools, std::string& instruction) {
    for (const auto& item : fields.texts("rag")) {
      const auto known = std::find_if(documents_.begin(), documents_.end(), [&](const auto& entry) { return entry.key.text() == item.text(); });
      if (known == documents_.end()) draft_.unsupported(file_, item.offset(), "there are no documents '" + shown_text(item.text()) + "' in 'rag' of the file");
      else gain(cagent_documents(draft_, file_, *known), tools, instruction);
    }
  }

  static void gain(const CagentTools& gained, Json& tools, std::string& instruction) {
    for (const auto& glob : gained.globs) {
      if (std::find(tools.begin(), tools.end(), Json(glob)) == tools.end()) tools.push_back(glob);
    }
    if (!gained.instruction.empty()) add_instruction(gained.instruction, instruction);
  }

  // ---- toolsets -----------------------------------------------------------------------------------------------------
  void toolsets(Fields& agent, Json& tools, std::string& instruction) {
    const Yaml list = agent.take("toolsets");
    if (!list) return;
    if (!list.is_sequence()) return draft_.unsupported(file_, list.offset(), "'toolsets' of " + agent.place() + " is not a list");
    for (const auto& item : list.items()) {
      if (item.is_mapping()) toolset(item, tools, instruction);
      else draft_.unsupported(file_, item.offset(), "a toolset of " + agent.place() + " is not a mapping");
    }
  }

  void toolset(const Yaml& item, Json& tools, std::string& instruction) {
    Fields fields(draft_, file_, item, "a toolset");
    const std::string type = fields.text("type").value_or("");
    const auto more = fields.text("instruction");
    for (const char* key : {"defer", "toon", "model"}) fields.leave_out(key, "a matter of the prompt's size");
    const auto add = [&](const std::string& glob) {
      if (std::find(tools.begin(), tools.end(), Json(glob)) == tools.end()) tools.push_back(glob);
    };
    if (type == "filesystem") {
      files(fields, add);
    } else if (type == "shell") {
      const std::string group = draft_.group("shell", Json{{"use", "builtin.shell"}, {"commands", {"sh"}}, {"root", "."}, {"write", "."}});
      add(group + ".run");
      draft_.to_set("tools." + group, "it may run anything through `sh` in this folder, without network; every call asks; name single commands where you can");
    } else if (type == "mcp") {
      mcp(item, fields, add, instruction);
    } else if (type == "memory") {
      fields.leave_out("path", "memories lie in Kontor's own store");
      add(draft_.group("memory", Json{{"use", "builtin.memory"}, {"namespace", draft_.name}}) + ".*");
    } else if (type == "fetch") {
      fields.leave_out("timeout", "a call has 30 seconds (`timeout_ms`)");
      const std::string group = draft_.group("fetch", Json{{"use", "builtin.http"}, {"hosts", {"set-the-hosts.example"}}});
      add(group + ".get");
      draft_.to_set("tools." + group + ".hosts", "the hosts that may be read");
    } else if (type == "user_prompt") {
      add(draft_.group("person", Json{{"use", "builtin.ask_user"}}) + ".ask");
    } else if (type == "api") {
      if (const Yaml config = fields.take("api_config"); config && config.is_mapping()) gain(cagent_api(draft_, file_, config), tools, instruction);
      else draft_.unsupported(file_, item.offset(), "the toolset 'api' has no api_config");
    } else if (type == "script") {
      gain(cagent_scripts(draft_, file_, fields.entries("shell")), tools, instruction);
    } else if (type == "todo") {
      fields.leave_out("shared", "belongs to 'todo'");
      // A list that the model keeps for itself; an instruction that speaks of it speaks of tools that are not there.
      if (mentions(instruction, "todo")) draft_.unsupported(file_, item.offset(), "the toolset 'todo', of which the instruction speaks: there is no such list; steps that have to be kept in order are a `workflow:`");
      else draft_.left_out(file_, item.offset(), "the toolset 'todo': the list that a model keeps for itself; R1 models plan in their thinking, and steps that have to be kept in order are a `workflow:`");
      return fields.finish();
    } else if (type == "think") {
      fields.leave_out("shared", "belongs to 'think'");
      draft_.left_out(file_, item.offset(), "the toolset 'think': R1 models think on their own");
      return fields.finish();
    } else {
      draft_.unsupported(file_, item.offset(), "the toolset '" + shown_text(type) + "' has no counterpart here" + advice_on(type));
      return;
    }
    if (more) add_instruction(*more, instruction);
    fields.finish();
  }

  static bool mentions(std::string_view text, std::string_view word) {
    const auto same = [](unsigned char a, unsigned char b) { return std::tolower(a) == b; };
    return std::search(text.begin(), text.end(), word.begin(), word.end(), same) != text.end();
  }

  static std::string advice_on(std::string_view type) {
    if (type == "openapi") return "; save the document as a file, and write a group with `use: openapi` and `document: FILE`";
    if (type == "background_agents") return "; `sub_agents` are called and waited for, `for_each` with `max_parallel` runs agents side by side";
    return {};
  }

  /// What a toolset says about its tools goes into the agent's instruction. Tools here describe themselves, so the place
  /// of the toolset's own description stays empty.
  static void add_instruction(std::string text, std::string& instruction) {
    static constexpr std::string_view kOriginal = "{ORIGINAL_INSTRUCTIONS}";
    for (auto at = text.find(kOriginal); at != std::string::npos; at = text.find(kOriginal)) text.erase(at, kOriginal.size());
    instruction += (instruction.empty() ? "" : "\n\n") + literal_text(text);
  }

  template <class Add>
  void files(Fields& fields, const Add& add) {
    const std::string group = draft_.group("files", Json{{"use", "builtin.files"}, {"root", "."}, {"write", "."}});
    fields.refuse("post_edit", "commands after an edit are steps of a workflow here");
    fields.leave_out("ignore_vcs", "files that begin with a dot are not listed");
    const auto chosen = fields.texts("tools");
    if (chosen.empty()) add(group + ".*");
    for (const auto& item : chosen) {
      const auto known = std::find_if(kFileFunctions.begin(), kFileFunctions.end(), [&](const auto& function) { return function.theirs == item.text(); });
      if (known != kFileFunctions.end()) add(group + "." + std::string(known->ours));
      else if (item.text() == "search_files_content") add(draft_.group("text", Json{{"use", "builtin.text"}, {"root", "."}}) + ".search");
      else if (item.text() != "list_allowed_directories") draft_.unsupported(file_, item.offset(), "the file tool '" + shown_text(item.text()) + "' has no counterpart here");
    }
  }

  template <class Add>
  void mcp(const Yaml& item, Fields& fields, const Add& add, std::string& instruction) {
    McpEntry entry;
    server(fields, entry);
    const Yaml ref = fields.take("ref");
    if (ref && ref.is_scalar()) {
      const std::string name(ref.text());
      const Yaml section = root_["mcps"];
      const Yaml shared = section && section.is_mapping() ? section[name] : Yaml();
      if (name.starts_with("docker:")) {
        gateway(ref, entry);
      } else if (shared && shared.is_mapping()) {
        Fields other(draft_, file_, shared, "the server '" + shown_text(name) + "'");
        other.take("type");
        if (const auto shared_words = other.text("instruction"); shared_words && !fields.has("instruction")) add_instruction(*shared_words, instruction);
        server(other, entry);
        const Yaml inner = other.take("ref");
        if (inner && inner.is_scalar() && inner.text().starts_with("docker:")) gateway(inner, entry);
        if (entry.name.empty()) entry.name = name;
        other.finish();
      } else {
        return draft_.unsupported(file_, ref.offset(), "there is no server '" + shown_text(name) + "' in 'mcps'");
      }
    }
    if (entry.name.empty() && !entry.command.empty()) entry.name = std::string(entry.command.front().text().substr(entry.command.front().text().rfind('/') + 1));
    if (entry.name.empty() && entry.url) entry.name = host_of(entry.url->text());
    if (blocked_) {
      blocked_ = false;
      return;
    }
    const auto group = add_mcp(draft_, file_, entry, item.offset());
    if (group) add(*group + ".*");
    if (group && !catalogue_.empty()) draft_.to_set("tools." + *group, "its server comes from Docker's catalogue: `docker mcp server enable " + shown_text(catalogue_) + "`");
    catalogue_.clear();
  }

  /// Docker's gateway starts the servers of its catalogue.
  void gateway(const Yaml& ref, McpEntry& entry) {
    const std::string server(ref.text().substr(7));
    if (entry.name.empty()) entry.name = server;
    entry.command.assign(5, ref);
    gateway_words_ = {"docker", "mcp", "gateway", "run", "--servers=" + server};
    entry.argument = [this, next = std::size_t{0}](const Yaml&) mutable { return gateway_words_[next++]; };
    catalogue_ = server;
  }

  void server(Fields& fields, McpEntry& entry) {
    if (const auto name = fields.text("name")) entry.name = *name;
    if (const Yaml command = fields.take("command"); command && command.is_scalar()) entry.command.push_back(command);
    for (const auto& argument : fields.texts("args")) entry.command.push_back(argument);
    for (const auto& tool : fields.texts("tools")) entry.only.emplace_back(tool.text());
    for (const auto& variable : fields.entries("env")) entry.settings.push_back(variable);
    fields.leave_out("version", "nothing is installed by itself; install the program yourself");
    fields.refuse("config", "give the server its settings in its environment (`config:`)");
    const Yaml remote = fields.take("remote");
    if (!remote) return;
    if (!remote.is_mapping()) return draft_.unsupported(file_, remote.offset(), "'remote' is not a mapping");
    Fields inner(draft_, file_, remote, "remote");
    if (const Yaml url = inner.take("url"); url && url.is_scalar()) entry.url = url;
    for (const auto& header : inner.entries("headers")) entry.settings.push_back(header);
    const std::string transport = inner.text("transport_type").value_or("streamable");
    if (transport == "sse") {
      draft_.unsupported(file_, inner.offset_of("transport_type"), "'sse' is the transport of protocol 2024-11-05, which is not supported");
      blocked_ = true;
    } else if (transport != "streamable" && transport != "streamable-http" && transport != "http") {
      draft_.unsupported(file_, inner.offset_of("transport_type"), "the transport '" + shown_text(transport) + "' is not known");
    }
    inner.finish();
  }

  static std::string host_of(std::string_view url) {
    const auto scheme = url.find("://");
    const std::string_view rest = scheme == std::string_view::npos ? url : url.substr(scheme + 3);
    return std::string(rest.substr(0, rest.find_first_of(":/")));
  }

  Draft& draft_;
  const ForeignFile& file_;
  Yaml root_;
  std::map<std::string, std::string> names_, models_;
  std::vector<Yaml::Entry> documents_;  // `rag`
  std::vector<std::string> gateway_words_;
  std::string catalogue_;  // server of the toolset that is being read
  bool blocked_ = false;
};

}  // namespace

Result<void> read_cagent(Draft& draft, const ForeignFile& file) { return Reader(draft, file).read(); }

}  // namespace kontor::agent
