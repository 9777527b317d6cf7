// Outputs with a limit: what is left to write is known, and the limit is never met inside a call or JSON.

#include "agent/dialect/parser.hpp"
#include "inference/endings.hpp"
#include "tests/grammar/support.hpp"

using namespace kontor;
using namespace kontor::agent;
using inference::GrammarConstraint;
using inference::kTokensNever;
using inference::TokenId;
using kontor::test::json;

namespace {

/// Always takes the byte behind which least is left; the text, or nothing when that does not come down each time.
std::optional<std::string> shortest(const std::shared_ptr<const inference::Grammar>& grammar, std::string_view begin = {},
                                    const std::shared_ptr<const inference::VerbatimText>& verbatim = nullptr) {
  inference::Automaton automaton(grammar, verbatim, std::make_shared<const inference::Endings>(grammar, nullptr));
  auto state = automaton.step_all(automaton.start(), begin);
  std::string text(begin);
  while (automaton.left(state) != 1) {
    if (automaton.left(state) >= kTokensNever) return std::nullopt;
    auto best = inference::kDeadState;
    std::uint8_t chosen = 0;
    for (int byte = 0; byte < 256; ++byte) {
      const auto to = automaton.step(state, static_cast<std::uint8_t>(byte));
      if (to == inference::kDeadState || (best != inference::kDeadState && automaton.left(to) >= automaton.left(best))) continue;
      best = to, chosen = static_cast<std::uint8_t>(byte);
    }
    if (best == inference::kDeadState || automaton.left(best) >= automaton.left(state)) return std::nullopt;
    state = best;
    text += static_cast<char>(chosen);
  }
  return automaton.may_end(state) ? std::optional(text) : std::nullopt;
}

std::optional<std::string> shortest(const std::string& schema, std::string_view begin = {}) {
  const auto grammar = test::grammar_of(json(schema));
  REQUIRE(grammar.has_value());
  return shortest(*grammar, begin);
}

OutputRequest request_for(const Json& parameters, ToolChoice choice = ToolChoice::required) {
  OutputRequest out;
  out.dialect = *dialect_for("r1-0528");
  out.parser_format = "deepseek-r1";
  out.prefill = Prefill::open;
  out.call_tokens = true;
  out.choice = choice;
  out.tools.push_back({"act", "", parameters});
  return out;
}

struct Outcome {
  bool finished = false, wound_down = false;
  std::int64_t tokens = 0;
  ParseResult parsed;
};

/// A writer that draws from the mask at random, as a model that has nothing to say.
Outcome write(const std::shared_ptr<const inference::GrammarProgram>& program, const OutputRequest& request, std::int64_t limit, std::uint64_t seed,
              std::shared_ptr<const inference::VerbatimText> verbatim = nullptr) {
  inference::ConstraintOptions options;
  options.think_tokens = 8, options.verbatim = std::move(verbatim);
  GrammarConstraint constraint(program, options);
  const auto fits = constraint.limit(limit);
  REQUIRE(fits.has_value() == (limit >= constraint.shortest()));
  if (!fits) {
    REQUIRE(fits.error().kind == "output_limit");
    return {};
  }
  ParserOptions parse;
  parse.format = request.parser_format, parse.prefill = request.prefill, parse.mode = ParseMode::strict, parse.markers = MarkerPolicy::token;
  parse.tools.emplace(1, "act");
  Parser parser(parse);
  Outcome out;
  const auto take = [&](TokenId id) {
    const auto accepted = constraint.accept(id);
    if (!accepted) FAIL(accepted.error().describe());
    ++out.tokens;
    if (!program->tokenizer.is_end(id)) parser.feed(program->tokenizer.piece(id), program->tokenizer.is_control(id));
  };
  while (!constraint.finished() && out.tokens < limit) {
    const auto forced = constraint.forced();
    const std::vector<TokenId> ids(forced.begin(), forced.end());
    for (const TokenId id : ids)
      if (out.tokens < limit) take(id);
    if (!ids.empty()) continue;
    std::vector<TokenId> allowed;
    const auto mask = constraint.mask();
    for (TokenId id = 0; id < static_cast<TokenId>(program->tokenizer.size()); ++id)
      if (inference::has_token(mask, id)) allowed.push_back(id);
    REQUIRE(!allowed.empty());
    take(allowed[static_cast<std::size_t>(inference::random_uniform(seed, static_cast<std::uint64_t>(out.tokens)) * static_cast<double>(allowed.size()))]);
  }
  out.finished = constraint.finished(), out.wound_down = constraint.wound_down();
  out.parsed = parser.finish(out.finished ? Finish::stop : Finish::length);
  return out;
}

const std::vector<std::string>& hard_schemas() {
  static const std::vector<std::string> schemas{
      R"({"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]})",
      R"({"type": "object", "properties": {"text": {"type": "string", "minLength": 40}}, "required": ["text"]})",
      R"({"type": "object", "properties": {"rows": {"type": "array", "minItems": 5, "items": {"type": "array", "minItems": 2, "items": {"type": "integer"}}}}, "required": ["rows"]})",
      R"({"type": "object", "properties": {"rows": {"type": "array", "minItems": 3, "prefixItems": [{"const": "head"}], "items": {"type": "object", "properties": {"id": {"type": "string", "format": "uuid"}}, "required": ["id"]}}}, "required": ["rows"]})",
      R"({"type": "object", "additionalProperties": {"type": "array", "items": {"type": "object", "additionalProperties": {"type": "number"}}}})",
      R"({"type": "object", "properties": {"tree": {"$ref": "#/$defs/node"}}, "required": ["tree"], "$defs": {"node": {"type": "object", "properties": {"name": {"type": "string"}, "children": {"type": "array", "items": {"$ref": "#/$defs/node"}}}, "required": ["name", "children"]}}})",
      R"({"type": "object", "properties": {"when": {"type": "string", "format": "date-time"}, "iban": {"type": "string", "pattern": "^[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}$"}, "n": {"type": "number", "minimum": 0.5, "maximum": 99.25}}, "required": ["when", "iban", "n"]})",
      R"({"type": "object", "properties": {"of": {"anyOf": [{"type": "string", "minLength": 30}, {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}, {"enum": ["one long choice among the few", "another"]}]}}, "required": ["of"]})"};
  return schemas;
}

}  // namespace

