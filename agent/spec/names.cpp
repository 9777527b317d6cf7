#include "agent/spec/names.hpp"

#include "agent/spec/expression_tree.hpp"
#include "agent/spec/formats.hpp"
#include "agent/spec/shape.hpp"
#include "agent/spec/text_tools.hpp"

#include <algorithm>
#include <functional>
#include <set>
#include <unordered_map>

namespace kontor::agent {
namespace {

using Type = Yaml::Type;

bool is_text(const Yaml& value) { return value && value.type() == Type::string; }
std::vector<Yaml> texts_in(const Yaml& list) {
  std::vector<Yaml> texts;
  if (!list) return texts;
  for (const auto& item : list.items()) {
    if (is_text(item)) texts.push_back(item);
  }
  return texts;
}

/// Ids that a step can be called by inside of its lists of steps.
struct Scope {
  const Scope* outer = nullptr;
  std::set<std::string_view> ids;
  std::set<std::string_view> done;  ///< Of steps in front of the one being checked.

  bool has(std::string_view id) const {
    for (const Scope* at = this; at; at = at->outer) {
      if (at->ids.count(id)) return true;
    }
    return false;
  }
  bool is_done(std::string_view id) const {
    for (const Scope* at = this; at; at = at->outer) {
      if (at->ids.count(id)) return at->done.count(id) != 0;
    }
    return false;
  }
};

class Names {
 public:
  Names(Project& project, const ToolTable& tools) : project_(project), tools_(tools) {}

  void run() {
    agents();
    agent_cycles();
    for (const auto& part : project_.sections("policy")) policy(*part.file, part.value);
    for (const auto& entry : project_.named("secrets")) tool_list(*entry.file, entry.value["allow_tools"]);
    for (const auto& group : tools_.groups()) tool_entry(group);
    for (const auto& entry : project_.named("models")) {
      const Yaml key = entry.value["api_key"];
      if (is_text(key) && key.text().substr(0, 7) == "secret:") secret(*entry.file, key, key.text().substr(7), 7);
    }
    for (const auto& part : project_.sections("workflow")) steps(*part.file, part.value, nullptr);
    for (const auto& entry : project_.named("procedures")) steps(*entry.file, entry.value["do"], nullptr);
    procedure_cycles();
    triggers();
    tests();
  }

 private:
  void add(const SourceFile& file, std::size_t offset, std::string kind, std::string message) {
    project_.report.add(Phase::names, file, offset, std::move(kind), std::move(message));
  }
  void unknown(const SourceFile& file, const Yaml& at, const char* kind, const char* what, const std::vector<std::string>& known) {
    if (project_.report.full()) return;
    add(file, at.offset(), kind, std::string("there is no ") + what + " '" + shown_text(at.text()) + "'" + did_you_mean(nearest(at.text(), known)));
  }
  void named(const SourceFile& file, const Yaml& value, const char* section, const char* kind, const char* what) {
    if (!is_text(value) || project_.find(section, value.text()) || project_.report.full()) return;
    unknown(file, value, kind, what, project_.names(section));
  }
  void secret(const SourceFile& file, const Yaml& value, std::string_view name, std::size_t shift) {
    if (project_.find("secrets", name) || project_.report.full()) return;
    const std::string near = nearest(name, project_.names("secrets"));
    add(file, shift == 0 ? value.offset() : source_offset(value.document(), value.node(), shift), "unknown-secret", "there is no secret of that name" + did_you_mean(near));
  }

  // ---- tools ------------------------------------------------------------------------------------------------------
  void tool_name(const SourceFile& file, const Yaml& value, bool glob_allowed) {
    if (project_.report.full()) return;
    const std::string_view text = value.text();
    if (glob_allowed && is_glob(text)) {
      if (!tools_.glob_matches(text)) add(file, value.offset(), "glob-no-match", "'" + shown_text(text) + "' matches no tool" + did_you_mean(tools_.suggest(text)));
      return;
    }
    if (tools_.exists(text)) return;
    std::string why;
    if (const ToolGroup* group = tools_.group_of(text)) {
      const std::string function(text.substr(group->name.size() + 1));
      if (std::find(group->filtered.begin(), group->filtered.end(), function) != group->filtered.end()) why = "; the pin has it, but 'only' of '" + group->name + "' does not let it through";
    }
    add(file, value.offset(), "unknown-tool", "there is no tool '" + shown_text(text) + "'" + why + did_you_mean(why.empty() ? tools_.suggest(text) : ""));
  }
  void tool_list(const SourceFile& file, const Yaml& list) {
    for (const auto& item : texts_in(list)) tool_name(file, item, true);
  }

