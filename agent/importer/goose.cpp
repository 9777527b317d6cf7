// Recipes of goose: one agent with extensions, parameters and a first prompt, and sub-recipes as its sub-agents.

#include "agent/importer/formats.hpp"
#include "agent/importer/jinja_text.hpp"
#include "agent/importer/mcp_entry.hpp"
#include "agent/spec/project.hpp"
#include "agent/spec/text_tools.hpp"

#include <algorithm>
#include <map>
#include <utility>

namespace kontor::agent {
namespace {

constexpr std::size_t kSubRecipesMax = 50;

/// How a recipe is called by another one.
struct SubRecipe {
  std::string agent;                             ///< Name of the agent that it becomes.
  std::string model;                             ///< The caller's, for a recipe that names none.
  std::string description;                       ///< As the caller describes it.
  std::map<std::string, std::string> fixed;      ///< Parameters that the caller sets.
  JinjaInputs passed;                            ///< Parameters that are one of the caller's.
};

class Reader {
 public:
  Reader(Draft& draft, const ForeignFile& file, const SubRecipe* called = nullptr) : draft_(draft), file_(file), called_(called) {}

  Result<void> read() {
    Yaml root = file_.root();
    if (const Yaml inner = root["recipe"]; inner && inner.is_mapping()) root = inner;  // older files put it one level down
    Fields fields(draft_, file_, root, called_ ? "the sub-recipe '" + shown_text(called_->agent) + "'" : "the recipe");
    if (!fields.has("instructions") && !fields.has("prompt")) return fail(Errc::usage, "there are neither 'instructions' nor a 'prompt' in it", "foreign_file", file_.name + ":1:1");
    fields.take("version");
    const std::string title = fields.text("title").value_or("recipe"), description = fields.text("description").value_or("");
    name_ = called_ ? called_->agent : proper_name(title, "recipe");
    if (!called_) {
      draft_.name = name_;
      draft_.description = description.empty() ? title : description;
    }
    parameters(fields);
    Json agent{{"model", nullptr}, {"role", called_ ? role_of_called(title, description) : title}};
    settings(fields, agent);
    agent["instruction"] = text(fields, "instructions");
    if (agent["instruction"].get<std::string>().empty()) agent["instruction"] = literal_text(description.empty() ? title : description);
    Json tools = Json::array();
    extensions(fields, tools);
    if (reads_files_) {
      const Json glob = draft_.group("files", Json{{"use", "builtin.files"}, {"root", "."}, {"write", "."}}) + ".*";
      if (std::find(tools.begin(), tools.end(), glob) == tools.end()) tools.push_back(glob);
    }
    if (!tools.empty()) agent["tools"] = std::move(tools);
    response(fields, agent);
    const std::string prompt = text(fields, "prompt");
    if (!prompt.empty() && called_) agent["instruction"] = agent["instruction"].get<std::string>() + "\n\n" + prompt;
    else if (!prompt.empty()) draft_.workflow.push_back(Json{{"id", "run"}, {"agent", name_}, {"with", {{"task", prompt}}}});
    for (const char* key : {"author", "activities", "context"}) fields.leave_out(key, "for the recipe's page and the chat window");
    retry(fields);
    const std::string model = agent["model"].get<std::string>();
    draft_.agents[name_] = std::move(agent);  // `kontor run --task` starts the first
    sub_recipes(fields, model);
    fields.finish();
    return {};
  }

 private:
  /// A recipe is tried again until its checks, which are commands, succeed. A step that did something once is not repeated
  /// here, so only checks that cannot fail are carried over: by leaving them out.
  void retry(Fields& recipe) {
    const Yaml section = recipe.take("retry");
    if (!section) return;
    if (!section.is_mapping()) return draft_.unsupported(file_, section.offset(), "'retry' is not a mapping");
    Fields fields(draft_, file_, section, "retry");
    for (const char* key : {"max_retries", "timeout_seconds", "on_failure", "on_failure_timeout_seconds"}) fields.take(key);
    bool left = true;
    if (const Yaml checks = fields.take("checks"); checks && checks.is_sequence()) {
      for (const auto& check : checks.items()) {
        const Yaml command = check.is_mapping() ? check["command"] : Yaml();
        if (command && command.is_scalar() && only_prints(command.text())) continue;
        left = false;
        draft_.unsupported(file_, check.offset(), "a check of 'retry': a command decides whether the recipe is tried again, and commands are not repeated here; let the agent run it and go on until it succeeds, or write what the answer has to be as `check:` and `retry:` of the step");
      }
    } else if (checks) {
      left = false;
      draft_.unsupported(file_, checks.offset(), "'checks' of retry is not a list");
    }
    fields.finish();
    if (left) draft_.left_out(file_, recipe.offset_of("retry"), "'retry' of " + recipe.place() + ": its checks only print, so they never fail");
  }

