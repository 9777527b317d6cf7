// What grammars made of JSON Schemas let through, and what they refuse to be made of.

#include "tests/grammar/support.hpp"

using namespace kontor;
using kontor::test::allows;
using kontor::test::refused_at;

TEST_CASE("objects take their members in the order of the schema, optional ones may be left out") {
  const std::string schema = R"({"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "string"}, "c": {"type": "null"}}, "required": ["b"]})";
  CHECK(allows(schema, R"({"a": 1, "b": "x", "c": null})"));
  CHECK(allows(schema, R"({"b": "x"})"));
  CHECK(allows(schema, R"({"b": "x", "c": null})"));
  CHECK_FALSE(allows(schema, R"({"a": 1})"));
  CHECK_FALSE(allows(schema, R"({"b": "x", "a": 1})"));
  CHECK_FALSE(allows(schema, R"({"b": "x", "b": "y"})"));
  CHECK_FALSE(allows(schema, R"({"b":"x"})"));
  CHECK_FALSE(allows(schema, R"({"b": "x", "d": 1})"));
  CHECK_FALSE(allows(schema, R"({"b": "x"} )"));
  CHECK_FALSE(allows(schema, "{}"));
}

TEST_CASE("members that no schema mentions need permission, and no name comes twice") {
  CHECK(allows(R"({"type": "object"})", R"({"x": [1, {"y": null}], "z": "w"})"));
  CHECK_FALSE(allows(R"({"type": "object"})", R"({"x": 1, "x": 2})"));
  CHECK_FALSE(allows(R"({"type": "object"})", R"({"x\n": 1, "x\n": 2})"));
  CHECK(allows(R"({"type": "object"})", R"({"x": 1, "y": {"x": 2}})"));
  const std::string open = R"({"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": {"type": "boolean"}})";
  CHECK(allows(open, R"({"a": 1, "b": true, "c": false})"));
  CHECK(allows(open, R"({"b": true})"));
  CHECK_FALSE(allows(open, R"({"b": true, "a": 1})"));
  CHECK_FALSE(allows(open, R"({"a": true})"));
  CHECK_FALSE(allows(open, R"({"b": 1})"));
  CHECK_FALSE(allows(open, R"({"b": true, "c": true, "b": true})"));
}

TEST_CASE("arrays count their items") {
  const std::string schema = R"({"type": "array", "prefixItems": [{"type": "string"}], "items": {"type": "integer"}, "minItems": 2, "maxItems": 4})";
  CHECK(allows(schema, R"(["a", 1])"));
  CHECK(allows(schema, R"(["a", 1, 2, 3])"));
  CHECK_FALSE(allows(schema, R"(["a"])"));
  CHECK_FALSE(allows(schema, R"(["a", 1, 2, 3, 4])"));
  CHECK_FALSE(allows(schema, R"([1, 1])"));
  CHECK(allows(R"({"type": "array", "maxItems": 0})", "[]"));
  CHECK_FALSE(allows(R"({"type": "array", "maxItems": 0})", "[1]"));
  CHECK(allows(R"({"type": "array", "items": false})", "[]"));
  CHECK_FALSE(allows(R"({"type": "array", "items": false})", "[1]"));
  CHECK(refused_at(R"({"type": "array", "items": false, "minItems": 1})") == "unsatisfiable");
  std::string many = "[0";
  for (int i = 1; i < 1000; ++i) many += ", " + std::to_string(i);
  CHECK(allows(R"({"type": "array", "items": {"type": "integer"}, "minItems": 1000, "maxItems": 1000000})", many + "]"));
  CHECK_FALSE(allows(R"({"type": "array", "items": {"type": "integer"}, "minItems": 1001})", many + "]"));
}

