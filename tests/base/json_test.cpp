#include "base/json.hpp"
#include "tests/support/catch.hpp"

#include <nlohmann/json.hpp>

using namespace kontor;

TEST_CASE("objects keep the order of their members", "[base][json]") {
  const auto value = parse_json(R"({"file":"a","decision":"b","amount":1.50})");
  REQUIRE(value);
  CHECK(spaced_json(*value) == R"({"file": "a", "decision": "b", "amount": 1.5})");
}

TEST_CASE("a key that stands twice is refused", "[base][json]") {
  const auto value = parse_json(R"({"a":1,"b":{"c":1,"c":2}})");
  REQUIRE(!value);
  CHECK(value.error().kind == "json_duplicate_key");
  JsonLimits lenient;
  lenient.refuse_duplicate_keys = false;
  CHECK(parse_json(R"({"a":1,"a":2})", lenient));
}

TEST_CASE("nesting is bounded before it is built", "[base][json]") {
  const std::string deep(200'000, '[');
  const auto value = parse_json(deep);
  REQUIRE(!value);
  CHECK(value.error().kind == "json_depth");
  CHECK(parse_json(std::string(128, '[') + std::string(128, ']')));
  CHECK(!parse_json(std::string(129, '[') + std::string(129, ']')));
}

TEST_CASE("syntax errors name the line and the column", "[base][json]") {
  const auto value = parse_json("{\"a\": 1,\n \"b\": nope}");
  REQUIRE(!value);
  CHECK(value.error().code == Errc::malformed);
  CHECK(value.error().where.substr(0, 2) == "2:");
}

TEST_CASE("text over the size bound is refused unread", "[base][json]") {
  JsonLimits limits;
  limits.bytes = 10;
  CHECK(parse_json("[1,2,3,4,5,6]", limits).error().kind == "json_size");
}

TEST_CASE("many siblings below one parent keep their places", "[base][json]") {
  std::string text = "{\"list\":[";
  for (int i = 0; i < 1000; ++i) text += (i ? "," : "") + std::string("{\"i\":[") + std::to_string(i) + "]}";
  text += "],\"after\":true}";
  const auto value = parse_json(text);
  REQUIRE(value);
  CHECK((*value)["list"].size() == 1000);
  CHECK((*value)["list"][999]["i"][0].get<int>() == 999);
  CHECK((*value)["after"].get<bool>());
}

TEST_CASE("an object with very many keys takes linear time", "[base][json]") {
  std::string text = "{";
  for (int i = 0; i < 200'000; ++i) text += (i ? ",\"k" : "\"k") + std::to_string(i) + "\":" + std::to_string(i);
  const auto value = parse_json(text + "}");  // a quadratic search would need minutes
  REQUIRE(value);
  CHECK(value->size() == 200'000);
  CHECK(parse_json(text + ",\"k77\":1}").error().kind == "json_duplicate_key");
  JsonLimits lenient;
  lenient.refuse_duplicate_keys = false;
  CHECK((*parse_json(R"({"a":1,"b":2,"a":3})", lenient))["a"].get<int>() == 3);
}

TEST_CASE("what is not UTF-8 is not JSON", "[base][json]") { CHECK(!parse_json("\"\xff\"")); }
