// Vocabularies without call markers (the distills): calls are ordinary text, and text that would be read as markup is
// either the beginning of a call or is not written.

#include "agent/dialect/parser.hpp"
#include "tests/grammar/support.hpp"

#include <filesystem>

using namespace kontor;
using namespace kontor::agent;
using inference::GrammarConstraint;
using inference::TokenId;

namespace {

std::optional<inference::Tokenizer> distill() {
  const std::string path = test::shared_dir() + "/cases/tokenizer/vocab/ggml-vocab-deepseek-r1-distill-qwen.gguf";
  if (test::shared_dir().empty() || !std::filesystem::exists(path)) return std::nullopt;
  auto file = inference::WeightFile::open(path);
  REQUIRE(file.has_value());
  auto made = inference::Tokenizer::create(*file);
  REQUIRE(made.has_value());
  return *made;
}

OutputRequest request(ToolChoice choice) {
  OutputRequest out;
  out.dialect = *dialect_for("r1-distill");
  out.parser_format = "deepseek-r1-distill";
  out.prefill = Prefill::open;
  out.choice = choice;
  out.tools.push_back({"get_weather", "", test::json(R"({"type": "object", "properties": {"city": {"type": "string", "maxLength": 20}, "days": {"type": "integer", "minimum": 1, "maximum": 14}}, "required": ["city"]})")});
  return out;
}

constexpr const char* kBegin = "<｜tool▁calls▁begin｜>";
constexpr const char* kRest = "<｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n{\"city\": \"Paris\"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>";

}  // namespace

TEST_CASE("markers as text open calls, in code they are text, and other markup is not written", "[text]") {
  const auto tokenizer = distill();
  if (!tokenizer) return test::count_cases("text markers", 0, 0, 1);
  const auto trie = std::make_shared<const inference::TokenTrie>(*tokenizer);
  const auto program = compile_output(request(ToolChoice::automatic), *tokenizer, trie);
  REQUIRE(program.has_value());
  const auto takes = [&](const std::string& text) {
    GrammarConstraint c(*program, {});
    for (const TokenId id : tokenizer->encode(text, true))
      if (!inference::has_token(c.mask(), id) || !c.accept(id)) return false;
    return true;
  };
  const std::string think = "hm</think>\n\n";
  CHECK(takes(think + kBegin + kRest));
  CHECK(takes(think + "I look it up.\n" + kBegin + kRest));
  CHECK(takes(think + "<|tool_calls_begin|>" + kRest));
  CHECK(takes(think + "a < b and <b>bold</b> and <|pipes|>"));
  CHECK_FALSE(takes(think + "<｜tool▁calls▁end｜>"));
  CHECK_FALSE(takes(think + "<｜User｜>Hello"));
  CHECK_FALSE(takes(std::string("I could write ") + kBegin));
  CHECK_FALSE(takes("thinking <|im_end|>"));
  // Behind a backtick or inside a fence a marker is an example, and nothing follows from it.
  CHECK(takes(think + "Write `" + kBegin + "` and then"));
  CHECK(takes(think + "```\n" + kBegin + "\nis how\n```\n" + kBegin + kRest));
  CHECK_FALSE(takes(think + "```\n" + kBegin + "\nis how\n```\n" + kBegin + "and on"));
}

TEST_CASE("turns written at random in text markers parse strictly and validate", "[text]") {
  const auto tokenizer = distill();
  if (!tokenizer) return test::count_cases("text markers", 0, 0, 1);
  const auto trie = std::make_shared<const inference::TokenTrie>(*tokenizer);
  const auto from = request(ToolChoice::required);
  const auto program = compile_output(from, *tokenizer, trie);
  REQUIRE(program.has_value());
  const auto schema = tools::Schema::compile(from.tools[0].parameters);
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    inference::ConstraintOptions options;
    options.think_tokens = 10;
    GrammarConstraint c(*program, options);
    const auto written = test::write_at_random(c, *tokenizer, seed, 3000);
    INFO(written.text);
    REQUIRE(written.finished);
    CHECK(written.forced > 10);
    ParserOptions parse;
    parse.format = from.parser_format;
    parse.prefill = from.prefill;
    parse.mode = ParseMode::strict;
    parse.tools.emplace(1, "get_weather");
    Parser parser(parse);
    for (const auto id : written.tokens)
      if (!tokenizer->is_end(id)) parser.feed(tokenizer->piece(id));
    const auto parsed = parser.finish();
    for (const auto& error : parsed.errors) FAIL(error.kind + " " + error.raw.substr(0, 300));
    REQUIRE(!parsed.calls.empty());
    for (const auto& call : parsed.calls) CHECK(schema->validate(call.arguments).empty());
  }
}
