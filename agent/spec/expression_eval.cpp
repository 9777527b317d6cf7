#include "agent/spec/expression_eval.hpp"
#include "agent/spec/text_tools.hpp"

#include <nlohmann/json.hpp>
#include <re2/re2.h>

#include <algorithm>
#include <exception>
#include <limits>

namespace kontor::agent {
namespace {

/// A value while computing: scalars unpacked, lists and objects by reference (into the scope, or into `owned`).
struct Value {
  enum class Kind { null, boolean, number, string, list, object } kind = Kind::null;
  bool flag = false;
  Decimal number;
  std::string text;
  const Json* json = nullptr;
  std::shared_ptr<const Json> owned;
};

using Kind = Value::Kind;

const char* name_of(Kind kind) {
  switch (kind) {
    case Kind::null: return "null";
    case Kind::boolean: return "a boolean";
    case Kind::number: return "a number";
    case Kind::string: return "a string";
    case Kind::list: return "a list";
    case Kind::object: return "an object";
  }
  return "a value";
}

Value boolean(bool flag) {
  Value value;
  value.kind = Kind::boolean;
  value.flag = flag;
  return value;
}
Value string(std::string text) {
  Value value;
  value.kind = Kind::string;
  value.text = std::move(text);
  return value;
}
Value number(const Decimal& decimal) {
  Value value;
  value.kind = Kind::number;
  value.number = decimal;
  return value;
}
Value list(Json json) {
  Value value;
  value.kind = Kind::list;
  value.owned = std::make_shared<const Json>(std::move(json));
  value.json = value.owned.get();
  return value;
}

Result<Decimal> decimal_of(const Json& json) {
  if (json.is_number_float()) return Decimal::from_double(json.get<double>());
  if (!json.is_number_unsigned()) return Decimal(json.get<std::int64_t>());
  const auto value = json.get<std::uint64_t>();
  if (value <= static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) return Decimal(static_cast<std::int64_t>(value));
  return Decimal::parse(std::to_string(value));
}

/// `keeper` keeps the memory behind `json` alive.
Result<Value> from_json(const Json& json, std::shared_ptr<const Json> keeper = nullptr) {
  Value value;
  if (json.is_null()) return value;
  if (json.is_boolean()) return boolean(json.get<bool>());
  if (json.is_string()) return string(json.get<std::string>());
  value.json = &json;
  value.owned = std::move(keeper);
  if (json.is_number()) {
    const auto decimal = decimal_of(json);
    if (!decimal) return decimal.error();
    value.kind = Kind::number;
    value.number = *decimal;
    return value;
  }
  value.kind = json.is_array() ? Kind::list : Kind::object;
  return value;
}

Result<Json> to_json(const Value& value) {
  switch (value.kind) {
    case Kind::null: return Json(nullptr);
    case Kind::boolean: return Json(value.flag);
    case Kind::string: return Json(value.text);
    case Kind::list:
    case Kind::object: return Json(*value.json);
    case Kind::number: break;
  }
  if (value.json) return Json(*value.json);  // read, not computed: as it came
  const Decimal plain = value.number.normalised();
  const std::string text = plain.to_string();
  if (plain.scale() == 0) {
    static const Decimal kLow(std::numeric_limits<std::int64_t>::min());
    static const Decimal kHigh(std::numeric_limits<std::int64_t>::max());
    if (plain >= kLow && plain <= kHigh) return Json(static_cast<std::int64_t>(std::stoll(text)));
  }
  const double nearest_double = plain.to_double();
  const auto back = Decimal::from_double(nearest_double);
  if (!back || *back != plain) {
    return fail(Errc::malformed, "the number " + text + " has more digits than a JSON number keeps; use round(x, digits)", "inexact_number");
  }
  return Json(nearest_double);
}

class Evaluator {
 public:
  Evaluator(const Expression::Node& tree, const Scope& scope, const ConfidenceOf& confidence)
      : tree_(tree), scope_(scope), confidence_(confidence) {}

  /// Recursion is bounded by kMaxExpressionDepth, which the parser enforces.
  Result<Value> run(std::uint32_t id) {
    const Term& term = tree_.terms[id];
    switch (term.op) {
      case Op::null: return Value{};
      case Op::boolean: return boolean(term.flag);
      case Op::number: return number(term.number);
      case Op::string: return string(term.text);
      case Op::name: return read_name(term);
      case Op::field: return read_field(term);
      case Op::index: return read_index(term);
      case Op::call: return call(term);
      case Op::method: return method(term);
      case Op::list: return make_list(term);
      case Op::not_:
      case Op::negate: return unary(term);
      case Op::and_:
      case Op::or_: return logic(term);
      case Op::conditional: return conditional(term);
      default: return binary(term);
    }
  }

