// builtin.math: a calculator on exact decimals. Operators wait on a stack, so nesting costs memory, not call depth.

#include "base/decimal.hpp"
#include "tools/builtin/function_tool.hpp"
#include "tools/builtin/groups.hpp"
#include "tools/nearest.hpp"

#include <optional>
#include <string>
#include <vector>

namespace kontor::tools {
namespace {

constexpr std::size_t kTextMax = 4'000;
constexpr std::size_t kDepthMax = 200;
constexpr int kDivisionPlaces = 20;

const std::vector<std::string> kFunctions{"abs", "avg", "max", "min", "pow", "round", "sum"};

enum class Kind { number, name, symbol, end };

struct Token {
  Kind kind = Kind::end;
  std::string_view text;
  std::size_t column = 0;
};

class Calculator {
 public:
  explicit Calculator(std::string_view text) : text_(text) {}

  Result<Decimal> run() {
    bool operand = true;  // What is expected next.
    for (Token token = next(); !failed_; token = next()) {
      if (operand) {
        operand = begin_operand(token);
      } else if (token.kind == Kind::end) {
        while (!failed_ && !operators_.empty()) {
          if (operators_.back().symbol == '(') stop(operators_.back().column, "this parenthesis is never closed");
          else reduce();
        }
        break;
      } else {
        operand = after_operand(token);
      }
    }
    if (failed_) return error_;
    return values_.back();
  }
  bool rounded() const { return rounded_; }

 private:
  struct Operator {
    char symbol;              ///< + - * / % ~ (negation) and (
    std::size_t column;
    std::string function;     ///< Of a parenthesis that holds arguments.
    std::size_t arguments = 0;
    std::size_t values = 0;   ///< Size of values_ when the parenthesis opened.
  };

  void stop(std::size_t column, const std::string& message) {
    if (!failed_) error_ = fail(Errc::malformed, message, "expression", "column " + std::to_string(column + 1));
    failed_ = true;
  }
  void stop(std::size_t column, const Error& error) { stop(column, error.message); }

  Token next() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\t' || text_[at_] == '\n' || text_[at_] == '\r')) ++at_;
    if (at_ >= text_.size()) return {Kind::end, "the end", at_};
    const std::size_t begin = at_;
    const auto digit = [&](std::size_t i) { return i < text_.size() && text_[i] >= '0' && text_[i] <= '9'; };
    const auto letter = [&](std::size_t i) { return i < text_.size() && ((text_[i] >= 'a' && text_[i] <= 'z') || (text_[i] >= 'A' && text_[i] <= 'Z') || text_[i] == '_'); };
    if (digit(at_) || (text_[at_] == '.' && digit(at_ + 1))) {
      while (digit(at_)) ++at_;
      if (at_ < text_.size() && text_[at_] == '.') ++at_;
      while (digit(at_)) ++at_;
      if (at_ < text_.size() && (text_[at_] == 'e' || text_[at_] == 'E')) {
        const std::size_t sign = at_ + 1 < text_.size() && (text_[at_ + 1] == '+' || text_[at_ + 1] == '-') ? 1 : 0;
        if (digit(at_ + 1 + sign)) {
          at_ += 1 + sign;
          while (digit(at_)) ++at_;
        }
      }
      return {Kind::number, text_.substr(begin, at_ - begin), begin};
    }
    if (letter(at_)) {
      while (letter(at_) || digit(at_)) ++at_;
      return {Kind::name, text_.substr(begin, at_ - begin), begin};
    }
    do {
      ++at_;  // A character of several bytes stays whole in messages.
    } while (at_ < text_.size() && (static_cast<unsigned char>(text_[at_]) & 0xc0) == 0x80);
    return {Kind::symbol, text_.substr(begin, at_ - begin), begin};
  }

  /// Returns whether an operand is still expected.
  bool begin_operand(const Token& token) {
    if (token.kind == Kind::number) {
      std::string digits(token.text);
      if (digits.front() == '.') digits.insert(0, "0");
      if (digits.back() == '.') digits += '0';
      auto number = Decimal::parse(digits);
      if (!number) stop(token.column, number.error());
      else values_.push_back(*number);
      return false;
    }
    if (token.kind == Kind::name) {
      open_function(token);
      return true;
    }
    if (token.text == "(") {
      open(token.column, {});
      return true;
    }
    if (token.text == "-" || token.text == "+") {
      if (token.text == "-") push('~', token.column);
      return true;
    }
    if (token.text == ")" && !operators_.empty() && operators_.back().symbol == '(' && !operators_.back().function.empty() &&
        values_.size() == operators_.back().values) {
      stop(token.column, operators_.back().function + " needs at least one number");
    }
    stop(token.column, "expected a number, found " + shown(token) + hint(token));
    return false;
  }