  void tool_entry(const ToolGroup& group) {
    const SourceFile& file = *group.entry.file;
    if (group.use == "mcp" && !group.dynamic) {
      std::vector<std::string> names = group.filtered;
      for (const auto& function : group.functions) names.push_back(function.name.substr(group.name.size() + 1));
      for (const char* key : {"only", "autoApprove", "alwaysAllow"}) {
        for (const auto& item : texts_in(group.entry.value[key])) {
          const bool any = std::any_of(names.begin(), names.end(), [&](const std::string& name) { return matches_glob(item.text(), name); });
          if (any) continue;
          const char* kind = is_glob(item.text()) ? "glob-no-match" : "unknown-tool";
          add(file, item.offset(), kind, "'" + shown_text(item.text()) + "' is no function of the pin" + did_you_mean(nearest(item.text(), names)));
        }
      }
    }
    if (group.use == "builtin.memory") embedder(file, group.entry.value["embedder"]);
    const Yaml effects = group.entry.value["effects"];
    if (!effects || group.dynamic) return;
    for (const auto& entry : effects.entries()) {
      const tools::ToolSpec* function = tools_.find(group.name + "." + std::string(entry.key.text()));
      if (!function) {
        std::vector<std::string> names;
        for (const auto& known : group.functions) names.push_back(known.name.substr(group.name.size() + 1));
        add(file, entry.key.offset(), "unknown-key", "'" + group.name + "' has no function '" + shown_text(entry.key.text()) + "'" + did_you_mean(nearest(entry.key.text(), names)));
        continue;
      }
      const std::string_view word = entry.value.text();
      const int given = word == "none" ? 0 : word == "idempotent" ? 1 : word == "once" ? 2 : 3;
      if (given < static_cast<int>(function->effect)) {
        add(file, entry.value.offset(), "unsafe-setting", "'" + std::string(function->name) + "' is " + std::string(tools::to_string(function->effect)) + "; an effect can only be made stricter");
      }
    }
  }

  void policy(const SourceFile& file, const Yaml& value) {
    for (const char* key : {"deny", "allow", "untrusted", "trusted_only"}) tool_list(file, value[key]);
    const Yaml asks = value["ask"];
    if (!asks) return;
    for (const auto& ask : asks.items()) {
      if (is_text(ask["tool"])) tool_name(file, ask["tool"], true);
    }
  }

