#include "agent/spec/expression.hpp"

#include "tests/support/catch.hpp"

#include <nlohmann/json.hpp>

namespace {

using kontor::Json;
using kontor::agent::Expression;
using kontor::agent::Template;

const Json& data() {
  static const Json value = Json::parse(R"({
    "inputs": {"limit": 5000, "region": "EU", "tags": ["a", "b"], "none": null},
    "result": {"total": 119.3, "iban": "DE02", "decision": "approve",
               "lines": [{"text": "Paper", "amount": 100.1}, {"text": "Ink", "amount": 19.2}]},
    "item": {"path": "a/b.txt", "count": 3, "big": 9007199254740993, "nested": [[1, 2], [3]]}
  })");
  return value;
}

const Json* lookup(std::string_view name) {
  const auto found = data().find(std::string(name));
  return found == data().end() ? nullptr : &*found;
}

/// The value as JSON text, or "kind@column".
std::string value(const std::string& text) {
  const auto expression = Expression::parse(text);
  if (!expression) return expression.error().kind + "@" + expression.error().where;
  const auto result = expression->evaluate(lookup);
  return result ? result->dump() : result.error().kind;
}

std::string filled(const std::string& text) {
  const auto parsed = Template::parse(text);
  if (!parsed) return parsed.error().kind + "@" + parsed.error().where;
  const auto result = parsed->evaluate(lookup);
  return result ? result->dump() : result.error().kind;
}

}  // namespace

TEST_CASE("numbers are computed exactly", "[expression]") {
  CHECK(value("result.total == sum(result.lines.amount)") == "true");
  CHECK(value("0.1 + 0.2 == 0.3") == "true");
  CHECK(value("0.1 + 0.2") == "0.3");
  CHECK(value("1.0") == "1");
  CHECK(value("7 / 2") == "3.5");
  CHECK(value("-7 % 3") == "-1");
  CHECK(value("8 % 3") == "2");
  CHECK(value("8 % -5") == "3");
  CHECK(value("item.big + 1") == "9007199254740994");
  CHECK(value("2 * 3 - 4 * (1 - 5)") == "22");
  CHECK(value("1 / 3") == "inexact_number");
  CHECK(value("round(1 / 3, 2)") == "0.33");
  CHECK(value("10 / 0") == "division_by_zero");
  CHECK(value("99999999999999999999 * 99999999999999999999") == "decimal_overflow");
  CHECK(value("sum([])") == "0");
}

TEST_CASE("fields project over lists and lists can be indexed", "[expression]") {
  CHECK(value("result.lines.text") == R"(["Paper","Ink"])");
  CHECK(value("result.lines[1].amount") == "19.2");
  CHECK(value("result['iban']") == "\"DE02\"");
  CHECK(value("result.lines[2]") == "unresolved-reference");
  CHECK(value("result.lines[0.5]") == "unresolved-reference");
  CHECK(value("result.lines[-1]") == "unresolved-reference");
  CHECK(value("result.missing") == "unresolved-reference");
  CHECK(value("result.lines.missing") == "unresolved-reference");
  CHECK(value("result.total.x") == "expression-type");
  CHECK(value("nothing") == "unresolved-reference");
  CHECK(value("item.nested[0] + [3]") == "[1,2,3]");
}

TEST_CASE("logic stops at the first answer", "[expression]") {
  CHECK(value("true || nothing") == "true");
  CHECK(value("false && nothing") == "false");
  CHECK(value("!(inputs.limit > 100) || inputs.region == 'EU' && size(inputs.tags) >= 2") == "true");
  CHECK(value("inputs.limit > 1 ? 'yes' : nothing") == "\"yes\"");
  CHECK(value("inputs.none == null") == "true");
  CHECK(value("inputs.region != null") == "true");
  CHECK(value("inputs.region == 5") == "expression-type");
  CHECK(value("!inputs.limit") == "expression-type");
  CHECK(value("'a' in inputs.tags") == "true");
  CHECK(value("'limit' in inputs") == "true");
  CHECK(value("result.lines == result.lines") == "true");
}

