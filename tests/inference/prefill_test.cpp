// Prompts computed ahead: what follows is what it would be without, token for token and bit for bit, and costs the same.

#include "inference/local_model.hpp"

#include "tests/support/catch.hpp"

#include <latch>
#include <thread>

using namespace kontor;
using namespace kontor::inference;

namespace {

struct Said {
  std::vector<TokenId> tokens;
  std::vector<float> probabilities;
  Usage usage;
};

class Conversation {
 public:
  Conversation() {
    EngineOptions options;
    options.backend.device = "cpu";
    options.backend.threads = 2;
    const auto engine = Engine::open(std::string(KONTOR_SOURCE_DIR) + "/examples/models/pocket-invoice.gguf", options);
    REQUIRE(engine.has_value());
    model_ = std::make_unique<LocalModel>(*engine);
  }
  static GenerateRequest request(const std::string& text) {
    GenerateRequest out;
    out.prompt.push_back({text, false, {}});
    out.sampling.temperature = 1;
    out.sampling.seed = 11;
    out.max_tokens = 24;
    return out;
  }
  Said say(const std::string& text, const Prefilled* ahead = nullptr) {
    GenerateRequest asked = request(text);
    asked.ahead = ahead;
    Said said;
    const auto made = model_->generate(asked, [&](const Piece& piece) { return said.probabilities.push_back(piece.probability), true; });
    REQUIRE(made.has_value());
    said.tokens = made->tokens;
    said.usage = made->usage;
    return said;
  }
  LocalModel& model() { return *model_; }

 private:
  std::unique_ptr<LocalModel> model_;
};

const std::string& opening() {
  static const std::string text = "The invoice of the vendor and its order, line by line: ";
  return text;
}

std::string lines(int count) {
  std::string text = opening();
  for (int i = 0; i < count; ++i) text += "item " + std::to_string(i * 37) + " costs " + std::to_string(i * 11 + 5) + ".00\n";
  return text;
}

}  // namespace

TEST_CASE("what was computed ahead changes no token, no probability and no count", "[prefill]") {
  const std::string whole = lines(20) + "\"}</result>";
  const Said alone = [&] {
    Conversation clean;
    (void)clean.say(opening());
    return clean.say(whole);
  }();
  CHECK(alone.usage.prompt_tokens_new > 100);
  const std::vector<std::vector<std::string>> ways{
      {lines(20)},
      {lines(3) + "\"}", lines(9) + "\"}", lines(19) + "\"}"},      // grows, with an end that does not stay
      {lines(12) + "but then something else came, and it was longer than what had to come"},
      {"nothing that comes"},
      {whole},
      {whole + " and more"}};
  for (const auto& way : ways) {
    Conversation conversation;
    (void)conversation.say(opening());
    Prefilled ahead;
    for (const std::string& text : way) {
      ahead = conversation.model().prefill(Conversation::request(text), std::move(ahead));
      CHECK(!ahead.tokens.empty());
    }
    INFO(way.back().substr(0, 80));
    const Said said = conversation.say(whole, &ahead);
    CHECK(said.tokens == alone.tokens);
    CHECK(said.probabilities == alone.probabilities);
    CHECK(said.usage.prompt_tokens_new == alone.usage.prompt_tokens_new);
    CHECK(said.usage.prompt_tokens_reused == alone.usage.prompt_tokens_reused);
    CHECK(said.usage.generated == alone.usage.generated);
  }
}

TEST_CASE("a prompt computed ahead is not computed again, and one that was stopped goes on where it was", "[prefill]") {
  Conversation conversation;
  (void)conversation.say(opening());
  const Prefilled ahead = conversation.model().prefill(Conversation::request(lines(20)), {});
  CHECK(ahead.from > 0);
  const auto computed = static_cast<std::int64_t>(ahead.tokens.size()) - ahead.from;
  CHECK(computed > 100);
  // Without being told, generate() finds all but the last token in the cache.
  const Said said = conversation.say(lines(20));
  CHECK(said.usage.prompt_tokens_new == 1);
  CHECK(said.usage.prompt_tokens_reused == static_cast<std::int64_t>(ahead.tokens.size()) - 1);

  std::stop_source stop;
  stop.request_stop();
  GenerateRequest stopped = Conversation::request(lines(40));
  stopped.stop = stop.get_token();
  const Prefilled none = conversation.model().prefill(stopped, {});
  CHECK(static_cast<std::int64_t>(none.tokens.size()) <= said.usage.prompt_tokens_reused + 64);
  const Said longer = conversation.say(lines(40), &none);
  Conversation clean;
  CHECK(longer.tokens == clean.say(lines(40)).tokens);
}

TEST_CASE("conversations that compute ahead at the same time do not disturb one another", "[prefill]") {
  const Said alone = Conversation().say(lines(15));
  Conversation shared;
  std::vector<Said> said(4);
  {
    std::vector<std::jthread> threads;
    std::latch begin(4);
    for (int i = 0; i < 4; ++i)
      threads.emplace_back([&, i] {
        begin.arrive_and_wait();
        Prefilled ahead;
        for (int count = 4; count < 15; count += 3) ahead = shared.model().prefill(Conversation::request(lines(count + i)), std::move(ahead));
        said[static_cast<std::size_t>(i)] = shared.say(lines(15), &ahead);
      });
  }
  for (const Said& one : said) {
    CHECK(one.tokens == alone.tokens);
    CHECK(one.probabilities == alone.probabilities);
    CHECK(one.usage.prompt_tokens_new + one.usage.prompt_tokens_reused == alone.usage.prompt_tokens_new + alone.usage.prompt_tokens_reused);
  }
}
