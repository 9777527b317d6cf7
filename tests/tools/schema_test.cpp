#include "tests/support/catch.hpp"

#include "tools/schema.hpp"

#include <nlohmann/json.hpp>

namespace kontor::tools {
namespace {

Schema compiled(const std::string& text) {
  auto schema = Schema::compile(*parse_json(text));
  if (!schema) FAIL(schema.error().describe());
  return *schema;
}

std::string first(const std::string& schema, const std::string& value) {
  const auto violations = compiled(schema).validate(*parse_json(value));
  return violations.empty() ? "" : violations[0].pointer + ": " + violations[0].message;
}

Error refused(const std::string& text) {
  const auto schema = Schema::compile(*parse_json(text));
  REQUIRE(!schema);
  return schema.error();
}

}  // namespace

TEST_CASE("violations say what was expected and where", "[schema]") {
  REQUIRE(first(R"({"properties":{"a":{"type":"integer"}}})", R"({"a":1.5})") == "/a: expected an integer, got 1.5");
  REQUIRE(first(R"({"type":["string","null"]})", "3") == ": expected a string or null, got a number");
  REQUIRE(first(R"({"enum":["approve","reject"]})", R"("aprove")") == R"(: expected one of "approve", "reject", got "aprove" (did you mean "approve"?))");
  REQUIRE(first(R"({"minimum":5})", "3") == ": expected at least 5, got 3");
  REQUIRE(first(R"({"properties":{"a/b~c":{"const":1}}})", R"({"a/b~c":2})") == "/a~1b~0c: expected 1, got 2");
  REQUIRE(first(R"({"format":"date"})", R"("2026-02-29")") == ": expected a date such as 2026-11-24, got \"2026-02-29\"");
  REQUIRE(first(R"({"anyOf":[{"type":"string"},{"type":"integer"}]})", "[]") == ": expected a string or an integer, got a list");
  REQUIRE(first(R"({"oneOf":[{"properties":{"kind":{"const":"a"}},"required":["kind"]},{"properties":{"kind":{"const":"b"},"n":{"type":"integer"}},"required":["kind","n"]}]})",
                R"({"kind":"b","n":"x"})") == "/n: expected an integer, got a string");
}

TEST_CASE("numbers are compared exactly", "[schema]") {
  REQUIRE(first(R"({"multipleOf":0.01})", "19.99").empty());
  REQUIRE(!first(R"({"multipleOf":0.01})", "19.995").empty());
  REQUIRE(first(R"({"const":1})", "1.0").empty());
  REQUIRE(!first(R"({"maximum":9007199254740992})", "9007199254740993").empty());
  REQUIRE(!first(R"({"const":9007199254740993})", "9007199254740992").empty());
  REQUIRE(first(R"({"type":"integer"})", "1e3").empty());
  REQUIRE(!first(R"({"uniqueItems":true})", "[1,1.0]").empty());
  REQUIRE(!first(R"({"uniqueItems":true})", R"([{"a":1,"b":2},{"b":2,"a":1}])").empty());
}

TEST_CASE("what restricts and is not understood is an error with its place", "[schema]") {
  REQUIRE(refused(R"({"properties":{"a":{"disallow":"string"}}})").where == "/properties/a/disallow");
  REQUIRE(refused(R"({"minlength":3})").message.find("minLength") != std::string::npos);
  REQUIRE(refused(R"j({"pattern":"(?=x)"})j").code == Errc::unsupported);
  REQUIRE(refused(R"({"pattern":"["})").where == "/pattern");
  REQUIRE(refused(R"({"$ref":"http://example.com/x.json"})").kind == "remote_reference");
  REQUIRE(refused(R"({"$ref":"#/$defs/none"})").kind == "bad_reference");
  REQUIRE(refused(R"({"type":"text"})").where == "/type");
  REQUIRE(refused(R"({"properties":{"a":5}})").where == "/properties/a");
  REQUIRE(refused("5").code == Errc::malformed);
  REQUIRE(Schema::compile(*parse_json(R"({"x-note":{"minimum":"not a schema"},"title":"t"})")).has_value());
}

TEST_CASE("a schema that applies itself without end is refused, recursion into the value is fine", "[schema]") {
  REQUIRE(refused(R"({"$ref":"#"})").kind == "schema_cycle");
  REQUIRE(refused(R"({"$defs":{"a":{"allOf":[{"$ref":"#/$defs/b"}]},"b":{"not":{"$ref":"#/$defs/a"}}},"$ref":"#/$defs/a"})").kind == "schema_cycle");
  const auto tree = compiled(R"({"type":"object","properties":{"next":{"$ref":"#"}},"additionalProperties":false})");
  std::string deep = "{}";
  for (int i = 0; i < 120; ++i) deep = R"({"next":)" + deep + "}";
  REQUIRE(tree.validate(*parse_json(deep)).empty());
}

TEST_CASE("values and schemas beyond the bounds are refused, not accepted unchecked", "[schema]") {
  Json deep = Json::object();
  for (int i = 0; i < 2000; ++i) {
    Json outer = Json::object();
    outer["next"] = std::move(deep);
    deep = std::move(outer);
  }
  const auto tree = compiled(R"({"properties":{"next":{"$ref":"#"}}})");
  const auto violations = tree.validate(deep);
  REQUIRE(violations.size() == 1);
  REQUIRE(violations[0].keyword == "limit");
  REQUIRE(!Schema::compile(deep));

  // Doubling references: 2^40 paths through 40 definitions.
  std::string definitions;
  for (int i = 0; i < 40; ++i) {
    const std::string next = "{\"$ref\":\"#/$defs/d" + std::to_string(i + 1) + "\"}";
    definitions += "\"d" + std::to_string(i) + "\":{\"allOf\":[" + next + "," + next + "]},";
  }
  const auto doubling = compiled("{\"$ref\":\"#/$defs/d0\",\"$defs\":{" + definitions + "\"d40\":{\"type\":\"string\"}}}");
  const auto given_up = doubling.validate(Json("x"));
  REQUIRE(!given_up.empty());
  REQUIRE(given_up.back().keyword == "limit");
}

TEST_CASE("objects with very many members are read and checked in about linear time", "[schema]") {
  std::string text = "{";
  for (int i = 0; i < 200'000; ++i) text += (i == 0 ? "\"" : ",\"") + std::to_string(i) + "\":" + std::to_string(i);
  const auto value = parse_json(text + "}");
  REQUIRE(value.has_value());
  REQUIRE(value->size() == 200'000);
  REQUIRE(parse_json(text + ",\"777\":1}").error().kind == "json_duplicate_key");
  REQUIRE(parse_json(text + ",\"777\":1}", {.refuse_duplicate_keys = false})->size() == 200'000);
  REQUIRE(compiled(R"({"additionalProperties":{"type":"integer"},"propertyNames":{"maxLength":6}})").validate(*value).empty());
}

TEST_CASE("tool schemas as they are found in the wild work", "[schema]") {
  const std::string pay = R"({"$schema":"http://json-schema.org/draft-07/schema#","type":"object","properties":{
    "iban":{"type":"string","pattern":"^[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}$"},"amount":{"type":["number","string"],"exclusiveMinimum":0},
    "currency":{"enum":["EUR","USD"]},"due":{"type":"string","format":"date"},"tags":{"type":"array","items":{"type":"string"},"maxItems":3,"uniqueItems":true}},
    "required":["iban","amount"],"additionalProperties":false,"dependencies":{"due":["currency"]}})";
  REQUIRE(first(pay, R"({"iban":"DE44500105175407324931","amount":4800.00,"currency":"EUR","due":"2026-12-01","tags":["a"]})").empty());
  REQUIRE(first(pay, R"({"iban":"DE44500105175407324931","amount":0})") == "/amount: expected more than 0, got 0");
  REQUIRE(first(pay, R"({"iban":"DE44500105175407324931","amount":1,"due":"2026-12-01"})").find("'currency', which 'due' needs") != std::string::npos);
  REQUIRE(first(pay, R"({"iban":"de44","amount":1})").find("/iban: expected text that matches") == 0);
}

}  // namespace kontor::tools
