// Streams of events as servers write them, and as they should not.

#include "inference/remote/answer.hpp"

#include "tests/support/catch.hpp"

#include <nlohmann/json.hpp>

using namespace kontor;
using namespace kontor::inference;
using namespace kontor::inference::remote;

namespace {

struct Read {
  std::string text;
  std::vector<std::pair<std::string, float>> pieces;
  Generation generation;
  std::optional<Error> error;
  bool over = false;
};

Read read(const std::string& stream, std::size_t step = std::string::npos, int max_tokens = 100) {
  Read out;
  Answer answer(max_tokens, {}, [&](const Piece& piece) {
    out.text += piece.text;
    out.pieces.emplace_back(std::string(piece.text), piece.probability);
    return true;
  });
  for (std::size_t at = 0; at < stream.size(); at += std::min(step, stream.size())) {
    if (!answer.feed(std::string_view(stream).substr(at, step))) break;
  }
  out.error = answer.error();
  out.over = answer.over();
  out.generation = answer.take(1000);
  return out;
}

std::string event(const Json& value) { return "data: " + value.dump() + "\n\n"; }
std::string text(const std::string& text) { return event(Json{{"choices", {{{"text", text}, {"finish_reason", nullptr}}}}}); }
std::string end(const std::string& reason) { return event(Json{{"choices", {{{"text", ""}, {"finish_reason", reason}}}}}); }
const std::string kDone = "data: [DONE]\n\n";

}  // namespace

TEST_CASE("an answer is the same however its bytes are cut", "[remote]") {
  // As llama.cpp's server writes it, with a comment, a split character and the usage at the end.
  const std::string stream =
      ": ping\r\n\r\n"
      "data: {\"choices\":[{\"text\":\"Gr\xC3\xBC\",\"index\":0,\"logprobs\":{\"content\":[{\"token\":\"Gr\",\"logprob\":-0.5},{\"token\":\"\xC3\xBC\",\"logprob\":0.0}]},\"finish_reason\":null}]}\n\n"
      "data: {\"choices\":[{\"text\":\"\xE2\x82\xAC\",\"logprobs\":{\"content\":[{\"token\":\"\",\"logprob\":-1},{\"token\":\"\\ufffd\",\"logprob\":-2}]}}]}\n\n"
      "data: {\"choices\":[{\"text\":\"\",\"logprobs\":null,\"finish_reason\":\"stop\"}],\"usage\":{\"completion_tokens\":5,\"prompt_tokens\":60,\"prompt_tokens_details\":{\"cached_tokens\":50}}}\n\n"
      "data: [DONE]\n\n";
  for (std::size_t step = 1; step <= stream.size(); ++step) {
    const Read got = read(stream, step);
    REQUIRE(!got.error);
    REQUIRE(got.over);
    CHECK(got.text == "Gr\xC3\xBC\xE2\x82\xAC");
    REQUIRE(got.pieces.size() == 3);
    CHECK(got.pieces[0].first == "Gr");
    CHECK(got.pieces[0].second == Approx(std::exp(-0.5)));
    CHECK(got.pieces[1].second == 1.0f);
    CHECK(got.pieces[2].second == Approx(std::exp(-2.0)));  // The least of the tokens that are not spelt like the text.
    CHECK(got.generation.usage.generated == 5);
    CHECK(got.generation.usage.prompt_tokens_new == 10);
    CHECK(got.generation.usage.prompt_tokens_reused == 50);
    CHECK(got.generation.stop_reason == StopReason::end_of_turn);
  }
}

TEST_CASE("probabilities in lists, and none", "[remote]") {
  const Read lists = read(event(Json{{"choices", {{{"text", "ab"}, {"logprobs", {{"tokens", {"a", "b"}}, {"token_logprobs", {nullptr, -0.1}}}}}}}}) + end("length") + kDone);
  REQUIRE(!lists.error);
  REQUIRE(lists.pieces.size() == 2);
  CHECK(lists.pieces[0].second == kUnknownProbability);
  CHECK(lists.pieces[1].second == Approx(std::exp(-0.1)));
  CHECK(lists.generation.stop_reason == StopReason::length);
  const Read none = read(text("ab") + end("stop"));
  REQUIRE(none.pieces.size() == 1);
  CHECK(none.pieces[0].second == kUnknownProbability);
  CHECK(none.over);  // Some servers end without [DONE].
}

