#include "agent/spec/flow_check.hpp"

#include "agent/spec/expression_check.hpp"
#include "agent/spec/shape.hpp"
#include "agent/spec/text_tools.hpp"

#include <algorithm>
#include <set>

namespace kontor::agent {
namespace {

using Kind = StaticType::Kind;

bool is_text(const Yaml& value) { return value && value.type() == Yaml::Type::string; }

/// Steps that can be named from inside a list of steps.
struct Frame {
  struct Step {
    std::string_view id;
    enum class State { later, running, done } state = State::later;
    TypePtr type;
  };
  const Frame* outer = nullptr;
  std::vector<Step> steps;
};

class FlowCheck {
 public:
  FlowCheck(Project& project, const ToolTable& tools) : project_(project), tools_(tools) {}

  void run() {
    std::map<std::string, TypePtr> fields;
    for (const auto& entry : project_.named("inputs")) fields[std::string(entry.key.text())] = type_of_input(entry.value["type"]);
    procedures();
    inputs_ = object_type(std::move(fields));
    all_ids_.clear();

    for (const auto& part : project_.sections("workflow")) {
      file_ = part.file;
      collect_ids(part.value);
      steps(part.value, nullptr, nullptr);
    }
    ExpressionNames plain;
    plain.inputs = inputs_;
    for (const auto& entry : project_.named("agents")) {
      if (!called_.count(std::string(entry.key.text()))) agent_texts(entry, plain);
    }
    for (const auto& group : tools_.groups()) {
      file_ = group.entry.file;
      if (const Yaml config = group.config()) values(config, plain);
    }
    for (const auto& part : project_.sections("policy")) {
      file_ = part.file;
      const Yaml asks = part.value["ask"];
      if (!asks) continue;
      for (const auto& ask : asks.items()) condition(ask);
    }
  }

 private:
  static TypePtr type_of_input(const Yaml& type) {
    const std::string_view word = is_text(type) ? type.text() : "";
    if (word == "string" || word == "file" || word == "dir") return simple_type(Kind::string);
    if (word == "number" || word == "integer") return simple_type(Kind::number);
    if (word == "boolean") return simple_type(Kind::boolean);
    if (word == "list") return list_type(dynamic_type());
    return dynamic_type();
  }

  /// Their steps see their own inputs.
  void procedures() {
    for (const auto& entry : project_.named("procedures")) {
      std::map<std::string, TypePtr> fields;
      const Yaml inputs = entry.value["inputs"];
      for (const auto& input : inputs ? inputs.entries() : std::vector<Yaml::Entry>{}) fields[std::string(input.key.text())] = type_of_input(input.value["type"]);
      inputs_ = object_type(std::move(fields));
      file_ = entry.file;
      all_ids_.clear();
      collect_ids(entry.value["do"]);
      steps(entry.value["do"], nullptr, nullptr);
    }
  }

  void add(const Yaml& scalar, std::size_t value_offset, std::string kind, std::string message) {
    if (project_.report.full()) return;
    project_.report.add(Phase::expressions, *file_, source_offset(scalar.document(), scalar.node(), value_offset), std::move(kind), std::move(message));
  }
  void problem(const Yaml& scalar, const ExpressionProblem& found, std::size_t shift) {
    const char* kind = found.kind == ExpressionProblem::Kind::limit ? "yaml-limit" : found.kind == ExpressionProblem::Kind::type ? "expression-type" : "expression-syntax";
    add(scalar, found.offset + shift, kind, found.message + did_you_mean(found.suggestion));
  }

  // ---- texts with expressions -------------------------------------------------------------------------------------
  /// What a template is as a whole.
  struct Checked {
    bool good = false;
    bool single = false;          ///< one expression and nothing else
    bool constant = false;
    TypePtr type;                 ///< of the single expression, else text
    std::size_t start = 0;        ///< byte of the value where the (first) expression begins
  };

  TypePtr expression(const Yaml& scalar, std::size_t begin, std::size_t end, const ExpressionNames& names, bool& good, std::size_t* start = nullptr) {
    Expression::Node tree;
    ExpressionProblem found;
    if (!parse_expression(scalar.text().substr(begin, end - begin), tree, found)) {
      // An empty expression has no token of its own: the braces are at fault.
      const bool empty = found.offset == 0 && scalar.text().substr(begin, end - begin).find_first_not_of(" \t\r\n") == std::string_view::npos;
      problem(scalar, found, empty && begin >= 2 ? begin - 2 : begin);
      good = false;
      return dynamic_type();
    }
    if (start) *start = begin + tree.terms[tree.root].start;
    std::vector<ExpressionFinding> findings;
    const TypePtr type = check_types(tree, names, findings);
    for (const auto& finding : findings) add(scalar, begin + finding.offset, finding.kind, finding.message);
    good = good && findings.empty();
    return type;
  }