 private:
  Error mismatch(const Term& term, const std::string& message) const {
    return fail(Errc::malformed, message, "expression-type", std::to_string(term.at + 1));
  }
  Error missing(const Term& term, const std::string& message) const {
    return fail(Errc::not_found, message, "unresolved-reference", std::to_string(term.at + 1));
  }

  Result<Value> read_name(const Term& term) {
    const Json* found = scope_ ? scope_(term.text) : nullptr;
    if (!found) return missing(term, "'" + term.text + "' is not known here");
    return from_json(*found);
  }

  Result<Json> project(const Json& json, const Term& term, std::size_t depth) {
    if (json.is_object()) {
      const auto member = json.find(term.text);
      if (member == json.end()) return missing(term, "there is no field '" + term.text + "'");
      return Json(*member);
    }
    if (!json.is_array() || depth > 8) return mismatch(term, "'" + term.text + "' is read from a value that has no fields");
    Json out = Json::array();
    for (const auto& element : json) {
      auto field = project(element, term, depth + 1);
      if (!field) return field.error();
      if (++items_ > kMaxEvaluatedItems) return fail(Errc::limit, "the list has too many elements");
      out.push_back(std::move(*field));
    }
    return out;
  }

  Result<Value> read_field(const Term& term) {
    auto object = run(term.children[0]);
    if (!object) return object.error();
    if (object->kind == Kind::object) {
      const auto member = object->json->find(term.text);
      if (member == object->json->end()) return missing(term, "there is no field '" + term.text + "'");
      return from_json(*member, object->owned);
    }
    if (object->kind == Kind::list) {
      auto projected = project(*object->json, term, 0);
      if (!projected) return projected.error();
      return list(std::move(*projected));
    }
    return mismatch(term, "'" + term.text + "' is read from " + name_of(object->kind) + ", which has no fields");
  }

  Result<Value> read_index(const Term& term) {
    auto object = run(term.children[0]);
    if (!object) return object.error();
    const auto index = run(term.children[1]);
    if (!index) return index.error();
    if (object->kind == Kind::object && index->kind == Kind::string) {
      const auto member = object->json->find(index->text);
      if (member == object->json->end()) return missing(term, "there is no field '" + shown_text(index->text) + "'");
      return from_json(*member, object->owned);
    }
    if (object->kind == Kind::list && index->kind == Kind::number) {
      const Decimal at = index->number.normalised();
      if (at.scale() != 0 || at.is_negative() || at >= Decimal(static_cast<std::int64_t>(object->json->size()))) {
        return missing(term, "index " + at.to_string() + " is outside of the list of " + std::to_string(object->json->size()));
      }
      return from_json((*object->json)[static_cast<std::size_t>(std::stoull(at.to_string()))], object->owned);
    }
    return mismatch(term, std::string(name_of(object->kind)) + " cannot be indexed with " + name_of(index->kind));
  }

  Result<Value> make_list(const Term& term) {
    Json out = Json::array();
    for (const auto child : term.children) {
      const auto value = run(child);
      if (!value) return value.error();
      auto json = to_json(*value);
      if (!json) return json.error();
      out.push_back(std::move(*json));
    }
    return list(std::move(out));
  }

  Result<Value> unary(const Term& term) {
    const auto value = run(term.children[0]);
    if (!value) return value.error();
    if (term.op == Op::not_) {
      if (value->kind != Kind::boolean) return mismatch(term, std::string("'!' needs a boolean, not ") + name_of(value->kind));
      return boolean(!value->flag);
    }
    if (value->kind != Kind::number) return mismatch(term, std::string("'-' needs a number, not ") + name_of(value->kind));
    const auto negative = subtract(Decimal(), value->number);
    if (!negative) return negative.error();
    return number(*negative);
  }

