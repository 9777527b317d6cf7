// Reading expressions and templates; evaluation is in expression_eval.cpp.

#include "agent/spec/expression_eval.hpp"
#include "agent/spec/text_tools.hpp"

#include <nlohmann/json.hpp>

namespace kontor::agent {
namespace {

Error to_error(std::string_view text, const ExpressionProblem& problem) {
  const bool limit = problem.kind == ExpressionProblem::Kind::limit;
  const char* kind = limit ? "yaml-limit" : problem.kind == ExpressionProblem::Kind::type ? "expression-type" : "expression-syntax";
  return fail(limit ? Errc::limit : Errc::malformed, problem.message + did_you_mean(problem.suggestion), kind,
              std::to_string(count_code_points(text, problem.offset) + 1));
}

/// How a value reads inside a longer text.
Result<std::string> as_text(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number_float()) {
    if (const auto number = Decimal::from_double(value.get<double>())) return number->normalised().to_string();
  }
  return spaced_json(value);
}

}  // namespace

Result<Expression> Expression::parse(std::string_view text) {
  auto tree = std::make_shared<Node>();
  ExpressionProblem problem;
  if (!parse_expression(text, *tree, problem)) return to_error(text, problem);
  Expression expression;
  expression.root_ = std::move(tree);
  expression.text_ = text;
  return expression;
}

const std::string& Expression::text() const { return text_; }

Result<Json> Expression::evaluate(const Scope& scope) const { return evaluate(scope, {}); }

Result<Json> Expression::evaluate(const Scope& scope, const std::function<Result<double>(std::string_view path)>& confidence) const {
  if (!root_) return fail(Errc::internal, "an empty expression was evaluated");
  return evaluate_tree(*root_, scope, confidence);
}

Result<Template> Template::parse(std::string_view text) {
  std::vector<TemplatePiece> pieces;
  ExpressionProblem problem;
  if (!split_template(text, pieces, problem)) return to_error(text, problem);
  Template result;
  for (auto& piece : pieces) {
    if (!piece.is_expression) {
      result.parts_.push_back({std::move(piece.text), nullptr});
      continue;
    }
    const std::string_view inner = text.substr(piece.begin, piece.end - piece.begin);
    auto expression = Expression::parse(inner);
    if (!expression) {
      Error error = expression.error();
      error.where = std::to_string(std::stoul(error.where) + count_code_points(text, piece.begin));
      return error;
    }
    result.parts_.push_back({{}, std::make_shared<const Expression>(std::move(*expression))});
  }
  return result;
}

bool Template::is_constant() const {
  for (const auto& part : parts_) {
    if (part.expression) return false;
  }
  return true;
}

Result<Json> Template::evaluate(const Scope& scope) const {
  if (parts_.size() == 1 && parts_[0].expression) return parts_[0].expression->evaluate(scope);
  std::string text;
  for (const auto& part : parts_) {
    if (!part.expression) {
      text += part.text;
      continue;
    }
    const auto value = part.expression->evaluate(scope);
    if (!value) return value.error();
    const auto shown = as_text(*value);
    if (!shown) return shown.error();
    text += *shown;
    if (text.size() > kMaxEvaluatedBytes) return fail(Errc::limit, "the text is longer than " + std::to_string(kMaxEvaluatedBytes) + " bytes");
  }
  return Json(std::move(text));
}

Result<Json> evaluate_templates(const Json& value, const Scope& scope) {
  // Values come from checked files, whose depth is bounded.
  if (value.is_string()) {
    const auto& text = value.get_ref<const std::string&>();
    if (text.find("${") == std::string::npos) return Json(text);
    const auto parsed = Template::parse(text);
    if (!parsed) return parsed.error();
    return parsed->evaluate(scope);
  }
  if (value.is_array()) {
    Json out = Json::array();
    for (const auto& element : value) {
      auto result = evaluate_templates(element, scope);
      if (!result) return result.error();
      out.push_back(std::move(*result));
    }
    return out;
  }
  if (value.is_object()) {
    Json out = Json::object();
    for (const auto& [key, member] : value.items()) {
      auto result = evaluate_templates(member, scope);
      if (!result) return result.error();
      out[key] = std::move(*result);
    }
    return out;
  }
  return Json(value);
}

}  // namespace kontor::agent