  // ---- agents -----------------------------------------------------------------------------------------------------
  void agents() {
    for (const auto& entry : project_.named("agents")) {
      named(*entry.file, entry.value["model"], "models", "unknown-model", "model");
      if (const Yaml memory = entry.value["memory"]) embedder(*entry.file, memory["embedder"]);
      tool_list(*entry.file, entry.value["tools"]);
      for (const char* key : {"sub_agents", "handoffs"}) {
        for (const auto& item : texts_in(entry.value[key])) named(*entry.file, item, "agents", "unknown-agent", "agent");
      }
      if (is_text(entry.value["tool_choice"])) tool_choice(*entry.file, entry.value);
    }
  }
  /// Tapes hold texts, and no vectors.
  void embedder(const SourceFile& file, const Yaml& value) {
    named(file, value, "models", "unknown-model", "model");
    if (!is_text(value)) return;
    const auto model = project_.find("models", value.text());
    if (model && model->value["replay"]) add(file, value.offset(), "conflict", "'" + shown_text(value.text()) + "' is a tape, which has no embeddings; name a model file or an endpoint");
  }
  void tool_choice(const SourceFile& file, const Yaml& agent) {
    const Yaml value = agent["tool_choice"];
    const std::string_view choice = value.text();
    if (choice == "auto" || choice == "none") return;
    std::vector<std::string> others;
    for (const auto& item : texts_in(agent["sub_agents"])) others.emplace_back(item.text());
    for (const auto& item : texts_in(agent["handoffs"])) others.push_back("transfer_to_" + std::string(item.text()));
    const auto tools = texts_in(agent["tools"]);
    if (choice == "required") {
      if (tools.empty() && others.empty()) add(file, value.offset(), "conflict", "a call is required, but the agent has no 'tools', 'sub_agents' or 'handoffs'");
      return;
    }
    if (std::find(others.begin(), others.end(), choice) != others.end()) return;
    if (!tools_.exists(choice)) return tool_name(file, value, false);
    const bool its_own = std::any_of(tools.begin(), tools.end(), [&](const Yaml& item) { return matches_glob(item.text(), choice); });
    if (!its_own) add(file, value.offset(), "unknown-tool", "'" + shown_text(choice) + "' is not among the 'tools' of this agent");
  }
  /// Depth-first over sub_agents, without recursion; an edge back to an agent on the way is a circle.
  void agent_cycles() {
    const auto entries = project_.named("agents");
    std::unordered_map<std::string_view, std::size_t> index;
    for (std::size_t i = 0; i < entries.size(); ++i) index.emplace(entries[i].key.text(), i);
    std::vector<int> state(entries.size(), 0);
    struct Frame {
      std::size_t agent;
      std::vector<Yaml> calls;
      std::size_t next = 0;
    };
    for (std::size_t start = 0; start < entries.size(); ++start) {
      if (state[start] != 0) continue;
      std::vector<Frame> stack;
      const auto enter = [&](std::size_t agent) {
        state[agent] = 1;
        stack.push_back({agent, texts_in(entries[agent].value["sub_agents"])});
      };
      enter(start);
      while (!stack.empty()) {
        Frame& frame = stack.back();
        if (frame.next == frame.calls.size()) {
          state[frame.agent] = 2;
          stack.pop_back();
          continue;
        }
        const Yaml call = frame.calls[frame.next++];
        const auto found = index.find(call.text());
        if (found == index.end() || state[found->second] == 2) continue;
        if (state[found->second] == 0) {
          enter(found->second);
          continue;
        }
        const std::string way = found->second == frame.agent ? "calls itself" : "is called by an agent that it calls";
        add(*entries[frame.agent].file, call.offset(), "agent-cycle", "the agent '" + shown_text(call.text()) + "' " + way);
      }
    }
  }

  // ---- steps ------------------------------------------------------------------------------------------------------
  void steps(const SourceFile& file, const Yaml& list, const Scope* outer) {
    if (!list) return;
    Scope scope{outer, {}, {}};
    for (const auto& item : list.items()) {
      if (is_text(item["id"])) scope.ids.insert(item["id"].text());
    }
    std::set<std::string_view> seen;
    for (const auto& item : list.items()) {
      if (const Yaml id = item["id"]; is_text(id)) {
        const bool twice = !seen.insert(id.text()).second;
        if (twice || (outer && outer->has(id.text()))) {
          add(file, id.offset(), "duplicate-id", "a step '" + shown_text(id.text()) + "' is already there" + (twice ? "" : "; an inner step may not hide it"));
        }
      }
      step(file, item, scope);
      if (const Yaml id = item["id"]; is_text(id)) scope.done.insert(id.text());
    }
  }

  void step(const SourceFile& file, const Yaml& item, const Scope& scope) {
    const std::string_view action = step_action(item);
    if (action.empty()) return;
    const Yaml subject = item[action];
    if (action == "tool" && is_text(subject)) {
      tool_name(file, subject, false);
      arguments(file, item, subject.text());
    } else if (action == "agent") {
      named(file, subject, "agents", "unknown-agent", "agent");
    } else if (action == "for_each") {
      steps(file, item["do"], &scope);
    } else if (action == "switch") {
      for (const auto& entry : item["cases"] ? item["cases"].entries() : std::vector<Yaml::Entry>{}) steps(file, entry.value, &scope);
      steps(file, item["else"], &scope);
    } else if (action == "procedure" && is_text(subject)) {
      procedure(file, item, subject);
    } else if (action == "approval" && subject.is_mapping()) {
      for (const auto& shown : texts_in(subject["show"])) {
        if (scope.is_done(shown.text())) continue;
        if (scope.has(shown.text())) {
          add(file, shown.offset(), "step-order", "the step '" + shown_text(shown.text()) + "' has no result yet that could be shown");
          continue;
        }
        if (project_.report.full()) return;
        std::vector<std::string> known;
        for (const Scope* at = &scope; at; at = at->outer) known.insert(known.end(), at->ids.begin(), at->ids.end());
        unknown(file, shown, "unknown-step", "step", known);
      }
    }
  }