  Result<Value> logic(const Term& term) {
    const auto left = run(term.children[0]);
    if (!left) return left.error();
    if (left->kind != Kind::boolean) return mismatch(term, "'" + term.text + "' needs booleans, not " + name_of(left->kind));
    if (left->flag == (term.op == Op::or_)) return boolean(left->flag);
    const auto right = run(term.children[1]);
    if (!right) return right.error();
    if (right->kind != Kind::boolean) return mismatch(term, "'" + term.text + "' needs booleans, not " + name_of(right->kind));
    return boolean(right->flag);
  }

  Result<Value> conditional(const Term& term) {
    const auto condition = run(term.children[0]);
    if (!condition) return condition.error();
    if (condition->kind != Kind::boolean) return mismatch(term, std::string("'?' needs a boolean, not ") + name_of(condition->kind));
    return run(term.children[condition->flag ? 1 : 2]);
  }

  Result<bool> same_json(const Json& a, const Json& b, std::size_t depth) {
    if (depth > 256) return fail(Errc::limit, "the values are nested too deeply to compare");
    if (a.is_number() && b.is_number()) {
      const auto x = decimal_of(a);
      if (!x) return x.error();
      const auto y = decimal_of(b);
      if (!y) return y.error();
      return *x == *y;
    }
    if (a.type() != b.type()) return false;
    if (!a.is_structured()) return a == b;
    if (a.size() != b.size()) return false;
    if (a.is_array()) {
      for (std::size_t i = 0; i < a.size(); ++i) {
        const auto same = same_json(a[i], b[i], depth + 1);
        if (!same || !*same) return same;
      }
      return true;
    }
    for (const auto& [key, member] : a.items()) {
      const auto other = b.find(key);
      if (other == b.end()) return false;
      const auto same = same_json(member, *other, depth + 1);
      if (!same || !*same) return same;
    }
    return true;
  }

  Result<bool> same(const Value& a, const Value& b) {
    switch (a.kind) {
      case Kind::null: return true;
      case Kind::boolean: return a.flag == b.flag;
      case Kind::number: return a.number == b.number;
      case Kind::string: return a.text == b.text;
      default: return same_json(*a.json, *b.json, 0);
    }
  }

  Result<Value> compare(const Term& term, const Value& a, const Value& b) {
    const bool equality = term.op == Op::equal || term.op == Op::not_equal;
    if (equality && (a.kind == Kind::null || b.kind == Kind::null)) return boolean((a.kind == b.kind) == (term.op == Op::equal));
    if (a.kind != b.kind) return mismatch(term, std::string(name_of(a.kind)) + " and " + name_of(b.kind) + " do not compare");
    if (equality) {
      const auto equal = same(a, b);
      if (!equal) return equal.error();
      return boolean(*equal == (term.op == Op::equal));
    }
    int order = 0;
    if (a.kind == Kind::number) order = a.number < b.number ? -1 : a.number > b.number ? 1 : 0;
    else if (a.kind == Kind::string) order = a.text.compare(b.text);
    else return mismatch(term, std::string(name_of(a.kind)) + " has no order");
    switch (term.op) {
      case Op::less: return boolean(order < 0);
      case Op::less_equal: return boolean(order <= 0);
      case Op::greater: return boolean(order > 0);
      default: return boolean(order >= 0);
    }
  }

  Result<Value> contained(const Term& term, const Value& a, const Value& b) {
    if (b.kind == Kind::object && a.kind == Kind::string) return boolean(b.json->contains(a.text));
    if (b.kind != Kind::list) return mismatch(term, std::string("'in' needs a list or an object, not ") + name_of(b.kind));
    const auto wanted = to_json(a);
    if (!wanted) return wanted.error();
    for (const auto& element : *b.json) {
      const auto equal = same_json(*wanted, element, 0);
      if (!equal) return equal.error();
      if (*equal) return boolean(true);
    }
    return boolean(false);
  }

  Result<Value> binary(const Term& term) {
    const auto left = run(term.children[0]);
    if (!left) return left.error();
    const auto right = run(term.children[1]);
    if (!right) return right.error();
    switch (term.op) {
      case Op::equal: case Op::not_equal: case Op::less: case Op::less_equal: case Op::greater: case Op::greater_equal:
        return compare(term, *left, *right);
      case Op::in: return contained(term, *left, *right);
      default: break;
    }
    if (term.op == Op::add && left->kind == Kind::string && right->kind == Kind::string) {
      if (left->text.size() + right->text.size() > kMaxEvaluatedBytes) return fail(Errc::limit, "the text grows too long");
      return string(left->text + right->text);
    }
    if (term.op == Op::add && left->kind == Kind::list && right->kind == Kind::list) {
      if (left->json->size() + right->json->size() > kMaxEvaluatedItems) return fail(Errc::limit, "the list grows too long");
      Json joined = *left->json;
      for (const auto& element : *right->json) joined.push_back(element);
      return list(std::move(joined));
    }
    if (left->kind != Kind::number || right->kind != Kind::number) {
      return mismatch(term, "'" + term.text + "' does not take " + name_of(left->kind) + " and " + name_of(right->kind));
    }
    const auto result = arithmetic(term.op, left->number, right->number);
    if (!result) return result.error();
    return number(*result);
  }

