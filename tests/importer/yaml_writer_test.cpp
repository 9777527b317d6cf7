#include "agent/importer/yaml_writer.hpp"

#include "agent/spec/yaml_json.hpp"
#include "tests/support/catch.hpp"

using namespace kontor;

TEST_CASE("what is written as YAML reads back as the same value", "[import][yaml]") {
  const Json values{
      {"texts", {"", " ", "a", "a: b", "- a", "# a", "yes", "true", "null", "~", "1", "1.5", "0x1f", "2026-11-24", "a\n", "a\nb", "a\nb\n", "a\n\n", "\na", " a\nb", "a \nb", "a\tb", "\ta\nb", "'", "\"", "\\", "{a}", "[a]", "%a", "@a", "`a", "a #b", "*a", "&a", "!a", "|", ">", "?", "---\na", "...", "a\r\nb", "\x7f", "\u00e9\u4e2d\U0001f600", "a\u2028b\nc", "\ufeff"}},
      {"numbers", {0, -1, 1.5, 1e300, 12345678901234567}},
      {"others", {true, false, nullptr, Json::array(), Json::object()}},
      {"nested", {{"a", {{{"b", {1, 2}}, {"c", "x\ny"}}, {{"long", std::string(200, 'x')}}}}, {"list of lists", {{1, 2}, {"a", Json{{"k", "v\nw"}}}}}}},
      {"odd keys", {{"a b", 1}, {"", 2}, {"a: b", 3}, {"- x", 4}, {"true", 5}, {"x\ny", 6}}},
  };
  for (const auto& [key, value] : values.items()) {
    const Json mapping{{key, value}};
    const std::string text = agent::yaml_text(mapping);
    INFO(text);
    const auto back = agent::yaml_as_json(text);
    REQUIRE(back);
    CHECK(*back == mapping);
  }
}
