#include "agent/spec/expression_check.hpp"

#include "agent/spec/expression_eval.hpp"
#include "agent/spec/text_tools.hpp"

#include <nlohmann/json.hpp>
#include <re2/re2.h>

#include <algorithm>

namespace kontor::agent {
namespace {

using Kind = StaticType::Kind;

class TypeChecker {
 public:
  TypeChecker(const Expression::Node& tree, const ExpressionNames& names, std::vector<ExpressionFinding>& findings)
      : tree_(tree), names_(names), findings_(findings) {}

  /// Depth is bounded by the parser.
  TypePtr run(std::uint32_t id) {
    const Term& term = tree_.terms[id];
    switch (term.op) {
      case Op::null: return simple_type(Kind::null);
      case Op::boolean: return simple_type(Kind::boolean);
      case Op::number: return simple_type(Kind::number);
      case Op::string: return simple_type(Kind::string);
      case Op::name: return name(term);
      case Op::field: return field(term);
      case Op::index: return index(term);
      case Op::call: return call(term);
      case Op::method: return method(term);
      case Op::list: {
        TypePtr element;
        for (const auto child : term.children) {
          const TypePtr type = run(child);
          element = !element || element->kind == type->kind ? type : dynamic_type();
        }
        return list_type(element ? element : dynamic_type());
      }
      case Op::not_:
        need(Kind::boolean, run(term.children[0]), term, "'!'");
        return simple_type(Kind::boolean);
      case Op::negate:
        need(Kind::number, run(term.children[0]), term, "'-'");
        return simple_type(Kind::number);
      case Op::and_:
      case Op::or_:
        for (const auto child : term.children) need(Kind::boolean, run(child), tree_.terms[child], "'" + term.text + "'", true);
        return simple_type(Kind::boolean);
      case Op::conditional: {
        need(Kind::boolean, run(term.children[0]), tree_.terms[term.children[0]], "'?'", true);
        const TypePtr yes = run(term.children[1]);
        const TypePtr no = run(term.children[2]);
        return yes->kind == no->kind && yes->kind != Kind::object ? yes : dynamic_type();
      }
      default: return binary(term);
    }
  }

 private:
  TypePtr fail(std::size_t offset, std::string kind, std::string message) {
    findings_.push_back({offset, std::move(kind), std::move(message)});
    return dynamic_type();
  }
  TypePtr mismatch(std::size_t offset, std::string message) { return fail(offset, "expression-type", std::move(message)); }
  void need(Kind kind, const TypePtr& type, const Term& term, const std::string& who, bool at_start = false) {
    if (type->is(kind) || type->is(Kind::dynamic)) return;
    mismatch(at_start ? term.start : term.at, who + " needs " + to_words(kind) + ", not " + to_words(type->kind));
  }

  TypePtr name(const Term& term) {
    std::vector<std::string> known;
    const auto look = [&](const char* word, const TypePtr& type) -> TypePtr {
      if (type) known.emplace_back(word);
      return type && term.text == word ? type : nullptr;
    };
    for (const auto& [word, type] : {std::pair{"inputs", names_.inputs}, std::pair{"item", names_.item}, std::pair{"result", names_.result}, std::pair{"args", names_.args}}) {
      if (auto found = look(word, type)) return found;
    }
    if (names_.step) {
      known.emplace_back("steps");
      if (term.text == "steps") return dynamic_type();
    }
    static const std::pair<const char*, const char*> kElsewhere[] = {
        {"result", "'result' is known in 'check' only"}, {"args", "'args' is known in the 'when' of a policy only"},
        {"item", "'item' is known inside of for_each only"}, {"steps", "steps are not known here"}, {"env", "environment variables are not read; declare an input or a secret"}};
    for (const auto& [word, message] : kElsewhere) {
      if (term.text == word) return fail(term.at, "unresolved-reference", message);
    }
    return fail(term.at, "unresolved-reference", "the name '" + shown_text(term.text) + "' is not known here" + did_you_mean(nearest(term.text, known)));
  }

  TypePtr field(const Term& term) {
    const Term& object = tree_.terms[term.children[0]];
    if (object.op == Op::name && object.text == "steps" && names_.step) return step(term.text, term.at);
    return field_of(run(term.children[0]), term);
  }
  TypePtr step(std::string_view id, std::size_t at) {
    ExpressionFinding finding;
    const TypePtr type = names_.step(id, finding);
    return type ? type : fail(at, finding.kind, finding.message);
  }
  TypePtr field_of(const TypePtr& type, const Term& term) {
    switch (type->kind) {
      case Kind::dynamic: return dynamic_type();
      case Kind::list: {
        const TypePtr element = type->element ? type->element : dynamic_type();
        const TypePtr projected = field_of(element, term);
        return list_type(projected);
      }
      case Kind::object: {
        const auto found = type->fields.find(term.text);
        if (found != type->fields.end()) return found->second;
        if (type->open) return dynamic_type();
        std::vector<std::string> known;
        for (const auto& [name, unused] : type->fields) known.push_back(name);
        return fail(term.at, "unresolved-reference", "there is no field '" + shown_text(term.text) + "' here" + did_you_mean(nearest(term.text, known)));
      }
      default: return fail(term.at, "unresolved-reference", std::string(to_words(type->kind)) + " has no field '" + shown_text(term.text) + "'");
    }
  }