  void procedure(const SourceFile& file, const Yaml& item, const Yaml& name) {
    const auto entry = project_.find("procedures", name.text());
    if (!entry) return unknown(file, name, "unresolved-reference", "procedure", project_.names("procedures"));
    const Yaml inputs = entry->value["inputs"];
    const Yaml with = item["with"];
    std::vector<std::string> known;
    bool misspelt = false;
    for (const auto& input : inputs ? inputs.entries() : std::vector<Yaml::Entry>{}) known.emplace_back(input.key.text());
    for (const auto& given : with && with.is_mapping() ? with.entries() : std::vector<Yaml::Entry>{}) {
      if (std::find(known.begin(), known.end(), given.key.text()) != known.end()) continue;
      misspelt = true;
      add(file, given.key.offset(), "unknown-key", "the procedure '" + shown_text(name.text()) + "' has no input '" + shown_text(given.key.text()) + "'" + did_you_mean(nearest(given.key.text(), known)));
    }
    for (const auto& input : inputs ? inputs.entries() : std::vector<Yaml::Entry>{}) {
      const Yaml required = input.value["required"];
      const bool needed = required && required.type() == Type::boolean && to_json(required) == Json(true);
      // An unknown key is probably the missing one; it stands behind the name, but comes first.
      if (needed && !misspelt && !(with && with[input.key.text()])) add(file, name.offset(), "missing-key", "the procedure '" + shown_text(name.text()) + "' needs the input '" + shown_text(input.key.text()) + "'");
    }
  }

  /// Procedures that a list of steps calls.
  static void called_in(const Yaml& list, std::vector<Yaml>& calls) {
    for (const auto& item : list ? list.items() : std::vector<Yaml>{}) {
      if (is_text(item["procedure"])) calls.push_back(item["procedure"]);
      called_in(item["do"], calls);
      called_in(item["else"], calls);
      for (const auto& entry : item["cases"] ? item["cases"].entries() : std::vector<Yaml::Entry>{}) called_in(entry.value, calls);
    }
  }
  /// A procedure that reaches itself never ends. Tarjan's components, without recursion: those of one procedure that does
  /// not call itself are fine.
  void procedure_cycles() {
    const auto entries = project_.named("procedures");
    std::unordered_map<std::string_view, std::size_t> index;
    for (std::size_t i = 0; i < entries.size(); ++i) index.emplace(entries[i].key.text(), i);
    std::vector<std::vector<std::size_t>> calls(entries.size());
    for (std::size_t i = 0; i < entries.size(); ++i) {
      std::vector<Yaml> named;
      called_in(entries[i].value["do"], named);
      for (const auto& call : named) {
        if (const auto known = index.find(call.text()); known != index.end()) calls[i].push_back(known->second);
      }
    }
    struct Frame {
      std::size_t at, next = 0;
    };
    std::vector<std::size_t> order(entries.size(), 0), low(entries.size(), 0), open;
    std::vector<bool> is_open(entries.size(), false);
    std::size_t count = 0;
    std::vector<Frame> way;
    const auto enter = [&](std::size_t at) {
      order[at] = low[at] = ++count;
      open.push_back(at);
      is_open[at] = true;
      way.push_back({at});
    };
    for (std::size_t start = 0; start < entries.size(); ++start) {
      if (order[start] == 0) enter(start);
      while (!way.empty()) {
        const std::size_t at = way.back().at;
        if (way.back().next < calls[at].size()) {
          const std::size_t to = calls[at][way.back().next++];
          if (order[to] == 0) enter(to);
          else if (is_open[to]) low[at] = std::min(low[at], order[to]);
          continue;
        }
        way.pop_back();
        if (!way.empty()) low[way.back().at] = std::min(low[way.back().at], low[at]);
        if (low[at] != order[at]) continue;
        const bool alone = open.back() == at && std::find(calls[at].begin(), calls[at].end(), at) == calls[at].end();
        for (std::size_t member = entries.size(); member != at;) {
          member = open.back();
          open.pop_back();
          is_open[member] = false;
          if (!alone) add(*entries[member].file, entries[member].key.offset(), "step-order", "the procedure '" + shown_text(entries[member].key.text()) + "' calls itself");
        }
      }
    }
  }