  Checked text(const Yaml& scalar, const ExpressionNames& names) {
    Checked checked;
    if (!is_text(scalar) || project_.report.full()) return checked;
    std::vector<TemplatePiece> pieces;
    ExpressionProblem found;
    if (!split_template(scalar.text(), pieces, found)) {
      problem(scalar, found, 0);
      return checked;
    }
    checked.good = true;
    checked.constant = true;
    checked.single = pieces.size() == 1 && pieces[0].is_expression;
    checked.type = simple_type(Kind::string);
    for (const auto& piece : pieces) {
      if (!piece.is_expression) continue;
      if (project_.report.full()) return checked;
      std::size_t start = 0;
      const TypePtr type = expression(scalar, piece.begin, piece.end, names, checked.good, &start);
      if (checked.constant) checked.start = start;
      checked.constant = false;
      if (checked.single) checked.type = type;
    }
    return checked;
  }

  /// Every text inside a value.
  void values(const Yaml& value, const ExpressionNames& names) {
    if (!value) return;
    if (value.is_mapping()) {
      for (const auto& entry : value.entries()) values(entry.value, names);
    } else if (value.is_sequence()) {
      for (const auto& item : value.items()) values(item, names);
    } else {
      text(value, names);
    }
  }

  /// `when` and `check`: an expression that is true or false. Braces may be left out where `bare` says so.
  void boolean(const Yaml& scalar, const ExpressionNames& names, bool bare, const char* what) {
    if (!is_text(scalar)) return;
    const std::string_view whole = scalar.text();
    TypePtr type;
    bool good = true;
    std::size_t start = 0;
    if (bare && whole.substr(0, 2) != "${") {
      type = expression(scalar, 0, whole.size(), names, good, &start);
    } else {
      const Checked checked = text(scalar, names);
      if (!checked.good) return;
      if (!checked.single) return add(scalar, 0, "expression-syntax", std::string("'") + what + "' is one expression: ${...}");
      type = checked.type;
      start = checked.start;
    }
    if (good && !type->is(Kind::boolean) && !type->is(Kind::dynamic)) add(scalar, start, "expression-type", std::string("'") + what + "' must be true or false, not " + to_words(type->kind));
  }

  void condition(const Yaml& ask) {
    ExpressionNames names;
    names.inputs = inputs_;
    names.confidence = true;
    names.args = dynamic_type();
    if (const Yaml tool = ask["tool"]; is_text(tool)) {
      if (const tools::ToolSpec* spec = tools_.find(tool.text())) names.args = type_of_schema(spec->parameters);
    }
    boolean(ask["when"], names, true, "when");
  }

  // ---- steps ------------------------------------------------------------------------------------------------------
  void collect_ids(const Yaml& list) {
    for (const auto& item : list ? list.items() : std::vector<Yaml>{}) {
      if (is_text(item["id"])) all_ids_.insert(std::string(item["id"].text()));
      collect_ids(item["do"]);
      collect_ids(item["else"]);
      if (const Yaml cases = item["cases"]) {
        for (const auto& entry : cases.entries()) collect_ids(entry.value);
      }
    }
  }

  TypePtr step_type(const Frame* frame, std::string_view id, ExpressionFinding& finding) const {
    std::vector<std::string> visible;
    for (const Frame* at = frame; at; at = at->outer) {
      for (const auto& step : at->steps) {
        if (step.id != id) {
          if (step.state == Frame::Step::State::done) visible.emplace_back(step.id);
          continue;
        }
        if (step.state == Frame::Step::State::done) return step.type;
        finding.kind = "step-order";
        finding.message = step.state == Frame::Step::State::running ? "the step '" + std::string(id) + "' has no result yet: this is part of it" : "the step '" + std::string(id) + "' runs later";
        return nullptr;
      }
    }
    finding.kind = "unresolved-reference";
    const bool hidden = all_ids_.count(std::string(id)) != 0;
    finding.message = "there is no step '" + shown_text(id) + "' here" + (hidden ? "; steps inside of for_each and switch are not visible outside" : did_you_mean(nearest(id, visible)));
    return nullptr;
  }
  ExpressionNames names_in(const Frame& frame, const TypePtr& item) const {
    ExpressionNames names;
    names.inputs = inputs_;
    names.item = item;
    names.step = [this, &frame](std::string_view id, ExpressionFinding& finding) { return step_type(&frame, id, finding); };
    return names;
  }