TEST_CASE("strings have one spelling and count characters") {
  CHECK(allows(R"({"type": "string"})", "\"a\\n\\\"\\\\\\u0001 \xC3\xA9\xF0\x9F\x98\x80\""));
  CHECK_FALSE(allows(R"({"type": "string"})", "\"a\n\""));
  CHECK_FALSE(allows(R"({"type": "string"})", "\"\\/\""));
  CHECK_FALSE(allows(R"({"type": "string"})", "\"\\u000a\""));
  CHECK_FALSE(allows(R"({"type": "string"})", "\"\xC3\""));
  CHECK_FALSE(allows(R"({"type": "string"})", "\"\xED\xA0\x80\""));
  const std::string schema = R"({"type": "string", "minLength": 2, "maxLength": 3})";
  CHECK(allows(schema, "\"\xC3\xA9\xF0\x9F\x98\x80\""));
  CHECK(allows(schema, "\"\\n\\n\\u0001\""));
  CHECK_FALSE(allows(schema, "\"a\""));
  CHECK_FALSE(allows(schema, "\"abcd\""));
  CHECK(refused_at(R"({"type": "string", "minLength": 3, "maxLength": 2})") == "unsatisfiable");
}

TEST_CASE("patterns restrict strings through their escapes") {
  const std::string iban = R"({"type": "string", "pattern": "^[A-Z]{2}[0-9]{2}( ?[A-Z0-9]{4}){2,7}$"})";
  CHECK(allows(iban, "\"DE89 3704 0044 0532 0130 00\"") == false);
  CHECK(allows(iban, "\"DE89 3704 0044 0532 0130\""));
  CHECK_FALSE(allows(iban, "\"de89 3704 0044\""));
  CHECK(allows(R"({"type": "string", "pattern": "b"})", "\"abc\""));
  CHECK_FALSE(allows(R"({"type": "string", "pattern": "b"})", "\"ac\""));
  CHECK(allows(R"({"type": "string", "pattern": "^a\\s\"$"})", "\"a\\n\\\"\""));
  CHECK(allows(R"({"type": "string", "pattern": "^(a|b)*$", "maxLength": 3})", "\"aba\""));
  CHECK_FALSE(allows(R"({"type": "string", "pattern": "^(a|b)*$", "maxLength": 3})", "\"abab\""));
  CHECK(allows(R"({"type": "string", "pattern": "^[^a-y]$"})", "\"\xF0\x9F\x98\x80\""));
  CHECK_FALSE(allows(R"({"type": "string", "pattern": "^[^a-y]$"})", "\"b\""));
  CHECK(allows(R"({"type": "string", "pattern": "^.{2}$"})", "\"\xC3\xA9z\""));
  CHECK(refused_at(R"({"properties": {"p": {"type": "string", "pattern": "(?=a)b"}}})") == "/properties/p/pattern");
  CHECK(refused_at(R"({"type": "string", "pattern": "(a"})") == "/pattern");
  CHECK(refused_at(R"({"type": "string", "pattern": "^a{5}$", "maxLength": 4})") == "unsatisfiable");
}

TEST_CASE("formats are generated as they are checked") {
  const auto format = [](const std::string& name) { return R"({"type": "string", "format": ")" + name + "\"}"; };
  CHECK(allows(format("date"), "\"2024-02-29\""));
  CHECK_FALSE(allows(format("date"), "\"2023-02-29\""));
  CHECK(allows(format("date-time"), "\"1963-06-19T08:30:06.283185Z\""));
  CHECK_FALSE(allows(format("date-time"), "\"1963-06-19T24:30:06Z\""));
  CHECK(allows(format("time"), "\"08:30:06+00:20\""));
  CHECK(allows(format("uuid"), "\"2eb8aa08-aa98-11ea-b4aa-73b441d16380\""));
  CHECK(allows(format("email"), "\"joe.bloggs@example.com\""));
  CHECK_FALSE(allows(format("email"), "\"joe\""));
  CHECK(allows(format("ipv4"), "\"192.168.0.1\""));
  CHECK_FALSE(allows(format("ipv4"), "\"192.168.0.256\""));
  CHECK(allows(format("ipv6"), "\"::42:ff:1\""));
  CHECK(allows(format("ipv6"), "\"1::2:192.168.0.1\""));
  CHECK_FALSE(allows(format("ipv6"), "\"1::2::3\""));
  CHECK(allows(format("uri"), "\"http://foo.bar/?baz=qux#quux\""));
  CHECK(allows(format("uri"), "\"urn:oasis:names:specification:docbook:dtd:xml:4.1.2\""));
  CHECK_FALSE(allows(format("uri"), "\"//foo.bar/\""));
  CHECK(allows(format("unheard-of"), "\"anything\""));
  CHECK(refused_at(format("regex")) == "/format");
}