  /// `echo` with one fixed text, or `true`.
  static bool only_prints(std::string_view command) {
    while (command.ends_with(' ') || command.ends_with('\n')) command.remove_suffix(1);
    if (command == "true") return true;
    if (!command.starts_with("echo ")) return false;
    command.remove_prefix(5);
    if (command.size() < 2 || (command.front() != '"' && command.front() != '\'') || command.back() != command.front()) return false;
    const std::string_view inside = command.substr(1, command.size() - 2);
    return inside.find_first_of(command.front() == '"' ? "\"$`\\" : "'") == std::string_view::npos;
  }

  // ---- sub-recipes --------------------------------------------------------------------------------------------------
  void sub_recipes(Fields& recipe, const std::string& model) {
    const Yaml list = recipe.take("sub_recipes");
    if (!list) return;
    if (called_) return draft_.unsupported(file_, recipe.offset_of("sub_recipes"), "'sub_recipes' of " + recipe.place() + ": a sub-recipe has none of its own");
    if (!list.is_sequence()) return draft_.unsupported(file_, list.offset(), "'sub_recipes' is not a list");
    const auto items = list.items();
    if (items.size() > kSubRecipesMax) return draft_.unsupported(file_, list.offset(), "more than " + std::to_string(kSubRecipesMax) + " sub-recipes");
    for (const auto& item : items) {
      if (item.is_mapping()) sub_recipe(item, model);
      else draft_.unsupported(file_, item.offset(), "a sub-recipe is not a mapping");
    }
  }

  void sub_recipe(const Yaml& item, const std::string& model) {
    Fields fields(draft_, file_, item, "a sub-recipe");
    const std::string name = fields.text("name").value_or(""), path = fields.text("path").value_or("");
    SubRecipe called;
    called.agent = proper_name(name, "sub-recipe");
    called.model = model;
    called.description = fields.text("description").value_or("");
    fields.leave_out("sequential_when_repeated", "sub-agents work one after the other");
    for (const auto& value : fields.entries("values")) fixed_value(called, value);
    fields.finish();
    if (path.empty()) return draft_.unsupported(file_, item.offset(), "the sub-recipe '" + shown_text(name) + "' has no path");
    if (draft_.agents.contains(called.agent)) return draft_.unsupported(file_, item.offset(), "two agents would be named '" + called.agent + "'");
    const std::size_t at = fields.offset_of("path");
    if (!draft_.neighbour) return draft_.unsupported(file_, at, "the sub-recipe '" + shown_text(path) + "': only a recipe in a file has others beside it");
    const auto other = draft_.neighbour(path);
    if (!other) return draft_.unsupported(file_, at, "the sub-recipe '" + shown_text(path) + "' cannot be read: " + other.error().describe());
    if (auto read = Reader(draft_, **other, &called).read(); !read) return draft_.unsupported(file_, at, "the sub-recipe '" + shown_text(path) + "': " + read.error().describe());
    draft_.agents[name_]["sub_agents"].push_back(called.agent);
  }

  /// A value that the caller sets: a text, or one of its own parameters.
  void fixed_value(SubRecipe& called, const Yaml::Entry& value) {
    const std::string key(value.key.text());
    if (!value.value.is_scalar()) return draft_.unsupported(file_, value.value.offset(), "the value of '" + shown_text(key) + "' is not a text");
    std::string_view text = value.value.text();
    if (text.find("{{") == std::string_view::npos && text.find("{%") == std::string_view::npos) {
      called.fixed[key] = text;
      return;
    }
    std::string_view inside = text.starts_with("{{") && text.ends_with("}}") ? text.substr(2, text.size() - 4) : std::string_view{};
    while (inside.starts_with(' ')) inside.remove_prefix(1);
    while (inside.ends_with(' ')) inside.remove_suffix(1);
    const auto known = declared_.find(inside);
    if (known == declared_.end()) return draft_.unsupported(file_, value.value.offset(), "the value of '" + shown_text(key) + "': a text or one {{ parameter }} of the recipe is carried over");
    called.passed.emplace(key, known->second);
  }

