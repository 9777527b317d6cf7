// Patterns as automata, against the validator's own reading of them.

#include "agent/grammar/formats.hpp"
#include "agent/grammar/regex.hpp"
#include "inference/sampler.hpp"
#include "tests/support/catch.hpp"
#include "tools/schema.hpp"

#include <nlohmann/json.hpp>

#include <string>
#include <vector>

using namespace kontor;
using namespace kontor::agent;

namespace {

std::size_t states_of(std::string_view pattern) {
  const auto dfa = compile_regex(pattern);
  REQUIRE(dfa.has_value());
  return (*dfa)->states.size();
}

}  // namespace

TEST_CASE("patterns read what the validator takes for a match, on texts made from their own letters") {
  const std::vector<std::string> patterns{"^ab$", "ab", "^a|b$", "a$|^b", "^(a|ab)(c|bcd)?$", "(^a)*b", "a(b$)?", "^(?:a|b)*abb", "^[^a]$", "^.{2,3}$", "^(a?){3}b{2,}$", "", "^", "$", "^$",
                                          "a^b", "b$a", "(?:^|c)a(?:$|c)", "^\\S+ \\S+$", "\\w\\W", "^[äöb]+$", "[^ä]ä$", "^(ab|b)*(ba|a)*$", "^(?:(?:a|b){2}c)+$", "^\\d{1,3}(?:\\.\\d{1,2})?$"};
  const std::vector<std::string> letters{"a", "b", "c", "d", " ", "ä", "ö", "0", "9", ".", "\n", "😀"};
  for (const std::string& pattern : patterns) {
    const auto dfa = compile_regex(pattern);
    INFO(pattern);
    REQUIRE(dfa.has_value());
    const auto schema = tools::Schema::compile(Json{{"type", "string"}, {"pattern", pattern}});
    REQUIRE(schema.has_value());
    std::size_t matches = 0;
    for (std::uint64_t i = 0; i < 3000; ++i) {
      std::string text;
      const auto length = static_cast<std::size_t>(inference::random_uniform(i, 0) * 7);
      // Few letters at first, so that the short patterns are met often enough.
      const std::size_t kinds = i % 3 == 0 ? 3 : letters.size();
      for (std::size_t c = 0; c < length; ++c) text += letters[static_cast<std::size_t>(inference::random_uniform(i, c + 1) * static_cast<double>(kinds))];
      const bool wanted = schema->validate(Json(text)).empty();
      matches += wanted;
      INFO(text);
      REQUIRE(accepts(**dfa, text) == wanted);
    }
    const bool never = pattern == "a^b" || pattern == "b$a";
    CHECK((matches > 0) == !never);
    CHECK((*dfa)->empty() == never);
  }
}

TEST_CASE("automata of patterns hold nothing that cannot be reached or finished, and equal states once") {
  CHECK(states_of("^[A-Z]{3}$") == 4);
  CHECK(states_of("^(?:abc|dbc)$") == 4);
  CHECK(states_of("^(?:a|b)*$") == 1);
  CHECK(states_of("^(?:\\.[0-9]{1,3}|x[0-9]{1,3})$") == 5);
  // Behind a match every text is right: characters of two to four bytes have places of their own, and the letters have.
  CHECK(states_of("^a") == states_of("^[ab]"));
  CHECK(states_of("a^b") == 0);
  // Formats are in most agents: what they cost counts.
  CHECK(states_of(format_pattern("date-time")) <= 1200);
  CHECK(states_of(format_pattern("ipv6")) <= 200);
  CHECK(states_of(format_pattern("uri")) <= 250);
}

TEST_CASE("a pattern is compiled once, an impossible one is refused every time") {
  const auto first = compile_regex("^once$"), again = compile_regex("^once$");
  REQUIRE(first.has_value());
  REQUIRE(again.has_value());
  CHECK(first->get() == again->get());
  for (int i = 0; i < 2; ++i) {
    const auto refused = compile_regex("(?=look)");
    REQUIRE(!refused.has_value());
    CHECK(refused.error().code == Errc::unsupported);
  }
  // However many there are, the ones kept are bounded; what is in use stays.
  for (int i = 0; i < 300; ++i) REQUIRE(compile_regex("^[a-f]{" + std::to_string(400 + i) + "}$").has_value());
  CHECK(accepts(**first, "once"));
  CHECK(accepts(**compile_regex("^once$"), "once"));
}

TEST_CASE("patterns that would need too much are refused in bounded time") {
  for (const char* pattern : {"(a|b)*a(a|b){20}", "^(?:a?){3000}$", "^((a{0,60}){0,60}){0,60}$"}) {
    const auto dfa = compile_regex(pattern);
    INFO(pattern);
    if (!dfa) CHECK(dfa.error().kind == "dfa_size");
    else CHECK((*dfa)->states.size() <= kDfaStatesMax);
  }
  CHECK(!compile_regex("(a|b)*a(a|b){20}").has_value());
}