TEST_CASE("strings have a few methods", "[expression]") {
  CHECK(value("inputs.region + \"-\" + 'x'") == "\"EU-x\"");
  CHECK(value("item.path.startsWith('a/') && item.path.endsWith('.txt')") == "true");
  CHECK(value("item.path.contains('b') && inputs.tags.contains('b')") == "true");
  CHECK(value("item.path.matches('^[a-z]/.*[.]txt$')") == "true");
  CHECK(value("item.path.matches('(')") == "expression-type");
  CHECK(value("inputs.region.lowerAscii()") == "\"eu\"");
  CHECK(value("size('Köln')") == "4");
  CHECK(value("result.iban.exec('id')") == "unresolved-reference");
  CHECK(value("'it\\'s'") == "\"it's\"");
}

TEST_CASE("what is not in the language is a syntax error with its column", "[expression]") {
  CHECK(value("") == "expression-syntax@1");
  CHECK(value("1 +") == "expression-syntax@4");
  CHECK(value("a = 1") == "expression-syntax@3");
  CHECK(value("a and b") == "expression-syntax@3");
  CHECK(value("a..b") == "expression-syntax@3");
  CHECK(value("a; b") == "expression-syntax@2");
  CHECK(value("x == 'DE") == "expression-syntax@6");
  CHECK(value("(1") == "expression-syntax@1");
  CHECK(value("f(1,)") == "expression-syntax@5");
  CHECK(value("1x") == "expression-syntax@1");
  CHECK(value("'ü' @ 1") == "expression-syntax@5");
  CHECK(value("99999999999999999999999999999999999999999") == "expression-type@1");
  CHECK(value(std::string(20000, '(') + "1" + std::string(20000, ')')) == "yaml-limit@129");
  CHECK(value(std::string(20000, '!') + "true") == "yaml-limit@129");
  std::string chain = "1";
  for (int i = 0; i < 5000; ++i) chain += "+1";
  CHECK(value(chain).substr(0, 10) == "yaml-limit");
  CHECK(Expression::parse("a = 1").error().message.find("did you mean '=='?") != std::string::npos);
}

TEST_CASE("a template keeps the type of a single expression and joins the rest as text", "[expression]") {
  CHECK(filled("${inputs.limit}") == "5000");
  CHECK(filled("vendor/${inputs.region}/${result.total}") == "\"vendor/EU/119.3\"");
  CHECK(filled("costs $${inputs.limit} or $5") == "\"costs ${inputs.limit} or $5\"");
  CHECK(filled("${'}'}") == "\"}\"");
  CHECK(filled("") == "\"\"");
  CHECK(filled("ab ${1 + } c") == "expression-syntax@10");
  CHECK(filled("a ${x") == "expression-syntax@3");
  CHECK(Template::parse("plain $${x}")->is_constant());
  const auto nested = kontor::agent::evaluate_templates(Json::parse(R"({"a": ["${item.count}", 5], "b": "x${item.count}"})"), lookup);
  REQUIRE(nested.has_value());
  CHECK(nested->dump() == R"({"a":[3,5],"b":"x3"})");
}

TEST_CASE("confidence is asked for the path of its argument", "[expression]") {
  const auto expression = Expression::parse("args.amount > 5 || confidence(args.iban) < 0.98");
  REQUIRE(expression.has_value());
  const Json args = Json::parse(R"({"amount": 1, "iban": "x"})");
  const auto scope = [&](std::string_view name) { return name == "args" ? &args : nullptr; };
  std::string asked;
  const auto result = expression->evaluate(scope, [&](std::string_view path) -> kontor::Result<double> { asked = path; return 0.5; });
  REQUIRE(result.has_value());
  CHECK(result->get<bool>());
  CHECK(asked == "args.iban");
  CHECK_FALSE(expression->evaluate(scope).has_value());
}