  /// What the caller is told about the agent, with the parameters that its task has to name.
  std::string role_of_called(const std::string& title, const std::string& description) const {
    std::string role = title;
    const auto add = [&](const std::string& sentence) { role += (role.ends_with('.') || role.ends_with('\n') ? " " : ". ") + sentence; };
    for (const auto& more : {called_->description, description}) {
      if (!more.empty() && role.find(more) == std::string::npos) add(more);
    }
    if (!asked_.empty()) add("The task has to say: " + asked_);
    return role;
  }

  // ---- parameters ---------------------------------------------------------------------------------------------------
  void parameters(Fields& recipe) {
    const Yaml list = recipe.take("parameters");
    if (!list) return;
    if (!list.is_sequence()) return draft_.unsupported(file_, list.offset(), "'parameters' is not a list");
    for (const auto& item : list.items()) {
      if (item.is_mapping()) parameter(item);
      else draft_.unsupported(file_, item.offset(), "a parameter is not a mapping");
    }
  }

  void parameter(const Yaml& item) {
    Fields fields(draft_, file_, item, "a parameter");
    const std::string key = fields.text("key").value_or("");
    if (key.empty()) return draft_.unsupported(file_, item.offset(), "a parameter has no key");
    const std::string type = fields.text("input_type").value_or("string"), requirement = fields.text("requirement").value_or("required");
    std::string description = fields.text("description").value_or("");
    Json entry{{"type", "string"}};
    if (type == "number" || type == "boolean") entry["type"] = type;
    else if (type == "file") entry["type"] = "file";
    else if (type != "string" && type != "date" && type != "select") draft_.unsupported(file_, fields.offset_of("input_type"), "the input type '" + shown_text(type) + "' is not known");
    for (const char* choices : {"options", "choices"}) {
      std::string words;
      for (const auto& option : fields.texts(choices)) words += (words.empty() ? "" : ", ") + std::string(option.text());
      if (words.empty()) continue;
      description += (description.empty() ? "" : " ") + std::string("One of: ") + words + ".";
      draft_.left_out(file_, fields.offset_of(choices), "the choices of '" + shown_text(key) + "' stand in its description and are not enforced");
    }
    fields.leave_out("value", "an example for the recipe's page");
    const Yaml fallback = fields.take("default");
    if (requirement == "optional" || fallback) entry["default"] = default_of(entry["type"], fallback, key);
    else entry["required"] = true;
    if (requirement == "user_prompt" && !called_) draft_.to_set("inputs." + proper_id(key, "input"), "give it with --input; a run does not stop to ask for it");
    else if (requirement != "required" && requirement != "optional" && requirement != "user_prompt") draft_.unsupported(file_, fields.offset_of("requirement"), "the requirement '" + shown_text(requirement) + "' is not known");
    if (!description.empty()) entry["description"] = description;
    if (type == "file") {
      reads_files_ = true;
      draft_.left_out(file_, fields.offset_of("input_type"), "the text of the file '" + shown_text(key) + "' in the prompt: its path stands there, and the agent reads it with files.read");
    }
    fields.finish();
    std::string input = key;
    if (called_) {
      if (const auto passed = called_->passed.find(key); passed != called_->passed.end()) {
        declared_.emplace(key, passed->second);
        return;
      }
      input = called_->agent + "_" + key;
      called_parameter(key, fields.offset_of("key"), entry);
    }
    if (declared_.emplace(key, JinjaInput{proper_id(input, "input"), entry["type"].get<std::string>()}).second) draft_.input(input, std::move(entry));
    else draft_.unsupported(file_, item.offset(), "the parameter '" + shown_text(key) + "' stands twice");
  }

