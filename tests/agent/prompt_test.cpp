// A conversation rendered turn by turn gives the prompt, and the ids, of the whole rendered at once.

#include "agent/dialect/renderer.hpp"
#include "inference/tokenizer.hpp"
#include "tests/support/catch.hpp"

#include <filesystem>
#include <random>

using namespace kontor;
using namespace kontor::agent;

namespace {

using inference::Segment;
using inference::TokenId;

std::vector<inference::Tokenizer> vocabularies() {
  std::vector<std::string> paths{std::string(KONTOR_SOURCE_DIR) + "/examples/models/pocket-invoice.gguf"};
  for (const char* name : {"deepseek-v3", "deepseek-r1-distill-qwen", "llama3.1"}) {
    paths.push_back(test::shared_dir() + "/cases/tokenizer/vocab/ggml-vocab-" + name + ".gguf");
  }
  std::vector<inference::Tokenizer> out;
  for (const auto& path : paths) {
    if (!std::filesystem::exists(path)) continue;
    const auto file = inference::WeightFile::open(path);
    REQUIRE(file.has_value());
    auto tokenizer = inference::Tokenizer::create(*file);
    REQUIRE(tokenizer.has_value());
    out.push_back(std::move(*tokenizer));
  }
  return out;
}

Message message_of(Role role, std::string content) {
  Message message;
  message.role = role;
  message.content = std::move(content);
  return message;
}

/// Adds a turn of the assistant and what follows it, as the planner would: results, a repair, or the next question.
void go_on(std::vector<Message>& messages, std::mt19937& random, const inference::Tokenizer& tokenizer) {
  const auto pick = [&](unsigned n) { return random() % n; };
  const char* const texts[] = {"", "Rechnung 4711 über 1.200,50 €", "two\n\nlines ", " <｜User｜> is text", "請求書", "</think>", "ends with blank "};
  Message turn = message_of(Role::assistant, texts[pick(7)]);
  if (pick(2)) turn.reasoning = "because";
  for (unsigned calls = pick(3); calls > 0; --calls) {
    const std::string arguments = R"({"path": ")" + std::to_string(pick(1000)) + R"(.txt"})";
    turn.calls.push_back({"c" + std::to_string(calls), "files.read", *parse_json(arguments), arguments});
  }
  if (pick(4)) {  // Most turns were generated here, and have their ids.
    turn.generated_text = (turn.reasoning.empty() ? "" : turn.reasoning + "</think>") + turn.content + "(calls)";
    const auto ids = tokenizer.encode(turn.generated_text, false);
    turn.tokens.assign(ids.begin(), ids.end());
    if (turn.tokens.empty()) turn.generated_text.clear();
  }
  messages.push_back(turn);
  for (const auto& call : turn.calls) {
    Message result = message_of(Role::tool, texts[pick(7)]);
    result.call_id = call.id;
    result.name = call.name;
    messages.push_back(std::move(result));
  }
  if (turn.calls.empty() || pick(8) == 0) messages.push_back(message_of(Role::user, texts[pick(7)]));
}

std::string joined(std::span<const Segment> earlier, std::span<const Segment> segments) {
  std::string text;
  for (const auto& segment : earlier) text += segment.text;
  for (const auto& segment : segments) text += segment.text;
  return text;
}

}  // namespace

TEST_CASE("a prompt that grows is the prompt of the whole conversation, in text and ids", "[agent][prompt]") {
  const std::vector<ToolSchema> tools = {{"files.read", "Reads a file.", *parse_json(R"({"type": "object"})")}};
  std::mt19937 random(11);
  for (const auto& tokenizer : vocabularies()) {
    const RollingPrompt::Encode encode = [&](std::span<const Segment> segments) { return tokenizer.encode_segments(segments); };
    for (const char* key : {"r1", "r1-0528", "r1-distill", "v3.1", "v3.2", "v4", "qwen3", "hermes"}) {
      for (const KeepReasoning keep : {KeepReasoning::never, KeepReasoning::since_last_user, KeepReasoning::all}) {
        INFO(key << " keep " << static_cast<int>(keep));
        auto options = *dialect_for(key);
        options.keep_reasoning = keep;
        RollingPrompt with_ids, text_only;
        std::vector<Message> messages{message_of(Role::system, "You keep books."), message_of(Role::user, "Go on.")};
        for (int turn = 0; turn < 12; ++turn) {
          const auto whole = render(options, messages, tools);
          REQUIRE(whole.has_value());
          const auto encoded = with_ids.next(options, messages, tools, encode);
          REQUIRE(encoded.has_value());
          REQUIRE(joined(encoded->earlier, encoded->segments) == joined({}, whole->segments));
          REQUIRE(encoded->prefill == whole->prefill);
          const auto ids = tokenizer.encode_segments(whole->segments);
          REQUIRE(ids.has_value());
          REQUIRE(*tokenizer.encode_segments(encoded->earlier, encoded->segments) == *ids);
          const auto plain = text_only.next(options, messages, tools);
          REQUIRE(joined(plain->earlier, plain->segments) == joined({}, whole->segments));
          REQUIRE(*tokenizer.encode_segments(plain->earlier, plain->segments) == *ids);
          go_on(messages, random, tokenizer);
        }
      }
    }
  }
}

