// Whole turns under the grammar: masks, forced tokens, thinking, and what comes out of them.

#include "agent/dialect/parser.hpp"
#include "tests/grammar/support.hpp"

using namespace kontor;
using namespace kontor::agent;
using inference::GrammarConstraint;
using inference::TokenId;
using kontor::test::json;

namespace {

const inference::Tokenizer& tokenizer() { return test::pocket_tokenizer(); }

std::shared_ptr<const inference::TokenTrie> trie() {
  static const auto made = std::make_shared<const inference::TokenTrie>(tokenizer());
  return made;
}

OutputRequest request(const std::string& key = "r1-0528") {
  OutputRequest out;
  out.dialect = *dialect_for(key);
  out.parser_format = key == "qwen3" ? "qwen3" : "deepseek-r1";
  out.prefill = out.dialect.think_prefill;
  out.call_tokens = true;
  out.tools.push_back({"get_weather", "", json(R"({"type": "object", "properties": {"city": {"type": "string", "maxLength": 12}, "days": {"type": "integer", "minimum": 1, "maximum": 14}}, "required": ["city"]})")});
  out.tools.push_back({"book.table", "", json(R"({"type": "object", "properties": {"when": {"type": "string", "format": "date-time"}, "people": {"enum": [1, 2, 3]}}, "required": ["when", "people"]})")});
  return out;
}

std::shared_ptr<const inference::GrammarProgram> program(const OutputRequest& from) {
  auto made = compile_output(from, tokenizer(), trie());
  if (!made) FAIL(made.error().describe());
  return *made;
}

/// Ids as the tokenizer cuts a text with markers.
std::vector<TokenId> ids(const std::string& text) { return tokenizer().encode(text, true); }

/// Whether the constraint accepts all tokens of a text.
bool takes(GrammarConstraint& constraint, const std::string& text) {
  for (const TokenId id : ids(text)) {
    if (!inference::has_token(constraint.mask(), id)) return false;
    if (!constraint.accept(id)) return false;
  }
  return true;
}

ParseResult parse(const std::vector<TokenId>& tokens, const OutputRequest& from, ParseMode mode) {
  ParserOptions options;
  options.format = from.parser_format;
  options.prefill = from.prefill;
  options.mode = mode;
  options.markers = from.call_tokens ? MarkerPolicy::token : MarkerPolicy::text;
  options.tools.emplace();
  for (const auto& tool : from.tools) options.tools->push_back(tool.name);
  Parser parser(options);
  for (const TokenId id : tokens)
    if (!tokenizer().is_end(id)) parser.feed(tokenizer().piece(id), tokenizer().is_control(id));
  return parser.finish();
}

constexpr const char* kCall =
    "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n{\"city\": \"Paris\", \"days\": 3}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>";

}  // namespace

TEST_CASE("calls, answers and reasoning pass in the order of a turn") {
  const auto made = program(request());
  {
    GrammarConstraint c(made, {});
    CHECK(takes(c, std::string("<think>\nLet me see.\n</think>\n\n") + kCall));
    CHECK(c.may_end());
    CHECK(c.forced().size() == 1);
    REQUIRE(c.accept(*tokenizer().eos()));
    CHECK(c.finished());
  }
  {
    GrammarConstraint c(made, {});
    CHECK(takes(c, "<think>hm</think>\n\nIt rains."));
    CHECK(c.may_end());
    CHECK(inference::has_token(c.mask(), *tokenizer().eos()));
  }
  {
    GrammarConstraint c(made, {});
    CHECK(takes(c, std::string("I look.\n") + kCall));
  }
  GrammarConstraint c(made, {});
  REQUIRE(takes(c, "<think>thinking"));
  CHECK(c.thinking());
  for (const char* marker : {"<｜tool▁calls▁begin｜>", "<｜tool▁call▁end｜>", "<｜User｜>", "<｜end▁of▁sentence｜>", "<｜tool▁outputs▁begin｜>"}) {
    INFO(marker);
    CHECK_FALSE(inference::has_token(c.mask(), *tokenizer().find(marker)));
  }
  CHECK(inference::has_token(c.mask(), *tokenizer().find("</think>")));
  CHECK_FALSE(c.accept(*tokenizer().eos()));
  CHECK(c.accept(*tokenizer().find("<｜User｜>")).error().kind == "constraint_violated");
}