  /// A parameter of a sub-recipe is an input with a default: what its caller sets, its own default, or a word that it
  /// stands in the task, which is where the calling agent can say it.
  void called_parameter(const std::string& key, std::size_t offset, Json& entry) {
    if (const auto fixed = called_->fixed.find(key); fixed != called_->fixed.end()) {
      const Json type = std::exchange(entry["type"], "string");
      entry["default"] = fixed->second;
      if (type == "number" || type == "boolean") {
        const auto value = parse_json(fixed->second);
        if (value && (type == "number" ? value->is_number() : value->is_boolean())) {
          entry["type"] = type;
          entry["default"] = *value;
        }
      }
    } else if (entry.contains("required")) {
      asked_ += (asked_.empty() ? "" : ", ") + key;
      entry["type"] = "string";
      entry["default"] = "(" + key + ", as the task says)";
    } else {
      draft_.left_out(file_, offset, "the parameter '" + shown_text(key) + "' has its default; the calling agent cannot choose another");
    }
    entry.erase("required");
  }

  Json default_of(const Json& type, const Yaml& fallback, const std::string& key) {
    if (type == "number") {
      if (!fallback) return 0;
      if (to_json(fallback).is_number()) return to_json(fallback);
      if (const auto number = parse_json(std::string(fallback.text())); number && number->is_number()) return *number;
      draft_.unsupported(file_, fallback.offset(), "the default of '" + shown_text(key) + "' is not a number");
      return 0;
    }
    if (type == "boolean") return fallback && fallback.is_scalar() && fallback.text() == "true";
    return fallback && fallback.is_scalar() ? std::string(fallback.text()) : std::string();
  }

  // ---- texts --------------------------------------------------------------------------------------------------------
  std::string text(Fields& fields, const char* key) {
    const Yaml value = fields.take(key);
    if (!value) return {};
    if (!value.is_scalar()) {
      draft_.unsupported(file_, value.offset(), std::string("'") + key + "' is not a text");
      return {};
    }
    return with_inputs(value);
  }

  std::string with_inputs(const Yaml& value) {
    // What goose itself says: the folder of the recipe, here that of the agent file.
    if (value.text().find("recipe_dir") != std::string_view::npos && !declared_.contains("recipe_dir")) {
      declared_.emplace("recipe_dir", JinjaInput{draft_.input("recipe_dir", Json{{"type", "string"}, {"default", "."}, {"description", "Folder of the files that belong to the recipe."}}), "string"});
      draft_.to_set("inputs.recipe_dir", "the files that the recipe names lie beside the agent file, or give their folder");
    }
    return jinja_text(value.text(), declared_, [&](std::size_t at, std::string_view what) {
      draft_.unsupported(file_, source_offset(value.document(), value.node(), at), "'" + shown_text(what) + "' in a text: {{ parameter }} and {% if %} with comparisons are carried over");
    });
  }

  // ---- extensions ---------------------------------------------------------------------------------------------------
  void extensions(Fields& recipe, Json& tools) {
    const Yaml list = recipe.take("extensions");
    if (!list) return;
    if (!list.is_sequence()) return draft_.unsupported(file_, list.offset(), "'extensions' is not a list");
    for (const auto& item : list.items()) {
      if (item.is_mapping()) extension(item, tools);
      else draft_.unsupported(file_, item.offset(), "an extension is not a mapping");
    }
  }

