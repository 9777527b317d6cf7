// DSML, the notation of DeepSeek V3.2 and V4: an element for each member, strings as they stand.

#include "agent/dialect/parser.hpp"
#include "tests/grammar/support.hpp"

#include <stdexcept>

using namespace kontor;
using namespace kontor::agent;
using inference::GrammarConstraint;
using kontor::test::json;

namespace {

constexpr const char* kBooking = R"({"type": "object", "properties": {"who": {"type": "string"}, "when": {"type": "string", "format": "date"},
  "table": {"enum": ["window", "a </b> c", 7]}, "code": {"type": "string", "minLength": 2, "maxLength": 3}, "guests": {"type": ["integer", "null"], "minimum": 1, "maximum": 20},
  "tags": {"type": "array", "items": {"type": "string"}}}, "required": ["who", "when"]})";

OutputRequest request_for(const char* schema, const std::string& dialect, ToolChoice choice) {
  OutputRequest out;
  out.dialect = *dialect_for(dialect);
  out.parser_format = "deepseek-" + dialect;
  out.prefill = Prefill::open;
  out.choice = choice;
  out.tools.push_back({"book", "", json(schema)});
  return out;
}

bool takes(const std::shared_ptr<const inference::GrammarProgram>& program, const std::string& text) {
  GrammarConstraint constraint(program, {});
  for (const auto id : program->tokenizer.encode(text, true)) {
    if (!inference::has_token(constraint.mask(), id)) return false;
    REQUIRE(constraint.accept(id).has_value());
  }
  return constraint.may_end();
}

ParseResult parsed(const OutputRequest& request, const inference::Tokenizer& tokenizer, std::span<const inference::TokenId> tokens) {
  ParserOptions options;
  options.format = request.parser_format, options.prefill = request.prefill, options.mode = ParseMode::strict;
  options.markers = request.call_tokens ? MarkerPolicy::token : MarkerPolicy::text;
  options.tools.emplace(1, "book");
  Parser parser(options);
  for (const auto id : tokens)
    if (!tokenizer.is_end(id)) parser.feed(tokenizer.piece(id), tokenizer.is_control(id));
  return parser.finish(Finish::stop);
}

/// Bytes as tokens, with or without a sign of its own for the tags.
inference::Tokenizer byte_tokenizer(bool sign) {
  Json vocabulary = Json::object(), added = Json::array();
  int id = 0, moved = 256;
  for (int byte = 0; byte < 256; ++byte) {
    // As byte-level vocabularies spell bytes: visible ones as themselves, others behind them.
    const bool visible = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    const int point = visible ? byte : moved++;
    const std::string text = point < 0x80 ? std::string(1, static_cast<char>(point))
                                          : std::string{static_cast<char>(0xC0 | (point >> 6)), static_cast<char>(0x80 | (point & 0x3F))};
    vocabulary[text] = id++;
  }
  std::vector<std::string> markers{"<｜end▁of▁sentence｜>", "<think>", "</think>"};
  if (sign) markers.emplace_back("｜DSML｜");
  for (const auto& marker : markers) added.push_back({{"id", id++}, {"content", marker}, {"special", true}, {"normalized", false}});
  const Json tokenizer{{"added_tokens", added}, {"normalizer", nullptr},
                       {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", false}}},
                       {"post_processor", nullptr}, {"decoder", {{"type", "ByteLevel"}}},
                       {"model", {{"type", "BPE"}, {"vocab", vocabulary}, {"merges", Json::array()}}}};
  const auto made = inference::Tokenizer::from_json(tokenizer.dump(), Json{{"eos_token", markers[0]}}, nullptr, "bytes");
  if (!made) throw std::runtime_error(made.error().describe());
  return *made;
}

}  // namespace

