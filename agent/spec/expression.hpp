#pragma once
// The `${...}` language of agent files: a small, side-effect-free subset of CEL with list projection, `sum`, `size` and
// `confidence`. Numbers are exact decimals while computing.

#include "base/error.hpp"
#include "base/json.hpp"

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace kontor::agent {

/// Looks up a root name ("inputs", "steps", "item", "result", "args"); nullptr when it does not exist here.
using Scope = std::function<const Json*(std::string_view name)>;

/// A parsed expression. Cheap to copy, immutable, thread-safe.
class Expression {
 public:
  /// Text without the braces. Errors: malformed with "column" in `where`.
  static Result<Expression> parse(std::string_view text);
  /// Errors: not_found (no such name or field), malformed (types do not fit), limit. A number that is not exact as a
  /// JSON number is an error, not a rounded value. Integers come back as integers.
  Result<Json> evaluate(const Scope& scope) const;
  /// `confidence(args.x)` asks this function with the argument's path; without it the function is an error.
  Result<Json> evaluate(const Scope& scope, const std::function<Result<double>(std::string_view path)>& confidence) const;
  const std::string& text() const;

  struct Node;
 private:
  std::shared_ptr<const Node> root_;
  std::string text_;
};

/// A text with `${...}` parts ("$${" is a literal "${"). A text that is one expression keeps the expression's type;
/// otherwise the parts are joined as text.
class Template {
 public:
  static Result<Template> parse(std::string_view text);
  Result<Json> evaluate(const Scope& scope) const;
  bool is_constant() const;

 private:
  struct Part {
    std::string text;
    std::shared_ptr<const Expression> expression;
  };
  std::vector<Part> parts_;
};

/// Evaluates every string inside a JSON value as a Template (the `with:` of a step).
Result<Json> evaluate_templates(const Json& value, const Scope& scope);

}  // namespace kontor::agent