  Yaml key_of(const Yaml& mapping, std::string_view key) const {
    for (const auto& entry : mapping.entries()) {
      if (entry.key.is_scalar() && entry.key.text() == key) return entry.key;
    }
    return {};
  }

  void arguments(const SourceFile& file, const Yaml& item, std::string_view tool) {
    const ToolGroup* group = tools_.group_of(tool);
    const tools::ToolSpec* spec = tools_.find(tool);
    if (!group || !spec || !spec->parameters.is_object()) return;
    const Yaml with = item["with"];
    if (with && !with.is_mapping()) return;
    const std::size_t owner = with ? key_of(item, "with").offset() : item.offset();
    const Json& schema = spec->parameters;
    const bool listed = schema.contains("properties") && schema["properties"].is_object();
    const bool open = !listed || schema.contains("patternProperties") || (schema.contains("additionalProperties") && schema["additionalProperties"] != Json(false));
    std::vector<std::string> known;
    if (listed) {
      for (const auto& [name, unused] : schema["properties"].items()) known.push_back(name);
    }
    std::size_t last_unknown = 0;
    std::set<std::string> guesses;
    for (const auto& entry : with ? with.entries() : std::vector<Yaml::Entry>{}) {
      if (!entry.key.is_scalar()) continue;
      const std::string name(entry.key.text());
      if (listed && schema["properties"].contains(name)) {
        literal(file, entry, schema["properties"][name]);
      } else if (!open) {
        const std::string guess = nearest(name, known);
        guesses.insert(guess);
        last_unknown = entry.key.offset();
        add(file, entry.key.offset(), "unknown-key", "'" + std::string(tool) + "' has no argument '" + shown_text(name) + "'" + did_you_mean(guess));
      }
    }
    const auto missing = [&](const std::string& message) {
      project_.report.add(Phase::names, file, owner, "missing-key", message, std::max(owner, last_unknown));
    };
    if (schema.contains("required") && schema["required"].is_array()) {
      for (const auto& name : schema["required"]) {
        if (!name.is_string() || guesses.count(name.get<std::string>()) || (with && with[name.get<std::string>()])) continue;
        missing("'" + std::string(tool) + "' needs the argument '" + shown_text(name.get<std::string>()) + "'");
      }
    }
    if (group->use != "builtin.files") return;
    const std::string_view function = tool.substr(group->name.size() + 1);
    if (function == "write" && guesses.empty()) {
      const Yaml text = with ? key_of(with, "text") : Yaml();
      const Yaml rows = with ? key_of(with, "rows") : Yaml();
      if (!text && !rows && !(with && key_of(with, "value"))) missing("'" + std::string(tool) + "' needs 'rows' or 'text'");
      if (text && rows) add(file, std::max(text.offset(), rows.offset()), "conflict", "'rows' and 'text' exclude each other");
    }
    if (with && is_text(with["path"])) fixed_path(file, *group, with["path"], function == "write");
  }

  /// A value without `${...}` must have the type of its argument.
  void literal(const SourceFile& file, const Yaml::Entry& entry, const Json& schema) {
    if (!schema.is_object() || !schema.contains("type") || !schema["type"].is_string()) return;
    const Type type = entry.value.type();
    if (type == Type::string && entry.value.text().find("${") != std::string_view::npos) return;
    const std::string wanted = schema["type"].get<std::string>();
    const bool fits = wanted == "string"    ? type == Type::string
                      : wanted == "integer" ? type == Type::integer
                      : wanted == "number"  ? type == Type::integer || type == Type::real
                      : wanted == "boolean" ? type == Type::boolean
                      : wanted == "array"   ? type == Type::sequence
                      : wanted == "object"  ? type == Type::mapping
                      : wanted == "null"    ? type == Type::null
                                            : true;
    if (fits) return;
    static const std::pair<std::string_view, const char*> kWords[] = {{"string", "a text"}, {"integer", "a whole number"}, {"number", "a number"}, {"boolean", "true or false"}, {"array", "a list"}, {"object", "a mapping"}, {"null", "null"}};
    const char* words = "another type";
    for (const auto& [name, text] : kWords) {
      if (name == wanted) words = text;
    }
    add(file, entry.value.is_empty() ? entry.key.offset() : entry.value.offset(), "wrong-type", "'" + shown_text(entry.key.text()) + "' needs " + words + ", not " + to_words(type));
  }

