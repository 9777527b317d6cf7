// Behaviour of the parser beyond the corpus: spellings, places, what is streamed when.

#include "agent/dialect/parser.hpp"
#include "tests/support/catch.hpp"

#include <string>
#include <vector>

using namespace kontor::agent;

namespace {

const std::string kEnd = "<｜tool▁call▁end｜><｜tool▁calls▁end｜>";
const std::string kBody = "get_weather\n```json\n{\"city\": \"Paris\"}\n```";
const std::string kBlock = "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>" + kBody + kEnd;

ParseResult parse(const std::string& text, ParserOptions options = {}) {
  Parser parser(std::move(options));
  parser.feed(text);
  return parser.finish();
}

bool warned(const ParseResult& result, const std::string& kind) {
  for (const auto& warning : result.warnings) {
    if (warning == kind) return true;
  }
  return false;
}

std::string only_error(const ParseResult& result) { return result.errors.size() == 1 ? result.errors[0].kind : std::to_string(result.errors.size()); }

struct Streamed {
  std::string content, deltas, done;
  std::size_t started = 0;
};

/// What has been streamed after each piece.
std::vector<Streamed> stream(ParserOptions options, const std::vector<std::string>& pieces) {
  Streamed now;
  std::vector<Streamed> out;
  Parser parser(std::move(options), [&](const ParseEvent& event) {
    if (event.kind == ParseEvent::Kind::content) now.content += event.text;
    if (event.kind == ParseEvent::Kind::call_started) ++now.started;
    if (event.kind == ParseEvent::Kind::argument_delta) now.deltas += event.text;
    if (event.kind == ParseEvent::Kind::call_done) now.done = event.text;
  });
  for (const auto& piece : pieces) {
    parser.feed(piece);
    out.push_back(now);
  }
  parser.finish();
  out.push_back(now);
  return out;
}

}  // namespace

TEST_CASE("every spelling of a call seen in the wild is the same call", "[dialect][parser]") {
  const std::vector<std::string> texts = {
      kBlock,
      "<｜tool calls begin｜><｜tool call begin｜>function<｜tool sep｜>" + kBody + kEnd,
      "<｜tool▁calls｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>" + kBody + kEnd,
      "<｜tool▁call▁begin｜>function<｜tool▁sep｜>" + kBody + kEnd,
      "<｜tool▁calls▁begin｜><｜tool▁calls▁begin｜>function<｜tool▁sep｜>" + kBody + kEnd,
      "<｜tool▁calls▁begin｜>get_weather<｜tool▁sep｜>{\"city\": \"Paris\"}" + kEnd,
      "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<get_weather>\n```json\n{\"city\": \"Paris\"}\n```" + kEnd,
      "<｜tool▁calls▁begin｜>\r\n<｜tool▁call▁begin｜>\r\nfunction\r\n<｜tool▁sep｜>\r\nget_weather\r\n```json\r\n{\"city\": \"Paris\"}\r\n```\r\n" + kEnd,
      "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>" + kBody + "<｜tool▁call▁e",
      "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n{\"city\": \"Paris\"}\n``",
  };
  for (const auto& text : texts) {
    INFO(text);
    const ParseResult result = parse(text);
    REQUIRE(result.errors.empty());
    REQUIRE(result.calls.size() == 1);
    REQUIRE(result.calls[0].name == "get_weather");
    REQUIRE(result.calls[0].raw_arguments == "{\"city\": \"Paris\"}");
    REQUIRE(result.content.empty());
  }
}

TEST_CASE("markers without a call are text", "[dialect][parser]") {
  for (const std::string text : {"The marker <｜tool▁calls▁begin｜> starts a block.", "The marker <｜tool▁call▁begin｜> starts a call."}) {
    const ParseResult result = parse(text);
    REQUIRE(result.content == text);
    REQUIRE(result.errors.empty());
    REQUIRE(warned(result, "stray_marker"));
  }
  const ParseResult empty = parse("A<｜tool▁calls▁begin｜>\n<｜tool▁calls▁end｜>B");
  REQUIRE(empty.content == "A\nB");
  REQUIRE(warned(empty, "empty_block"));
}