  TypePtr index(const Term& term) {
    const Term& object = tree_.terms[term.children[0]];
    const Term& key = tree_.terms[term.children[1]];
    if (object.op == Op::name && object.text == "steps" && names_.step) {
      if (key.op == Op::string) return step(key.text, key.at);
      return mismatch(key.start, "a step is named with a fixed text");
    }
    const TypePtr type = run(term.children[0]);
    const TypePtr key_type = run(term.children[1]);
    if (type->is(Kind::dynamic)) return type;
    if (type->is(Kind::list)) {
      need(Kind::number, key_type, key, "an index", true);
      if (key.op == Op::negate || (key.op == Op::number && key.number.normalised().scale() != 0)) return mismatch(key.start, "an index is a whole number, zero or more");
      return type->element ? type->element : dynamic_type();
    }
    if (type->is(Kind::object)) {
      need(Kind::string, key_type, key, "a field name", true);
      if (key.op != Op::string) return dynamic_type();
      Term as_field = key;
      return field_of(type, as_field);
    }
    return mismatch(term.at, std::string(to_words(type->kind)) + " cannot be indexed");
  }

  TypePtr binary(const Term& term) {
    const TypePtr left = run(term.children[0]);
    const TypePtr right = run(term.children[1]);
    const bool open = left->is(Kind::dynamic) || right->is(Kind::dynamic);
    switch (term.op) {
      case Op::equal:
      case Op::not_equal:
        if (!open && left->kind != right->kind && !left->is(Kind::null) && !right->is(Kind::null)) {
          mismatch(term.at, std::string(to_words(left->kind)) + " and " + to_words(right->kind) + " do not compare");
        }
        return simple_type(Kind::boolean);
      case Op::less: case Op::less_equal: case Op::greater: case Op::greater_equal: {
        const auto ordered = [](const TypePtr& type) { return type->is(Kind::number) || type->is(Kind::string) || type->is(Kind::dynamic); };
        if (!ordered(left)) mismatch(term.at, std::string(to_words(left->kind)) + " has no order");
        else if (!ordered(right)) mismatch(term.at, std::string(to_words(right->kind)) + " has no order");
        else if (!open && left->kind != right->kind) mismatch(term.at, std::string(to_words(left->kind)) + " and " + to_words(right->kind) + " do not compare");
        return simple_type(Kind::boolean);
      }
      case Op::in:
        if (!right->is(Kind::list) && !right->is(Kind::object) && !right->is(Kind::dynamic)) mismatch(term.at, std::string("'in' needs a list or an object, not ") + to_words(right->kind));
        return simple_type(Kind::boolean);
      case Op::add:
        if (open) {
          const TypePtr& known = left->is(Kind::dynamic) ? right : left;
          const bool fits = known->is(Kind::dynamic) || known->is(Kind::number) || known->is(Kind::string) || known->is(Kind::list);
          return fits ? known : mismatch(term.at, std::string("'+' does not take ") + to_words(known->kind));
        }
        if (left->kind == right->kind && (left->is(Kind::string) || left->is(Kind::list))) return left->is(Kind::string) ? simple_type(Kind::string) : list_type(dynamic_type());
        break;
      default: break;
    }
    for (const TypePtr* side : {&left, &right}) {
      if (!(*side)->is(Kind::number) && !(*side)->is(Kind::dynamic)) {
        return mismatch(term.at, "'" + term.text + "' does not take " + to_words(left->kind) + " and " + to_words(right->kind));
      }
    }
    const Term& divisor = tree_.terms[term.children[1]];
    if ((term.op == Op::divide || term.op == Op::modulo) && divisor.op == Op::number && divisor.number.is_zero()) return mismatch(divisor.at, "a division by zero");
    return simple_type(Kind::number);
  }

  bool count_is(const Term& term, std::size_t wanted, std::size_t given) {
    if (wanted == given) return true;
    mismatch(term.at, "'" + term.text + "' takes " + std::to_string(wanted) + (wanted == 1 ? " argument, not " : " arguments, not ") + std::to_string(given));
    return false;
  }
  bool sizable(const TypePtr& type) { return type->is(Kind::dynamic) || type->is(Kind::list) || type->is(Kind::object) || type->is(Kind::string); }

