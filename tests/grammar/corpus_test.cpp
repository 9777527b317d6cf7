// Tool schemas as they are met in the wild (tests/corpora/tools/tools.jsonl): each compiles, and what a writer without
// any sense makes of it parses strictly and validates.

#include "agent/dialect/parser.hpp"
#include "tests/grammar/support.hpp"

#include <fstream>
#include <set>

using namespace kontor;
using namespace kontor::agent;

namespace {

std::vector<ToolSchema> corpus() {
  std::vector<ToolSchema> out;
  std::ifstream in(test::corpus_path("tools/tools.jsonl"));
  for (std::string line; std::getline(in, line);) {
    const Json tool = test::json(line);
    out.push_back({tool.at("name").get<std::string>(), "", tool.at("parameters")});
  }
  return out;
}

OutputRequest request(const std::string& key, std::vector<ToolSchema> tools) {
  OutputRequest out;
  out.dialect = *dialect_for(key);
  out.parser_format = key == "qwen3" ? "qwen3" : key == "v3.1" ? "deepseek-v3.1" : "deepseek-r1";
  out.prefill = Prefill::open;
  out.call_tokens = key != "qwen3";
  out.choice = ToolChoice::required;
  out.tools = std::move(tools);
  return out;
}

}  // namespace

TEST_CASE("two hundred real-world tool schemas compile, each name once") {
  const auto tools = corpus();
  CHECK(tools.size() >= 200);
  std::set<std::string> names;
  for (const auto& tool : tools) {
    INFO(tool.name);
    names.insert(tool.name);
    const auto fits = check_schema_grammar(tool.parameters, ValueNotation::object);
    if (!fits) FAIL(fits.error().describe());
    CHECK(tools::Schema::compile(tool.parameters).has_value());
  }
  CHECK(names.size() == tools.size());
}

TEST_CASE("calls written at random over all of them parse strictly and validate, in every notation") {
  const auto tools = corpus();
  const auto& tokenizer = test::pocket_tokenizer();
  const auto trie = std::make_shared<const inference::TokenTrie>(tokenizer);
  int made = 0;
  for (std::size_t i = 0; i < tools.size(); ++i) {
    // Two tools a turn; the notations take turns.
    const std::string key = i % 3 == 0 ? "r1" : i % 3 == 1 ? "v3.1" : "qwen3";
    const auto from = request(key, {tools[i], tools[(i + 7) % tools.size()]});
    const auto program = compile_output(from, tokenizer, trie);
    INFO(tools[i].name);
    if (!program) FAIL(program.error().describe());
    inference::ConstraintOptions options;
    options.think_tokens = 6;
    inference::GrammarConstraint constraint(*program, options);
    const auto written = test::write_at_random(constraint, tokenizer, i, 20'000);
    INFO(written.text.substr(0, 3000));
    if (!written.finished) continue;  // A text of many members can be long at random.
    ParserOptions parse;
    parse.format = from.parser_format;
    parse.prefill = from.prefill;
    parse.mode = ParseMode::strict;
    parse.markers = from.call_tokens ? MarkerPolicy::token : MarkerPolicy::text;
    parse.tools.emplace();
    for (const auto& tool : from.tools) parse.tools->push_back(tool.name);
    Parser parser(parse);
    for (const auto id : written.tokens)
      if (!tokenizer.is_end(id)) parser.feed(tokenizer.piece(id), tokenizer.is_control(id));
    const auto parsed = parser.finish();
    for (const auto& error : parsed.errors) FAIL(error.kind + " " + error.raw.substr(0, 300));
    REQUIRE(!parsed.calls.empty());
    for (const auto& call : parsed.calls) {
      const auto& tool = call.name == from.tools[0].name ? from.tools[0] : from.tools[1];
      const auto schema = tools::Schema::compile(tool.parameters);
      for (const auto& violation : schema->validate(call.arguments)) FAIL(call.name + ": " + violation.pointer + " " + violation.message + " " + call.raw_arguments.substr(0, 500));
      ++made;
    }
  }
  CHECK(made >= 200);
}

TEST_CASE("hostile schemas are compiled or refused in bounded time") {
  const auto outcome = [](const Json& schema) {
    const auto done = check_schema_grammar(schema);
    return done ? std::string("compiled") : done.error().kind;
  };
  Json deep = Json{{"type", "integer"}};
  for (int i = 0; i < 100; ++i) deep = Json{{"type", "array"}, {"items", std::move(deep)}, {"minItems", 1}};
  CHECK(outcome(deep) == "unsatisfiable");  // Deeper than any output may be.
  Json many = Json::array();
  for (int i = 0; i < 20'000; ++i) many.push_back("value number " + std::to_string(i));
  CHECK(outcome(Json{{"enum", many}}) == "compiled");
  CHECK(outcome(Json{{"type", "string"}, {"pattern", "^(a?){1000}(a?){1000}(b|c{1,900}){900}$"}}) == "grammar_schema");
  CHECK(outcome(Json{{"type", "string"}, {"pattern", "(a|b)*a(a|b){30}"}}) == "grammar_schema");
  CHECK(outcome(Json{{"type", "string"}, {"pattern", std::string(4000, '(') + std::string(4000, ')')}}) == "grammar_schema");
  CHECK(outcome(Json{{"type", "string"}, {"minLength", 1'000'000'000}, {"maxLength", 2'000'000'000}}) == "compiled");
  CHECK(outcome(Json{{"type", "string"}, {"pattern", "^x*$"}, {"maxLength", 2'000'000'000}}) == "grammar_schema");
  Json any = Json::array();
  for (int i = 0; i < 40; ++i) any.push_back(Json{{"minimum", i}});
  Json product{{"type", "integer"}, {"allOf", Json::array({Json{{"anyOf", any}}, Json{{"anyOf", any}}, Json{{"anyOf", any}}})}};
  CHECK(outcome(product) == "grammar_schema");
  CHECK(outcome(test::json(R"({"$ref": "#"})")) == "grammar_schema");
  CHECK(outcome(test::json(R"({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"allOf": [{"$ref": "#/$defs/a"}]}}})")) == "grammar_schema");
  CHECK(outcome(test::json(R"({"properties": {"a": {"$ref": "#"}, "b": {"items": {"$ref": "#/properties/a"}}}})")) == "compiled");
  // Two ways to read everything, at every level.
  const auto twice = test::grammar_of(test::json(R"({"$ref": "#/$defs/t", "$defs": {"t": {"anyOf": [{"type": "array", "items": {"$ref": "#/$defs/t"}}, {"type": "array", "items": {"$ref": "#/$defs/t"}, "maxItems": 9}]}}})"));
  REQUIRE(twice.has_value());
  inference::Automaton automaton(*twice, nullptr);
  auto state = automaton.start();
  for (int i = 0; i < 40; ++i) state = automaton.step_all(state, i % 10 == 9 ? "[], " : "[");
  CHECK(automaton.size() < 100'000);
}