  /// The fixed part of a path must not leave the folders of its files group.
  void fixed_path(const SourceFile& file, const ToolGroup& group, const Yaml& value, bool writes) {
    std::string text(value.text());
    std::vector<TemplatePiece> pieces;
    ExpressionProblem problem;
    if (!split_template(value.text(), pieces, problem)) return;
    bool whole = true;
    text.clear();
    for (const auto& piece : pieces) {
      if (piece.is_expression) {
        whole = false;
        break;
      }
      text += piece.text;
    }
    if (!whole) text.resize(text.find_last_of('/') == std::string::npos ? 0 : text.find_last_of('/') + 1);
    if (text.empty()) {
      if (whole) add(file, value.offset(), "bad-format", "a path is not empty");
      return;
    }
    if (const auto bad = check_path_text(text)) return add(file, value.offset(), bad.kind, bad.message);
    const Yaml root = group.entry.value["root"];
    const Yaml write = group.entry.value["write"];
    const std::string folder = group.entry.file->folder;
    const std::string read_folder = resolved_path(folder, is_text(root) ? root.text() : ".");
    const std::string write_folder = is_text(write) ? resolved_path(folder, write.text()) : read_folder;
    const std::string path = resolved_path(folder, text);
    const bool absolute = text[0] == '/';
    bool inside = writes ? is_inside(path, write_folder) : is_inside(path, read_folder) || is_inside(path, write_folder);
    if (!inside && !absolute) {
      // Names the beginning of a folder that an expression may complete, or is below the folder without naming it.
      const bool climbs = leaves_its_folder(text);
      const bool in_the_other = writes && read_folder != folder && is_inside(path, read_folder);
      inside = !climbs && !in_the_other;
    }
    if (!inside) add(file, value.offset(), "path-escape", "'" + shown_text(text) + "' is outside of the folder that '" + group.name + "' " + (writes ? "writes to" : "reads"));
  }

  // ---- triggers and tests -----------------------------------------------------------------------------------------
  void inputs(const SourceFile& file, const Yaml& given) {
    if (!given) return;
    for (const auto& entry : given.entries()) {
      if (!entry.key.is_scalar()) continue;
      if (project_.report.full()) return;
      const auto input = project_.find("inputs", entry.key.text());
      if (!input) {
        add(file, entry.key.offset(), "unknown-key", "there is no input '" + shown_text(entry.key.text()) + "'" + did_you_mean(nearest(entry.key.text(), project_.names("inputs"))));
        continue;
      }
      const Yaml type = input->value["type"];
      const std::string wanted = is_text(type) ? unfit_input(entry.value, type.text()) : "";
      if (wanted == "finite") add(file, entry.value.offset(), "out-of-range", "an input is a finite number");
      else if (!wanted.empty()) add(file, entry.value.is_empty() ? entry.key.offset() : entry.value.offset(), "wrong-type", "the input '" + shown_text(entry.key.text()) + "' needs " + wanted + ", not " + to_words(entry.value.type()));
    }
  }
  void triggers() {
    std::set<std::string> paths;
    for (const auto& item : project_.items("triggers")) {
      const Yaml webhook = item.value["webhook"];
      if (is_text(webhook) && !paths.insert(std::string(webhook.text())).second) {
        add(*item.file, webhook.offset(), "duplicate-id", "the webhook '" + shown_text(webhook.text()) + "' is already there");
      }
      if (const Yaml name = item.value["secret"]; is_text(name)) secret(*item.file, name, name.text(), 0);
      inputs(*item.file, item.value["inputs"]);
    }
  }
  void tests() {
    std::set<std::string> names;
    for (const auto& item : project_.items("tests")) {
      const Yaml name = item.value["name"];
      if (is_text(name) && !names.insert(std::string(name.text())).second) add(*item.file, name.offset(), "duplicate-id", "a test '" + shown_text(name.text()) + "' is already there");
      named(*item.file, item.value["model"], "models", "unknown-model", "model");
      inputs(*item.file, item.value["inputs"]);
      const Yaml expect = item.value["expect"];
      if (!expect) continue;
      for (const auto& call : texts_in(expect["calls"])) tool_name(*item.file, call, false);
    }
  }

  Project& project_;
  const ToolTable& tools_;
};

}  // namespace

void check_names(Project& project, const ToolTable& tools) { Names(project, tools).run(); }

}  // namespace kontor::agent