  /// Nesting is bounded by the depth of the file.
  void steps(const Yaml& list, const Frame* outer, const TypePtr& item) {
    if (!list) return;
    Frame frame{outer, {}};
    const auto entries = list.items();
    for (const auto& step : entries) {
      // Steps without an id keep their place in the list, under a name that nothing can have.
      frame.steps.push_back({is_text(step["id"]) ? step["id"].text() : std::string_view("\n"), Frame::Step::State::later, dynamic_type()});
    }
    for (std::size_t i = 0; i < entries.size(); ++i) {
      frame.steps[i].state = Frame::Step::State::running;
      frame.steps[i].type = step(entries[i], frame, item);
      frame.steps[i].state = Frame::Step::State::done;
    }
  }

  TypePtr step(const Yaml& value, const Frame& frame, const TypePtr& item) {
    const std::string_view action = step_action(value);
    ExpressionNames names = names_in(frame, item);
    TypePtr result = dynamic_type();
    const Yaml subject = action.empty() ? Yaml() : value[action];
    if (action == "tool") result = tool_step(value, subject, names);
    else if (action == "agent") result = agent_step(value, subject, names);
    else if (action == "for_each") result = loop(value, subject, frame, names);
    else if (action == "switch") choice(value, subject, frame, names, item);
    else if (action == "approval" && subject.is_mapping()) text(subject["message"], names);
    else if (action == "fail" || action == "wait") text(subject, names);
    else if (action == "procedure") values(value["with"], names);
    names.result = result;
    boolean(value["check"], names, false, "check");
    const Yaml on_error = value["on_error"];
    if (action == "for_each" || !on_error || !is_text(on_error["collect"])) return result;
    return object_type({{"result", result}, {std::string(on_error["collect"].text()), list_type(dynamic_type())}});
  }

  TypePtr tool_step(const Yaml& value, const Yaml& subject, const ExpressionNames& names) {
    const tools::ToolSpec* spec = is_text(subject) ? tools_.find(subject.text()) : nullptr;
    const Yaml with = value["with"];
    if (with && with.is_mapping()) {
      const TypePtr parameters = spec ? type_of_schema(spec->parameters) : dynamic_type();
      for (const auto& entry : with.entries()) {
        if (!is_text(entry.value)) {
          values(entry.value, names);
          continue;
        }
        const Checked checked = text(entry.value, names);
        const auto wanted = parameters->fields.find(std::string(entry.key.text()));
        if (!checked.good || checked.constant || wanted == parameters->fields.end()) continue;
        const Kind kind = wanted->second->kind;
        if (kind != Kind::dynamic && !checked.type->is(Kind::dynamic) && !checked.type->is(kind)) {
          add(entry.value, checked.single ? checked.start : 0, "expression-type", "'" + shown_text(entry.key.text()) + "' needs " + to_words(kind) + ", not " + to_words(checked.type->kind));
        }
      }
    }
    return spec && spec->result.is_object() ? type_of_schema(spec->result) : dynamic_type();
  }

  TypePtr agent_step(const Yaml& value, const Yaml& subject, const ExpressionNames& names) {
    if (const Yaml with = value["with"]) values(with, names);
    if (!is_text(subject)) return dynamic_type();
    const auto entry = project_.find("agents", subject.text());
    if (!entry) return dynamic_type();
    const SourceFile* here = file_;
    std::set<std::string> seen;
    agent_tree(*entry, names, seen);
    file_ = here;
    const Yaml output = entry->value["output"];
    const Yaml schema = output ? output["schema"] : Yaml();
    // The run may end with another agent's answer.
    const Yaml handoffs = entry->value["handoffs"];
    if (!is_text(schema) || (handoffs && handoffs.size() > 0)) return dynamic_type();
    const auto file = project_.json_files.find(resolved_path(entry->file->folder, schema.text()));
    if (file == project_.json_files.end() || !file->second.is_schema) return dynamic_type();
    return type_of_schema(file->second.value);
  }