TEST_CASE("numbers keep to their bounds") {
  CHECK(allows(R"({"type": "integer"})", "-12"));
  CHECK_FALSE(allows(R"({"type": "integer"})", "01"));
  CHECK_FALSE(allows(R"({"type": "integer"})", "1.5"));
  CHECK_FALSE(allows(R"({"type": "integer"})", "-0"));
  CHECK(allows(R"({"type": "integer"})", "9223372036854775807"));
  CHECK_FALSE(allows(R"({"type": "integer"})", "9223372036854775808"));
  CHECK(allows(R"({"type": "number"})", "1.5e-10"));
  const std::string range = R"({"type": "integer", "minimum": -12, "exclusiveMaximum": 1050})";
  for (const int n : {-12, -9, -1, 0, 9, 99, 1049}) CHECK(allows(range, std::to_string(n)));
  for (const int n : {-13, -100, 1050, 1051, 2000, 10000}) CHECK_FALSE(allows(range, std::to_string(n)));
  const std::string money = R"({"type": "number", "exclusiveMinimum": 0, "maximum": 99.5, "multipleOf": 0.01})";
  for (const char* n : {"0.01", "99.5", "99.49", "5", "12.3", "99.50"}) CHECK(allows(money, n));
  for (const char* n : {"0", "0.00", "0.001", "99.51", "100", "-1", "1e1"}) CHECK_FALSE(allows(money, n));
  const std::string negative = R"({"type": "number", "maximum": -0.5})";
  for (const char* n : {"-0.5", "-0.50", "-1", "-10"}) CHECK(allows(negative, n));
  for (const char* n : {"-0.4", "0", "1", "-0"}) CHECK_FALSE(allows(negative, n));
  const std::string thirds = R"({"type": "integer", "multipleOf": 3, "minimum": 10, "maximum": 20})";
  for (int n = 0; n < 40; ++n) CHECK(allows(thirds, std::to_string(n)) == (n % 3 == 0 && n >= 10 && n <= 20));
  CHECK(refused_at(R"({"type": "integer", "minimum": 5, "maximum": 4})") == "unsatisfiable");
  CHECK(refused_at(R"({"type": "integer", "multipleOf": 20000})") == "/multipleOf");
}