TEST_CASE("calls of DSML are read as they are written") {
  const auto& tokenizer = test::pocket_tokenizer();
  const auto trie = std::make_shared<const inference::TokenTrie>(tokenizer);
  const auto program = compile_output(request_for(kBooking, "v3.2", ToolChoice::required), tokenizer, trie);
  REQUIRE(program.has_value());
  const auto call = [](const std::string& members) {
    return "so</think>\n\n<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"book\">\n" + members + "</｜DSML｜invoke>\n</｜DSML｜function_calls>";
  };
  const auto member = [](const std::string& name, bool string, const std::string& value) {
    return "<｜DSML｜parameter name=\"" + name + "\" string=\"" + (string ? "true" : "false") + "\">" + value + "</｜DSML｜parameter>\n";
  };
  const std::string base = member("who", true, "Anna \"the\" <b>cook</b>\nand more") + member("when", true, "2026-02-28");
  CHECK(takes(*program, call(base)));
  CHECK(takes(*program, call(base + member("table", true, "window"))));
  CHECK(takes(*program, call(base + member("table", false, "7"))));
  CHECK(takes(*program, call(base + member("table", false, "\"a </b> c\""))));
  CHECK(takes(*program, call(base + member("code", true, "äö<") + member("guests", false, "null") + member("tags", false, "[\"a\", \"b\"]"))));
  CHECK_FALSE(takes(*program, call(member("who", true, "Anna"))));
  CHECK_FALSE(takes(*program, call(base + member("table", true, "7"))));
  CHECK_FALSE(takes(*program, call(base + member("code", true, "a"))));
  CHECK_FALSE(takes(*program, call(base + member("guests", false, "21"))));
  CHECK_FALSE(takes(*program, call(base + member("who", true, "twice"))));
  CHECK_FALSE(takes(*program, call(member("who", true, "Anna") + member("when", true, "2026-02-29"))));
  CHECK_FALSE(takes(*program, "so</think>\n\nNothing to do."));

  const auto four = compile_output(request_for(kBooking, "v4", ToolChoice::automatic), tokenizer, trie);
  REQUIRE(four.has_value());
  CHECK(takes(*four, "so</think>\n\nI book.\n\n<｜DSML｜tool_calls>\n<｜DSML｜invoke name=\"book\">\n" + base + "</｜DSML｜invoke>\n</｜DSML｜tool_calls>"));
  CHECK(takes(*four, "so</think>\n\nNothing to do."));
  CHECK_FALSE(takes(*four, "so</think>\n\nI book.\n\n<｜DSML｜invoke name=\"book\">"));
}

TEST_CASE("what DSML cannot write is refused with the place") {
  const auto where = [](const char* schema) {
    const auto fits = check_output_schemas({{"t", "", json(schema)}}, std::nullopt, "v3.2");
    return fits ? "fits" : fits.error().where;
  };
  CHECK(where(kBooking) == "fits");
  CHECK(where(R"({"type": "object"})") == "fits");
  CHECK(where(R"({"type": "object", "properties": {"a\"b": {}}})") == "/properties");
  CHECK(where(R"({"type": "object", "additionalProperties": {"type": "integer"}})") == "/additionalProperties");
  CHECK(where(R"({"enum": [{"a": 1}]})") == "/enum");
  CHECK(where(R"({"type": "object", "properties": {"a": {"not": {}}}})") == "/properties/a/not");
  CHECK(where(R"({"type": "object", "properties": {"a": {"type": "string", "format": "regex"}}})") == "/properties/a/format");
}

TEST_CASE("random DSML parses strictly and validates, with and without a token for the sign") {
  for (const bool sign : {false, true}) {
    const auto tokenizer = byte_tokenizer(sign);
    const auto trie = std::make_shared<const inference::TokenTrie>(tokenizer);
    for (const char* dialect : {"v3.2", "v4"}) {
      auto request = request_for(kBooking, dialect, ToolChoice::required);
      request.call_tokens = sign;
      const auto program = compile_output(request, tokenizer, trie);
      REQUIRE(program.has_value());
      const auto schema = tools::Schema::compile(request.tools.front().parameters);
      for (std::uint64_t seed = 0; seed < 12; ++seed) {
        inference::ConstraintOptions options;
        options.think_tokens = 8;
        GrammarConstraint constraint(*program, options);
        REQUIRE(constraint.limit(3000).has_value());
        const auto out = test::write_at_random(constraint, tokenizer, seed, 3000);
        INFO(dialect << " " << sign << " " << seed << ": " << out.text);
        REQUIRE(out.finished);
        const auto result = parsed(request, tokenizer, out.tokens);
        REQUIRE(result.errors.empty());
        REQUIRE(!result.calls.empty());
        for (const auto& call : result.calls) REQUIRE(schema->validate(call.arguments).empty());
      }
    }
  }
}