  bool after_operand(const Token& token) {
    if (token.kind == Kind::symbol && token.text.size() == 1) {
      const char c = token.text[0];
      if (c == '+' || c == '-' || c == '*' || c == '/' || c == '%') {
        while (!failed_ && !operators_.empty() && strength(operators_.back().symbol) >= strength(c)) reduce();
        push(c, token.column);
        return true;
      }
      if (c == ',' || c == ')') {
        while (!failed_ && !operators_.empty() && operators_.back().symbol != '(') reduce();
        if (operators_.empty()) stop(token.column, "this '" + std::string(token.text) + "' has no opening parenthesis");
        if (failed_) return false;
        if (c == ')') {
          close(token.column);
          return false;
        }
        if (operators_.back().function.empty()) stop(token.column, "a comma outside of a function's arguments");
        return true;
      }
    }
    stop(token.column, "expected an operator, found " + shown(token) + hint(token));
    return false;
  }

  /// For what people and models write in other notations.
  std::string hint(const Token& token) const {
    const std::string_view text = token.text;
    if (text.starts_with('^') || (text == "*" && !operators_.empty() && operators_.back().symbol == '*')) return " (powers are written pow(a, n))";
    if (text.starts_with("×") || text.starts_with("·")) return " (a product is written a * b)";
    if (text.starts_with("÷") || text.starts_with(":")) return " (a quotient is written a / b)";
    if (text.starts_with("−") || text.starts_with("–")) return " (minus is written -)";
    if (text.starts_with(',') || text.starts_with('.')) return " (decimals are written with a point, thousands without a mark)";
    if (text.starts_with('_') || (!text.empty() && text[0] >= '0' && text[0] <= '9')) return " (thousands are written without a mark)";
    if (token.kind == Kind::end && !operators_.empty() && operators_.back().symbol == '%') return " (% is the remainder of a division; 19 percent of a is a * 0.19)";
    return {};
  }

  static std::string shown(const Token& token) { return token.kind == Kind::end ? "the end" : "'" + std::string(token.text.substr(0, 40)) + "'"; }
  static int strength(char symbol) { return symbol == '(' ? 0 : symbol == '+' || symbol == '-' ? 1 : symbol == '~' ? 3 : 2; }

  void push(char symbol, std::size_t column) {
    if (operators_.size() >= kDepthMax) return stop(column, "nested deeper than " + std::to_string(kDepthMax) + " levels");
    operators_.push_back({symbol, column, {}, 0, values_.size()});
  }
  void open(std::size_t column, std::string function) {
    push('(', column);
    if (!failed_) operators_.back().function = std::move(function);
  }
  void open_function(const Token& token) {
    const std::string name(token.text);
    bool known = false;
    for (const auto& function : kFunctions) known = known || function == name;
    if (!known) {
      const auto near = nearest(name, kFunctions);
      return stop(token.column, "unknown name '" + name.substr(0, 40) + "'" + (near.empty() ? "; functions are abs, avg, max, min, pow, round, sum" : " (did you mean '" + near + "'?)"));
    }
    if (const Token paren = next(); paren.text != "(" || paren.kind != Kind::symbol) return stop(paren.column, "expected '(' after " + name);
    open(token.column, name);
  }

  void reduce() {
    const Operator top = operators_.back();
    operators_.pop_back();
    if (top.symbol == '~') {
      give(top.column, subtract(Decimal(0), take()));
      return;
    }
    const Decimal right = take(), left = take();
    switch (top.symbol) {
      case '+': return give(top.column, add(left, right));
      case '-': return give(top.column, subtract(left, right));
      case '*': return give(top.column, multiply(left, right));
      case '%': return give(top.column, remainder(left, right));
      default: return give(top.column, quotient(left, right));
    }
  }
  Decimal take() {
    const Decimal value = values_.back();
    values_.pop_back();
    return value;
  }
  void give(std::size_t column, const Result<Decimal>& value) {
    if (!value) return stop(column, value.error());
    values_.push_back(*value);
  }

  Result<Decimal> quotient(const Decimal& a, const Decimal& b) {
    if (b.is_zero()) return fail(Errc::malformed, "division by zero");
    // As many places as fit, so that large numbers still have a quotient.
    for (int places = kDivisionPlaces; places >= 0; places -= 5) {
      auto result = divide(a, b, places);
      if (!result) continue;
      const auto back = multiply(*result, b);
      rounded_ = rounded_ || !back || *back != a;
      return result->normalised();
    }
    return divide(a, b, 0);
  }
  /// Sign of the dividend, as in C and SQL.
  Result<Decimal> remainder(const Decimal& a, const Decimal& b) {
    if (b.is_zero()) return fail(Errc::malformed, "division by zero");
    const Decimal x = a.is_negative() ? *subtract(Decimal(0), a) : a, y = b.is_negative() ? *subtract(Decimal(0), b) : b;
    auto whole = divide(x, y, 0);
    if (!whole) return whole;
    auto product = multiply(*whole, y);
    if (product && *product > x) {  // Rounded up.
      whole = subtract(*whole, Decimal(1));
      product = multiply(*whole, y);
    }
    if (!product) return product;
    auto rest = subtract(x, *product);
    return rest && a.is_negative() ? subtract(Decimal(0), *rest) : rest;
  }