  static Result<Decimal> arithmetic(Op op, const Decimal& a, const Decimal& b) {
    switch (op) {
      case Op::add: return add(a, b);
      case Op::subtract: return subtract(a, b);
      case Op::multiply: return multiply(a, b);
      case Op::divide: return quotient(a, b);
      default: return remainder(a, b);
    }
  }
  /// Exact when it can be; otherwise 18 digits behind the point, half to even.
  static Result<Decimal> quotient(const Decimal& a, const Decimal& b) {
    constexpr int kDigits = 18;
    for (int digits = kDigits; digits >= 0; digits -= 6) {
      const auto result = divide(a, b, digits);
      if (result || result.error().code != Errc::limit || digits == 0) return result ? Result<Decimal>(result->normalised()) : result;
    }
    return fail(Errc::internal, "division");
  }
  static Result<Decimal> remainder(const Decimal& a, const Decimal& b) {
    auto whole = divide(a, b, 0);
    if (!whole) return whole;
    for (int attempt = 0; attempt < 2; ++attempt) {
      const auto product = multiply(*whole, b);
      if (!product) return product;
      const auto rest = subtract(a, *product);
      if (!rest || rest->is_zero() || rest->is_negative() == a.is_negative()) return rest;
      // The quotient was rounded away from zero: one step back gives a remainder with the sign of `a`.
      const bool negative = a.is_negative() != b.is_negative();
      whole = add(*whole, Decimal(negative ? 1 : -1));
      if (!whole) return whole;
    }
    return fail(Errc::internal, "remainder");
  }

  Result<Value> size_of(const Term& term, const Value& value) {
    switch (value.kind) {
      case Kind::string: return number(Decimal(static_cast<std::int64_t>(count_code_points(value.text, value.text.size()))));
      case Kind::list:
      case Kind::object: return number(Decimal(static_cast<std::int64_t>(value.json->size())));
      default: return mismatch(term, std::string("size needs a list, an object or a string, not ") + name_of(value.kind));
    }
  }

  Result<Value> call(const Term& term) {
    const auto takes = [&](std::size_t count) { return term.children.size() == count; };
    if (term.text == "confidence") {
      if (!takes(1)) return mismatch(term, "confidence takes one argument");
      const std::string path = path_of(tree_, term.children[0]);
      if (path.empty()) return mismatch(term, "confidence needs a name such as args.amount");
      if (!confidence_) return missing(term, "confidence is known in policy conditions only");
      const auto value = confidence_(path);
      if (!value) return value.error();
      const auto decimal = Decimal::from_double(*value);
      if (!decimal) return decimal.error();
      return number(*decimal);
    }
    std::vector<Value> arguments;
    for (const auto child : term.children) {
      auto value = run(child);
      if (!value) return value.error();
      arguments.push_back(std::move(*value));
    }
    if (term.text == "size") {
      if (!takes(1)) return mismatch(term, "size takes one argument");
      return size_of(term, arguments[0]);
    }
    if (term.text == "sum") {
      if (!takes(1)) return mismatch(term, "sum takes one argument");
      if (arguments[0].kind != Kind::list) return mismatch(term, std::string("sum needs a list of numbers, not ") + name_of(arguments[0].kind));
      Decimal total;
      for (const auto& element : *arguments[0].json) {
        if (!element.is_number()) return mismatch(term, "sum needs a list of numbers");
        const auto value = decimal_of(element);
        if (!value) return value.error();
        const auto next = add(total, *value);
        if (!next) return next.error();
        total = *next;
      }
      return number(total);
    }
    if (term.text == "round") {
      const bool fits = takes(2) && arguments[0].kind == Kind::number && arguments[1].kind == Kind::number;
      if (!fits) return mismatch(term, "round takes a number and how many digits to keep behind the point");
      const Decimal digits = arguments[1].number.normalised();
      if (digits.scale() != 0 || digits.is_negative() || digits > Decimal(18)) return mismatch(term, "round keeps 0 to 18 digits");
      const auto rounded = round(arguments[0].number, std::stoi(digits.to_string()));
      if (!rounded) return rounded.error();
      return number(*rounded);
    }
    if (term.text == "string") {
      if (!takes(1)) return mismatch(term, "string takes one argument");
      if (arguments[0].kind == Kind::string) return arguments[0];
      if (arguments[0].kind == Kind::number) return string(arguments[0].number.to_string());
      if (arguments[0].kind == Kind::boolean) return string(arguments[0].flag ? "true" : "false");
      return mismatch(term, std::string("string does not take ") + name_of(arguments[0].kind));
    }
    return missing(term, "there is no function '" + term.text + "'");
  }