TEST_CASE("arguments that do not fit cannot be written") {
  const auto made = program(request());
  const auto call = [&](const std::string& arguments) {
    GrammarConstraint c(made, {});
    return takes(c, "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n" + arguments + "\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>");
  };
  CHECK(call(R"({"city": "Rome"})"));
  CHECK_FALSE(call(R"({"city": "Rome", "days": 15})"));
  CHECK_FALSE(call(R"({"days": 1})"));
  CHECK_FALSE(call(R"({"city": "a city with a long name"})"));
  GrammarConstraint c(made, {});
  CHECK_FALSE(takes(c, "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_time\n"));
}

TEST_CASE("tool_choice decides whether and what is called") {
  auto from = request();
  from.prefill = Prefill::open;
  from.choice = ToolChoice::none;
  {
    GrammarConstraint c(program(from), {});
    REQUIRE(takes(c, "</think>Well"));
    CHECK_FALSE(inference::has_token(c.mask(), *tokenizer().find("<｜tool▁calls▁begin｜>")));
  }
  from.choice = ToolChoice::required;
  {
    GrammarConstraint c(program(from), {});
    REQUIRE(takes(c, "</think>"));
    CHECK_FALSE(takes(c, "Well"));
  }
  from.choice = ToolChoice::named;
  from.named = "book.table";
  {
    GrammarConstraint c(program(from), {});
    REQUIRE(takes(c, "</think>\n\n"));
    // All of it is decided but the date.
    std::string forced;
    for (const TokenId id : std::vector<TokenId>(c.forced().begin(), c.forced().end())) {
      forced += tokenizer().piece(id);
      REQUIRE(c.accept(id).has_value());
    }
    CHECK(forced.starts_with("<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>book.table\n```json\n{\"when\":"));
  }
  from.named = "nothing";
  CHECK(compile_output(from, tokenizer(), trie()).error().code == Errc::usage);
}

TEST_CASE("the answer has the shape of output.schema") {
  auto from = request();
  from.prefill = Prefill::open;
  from.output = json(R"({"type": "object", "properties": {"decision": {"enum": ["approve", "hold"]}, "reason": {"type": "string"}}, "required": ["decision", "reason"]})");
  const auto made = program(from);
  GrammarConstraint c(made, {});
  REQUIRE(takes(c, "ok</think>\n\n{\"decision\": \"hold\", \"reason\": \"no order\"}"));
  CHECK(c.may_end());
  GrammarConstraint d(made, {});
  REQUIRE(takes(d, "</think>"));
  CHECK_FALSE(takes(d, "The decision"));
  GrammarConstraint e(made, {});
  CHECK(takes(e, std::string("</think>\n\n") + kCall));
}

TEST_CASE("the think budget closes the reasoning between characters, and what follows is constrained as ever") {
  auto from = request();
  from.prefill = Prefill::open;
  from.choice = ToolChoice::required;
  inference::ConstraintOptions options;
  options.think_tokens = 5;
  GrammarConstraint c(program(from), options);
  int taken = 0;
  while (c.thinking() && taken < 40) {
    // A character of four bytes, byte by byte where the vocabulary has it in parts.
    for (const TokenId id : tokenizer().encode("\xF0\x9F\x98\x80", false)) {
      if (!c.thinking()) break;
      REQUIRE(c.accept(id).has_value());
      ++taken;
    }
  }
  CHECK(c.think_forced());
  CHECK(taken >= 5);
  CHECK(taken <= 9);
  std::string forced;
  for (const TokenId id : std::vector<TokenId>(c.forced().begin(), c.forced().end())) {
    forced += tokenizer().piece(id);
    REQUIRE(c.accept(id).has_value());
  }
  CHECK(forced.starts_with("\n</think>\n\n<｜tool▁calls▁begin｜>"));
}