  void close(std::size_t column) {
    const Operator call = operators_.back();
    operators_.pop_back();
    if (call.function.empty()) return;
    const std::vector<Decimal> numbers(values_.begin() + static_cast<std::ptrdiff_t>(call.values), values_.end());
    values_.resize(call.values);
    give(call.column, apply(call.function, numbers));
    if (values_.empty() && !failed_) stop(column, "nothing to compute");
  }

  Result<Decimal> apply(const std::string& name, const std::vector<Decimal>& n) {
    if (name == "abs") {
      if (n.size() != 1) return fail(Errc::malformed, "abs takes one number");
      return n[0].is_negative() ? subtract(Decimal(0), n[0]) : Result<Decimal>(n[0]);
    }
    if (name == "round") return rounding(n);
    if (name == "pow") return power(n);
    Result<Decimal> result = n[0];
    for (std::size_t i = 1; i < n.size() && result; ++i) {
      if (name == "min") result = std::min(*result, n[i]);
      else if (name == "max") result = std::max(*result, n[i]);
      else result = add(*result, n[i]);
    }
    if (name == "avg" && result) return quotient(*result, Decimal(static_cast<std::int64_t>(n.size())));
    return result;
  }
  static std::optional<int> small(const Decimal& value, int most) {
    for (int i = 0; i <= most; ++i) {
      if (value == Decimal(i)) return i;
    }
    return std::nullopt;
  }
  Result<Decimal> rounding(const std::vector<Decimal>& n) {
    const auto places = n.size() == 1 ? std::optional<int>(0) : n.size() == 2 ? small(n[1], 30) : std::nullopt;
    if (!places) return fail(Errc::malformed, "round takes a number and how many places, 0 to 30");
    return divide(n[0], Decimal(1), *places);
  }
  Result<Decimal> power(const std::vector<Decimal>& n) {
    const auto exponent = n.size() == 2 ? small(n[1], 100) : std::nullopt;
    if (!exponent) return fail(Errc::malformed, "pow takes a number and a whole exponent from 0 to 100");
    Result<Decimal> result = Decimal(1);
    for (int i = 0; i < *exponent && result; ++i) result = multiply(*result, n[0]);
    return result;
  }

  std::string_view text_;
  std::size_t at_ = 0;
  std::vector<Decimal> values_;
  std::vector<Operator> operators_;
  bool rounded_ = false;
  bool failed_ = false;
  Error error_;
};

ToolSpec eval_spec(const std::string& group) {
  ToolSpec spec;
  spec.name = group + ".eval";
  spec.description = "Calculates with exact decimals: + - * / % ( ), abs, avg, max, min, pow(x, n), round(x, places), sum. "
                     "Division has up to 20 decimal places; exact tells whether nothing was rounded.";
  spec.parameters = schema(R"json({"type":"object","properties":{"expression":{"type":"string","minLength":1,"maxLength":4000,
    "description":"For example round(1250.00 * 0.19, 2)"}},"required":["expression"],"additionalProperties":false})json");
  spec.result = schema(R"({"type":"object","properties":{"value":{"type":["number","string"]},"text":{"type":"string"},
    "exact":{"type":"boolean"}},"required":["value","text","exact"]})");
  spec.at_once = true;
  return spec;
}

/// A JSON number when it reads back as the same decimal, else the text.
Json number_json(const Decimal& value) {
  const std::string plain = value.normalised().to_string();
  auto parsed = parse_json(plain);
  if (!parsed) return Json(plain);
  const auto back = parsed->is_number_float() ? Decimal::from_double(parsed->get<double>()) : Decimal::parse(parsed->dump());
  return back && *back == value ? *parsed : Json(plain);
}

ToolResult eval(const Json& arguments) {
  const auto text = arguments["expression"].get<std::string>();
  if (text.size() > kTextMax) return ToolResult::error("limit", "an expression of more than " + std::to_string(kTextMax) + " bytes");
  Calculator calculator(text);
  const auto value = calculator.run();
  if (!value) return error_result(value.error());
  Json result = Json::object();
  result["value"] = number_json(*value);
  result["text"] = value->to_string();
  result["exact"] = !calculator.rounded();
  return ToolResult::ok(std::move(result));
}

}  // namespace

std::vector<ToolSpec> describe_math(const std::string& group) { return {eval_spec(group)}; }

Result<Tools> make_math(const std::string& group, const Json& settings, const BuiltinContext&) {
  if (auto checked = check_settings(settings, group, {}); !checked) return checked.error();
  Tools tools;
  tools.push_back(std::make_shared<FunctionTool>(eval_spec(group), [](const Json& arguments, const CallContext&) { return eval(arguments); }));
  return tools;
}

}  // namespace kontor::tools