TEST_CASE("what a server does not count is not counted too low", "[remote]") {
  const Read bare = read(text("grün") + text("e") + end("stop"));
  CHECK(bare.generation.usage.generated == 6);           // Bytes: a token has at least one.
  CHECK(bare.generation.usage.prompt_tokens_new == 1000);  // The bound of who asked.
  CHECK(read(text("0123456789") + end("stop"), std::string::npos, 4).generation.usage.generated == 4);
  // llama.cpp's server tells with every token how long the prompt was.
  const Json cut{{"choices", {{{"text", "x"}, {"logprobs", {{"content", {{{"token", "x"}, {"logprob", -1}}}}}}}}}, {"timings", {{"prompt_n", 6}, {"cache_n", 30}, {"predicted_n", 1}}}};
  const Read timed = read(event(cut));
  CHECK(!timed.over);
  CHECK(timed.generation.usage.generated == 1);
  CHECK(timed.generation.usage.prompt_tokens_new == 6);
  CHECK(timed.generation.usage.prompt_tokens_reused == 30);
  const Json past{{"choices", {{{"text", "x"}}}}, {"timings", {{"prompt_n", 6}, {"n_past", 37}, {"predicted_n", 2}}}};
  CHECK(read(event(past)).generation.usage.prompt_tokens_reused == 30);
  // Counts that cannot be are none.
  const Json absurd{{"choices", {{{"text", "x"}}}}, {"usage", {{"prompt_tokens", -5}, {"completion_tokens", 1e300}}}};
  CHECK(read(event(absurd)).generation.usage.prompt_tokens_new == 1000);
  CHECK(read(event(absurd)).generation.usage.generated == 1);
}

TEST_CASE("wrong streams are refused with what is wrong", "[remote]") {
  const auto message = [](const std::string& stream, int max_tokens = 100) {
    const Read got = read(stream, std::string::npos, max_tokens);
    return got.error ? got.error->message : "";
  };
  CHECK(message("data: hello\n\n") == "the answer has an event that is no JSON object");
  CHECK(message("data: [1]\n\n") == "the answer has an event that is no JSON object");
  CHECK(message(event(Json{{"choices", {1}}})) == "the answer has a choice that is no object");
  CHECK(message(kDone) == "the answer has no reason for its end");
  CHECK(message(text("a") + kDone) == "the answer has no reason for its end");
  CHECK(message(end("stop") + text("b")) == "the answer has text behind its end");
  CHECK(message(end("abort")) == "the answer has the end 'abort'");
  CHECK(message(text(std::string(4 * 512 + 1, 'x')), 4) == "the answer has more text than was asked for");
  CHECK(message("data: " + std::string(Answer::kEventBytesMax, 'x')) == "an event of the answer is longer than 1048576 bytes");
  CHECK(message(event(Json{{"error", {{"message", "out of\x1b[31m memory"}}}})) == "the answer has an error: out of\\x1b[31m memory");
  std::string many;
  for (int i = 0; i < 20; ++i) many += event(Json{{"choices", {{{"text", "ab"}, {"logprobs", {{"tokens", {"a", "b"}}}}}}}});
  CHECK(message(many, 10) == "the answer has more text than was asked for");
  CHECK(read(event(Json{{"error", "This model's maximum context length is 8 tokens"}})).error->kind == "context_full");
}

TEST_CASE("who listens can end an answer at any token", "[remote]") {
  int left = 2;
  Answer answer(100, {}, [&](const Piece&) { return --left > 0; });
  CHECK(answer.feed(text("a")));
  CHECK(!answer.feed(text("b") + text("c")));
  CHECK(answer.over());
  CHECK(!answer.feed(text("d")));
  const Generation cut = answer.take(5);
  CHECK(cut.text == "ab");
  CHECK(cut.stop_reason == StopReason::stopped_by_sink);

  std::stop_source stop;
  Answer stopped(100, stop.get_token(), [&](const Piece&) { return stop.request_stop(), true; });
  CHECK(!stopped.feed(text("a")));
  CHECK(stopped.take(5).stop_reason == StopReason::cancelled);
}