TEST_CASE("reasoning that goes round in circles is closed") {
  auto from = request();
  from.prefill = Prefill::open;
  GrammarConstraint c(program(from), {});
  int taken = 0;
  while (c.thinking() && taken < 2000) {
    for (const TokenId id : tokenizer().encode(" again and", false)) {
      if (!c.thinking()) break;
      REQUIRE(c.accept(id).has_value());
      ++taken;
    }
  }
  CHECK(c.think_looped());
  CHECK(taken < 1000);
}

TEST_CASE("forced tokens are the ones the tokenizer would cut") {
  // Whatever the tokenizer makes of a whole turn is accepted, and what is forced on the way is what comes next.
  auto from = request();
  const auto made = program(from);
  std::size_t forced_tokens = 0;
  for (const std::string& text : {std::string(kCall), std::string("<think>a</think>\n\n") + kCall,
                                  std::string("<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>book.table\n```json\n{\"when\": \"2025-01-31T10:00:00Z\", \"people\": 2}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>")}) {
    GrammarConstraint c(made, {});
    const auto tokens = ids(text);
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      const auto forced = c.forced();
      forced_tokens += forced.size();
      for (std::size_t k = 0; k < forced.size() && i + k < tokens.size(); ++k) CHECK(forced[k] == tokens[i + k]);
      REQUIRE(c.accept(tokens[i]).has_value());
    }
  }
  CHECK(forced_tokens > 20);
}

TEST_CASE("a fork goes its own way") {
  const auto made = program(request());
  GrammarConstraint c(made, {});
  REQUIRE(takes(c, "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n{\"city\": \"Par"));
  const auto other = c.fork();
  const std::vector<std::uint32_t> before(c.mask().begin(), c.mask().end());
  CHECK(std::equal(before.begin(), before.end(), other->mask().begin()));
  for (const TokenId id : tokenizer().encode("is\", \"days\": 2", false)) REQUIRE(other->accept(id).has_value());
  CHECK(std::equal(before.begin(), before.end(), c.mask().begin()));
  CHECK(takes(c, "ma\"}"));
}

TEST_CASE("masks are the same as trying every token") {
  auto from = request();
  from.output = json(R"({"type": "array", "items": {"anyOf": [{"type": "string", "maxLength": 5}, {"type": "number", "minimum": 0.5}, {"type": "object"}, {"type": "string", "pattern": "^x+$"}]}})");
  const auto made = program(from);
  for (const std::string& text : {std::string(""), std::string("<think>a < b"), std::string("["), std::string("[\"ab"), std::string("[1"), std::string("[{\"a\": 1, \""), std::string("[\"x")}) {
    INFO(text);
    GrammarConstraint c(made, {});
    REQUIRE(takes(c, text));
    const std::vector<std::uint32_t> mask(c.mask().begin(), c.mask().end());
    for (std::size_t i = 0; i < tokenizer().size(); ++i) {
      const auto id = static_cast<TokenId>(i);
      const auto copy = c.fork();
      const bool fits = copy->accept(id).has_value();
      if (fits != inference::has_token(mask, id)) {
        INFO(tokenizer().piece(id));
        CHECK(fits == inference::has_token(mask, id));
      }
    }
  }
}

TEST_CASE("what is written at random parses strictly and validates") {
  auto from = request();
  from.prefill = Prefill::open;
  from.choice = ToolChoice::required;
  const auto made = program(from);
  std::vector<tools::Schema> schemas;
  for (const auto& tool : from.tools) schemas.push_back(*tools::Schema::compile(tool.parameters));
  int calls = 0;
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    inference::ConstraintOptions options;
    options.think_tokens = 8;
    GrammarConstraint c(made, options);
    const auto written = test::write_at_random(c, tokenizer(), seed, 5000);
    INFO(written.text);
    REQUIRE(written.finished);
    const auto parsed = parse(written.tokens, from, ParseMode::strict);
    for (const auto& error : parsed.errors) FAIL(error.kind + " " + error.raw);
    REQUIRE(!parsed.calls.empty());
    for (const auto& call : parsed.calls) {
      const auto& schema = schemas[call.name == "get_weather" ? 0 : 1];
      for (const auto& violation : schema.validate(call.arguments)) FAIL(violation.pointer + " " + violation.message);
      ++calls;
    }
  }
  CHECK(calls >= 200);
}