  /// The texts of an agent and of those it calls, with the names of the step that calls it.
  void agent_tree(const Named& first, const ExpressionNames& names, std::set<std::string>& seen) {
    std::vector<Named> waiting{first};
    while (!waiting.empty()) {
      const Named entry = waiting.back();
      waiting.pop_back();
      const std::string name(entry.key.text());
      if (!seen.insert(name).second) continue;
      if (++called_[name] <= kMaxCallers) agent_texts(entry, names);
      for (const char* key : {"sub_agents", "handoffs"}) {
        const Yaml list = entry.value[key];
        for (const auto& item : list ? list.items() : std::vector<Yaml>{}) {
          if (const auto next = project_.find("agents", item.text())) waiting.push_back(*next);
        }
      }
    }
  }
  void agent_texts(const Named& entry, const ExpressionNames& names) {
    file_ = entry.file;
    text(entry.value["instruction"], names);
    if (const Yaml memory = entry.value["memory"]) text(memory["namespace"], names);
  }

  TypePtr loop(const Yaml& value, const Yaml& subject, const Frame& frame, const ExpressionNames& names) {
    const Checked list = text(subject, names);
    TypePtr element = dynamic_type();
    if (list.good && (list.constant || !list.single)) add(subject, 0, "expression-type", "'for_each' needs one expression that is a list: ${...}");
    else if (list.good && list.type->is(Kind::list)) element = list.type->element ? list.type->element : dynamic_type();
    else if (list.good && !list.type->is(Kind::dynamic)) add(subject, list.start, "expression-type", std::string("'for_each' needs a list, not ") + to_words(list.type->kind));
    ExpressionNames inner = names;
    inner.item = element;
    const Checked key = text(value["key"], inner);
    if (key.good && key.single && (key.type->is(Kind::object) || key.type->is(Kind::list) || key.type->is(Kind::null))) {
      add(value["key"], key.start, "expression-type", std::string("'key' needs a text or a number, not ") + to_words(key.type->kind));
    }
    steps(value["do"], &frame, element);
    std::map<std::string, TypePtr> fields{{"results", list_type(dynamic_type())}};
    const Yaml on_error = value["on_error"];
    if (on_error && is_text(on_error["collect"])) fields[std::string(on_error["collect"].text())] = list_type(dynamic_type());
    return object_type(std::move(fields));
  }

  void choice(const Yaml& value, const Yaml& subject, const Frame& frame, const ExpressionNames& names, const TypePtr& item) {
    const Checked decided = text(subject, names);
    if (decided.good && (decided.constant || !decided.single)) {
      add(subject, 0, "expression-type", "'switch' needs one expression: ${...}");
    } else if (decided.good && (decided.type->is(Kind::list) || decided.type->is(Kind::object))) {
      add(subject, decided.start, "expression-type", std::string("'switch' needs a text, number or true/false, not ") + to_words(decided.type->kind));
    } else if (decided.good) {
      labels(value["cases"], *decided.type);
    }
    if (const Yaml cases = value["cases"]) {
      for (const auto& entry : cases.entries()) steps(entry.value, &frame, item);
    }
    steps(value["else"], &frame, item);
  }
  /// Cases that can never occur.
  void labels(const Yaml& cases, const StaticType& type) {
    if (!cases) return;
    for (const auto& entry : cases.entries()) {
      if (!entry.key.is_scalar()) continue;
      const std::string label(entry.key.text());
      std::vector<std::string> words = type.words;
      if (type.is(Kind::boolean)) words = {"true", "false"};
      bool possible = words.empty() || std::find(words.begin(), words.end(), label) != words.end();
      if (type.is(Kind::number)) possible = Decimal::parse(label).has_value();
      if (possible) continue;
      project_.report.add(Phase::expressions, *file_, entry.key.offset(), "unknown-value", "the value is never '" + shown_text(label) + "'" + did_you_mean(nearest(label, words)));
    }
  }

  static constexpr int kMaxCallers = 16;

  Project& project_;
  const ToolTable& tools_;
  const SourceFile* file_ = nullptr;
  TypePtr inputs_;
  std::set<std::string> all_ids_;
  std::map<std::string, int> called_;
};

}  // namespace

void check_expressions(Project& project, const ToolTable& tools) { FlowCheck(project, tools).run(); }

}  // namespace kontor::agent