TEST_CASE("an end marker quoted in code is text unless nothing follows it", "[dialect][parser]") {
  const ParseResult quoted = parse("The token `<｜end▁of▁sentence｜>` ends a turn.");
  REQUIRE(quoted.content == "The token `<｜end▁of▁sentence｜>` ends a turn.");
  const ParseResult real = parse("```\ncode<｜end▁of▁sentence｜>\n");
  REQUIRE(real.content == "```\ncode");
  const ParseResult nested = parse("```markdown\n```json\n" + kBlock + "\n```");
  REQUIRE(nested.calls.empty());
  REQUIRE(warned(nested, "marker_in_code"));
}

TEST_CASE("a block quoted in code is text with all its markers", "[dialect][parser]") {
  const auto literal = [](const std::string& content) {
    const auto result = parse(content);
    INFO(content);
    CHECK(result.calls.empty());
    CHECK(result.errors.empty());
    CHECK(result.content == content);
    CHECK(warned(result, "marker_in_code"));
  };
  // The second marker stands behind the first one, not behind the backtick.
  literal("See `" + kBlock + "` for the form.");
  literal("`<｜tool▁calls▁begin｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>run{}" + kEnd + "`");
  literal("``" + kBlock + "``");
  ParserOptions dsml;
  dsml.format = "deepseek-v3.2";
  const auto quoted = [&](const std::string& between) {
    return parse("`<｜DSML｜function_calls>" + between + "<｜DSML｜invoke name=\"run\">\n</｜DSML｜invoke>\n</｜DSML｜function_calls>`", dsml);
  };
  CHECK(quoted("\n").calls.empty());
  CHECK(quoted("").calls.empty());
  // Other text ends the quotation.
  CHECK(parse("`<｜tool▁calls▁begin｜>` opens it. " + kBlock).calls.size() == 1);
  // Another's turn is none, even right behind a quoted marker.
  CHECK(parse("`<｜tool▁calls▁begin｜><｜User｜>more").content == "`<｜tool▁calls▁begin｜>");
}

TEST_CASE("a fence ends where a marker follows its signs", "[dialect][parser]") {
  const auto call = parse("```\nx\n``` " + kBlock);
  CHECK(call.calls.size() == 1);
  CHECK(call.content == "```\nx\n```");
  CHECK(parse("```\nx\n```" + kBlock).calls.empty());   // right behind a backtick
  CHECK(parse("````\nx\n``` " + kBlock).calls.empty());  // too few signs
  CHECK(parse("```\nx\n``` y " + kBlock).calls.empty());
  CHECK(parse("``` " + kBlock).calls.empty());           // an opening fence
  const auto end = parse("```\nx\n```<｜end▁of▁sentence｜>more");
  CHECK(end.content == "```\nx\n```");
  CHECK(warned(end, "text_after_eos"));
}

TEST_CASE("an output that breaks off in a call is truncated, not malformed", "[dialect][parser]") {
  const std::string head = "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>";
  for (std::size_t cut = 1; cut < kBlock.size() - head.size(); ++cut) {
    const std::string text = kBlock.substr(0, head.size() + cut);
    const auto result = parse(text);
    INFO(text);
    if (result.errors.empty()) CHECK(result.calls.size() == 1);
    else CHECK(only_error(result) == "truncated_call");
  }
  ParserOptions dsml;
  dsml.format = "deepseek-v3.2";
  const std::string block = "<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"f\">\n<｜DSML｜parameter name=\"a\" string=\"true\">x</｜DSML｜parameter>\n"
                            "<｜DSML｜parameter name=\"b\" string=\"false\">[1]</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜function_calls>";
  for (std::size_t cut = block.find("invoke"); cut < block.size(); ++cut) {
    const auto result = parse(block.substr(0, cut), dsml);
    INFO(block.substr(0, cut));
    const bool in_text = warned(result, "invalid_utf8");  // the break is inside a character of the verbatim text
    if (result.errors.empty()) CHECK((result.calls.size() == 1 || warned(result, "stray_marker")));
    else if (!in_text) CHECK(only_error(result) == "truncated_call");
  }
  for (const std::string value : {"tru", "nul", "Fal", "N", "1.", "-", "\"x", "[1,"}) CHECK(only_error(parse(head + "function<｜tool▁sep｜>t\n{\"a\": " + value)) == "truncated_call");
  for (const std::string value : {"Paris", "trux", "nil", "NaN", "Infinity"}) CHECK(only_error(parse(head + "function<｜tool▁sep｜>t\n{\"a\": " + value)) == "malformed_json");
}

