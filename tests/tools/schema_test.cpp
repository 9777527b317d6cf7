#include "tests/support/catch.hpp"

#include "tools/schema.hpp"

#include "tools/meta_schemas.hpp"

#include <nlohmann/json.hpp>

#include <chrono>

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

TEST_CASE("references reach the documents handed in and the meta-schemas, and nothing else", "[schema]") {
  SchemaDocuments documents;
  documents["http://example.test/money.json"] = *parse_json(R"({"$defs":{"amount":{"type":"number","minimum":0}},"$ref":"parts.json#/$defs/currency"})");
  documents["http://example.test/parts.json"] = *parse_json(R"({"$defs":{"currency":{"enum":["EUR"]}}})");
  documents["http://example.test/bad.json"] = *parse_json(R"({"$defs":{"a":{"$ref":"missing.json"}},"allOf":[{"$ref":"#/$defs/a"}]})");
  const SchemaOptions options{.documents = &documents};
  const auto schema = Schema::compile(*parse_json(R"j({"properties":{"a":{"$ref":"http://example.test/money.json#/$defs/amount"},"c":{"$ref":"http://example.test/money.json"}}})j"), options);
  REQUIRE(schema.has_value());
  REQUIRE(schema->validate(*parse_json(R"({"a":1,"c":"EUR"})")).empty());
  REQUIRE(schema->validate(*parse_json(R"({"a":-1})"))[0].pointer == "/a");
  REQUIRE(!schema->validate(*parse_json(R"({"c":"USD"})")).empty());

  const auto missing = Schema::compile(*parse_json(R"({"properties":{"x":{"$ref":"http://example.test/none.json"}}})"), options);
  REQUIRE(!missing);
  REQUIRE(missing.error().kind == "remote_reference");
  REQUIRE(missing.error().where == "/properties/x/$ref");
  const auto behind = Schema::compile(*parse_json(R"({"$ref":"http://example.test/bad.json"})"), options);
  REQUIRE(!behind);
  REQUIRE(behind.error().where == "http://example.test/bad.json#/$defs/a/$ref");
}

TEST_CASE("schemas can be checked against the meta-schemas of both dialects", "[schema]") {
  for (const char* uri : {"https://json-schema.org/draft/2020-12/schema", "http://json-schema.org/draft-07/schema#"}) {
    const auto schema = compiled(std::string(R"({"$ref":")") + uri + R"("})");
    REQUIRE(schema.validate(*parse_json(R"({"type":"object","properties":{"a":{"enum":[1]}}})")).empty());
    REQUIRE(schema.validate(*parse_json(R"({"properties":{"a":{"minLength":-1}}})"))[0].pointer == "/properties/a/minLength");
    REQUIRE(schema.validate(*parse_json(R"({"type":"text"})"))[0].pointer == "/type");
    REQUIRE(schema.validate(*parse_json("5"))[0].pointer.empty());
  }
  for (const char* name : {"core", "applicator", "unevaluated", "validation", "meta-data", "format-annotation", "format-assertion", "content"}) {
    REQUIRE(meta_schema(std::string("https://json-schema.org/draft/2020-12/meta/") + name) != nullptr);
  }
  REQUIRE(meta_schema("https://json-schema.org/draft/2020-12/schema#") == nullptr);
}

TEST_CASE("a dialect's vocabularies decide which keywords mean something", "[schema]") {
  const std::string vocabulary = "https://json-schema.org/draft/2020-12/vocab/";
  SchemaDocuments documents;
  documents["http://example.test/shapes-only"] = Json{{"$vocabulary", {{vocabulary + "core", true}, {vocabulary + "applicator", true}}}};
  documents["http://example.test/strange"] = Json{{"$vocabulary", {{vocabulary + "core", true}, {"http://example.test/vocab/units", true}}}};
  const SchemaOptions options{.documents = &documents};
  const auto shapes = Schema::compile(*parse_json(R"({"$schema":"http://example.test/shapes-only","properties":{"a":false},"minProperties":3,"required":["b"]})"), options);
  REQUIRE(shapes.has_value());
  REQUIRE(shapes->validate(Json::object()).empty());
  REQUIRE(!shapes->validate(*parse_json(R"({"a":1})")).empty());
  const auto strange = Schema::compile(*parse_json(R"({"$schema":"http://example.test/strange"})"), options);
  REQUIRE(!strange);
  REQUIRE(strange.error().kind == "unknown_vocabulary");
  REQUIRE(strange.error().where == "/$schema");
}

TEST_CASE("hostile schemas and values end in bounded time without a crash", "[schema]") {
  const auto begin = std::chrono::steady_clock::now();
  const auto nested = [](const std::string& open, const std::string& core, const std::string& close, int depth) {
    std::string text;
    for (int i = 0; i < depth; ++i) text += open;
    text += core;
    for (int i = 0; i < depth; ++i) text += close;
    return text;
  };
  constexpr int kDeep = 100'000;
  REQUIRE(parse_json(nested("[", "1", "]", kDeep)).error().kind == "json_depth");
  // As a program might build them, without a parser in the way.
  Json value = 1, schema = true;
  for (int i = 0; i < kDeep; ++i) {
    Json list = Json::array(), negated = Json::object();
    list.push_back(std::move(value));
    negated["not"] = std::move(schema);
    value = std::move(list), schema = std::move(negated);
  }
  REQUIRE(Schema::compile(schema).error().kind == "schema_depth");
  REQUIRE(compiled(R"({"items":{"$ref":"#"}})").validate(value)[0].keyword == "limit");
  SchemaDocuments documents;
  documents["http://example.test/deep"] = std::move(schema);
  // A long chain of documents, two that apply each other, and one that applies itself.
  for (int i = 0; i < 60'000; ++i) documents["http://example.test/" + std::to_string(i)] = Json{{"not", {{"$ref", std::to_string(i + 1)}}}};
  documents["http://example.test/a"] = Json{{"$ref", "b"}};
  documents["http://example.test/b"] = Json{{"anyOf", {{{"$ref", "a"}}}}};
  documents["http://example.test/c"] = Json{{"$dynamicAnchor", "x"}, {"allOf", {{{"$dynamicRef", "#x"}}}}};
  const SchemaOptions options{.documents = &documents};
  const auto of = [&](const std::string& name) { return Schema::compile(Json{{"$ref", "http://example.test/" + name}}, options).error(); };
  REQUIRE(of("deep").kind == "schema_depth");
  REQUIRE(of("0").kind == "schema_size");
  REQUIRE(of("a").kind == "schema_cycle");
  REQUIRE(of("c").kind == "schema_cycle");
  // Through the dynamic scope a schema can apply itself where no static search sees it: the checker gives up.
  documents["http://example.test/outer"] = *parse_json(R"({"$id":"http://example.test/outer","$dynamicAnchor":"x","$ref":"inner"})");
  documents["http://example.test/inner"] = *parse_json(R"({"$id":"http://example.test/inner","allOf":[{"$dynamicRef":"#x"}],"$defs":{"x":{"$dynamicAnchor":"x"}}})");
  const auto dynamic = Schema::compile(Json{{"$ref", "http://example.test/outer"}}, options);
  REQUIRE(dynamic.has_value());
  REQUIRE(dynamic->validate(1).back().keyword == "limit");

  const auto pattern = [](const std::string& text) { return Schema::compile(Json{{"pattern", text}}); };
  for (const auto& text : {std::string("(((a{1000}){1000}){1000})"), nested("(", "a", ")", kDeep), nested("(?:", "a", ")*", 2000), std::string(4u << 20, 'a'),
                           nested("[a-", "z", "]", kDeep), std::string(kDeep, '\\')}) {
    const auto made = pattern(text);
    if (made) (void)made->validate(Json(std::string(100'000, 'a')));
    else REQUIRE(!made.error().message.empty());
  }
  const auto exponential = pattern("^(a|aa|a*)*$");
  REQUIRE(exponential.has_value());
  REQUIRE(!exponential->validate(Json(std::string(100'000, 'a') + "b")).empty());
  REQUIRE(std::chrono::steady_clock::now() - begin < std::chrono::seconds(60));
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