TEST_CASE("what is certain of the next prompt is its beginning, and nothing of it is written twice", "[agent][prompt]") {
  const std::vector<ToolSchema> tools = {{"files.read", "Reads a file.", *parse_json(R"({"type": "object"})")}};
  std::mt19937 random(12);
  std::size_t begun_results = 0, whole_results = 0;
  for (const auto& tokenizer : vocabularies()) {
    const RollingPrompt::Encode encode = [&](std::span<const Segment> segments) { return tokenizer.encode_segments(segments); };
    for (const char* key : {"r1", "r1-0528", "r1-distill", "v3.1", "v3.2", "v4", "qwen3", "hermes"}) {
      INFO(key);
      const auto options = *dialect_for(key);
      RollingPrompt prompt;
      std::vector<Message> messages{message_of(Role::system, "You keep books."), message_of(Role::user, "Go on.")};
      for (int turn = 0; turn < 25; ++turn) {
        const auto before = messages.size();
        go_on(messages, random, tokenizer);
        const auto whole = render(options, messages, tools);
        REQUIRE(whole.has_value());
        const std::string text = joined({}, whole->segments);
        // The turn of the assistant, then results as they come.
        const std::vector<Message> known(messages.begin(), messages.begin() + static_cast<std::ptrdiff_t>(before) + 1);
        std::vector<Message> results;
        const bool user_follows = messages.back().role == Role::user;
        for (std::size_t i = before + 1; i < messages.size() && messages[i].role == Role::tool; ++i) {
          Message begun = messages[i];
          begun.content.resize(begun.content.size() / 2);
          const auto part = prompt.ahead(options, known, results, &begun, tools, encode);
          REQUIRE(part.has_value());
          const std::string so_far = joined(part->earlier, part->segments);
          const auto at = so_far.rfind(begun.content);
          REQUIRE(at != std::string::npos);
          if (!user_follows) CHECK(text.starts_with(so_far.substr(0, at + begun.content.size())));
          results.push_back(messages[i]);
          const auto more = prompt.ahead(options, known, results, nullptr, tools, encode);
          REQUIRE(more.has_value());
          const std::string longer = joined(more->earlier, more->segments);
          if (!user_follows) CHECK(text.starts_with(longer));
          if (!user_follows) CHECK(longer.find(messages[i].content) != std::string::npos);
          begun_results += !user_follows && !begun.content.empty(), whole_results += !user_follows;
        }
        const auto next = prompt.next(options, messages, tools, encode);
        REQUIRE(next.has_value());
        REQUIRE(joined(next->earlier, next->segments) == text);
        REQUIRE(*tokenizer.encode_segments(next->earlier, next->segments) == *tokenizer.encode_segments(whole->segments));
      }
    }
  }
  CHECK(whole_results > 100);
  CHECK(begun_results > 50);
}

TEST_CASE("a long conversation is neither copied nor encoded again for its next turn", "[agent][prompt]") {
  const auto all = vocabularies();
  const auto& tokenizer = all.front();
  std::size_t bytes = 0;
  const RollingPrompt::Encode encode = [&](std::span<const Segment> segments) {
    bytes = 0;
    for (const auto& segment : segments) bytes += segment.text.size();
    return tokenizer.encode_segments(segments);
  };
  const auto options = *dialect_for("r1");
  RollingPrompt prompt;
  std::vector<Message> messages{message_of(Role::user, "Read all meters.")};
  for (int turn = 0; turn < 200; ++turn) {
    const auto rendered = prompt.next(options, messages, {}, encode);
    REQUIRE(rendered.has_value());
    REQUIRE(bytes < 400);
    REQUIRE(joined({}, rendered->segments).size() < 400);
    Message called = message_of(Role::assistant, "");
    called.calls.push_back({"c" + std::to_string(turn), "meter.read", Json::object(), "{}"});
    called.generated_text = "a call";
    called.tokens = {1, 2, 3};
    messages.push_back(called);
    Message result = message_of(Role::tool, R"({"value": 1834.2})");
    result.call_id = called.calls[0].id;
    messages.push_back(result);
  }
  // What was changed in place is seen after forget() only.
  messages[2].content = "left out";
  prompt.forget();
  const auto rendered = prompt.next(options, messages, {}, encode);
  REQUIRE(joined(rendered->earlier, rendered->segments).find("left out") != std::string::npos);
}