TEST_CASE("reasoning parts, and a block that ends unclosed reasoning", "[dialect][parser]") {
  const ParseResult parts = parse("<think>a</think>" + kBlock + "\n<think>b</think>answer");
  REQUIRE(parts.reasoning == "a\nb");
  REQUIRE(parts.content == "answer");
  REQUIRE(parts.calls.size() == 1);

  const ParseResult revealed = parse("thought</think>answer");
  REQUIRE(revealed.reasoning == "thought");
  REQUIRE(revealed.content == "answer");
  REQUIRE(warned(revealed, "missing_think_open"));

  ParserOptions open;
  open.prefill = Prefill::open;
  const ParseResult taken = parse("I try " + kBlock + " no.\n" + kBlock + "<｜end▁of▁sentence｜>", open);
  REQUIRE(taken.calls.size() == 1);
  REQUIRE(taken.reasoning == "I try " + kBlock + " no.");
  REQUIRE(warned(taken, "implicit_think_close"));
  const std::string lone = kBlock.substr(kBlock.find("<｜tool▁call▁begin｜>"));  // no complete block
  REQUIRE(only_error(parse("I try " + lone, open)) == "unterminated_think");
  open.mode = ParseMode::strict;
  REQUIRE(only_error(parse("I try " + kBlock, open)) == "unterminated_think");
}

TEST_CASE("arguments stream as they are written, also inside tool_call elements", "[dialect][parser]") {
  ParserOptions options;
  options.format = "hermes";
  const auto steps = stream(options, {"<tool_call>\n{\"name\": \"t\",", " \"arguments\": {\"a\": \"lo", "ng\"}", "}\n</tool_call>"});
  REQUIRE(steps[0].started == 1);
  REQUIRE(steps[1].deltas == "{\"a\": \"lo");
  REQUIRE(steps[2].deltas == "{\"a\": \"long\"}");
  REQUIRE(steps.back().done == "{\"a\": \"long\"}");
  const auto repaired = stream({}, {"<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>t\n{'a': 1}" + kEnd});
  REQUIRE(repaired.back().done == "{\"a\": 1}");
}

TEST_CASE("the word behind a fence in a tool_call element is read once, however the bytes are split", "[dialect][parser]") {
  ParserOptions hermes;
  hermes.format = "hermes";
  const std::string text = "<tool_call>\n```json\n \nthere\n{\"name\": \"f\", \"arguments\": {}}\n```\n</tool_call>";
  for (std::size_t size = 1; size <= text.size(); ++size) {
    Parser parser(hermes);
    for (std::size_t at = 0; at < text.size(); at += size) parser.feed(std::string_view(text).substr(at, size));
    const auto result = parser.finish();
    CHECK(result.calls.empty());
    CHECK(only_error(result) == "malformed_json");
  }
}

TEST_CASE("with fallbacks only what may become a call waits", "[dialect][parser]") {
  ParserOptions options;
  options.fallbacks = true;
  options.tools = {"get_weather"};
  const auto steps = stream(options, {"Sure, I", " look.\n", "```json\n{\"name\": \"get_weather\", ", "\"arguments\": {}}\n```\nThat", " was an example."});
  REQUIRE(steps[0].content == "Sure, I");
  REQUIRE(steps[1].content == "Sure, I look.");
  REQUIRE(steps[2].content.find('`') == std::string::npos);
  REQUIRE(steps[3].content.ends_with("```\nThat"));
  REQUIRE(steps.back().started == 0);
  const ParseResult call = parse("Sure.\n```json\n{\"name\": \"get_weather\", \"arguments\": {}}\n```", options);
  REQUIRE(call.calls.size() == 1);
  REQUIRE(call.content == "Sure.");
}

TEST_CASE("control tokens decide under the token policy", "[dialect][parser]") {
  ParserOptions options;
  options.markers = MarkerPolicy::token;
  Parser parser(options);
  parser.feed("<think>", true);
  parser.feed("quoted </think> is text");
  parser.feed("</think>", true);
  for (const auto& [text, control] : std::vector<std::pair<std::string, bool>>{
           {"<｜tool▁calls▁begin｜>", true}, {"<｜tool▁call▁begin｜>", true}, {"function", false}, {"<｜tool▁sep｜>", true},
           {kBody, false}, {"<｜tool▁call▁end｜>", true}, {"<｜tool▁calls▁end｜>", true}}) {
    parser.feed(text, control);
  }
  const ParseResult result = parser.finish();
  REQUIRE(result.reasoning == "quoted </think> is text");
  REQUIRE(result.calls.size() == 1);
  REQUIRE(result.errors.empty());
}