TEST_CASE("from every place there is a way to the end that gets shorter with each byte") {
  REQUIRE(shortest(R"({"type": "array", "minItems": 3, "items": {"enum": ["aa", "b"]}})") == R"(["b", "b", "b"])");
  REQUIRE(shortest(R"({"type": "array", "minItems": 3, "items": {"enum": ["aa", "b"]}})", R"(["aa", "aa", "b)") == R"(["aa", "aa", "b"])");
  REQUIRE(shortest(R"({"type": "string", "minLength": 5})", "\"\xe2\x82")->size() == 2 + 3 + 4);
  CHECK(shortest(R"({"type": "string"})", "\"a\\u00").value_or("none") == "\"a\\u0000\"");
  REQUIRE(shortest(R"({"anyOf": [{"const": "a long text"}, {"type": "array", "items": {}}]})") == "[]");
  REQUIRE(shortest(R"({"type": "object"})", R"({"a": {}, ")").has_value());
  REQUIRE(shortest(R"({"type": "object"})", R"({"": {}, "a": 1, ")")->size() == std::string(R"({"": {}, "a": 1, "b": 0})").size());
  std::string names = "{";
  for (char c = ' '; c < 0x7f; ++c)
    if (c != '"' && c != '\\') names += std::string("\"") + c + "\": 0, ";
  REQUIRE(shortest(R"({"type": "object"})", names + "\"\": 0, \"").has_value());
  for (const auto& schema : hard_schemas()) {
    const auto grammar = test::grammar_of(json(schema));
    const auto text = shortest(*grammar);
    INFO(schema);
    REQUIRE(text.has_value());
    REQUIRE(tools::Schema::compile(json(schema))->validate(json(*text)).empty());
    for (std::size_t cut = 0; cut <= text->size(); ++cut) REQUIRE(shortest(*grammar, std::string_view(*text).substr(0, cut)).has_value());
  }
}

TEST_CASE("the way to the end keeps within the nesting that is allowed") {
  const auto grammar = test::grammar_of(json(R"({"$ref": "#/$defs/n", "$defs": {"n": {"anyOf": [{"const": "a very long text that ends the nesting"}, {"type": "array", "items": {"$ref": "#/$defs/n"}}]}}})"));
  REQUIRE(grammar.has_value());
  inference::Automaton automaton(*grammar, nullptr);
  std::string deep;
  while (automaton.step_all(automaton.start(), deep + "[") != inference::kDeadState) {
    deep += "[";
    const auto text = shortest(*grammar, deep);
    REQUIRE(text.has_value());
    REQUIRE(test::reads(*grammar, *text));
  }
  REQUIRE(deep.size() > 20);
}

TEST_CASE("copies end at the next border of a word") {
  const auto grammar = test::grammar_of(json(R"({"type": "object", "properties": {"iban": {"type": "string", "minLength": 1, "x-verbatim": true}}, "required": ["iban"]})"));
  REQUIRE(grammar.has_value());
  auto words = std::make_shared<inference::VerbatimText>();
  words->add("DE44500105175407324931 verylongword");
  words->finish();
  REQUIRE(shortest(*grammar, R"({"iban": "DE44)", words) == R"({"iban": "DE44500105175407324931"})");
  CHECK(shortest(*grammar, {}, words).value_or("none") == R"({"iban": " "})");
  auto none = std::make_shared<inference::VerbatimText>();
  none->finish();
  REQUIRE(!shortest(*grammar, {}, none));
}

TEST_CASE("calls are complete at every limit that has room for the shortest one") {
  const auto& tokenizer = test::pocket_tokenizer();
  const auto trie = std::make_shared<const inference::TokenTrie>(tokenizer);
  std::size_t wound_down = 0;
  for (const auto& schema : hard_schemas()) {
    const auto request = request_for(json(schema));
    const auto made = compile_output(request, tokenizer, trie);
    REQUIRE(made.has_value());
    const auto checker = tools::Schema::compile(json(schema));
    const std::int64_t least = GrammarConstraint(*made, {}).shortest();
    INFO(schema << " needs " << least);
    REQUIRE(least < 200);
    for (const std::int64_t limit : {least, least + 1, least + 2, least + 3, least + 7, least + 20, least + 60, least + 200}) {
      for (std::uint64_t seed = 0; seed < 6; ++seed) {
        const auto out = write(*made, request, limit, seed);
        INFO("limit " << limit << " seed " << seed);
        REQUIRE(out.finished);
        REQUIRE(out.tokens <= limit);
        REQUIRE(out.parsed.errors.empty());
        REQUIRE(!out.parsed.calls.empty());
        for (const auto& call : out.parsed.calls) REQUIRE(checker->validate(call.arguments).empty());
        wound_down += out.wound_down;
      }
    }
    REQUIRE(!write(*made, request, least - 1, 1).finished);
  }
  REQUIRE(wound_down > 100);
}

TEST_CASE("free text may be cut, calls in it may not begin without room") {
  const auto& tokenizer = test::pocket_tokenizer();
  const auto request = request_for(json(hard_schemas().front()), ToolChoice::automatic);
  const auto made = compile_output(request, tokenizer, std::make_shared<const inference::TokenTrie>(tokenizer));
  REQUIRE(made.has_value());
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    const auto out = write(*made, request, 24 + static_cast<std::int64_t>(seed), seed);
    for (const auto& error : out.parsed.errors) REQUIRE(error.kind != "truncated_call");
  }
}

TEST_CASE("reasoning leaves room for what comes behind it") {
  const auto& tokenizer = test::pocket_tokenizer();
  const auto request = request_for(json(hard_schemas().front()));
  const auto made = compile_output(request, tokenizer, std::make_shared<const inference::TokenTrie>(tokenizer));
  REQUIRE(made.has_value());
  inference::ConstraintOptions options;
  options.stop_think_loops = false;
  GrammarConstraint constraint(*made, options);
  REQUIRE(constraint.limit(400).has_value());
  const auto thought = tokenizer.encode("a", false).front();
  std::int64_t count = 0;
  while (constraint.thinking()) {
    REQUIRE(constraint.accept(thought).has_value());
    ++count;
  }
  REQUIRE(constraint.think_forced());
  REQUIRE(!constraint.wound_down());
  REQUIRE(count > 200);
  REQUIRE(400 - count >= constraint.shortest() / 2 + 100);
}
