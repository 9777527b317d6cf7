#include "base/json.hpp"
#include "tests/support/catch.hpp"

#include <nlohmann/json.hpp>

#include <random>
#include <string>
#include <vector>

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

namespace {

std::string library_dump(const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace); }

/// What the library alone makes of the text; discarded when it refuses it.
Json library_parse(const std::string& text) { return Json::parse(text, nullptr, false); }

JsonLimits lenient() {
  JsonLimits limits;
  limits.refuse_duplicate_keys = false;
  return limits;
}

bool same(const std::string& text) {
  const auto ours = parse_json(text, lenient());
  const Json theirs = library_parse(text);
  if (theirs.is_discarded()) return !ours.has_value();
  // == takes 1 and 1.0 for equal; the text does not.
  return ours.has_value() && *ours == theirs && library_dump(*ours) == library_dump(theirs);
}

}  // namespace

TEST_CASE("values read quickly are the library's", "[base][json]") {
  const std::vector<std::string> texts = {
      "0", "-0", "-1", "1.5", "-0.0", "1e5", "1E+5", "1e-5", "1e400", "-1e400", "1e-400", "4.9e-324", "2.2250738585072011e-308", "01", "1.", ".5", "+1", "-", "1e", "0x1", "1e5.0",
      "18446744073709551615", "18446744073709551616", "-9223372036854775808", "-9223372036854775809", "0.1", "123456789012345678901234567890", "NaN", "Infinity",
      "true", "false", "null", "tru", "nullx", "true false", " \t\r\n1 \n", "", " ", "\xEF\xBB\xBF[1]", "\xEF\xBB[1]", "/* c */ 1", "1 // c", std::string("1\0x", 3), std::string("1\0", 2),
      "[]", "{}", "[ ]", "{ }", "[1,]", "[,1]", "[1 2]", "{\"a\":1,}", "{\"a\" : 1 , \"b\" : [ ] }", "{\"a\"}", "{1:2}", "{\"a\":}", "[[[]],{}]", "[", "]", "{", "}", "[1}", "{\"a\":1]", "[1]]", "{\"a\":1,\"a\":2}",
      R"("")", R"("abc)", R"("\"\\\/\b\f\n\r\t")", R"("\u0041\u00e9\u20ac\ud83d\ude00\u0000")", R"("\ud83d")", R"("\ud83dx")", R"("\ude00")", R"("\ud83d\u0041")", R"("\u12")", R"("\u-123")", R"("\x")", R"("\)",
      "\"tab\there\"", "\"\x7f\"", "\"\xC3\xA4 \xE2\x82\xAC \xF0\x9F\x98\x80\"", "\"\xC0\xAF\"", "\"\xE0\x9F\xBF\"", "\"\xED\xA0\x80\"", "\"\xF0\x8F\xBF\xBF\"", "\"\xF4\x90\x80\x80\"", "\"\xF5\x80\x80\x80\"", "\"\xE2\x82\"", "\"\x80\"", "\"\xC3",
      "\"12345678\"", "\"1234567\\n12345678\\\"1234567\"", "\"12345678\xC3\xA4\"", "\"1234567\x1f\"",
  };
  for (const auto& text : texts) {
    INFO(text);
    CHECK(same(text));
  }
}

TEST_CASE("mutated texts are read as the library reads them", "[base][json]") {
  const std::vector<std::string> seeds = {
      R"({"name": "files.read", "arguments": {"path": "/tmp/ä.txt", "n": [1, -2, 3.5e-3, 18446744073709551615], "deep": {"a": [[], {}, null, true]}}})",
      R"(["\ud83d\ude00", "long text that goes past eight bytes", "", "\"quoted\" \\ and \u00e9", -0, 1E3])"};
  const std::string alphabet = "{}[],:\"\\/u0123456789eE+-. tfn\xC3\xA4\xED\xF0\x80\x01";
  std::mt19937 random(7);
  const auto below = [&](std::size_t bound) { return std::uniform_int_distribution<std::size_t>(0, bound - 1)(random); };
  int valid = 0;
  for (int i = 0; i < 40'000; ++i) {
    std::string text = seeds[below(seeds.size())];
    for (std::size_t changes = 1 + below(3); changes > 0; --changes) {
      const std::size_t at = below(text.size());
      if (const auto how = below(3); how == 0) text.erase(at, 1 + below(4));
      else if (how == 1) text.insert(at, 1, alphabet[below(alphabet.size())]);
      else text[at] = alphabet[below(alphabet.size())];
      if (text.empty()) text = "1";
    }
    if (!library_parse(text).is_discarded()) ++valid;
    if (!same(text)) FAIL("not read alike: " << text);
  }
  CHECK(valid > 2'000);  // so that both kinds were seen
}