  TypePtr call(const Term& term) {
    const std::size_t given = term.children.size();
    const auto argument = [&](std::size_t i) -> const Term& { return tree_.terms[term.children[i]]; };
    if (term.text == "confidence") {
      if (!names_.confidence) return fail(term.at, "unresolved-reference", "'confidence' is known in the 'when' of a policy only");
      if (!count_is(term, 1, given)) return dynamic_type();
      run(term.children[0]);
      if (path_of(tree_, term.children[0]).empty()) mismatch(argument(0).start, "confidence needs a name such as args.amount");
      return simple_type(Kind::number);
    }
    if (term.text == "size") {
      if (!count_is(term, 1, given)) return dynamic_type();
      const TypePtr type = run(term.children[0]);
      if (!sizable(type)) mismatch(argument(0).start, std::string("size needs a list, an object or a text, not ") + to_words(type->kind));
      return simple_type(Kind::number);
    }
    if (term.text == "sum") {
      if (!count_is(term, 1, given)) return dynamic_type();
      const TypePtr type = run(term.children[0]);
      const bool list = type->is(Kind::list) && (!type->element || type->element->is(Kind::number) || type->element->is(Kind::dynamic));
      if (!list && !type->is(Kind::dynamic)) mismatch(argument(0).start, std::string("sum needs a list of numbers, not ") + (type->is(Kind::list) ? "a list of something else" : to_words(type->kind)));
      return simple_type(Kind::number);
    }
    if (term.text == "round") {
      if (!count_is(term, 2, given)) return dynamic_type();
      for (std::size_t i = 0; i < 2; ++i) need(Kind::number, run(term.children[i]), argument(i), "round", true);
      return simple_type(Kind::number);
    }
    if (term.text == "string") {
      if (!count_is(term, 1, given)) return dynamic_type();
      const TypePtr type = run(term.children[0]);
      if (type->is(Kind::list) || type->is(Kind::object) || type->is(Kind::null)) mismatch(argument(0).start, std::string("string does not take ") + to_words(type->kind));
      return simple_type(Kind::string);
    }
    std::vector<std::string> known{"size", "sum", "round", "string"};
    if (names_.confidence) known.emplace_back("confidence");
    return fail(term.at, "unresolved-reference", "there is no function '" + shown_text(term.text) + "'" + did_you_mean(nearest(term.text, known)));
  }

  TypePtr method(const Term& term) {
    const TypePtr type = run(term.children[0]);
    std::vector<TypePtr> arguments;
    for (std::size_t i = 1; i < term.children.size(); ++i) arguments.push_back(run(term.children[i]));
    static const std::vector<std::string> kMethods{"size", "contains", "startsWith", "endsWith", "matches", "lowerAscii", "upperAscii", "trim"};
    if (std::find(kMethods.begin(), kMethods.end(), term.text) == kMethods.end()) {
      return fail(term.at, "unresolved-reference", "there is no method '" + shown_text(term.text) + "'" + did_you_mean(nearest(term.text, kMethods)));
    }
    if (term.text == "size") {
      if (!count_is(term, 0, arguments.size())) return dynamic_type();
      if (!sizable(type)) mismatch(term.at, std::string(to_words(type->kind)) + " has no size");
      return simple_type(Kind::number);
    }
    if (term.text == "contains" && type->is(Kind::list)) {
      count_is(term, 1, arguments.size());
      return simple_type(Kind::boolean);
    }
    if (!type->is(Kind::string) && !type->is(Kind::dynamic)) return fail(term.at, "unresolved-reference", std::string(to_words(type->kind)) + " has no method '" + term.text + "'");
    const bool plain = term.text == "lowerAscii" || term.text == "upperAscii" || term.text == "trim";
    if (!count_is(term, plain ? 0 : 1, arguments.size())) return dynamic_type();
    if (plain) return simple_type(Kind::string);
    const Term& argument = tree_.terms[term.children[1]];
    if (!(term.text == "contains" && type->is(Kind::dynamic))) need(Kind::string, arguments[0], argument, term.text, true);
    if (term.text == "matches" && argument.op == Op::string) {
      re2::RE2::Options options;
      options.set_log_errors(false);
      if (const re2::RE2 pattern(argument.text, options); !pattern.ok()) mismatch(argument.start, "not a regular expression: " + shown_text(pattern.error(), 80));
    }
    return simple_type(Kind::boolean);
  }

  const Expression::Node& tree_;
  const ExpressionNames& names_;
  std::vector<ExpressionFinding>& findings_;
};

}  // namespace

TypePtr check_types(const Expression::Node& tree, const ExpressionNames& names, std::vector<ExpressionFinding>& findings) {
  return TypeChecker(tree, names, findings).run(tree.root);
}

}  // namespace kontor::agent
