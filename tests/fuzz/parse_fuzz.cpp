// Fuzz target of the output parser. The property: the result, and what was streamed on the way, do not depend on how
// the bytes were split. The first bytes of the input choose format, options and chunk sizes.
//
// ./dev fuzz builds it with libFuzzer.
// With -DKONTOR_FUZZ_STANDALONE it is a program of its own: parse_fuzz [SECONDS [SEED]] mutates the parse corpus at random.

#include "agent/dialect/formats.hpp"
#include "agent/dialect/parse_case.hpp"
#include "agent/dialect/parser.hpp"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

namespace {

using namespace kontor;
using namespace kontor::agent;

struct Run {
  std::string result;
  std::string reasoning;
  std::string content;
  std::size_t calls_done = 0;
};

/// Feeds the text in pieces whose sizes come from a small generator (`step` 0: in one piece).
Run run(const ParserOptions& options, std::string_view text, unsigned step) {
  Run out;
  Parser parser(options, [&](const ParseEvent& event) {
    if (event.kind == ParseEvent::Kind::reasoning) out.reasoning += event.text;
    if (event.kind == ParseEvent::Kind::content) out.content += event.text;
    if (event.kind == ParseEvent::Kind::call_done) ++out.calls_done;
  });
  unsigned state = step;
  while (!text.empty()) {
    state = state * 1664525u + 1013904223u;
    const std::size_t size = step == 0 ? text.size() : step == 1 ? 1 : 1 + (state >> 16) % step;
    parser.feed(text.substr(0, size));
    text.remove_prefix(std::min(size, text.size()));
  }
  ParseResult result = parser.finish();
  for (const auto& error : result.errors) out.result += error.kind + "/" + error.name + "/" + error.raw + "\n";
  for (const auto& call : result.calls) out.result += call.raw_arguments + "\n";
  const std::size_t calls = result.calls.size();
  const bool cleared = !result.errors.empty() && result.errors.back().kind == "too_many_calls";
  const bool reclassified = [&] {
    for (const auto& warning : result.warnings) {
      if (warning == "missing_think_open") return true;
    }
    return false;
  }();
  const bool fits = reclassified || (out.reasoning == result.reasoning && out.content.substr(0, result.content.size()) == result.content);
  if (!fits || (!cleared && out.calls_done != calls)) {
    std::fprintf(stderr, "events do not add up: [%s] [%s]\n", out.reasoning.c_str(), out.content.c_str());
    std::abort();
  }
  out.result += to_json(std::move(result)).dump(-1, ' ', false, Json::error_handler_t::replace);
  return out;
}

ParserOptions options_from(unsigned choice) {
  ParserOptions options;
  const auto& formats = dialect::format_names();
  options.format = formats[choice % formats.size()];
  options.prefill = static_cast<Prefill>(choice / 32 % 3);
  options.mode = choice / 128 % 4 == 0 ? ParseMode::strict : ParseMode::lenient;
  options.fallbacks = choice / 512 % 2 == 1;
  if (choice / 1024 % 2 == 1 || options.fallbacks) options.tools = {"get_weather", "get_time", "run", "t"};
  options.max_calls = choice / 2048 % 4 == 0 ? 2 : 64;
  options.max_depth = choice / 8192 % 4 == 0 ? 3 : 128;
  return options;
}

void check(const std::uint8_t* data, std::size_t size) {
  if (size < 3) return;
  const ParserOptions options = options_from(data[0] | data[1] << 8);
  const std::string_view text(reinterpret_cast<const char*>(data) + 3, size - 3);
  const Run whole = run(options, text, 0);
  for (const unsigned step : {1u, 2u + data[2] % 31u}) {
    const Run split = run(options, text, step);
    if (split.result == whole.result) continue;
    std::fprintf(stderr, "format %s prefill %d: whole and split by %u differ\n%s\n%s\n", options.format.c_str(),
                 static_cast<int>(options.prefill), step, whole.result.c_str(), split.result.c_str());
    std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  check(data, size);
  return 0;
}

#ifdef KONTOR_FUZZ_STANDALONE

#include "base/json.hpp"

#include <chrono>
#include <fstream>
#include <random>
#include <vector>

#ifndef KONTOR_SOURCE_DIR
#define KONTOR_SOURCE_DIR "."
#endif

namespace {

std::vector<std::string> seeds() {
  JsonLimits limits;
  limits.depth = 1024;
  limits.refuse_duplicate_keys = false;
  std::vector<std::string> out;
  std::ifstream in(std::string(KONTOR_SOURCE_DIR) + "/tests/corpora/r1/parse.jsonl");
  for (std::string line; std::getline(in, line);) {
    const auto json = parse_json(line, limits);
    const auto parse_case = json ? read_parse_case(*json) : Result<ParseCase>(fail(Errc::malformed, ""));
    if (!parse_case) continue;
    std::string text;
    for (const auto& piece : parse_case->pieces) text += piece.bytes;
    if (text.size() < 4096) out.push_back(std::move(text));
  }
  return out;
}

/// Words of the notations: random bytes alone would hardly ever spell one.
const char* const kWords[] = {
    "<think>", "</think>", "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>", "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>",
    "<｜tool▁sep｜>", "<|tool_calls_begin|>", "<｜tool\\_calls\\_begin｜>", "<｜tool calls｜>", "<｜end▁of▁sentence｜>", "<|im_end|>",
    "<｜User｜>", "<｜tool▁outputs▁begin｜>", "<tool_call>", "</tool_call>", "<｜DSML｜function_calls>", "</｜DSML｜function_calls>",
    "<｜DSML｜invoke name=\"t\">", "</｜DSML｜invoke>", "<｜DSML｜parameter name=\"a\" string=\"true\">",
    "<｜DSML｜parameter name=\"a\" string=\"false\">", "</｜DSML｜parameter>", "function", "get_weather", "```json\n", "```", "\n", " ", "{", "}",
    "[", "]", ",", ":", "\"", "'", "\\", "\\u0041", "\\ud83d", "{\"a\": 1}", "{\"name\": \"t\", \"arguments\": {}}", "Action: t\nAction Input: {}",
    "Observation:", "get_weather(city=\"x\")", "null", "True", "1e999", "01", "//", "/*", "*/", "\xFF", "\xE2\x82", "\xF0\x9F", "<", "｜", "`"};

}  // namespace

int main(int argc, char** argv) {
  const int seconds = argc > 1 ? std::atoi(argv[1]) : 10;
  std::mt19937 random(argc > 2 ? std::atoi(argv[2]) : 1);
  const auto corpus = seeds();
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
  std::size_t count = 0;
  const auto pick = [&](std::size_t n) { return n == 0 ? 0 : random() % n; };
  for (; std::chrono::steady_clock::now() < end; ++count) {
    std::string text = corpus.empty() || pick(8) == 0 ? std::string() : corpus[pick(corpus.size())];
    for (std::size_t edits = pick(8); edits > 0; --edits) {
      const std::size_t at = pick(text.size() + 1);
      switch (pick(5)) {
        case 0: text.erase(at, pick(12)); break;
        case 1: text.insert(at, kWords[pick(std::size(kWords))]); break;
        case 2: if (at < text.size()) text[at] = static_cast<char>(random()); break;
        case 3: text.insert(at, text.substr(pick(text.size() + 1), pick(60))); break;
        default: text.resize(at); break;
      }
    }
    if (pick(6) == 0) {
      for (std::size_t words = pick(20); words > 0; --words) text += kWords[pick(std::size(kWords))];
    }
    std::string input;
    for (int i = 0; i < 3; ++i) input += static_cast<char>(random());
    input += text;
    check(reinterpret_cast<const std::uint8_t*>(input.data()), input.size());
  }
  std::printf("%zu inputs, no difference\n", count);
  return 0;
}

#endif