  Result<Value> method(const Term& term) {
    const auto object = run(term.children[0]);
    if (!object) return object.error();
    std::vector<Value> arguments;
    for (std::size_t i = 1; i < term.children.size(); ++i) {
      auto value = run(term.children[i]);
      if (!value) return value.error();
      arguments.push_back(std::move(*value));
    }
    if (term.text == "size") {
      if (!arguments.empty()) return mismatch(term, "size takes no argument here");
      return size_of(term, *object);
    }
    if (term.text == "contains" && object->kind == Kind::list) {
      if (arguments.size() != 1) return mismatch(term, "contains takes one argument");
      return contained(term, arguments[0], *object);
    }
    if (object->kind != Kind::string) return missing(term, std::string(name_of(object->kind)) + " has no method '" + term.text + "'");
    const std::string& text = object->text;
    if (term.text == "lowerAscii" || term.text == "upperAscii" || term.text == "trim") {
      if (!arguments.empty()) return mismatch(term, term.text + " takes no argument");
      return string(term.text == "trim" ? trimmed(text) : cased(text, term.text == "upperAscii"));
    }
    const bool takes_text = term.text == "contains" || term.text == "startsWith" || term.text == "endsWith" || term.text == "matches";
    if (!takes_text) return missing(term, "a string has no method '" + term.text + "'");
    if (arguments.size() != 1 || arguments[0].kind != Kind::string) return mismatch(term, term.text + " takes one string");
    const std::string& other = arguments[0].text;
    if (term.text == "contains") return boolean(text.find(other) != std::string::npos);
    if (term.text == "startsWith") return boolean(text.compare(0, other.size(), other) == 0);
    if (term.text == "endsWith") return boolean(text.size() >= other.size() && text.compare(text.size() - other.size(), other.size(), other) == 0);
    re2::RE2::Options options;
    options.set_log_errors(false);
    const re2::RE2 pattern(other, options);
    if (!pattern.ok()) return mismatch(term, "the pattern is not a regular expression: " + shown_text(pattern.error()));
    return boolean(re2::RE2::PartialMatch(text, pattern));
  }

  static std::string trimmed(const std::string& text) {
    const auto first = text.find_first_not_of(" \t\r\n");
    if (first == std::string::npos) return {};
    return text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1);
  }
  static std::string cased(std::string text, bool upper) {
    for (char& c : text) {
      if (upper && c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
      if (!upper && c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    }
    return text;
  }

  const Expression::Node& tree_;
  const Scope& scope_;
  const ConfidenceOf& confidence_;
  std::size_t items_ = 0;
};

}  // namespace

std::string path_of(const Expression::Node& tree, std::uint32_t term) {
  std::vector<std::string_view> names;
  while (tree.terms[term].op == Op::field) {
    names.push_back(tree.terms[term].text);
    term = tree.terms[term].children[0];
  }
  if (tree.terms[term].op != Op::name) return {};
  std::string path = tree.terms[term].text;
  for (auto name = names.rbegin(); name != names.rend(); ++name) path.append(".").append(*name);
  return path;
}

Result<Json> evaluate_tree(const Expression::Node& tree, const Scope& scope, const ConfidenceOf& confidence) {
  try {
    const auto value = Evaluator(tree, scope, confidence).run(tree.root);
    if (!value) return value.error();
    return to_json(*value);
  } catch (const std::exception& error) {  // out of memory, or JSON that is not UTF-8
    return fail(Errc::internal, std::string("the expression could not be computed: ") + error.what());
  }
}

}  // namespace kontor::agent