TEST_CASE("alternatives and combinations") {
  CHECK(allows(R"({"enum": ["a", 1, null, [1, "b"], {"k": "v"}]})", R"([1, "b"])"));
  CHECK(allows(R"({"enum": ["a", 1, null, [1, "b"], {"k": "v"}]})", R"({"k": "v"})"));
  CHECK_FALSE(allows(R"({"enum": ["a", 1]})", "null"));
  CHECK(allows(R"({"type": "string", "enum": ["a", 1]})", "\"a\""));
  CHECK_FALSE(allows(R"({"type": "string", "enum": ["a", 1]})", "1"));
  CHECK_FALSE(allows(R"({"enum": ["abc", "de"], "maxLength": 2})", "\"abc\""));
  CHECK(allows(R"({"anyOf": [{"type": "integer"}, {"type": "null"}]})", "null"));
  const std::string all = R"({"allOf": [{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
                                        {"properties": {"a": {"maximum": 5}, "b": {"type": "null"}}}]})";
  CHECK(allows(all, R"({"a": 5, "b": null})"));
  CHECK_FALSE(allows(all, R"({"a": 6})"));
  const std::string one = R"({"oneOf": [{"type": "object", "properties": {"kind": {"const": "a"}, "x": {"type": "integer"}}, "required": ["kind", "x"]},
                                        {"type": "object", "properties": {"kind": {"const": "b"}, "y": {"type": "string"}}, "required": ["kind", "y"]}]})";
  CHECK(allows(one, R"({"kind": "a", "x": 1})"));
  CHECK(allows(one, R"({"kind": "b", "y": "z"})"));
  CHECK_FALSE(allows(one, R"({"kind": "a", "y": "z"})"));
  CHECK(refused_at(R"({"oneOf": [{"type": "integer"}, {"type": "number"}]})") == "/oneOf");
  CHECK(refused_at(R"({"not": {"type": "null"}})") == "/not");
  CHECK(refused_at(R"({"properties": {"x": {"patternProperties": {"a": {}}}}})") == "/properties/x/patternProperties");
  CHECK(refused_at(R"({"$ref": "http://example.com/x"})") == "/$ref");
}

TEST_CASE("recursive schemas nest, and what cannot end is refused") {
  const std::string tree = R"({"$ref": "#/$defs/node", "$defs": {"node": {"type": "object", "properties": {"v": {"type": "integer"},
    "children": {"type": "array", "items": {"$ref": "#/$defs/node"}}}, "required": ["v"]}}})";
  CHECK(allows(tree, R"({"v": 1, "children": [{"v": 2}, {"v": 3, "children": [{"v": 4}]}]})"));
  CHECK_FALSE(allows(tree, R"({"v": 1, "children": [{"children": []}]})"));
  CHECK(refused_at(R"({"$ref": "#/$defs/n", "$defs": {"n": {"type": "object", "properties": {"n": {"$ref": "#/$defs/n"}}, "required": ["n"]}}})") == "unsatisfiable");
  CHECK(refused_at(R"({"$ref": "#/$defs/n", "$defs": {"n": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/n"}]}}})") == "/$defs/n/anyOf/1/$ref");
  // Depth is bounded: deeper levels cannot begin.
  std::string deep = R"({"v": 1})";
  for (int i = 0; i < 60; ++i) deep = R"({"v": 1, "children": [)" + deep + "]}";
  CHECK_FALSE(allows(tree, deep));
}

TEST_CASE("verbatim strings are copied from the conversation, whole words and whole numbers only") {
  auto text = std::make_shared<inference::VerbatimText>();
  text->add("Invoice RE-2024/0815\nTotal: 1,234.50 EUR (net)\nIBAN DE89 3704 0044 0532 0130 00 \"M\xC3\xBCller\"");
  text->add("second text");
  const auto grammar = test::grammar_of(test::json(R"({"type": "string", "x-verbatim": true})"));
  REQUIRE(grammar.has_value());
  const auto copies = [&](const std::string& value) { return test::reads(*grammar, value, text); };
  for (const char* good : {"\"RE-2024/0815\"", "\"1,234.50\"", "\"1,234.50 EUR\"", "\"DE89 3704 0044 0532 0130 00\"", "\"\\\"M\xC3\xBCller\\\"\"", "\"M\xC3\xBCller\"",
                           "\"0815\\nTotal\"", "\"second text\"", "\"\"", "\"(net)\"", "\"0044 0532\""})
    CHECK(copies(good));
  for (const char* bad : {"\"RE-2024/081\"", "\"1,234.5\"", "\"234.50X\"", "\"E89 3704\"", "\"DE89 3704 0044 0532 0130 0\"", "\"M\xC3\xBC\"", "\"00 second\"", "\"net)\\nIBAN\\n\"", "\"x\""})
    CHECK_FALSE(copies(bad));
  const auto required = test::grammar_of(test::json(R"({"type": "string", "x-verbatim": true, "minLength": 1})"));
  REQUIRE(required.has_value());
  CHECK_FALSE(test::reads(*required, "\"\"", text));
  CHECK(refused_at(R"({"x-verbatim": true})") == "/x-verbatim");
  CHECK(refused_at(R"({"type": "string", "x-verbatim": true, "pattern": "a"})") == "/x-verbatim");
}

TEST_CASE("leap seconds are written at every offset in use, and only where a day of UTC ends") {
  const auto schema = test::json(R"({"type": "string", "format": "time"})");
  const auto grammar = test::grammar_of(schema);
  REQUIRE(grammar.has_value());
  const auto checker = tools::Schema::compile(schema);
  const auto two = [](int value) { return std::to_string(value / 10) + std::to_string(value % 10); };
  int written = 0;
  for (int minute = 0; minute < 24 * 60; minute += 1)
    for (int offset = 0; offset < 24 * 60; offset += 15)
      for (const char* sign : {"+", "-"}) {
        const std::string text = two(minute / 60) + ":" + two(minute % 60) + ":60" + sign + two(offset / 60) + ":" + two(offset % 60);
        const bool valid = checker->validate(Json(text)).empty();
        if (test::reads(*grammar, "\"" + text + "\"") != valid) FAIL(text);
        written += valid;
      }
  CHECK(written == 192);
  CHECK(allows(R"({"type": "string", "format": "date-time"})", "\"1998-12-31T15:59:60.123-08:00\""));
}