  void extension(const Yaml& item, Json& tools) {
    Fields fields(draft_, file_, item, "an extension");
    const std::string type = fields.text("type").value_or("builtin"), name = fields.text("name").value_or("");
    for (const char* key : {"display_name", "bundled", "description"}) fields.take(key);  // for a list of extensions
    const bool is_server = type == "stdio" || type == "streamable_http";
    if (!is_server) fields.leave_out("timeout", "each kind of tool has a time limit of its own");
    const auto add = [&](const std::string& glob) {
      if (std::find(tools.begin(), tools.end(), Json(glob)) == tools.end()) tools.push_back(glob);
    };
    if ((type == "builtin" || type == "platform") && name == "developer") {
      fields.refuse("available_tools", "name the tools of 'files' and 'shell' that the agent may call");
      add(draft_.group("files", Json{{"use", "builtin.files"}, {"root", "."}, {"write", "."}}) + ".*");
      const std::string shell = draft_.group("shell", Json{{"use", "builtin.shell"}, {"commands", {"sh"}}, {"root", "."}, {"write", "."}});
      add(shell + ".run");
      if (!told_shell_) draft_.to_set("tools." + shell, "it may run anything through `sh` in this folder, without network; every call asks; name single commands where you can");
      told_shell_ = true;
    } else if ((type == "builtin" || type == "platform") && name == "memory") {
      fields.refuse("available_tools", "name the tools of 'memory' that the agent may call");
      add(draft_.group("memory", Json{{"use", "builtin.memory"}, {"namespace", draft_.name}}) + ".*");
    } else if (is_server) {
      if (const auto group = server(item, fields, name)) add(*group + ".*");
    } else {
      return draft_.unsupported(file_, item.offset(), "the extension '" + shown_text(name) + "' of type '" + shown_text(type) + "' has no counterpart here");
    }
    fields.finish();
  }

  std::optional<std::string> server(const Yaml& item, Fields& fields, const std::string& name) {
    McpEntry entry;
    entry.name = name;
    if (const Yaml command = fields.take("cmd"); command && command.is_scalar()) entry.command.push_back(command);
    for (const auto& argument : fields.texts("args")) entry.command.push_back(argument);
    if (const Yaml url = fields.take("uri"); url && url.is_scalar()) entry.url = url;
    entry.settings = fields.entries(entry.url ? "headers" : "envs");
    if (const Yaml timeout = fields.take("timeout")) entry.timeout = timeout;
    entry.timeout_in_seconds = true;
    for (const auto& variable : fields.texts("env_keys")) entry.passed.emplace_back(variable.text());
    for (const auto& tool : fields.texts("available_tools")) entry.only.emplace_back(tool.text());
    const auto templated = std::find_if(entry.command.begin(), entry.command.end(), [](const Yaml& word) { return word.text().find("{{") != std::string_view::npos; });
    if (templated != entry.command.end()) {
      draft_.unsupported(file_, templated->offset(), "an argument of '" + shown_text(name) + "' holds a parameter; the command of a server is fixed");
      return std::nullopt;
    }
    return add_mcp(draft_, file_, entry, item.offset());
  }

  // ---- model and answer ---------------------------------------------------------------------------------------------
  void settings(Fields& recipe, Json& agent) {
    Json more = Json::object();
    std::string was;
    if (const Yaml section = recipe.take("settings"); section && section.is_mapping()) {
      Fields fields(draft_, file_, section, "settings");
      const std::string provider = fields.text("goose_provider").value_or(""), model = fields.text("goose_model").value_or("");
      was = provider + (provider.empty() || model.empty() ? "" : "/") + model;
      if (const auto value = fields.number("temperature")) more["sampling"] = Json{{"temperature", *value}};
      if (const auto turns = fields.whole("max_turns"); turns && *turns > 0) agent["limits"] = Json{{"steps", *turns}};
      fields.finish();
    }
    agent["model"] = called_ && was.empty() && more.empty() ? called_->model : draft_.model("r1", was, std::move(more));
  }

  void response(Fields& recipe, Json& agent) {
    const Yaml section = recipe.take("response");
    if (!section) return;
    if (!section.is_mapping() || !section["json_schema"] || !section["json_schema"].is_mapping()) return draft_.unsupported(file_, section.offset(), "'response' has no json_schema");
    Fields fields(draft_, file_, section, "response");
    const std::string path = "schemas/" + name_ + ".json";
    draft_.files.push_back({path, to_json(fields.take("json_schema")).dump(2) + "\n"});
    fields.finish();
    agent["output"] = Json{{"schema", path}};
  }

  Draft& draft_;
  const ForeignFile& file_;
  const SubRecipe* called_;
  std::string name_;      // of the agent
  std::string asked_;     // parameters that the task has to say
  JinjaInputs declared_;  // by parameter
  bool reads_files_ = false, told_shell_ = false;
};

}  // namespace

Result<void> read_goose(Draft& draft, const ForeignFile& file) { return Reader(draft, file).read(); }

}  // namespace kontor::agent
