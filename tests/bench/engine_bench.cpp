// Benchmarks of sessions on a model file, one JSON line each:
//   engine_bench loop MODEL THREADS STEPS    a tool loop: tokens computed at each step, and the time of all steps
//   engine_bench batch MODEL THREADS RUNS N  generations one after the other and all at once
//   engine_bench guess MODEL THREADS         copying fields out of a document with and without prompt lookup
//   engine_bench ahead MODEL THREADS         from the end of a tool's result to the first token, where the result was computed as it came
// Token ids are drawn at random: weights and sizes decide how long something takes, not what it says.

#include "base/json.hpp"
#include "inference/constraint.hpp"
#include "inference/local_model.hpp"
#include "inference/sampler.hpp"

#include <nlohmann/json.hpp>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace kontor;
using namespace kontor::inference;

[[noreturn]] void give_up(const std::string& why) {
  std::fprintf(stderr, "engine_bench: %s\n", why.c_str());
  std::exit(1);
}

double seconds_of(const auto& body) {
  const auto start = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

class Ids {
 public:
  explicit Ids(const Engine& engine) : most_(static_cast<double>(std::min<std::int64_t>(engine.config().vocabulary, 150'000)) - 300) {}
  std::vector<TokenId> draw(int count) {
    std::vector<TokenId> ids;
    for (int i = 0; i < count; ++i) ids.push_back(100 + static_cast<TokenId>(random_uniform(1, drawn_++) * most_));
    return ids;
  }

 private:
  double most_;
  std::uint64_t drawn_ = 0;
};

void append(std::vector<TokenId>& to, std::span<const TokenId> more) { to.insert(to.end(), more.begin(), more.end()); }

/// Exactly these tokens come, drawn one by one as if there were a choice.
class Script final : public TokenConstraint {
 public:
  Script(std::vector<TokenId> tokens, std::int64_t vocabulary) : tokens_(std::move(tokens)), mask_(static_cast<std::size_t>(vocabulary + 31) / 32) {}
  std::span<const std::uint32_t> mask() override {
    if (at_ > 0) set(tokens_[at_ - 1], false);
    set(tokens_[at_], true);
    return mask_;
  }
  std::span<const TokenId> forced() override { return {}; }
  Result<void> accept(TokenId token) override {
    if (token != tokens_[at_]) return fail(Errc::usage, "not in the script", "constraint_violated");
    set(token, false);
    ++at_;
    return {};
  }
  bool finished() const override { return at_ == tokens_.size(); }
  std::unique_ptr<TokenConstraint> fork() const override { return std::make_unique<Script>(*this); }

 private:
  void set(TokenId id, bool on) {
    auto& word = mask_[static_cast<std::size_t>(id) / 32];
    word = on ? word | 1u << (id % 32) : word & ~(1u << (id % 32));
  }
  std::vector<TokenId> tokens_;
  std::vector<std::uint32_t> mask_;
  std::size_t at_ = 0;
};

Generation generate(LocalModel& model, const std::vector<TokenId>& prompt, int count, std::uint64_t seed = 1, float temperature = 0.6f) {
  GenerateRequest request;
  request.prompt.push_back({"", true, prompt});
  request.max_tokens = count;
  request.sampling.seed = seed;
  request.sampling.temperature = temperature;
  // The likeliest tokens of random weights go round in circles, which is no merit of guessing.
  request.guess = temperature > 0;
  auto made = model.generate(request, nullptr);
  if (!made) give_up(made.error().describe());
  return std::move(*made);
}

Json loop(const std::shared_ptr<Engine>& engine, int steps) {
  constexpr int kOpening = 600, kThoughts = 30, kCall = 10, kResult = 150;
  LocalModel model(engine);
  Ids ids(*engine);
  std::vector<TokenId> prompt = ids.draw(kOpening);
  Json computed = Json::array();
  Usage spent;
  const double seconds = seconds_of([&] {
    for (int step = 0; step < steps; ++step) {
      const Generation made = generate(model, prompt, kThoughts + kCall, 1, 0);  // As the peers: the likeliest token.
      computed.push_back(made.usage.prompt_tokens_new);
      spent.prefill_seconds += made.usage.prefill_seconds, spent.decode_seconds += made.usage.decode_seconds;
      // The thoughts go, the call stays; then the tool's result.
      if (made.tokens.size() > kThoughts) append(prompt, std::span(made.tokens).subspan(kThoughts));
      append(prompt, ids.draw(kResult));
    }
  });
  return Json{{"bench", "loop"}, {"steps", steps}, {"seconds", seconds}, {"prefill_seconds", spent.prefill_seconds}, {"decode_seconds", spent.decode_seconds}, {"computed", computed}};
}

/// A result of 150 tokens that a tool writes in three pieces while it works for as long as their prefill takes.
Json ahead(const std::shared_ptr<Engine>& engine) {
  constexpr int kOpening = 600, kPiece = 50, kPieces = 3, kClosing = 4;
  Json out{{"bench", "ahead"}, {"tokens", kPiece * kPieces + kClosing}};
  Generation said[2];
  for (const bool computed_ahead : {false, true}) {
    LocalModel model(engine, computed_ahead ? "ahead" : "plain");
    Ids ids(*engine);
    std::vector<TokenId> prompt = ids.draw(kOpening);
    (void)generate(model, prompt, 1);
    Prefilled ahead;
    for (int piece = 0; piece < kPieces; ++piece) {
      append(prompt, ids.draw(kPiece));
      GenerateRequest request;
      request.prompt.push_back({"", true, prompt});
      if (computed_ahead) ahead = model.prefill(request, std::move(ahead));
    }
    append(prompt, ids.draw(kClosing));
    GenerateRequest request;
    request.prompt.push_back({"", true, prompt});
    request.max_tokens = 8;
    request.sampling.temperature = 0;
    request.ahead = &ahead;
    const auto made = model.generate(request, nullptr);
    if (!made) give_up(made.error().describe());
    said[computed_ahead] = *made;
    out[computed_ahead ? "ahead_seconds_to_first_token" : "plain_seconds_to_first_token"] = made->usage.prefill_seconds;
  }
  if (said[0].tokens != said[1].tokens || said[0].usage.prompt_tokens_new != said[1].usage.prompt_tokens_new) give_up("what was computed ahead changed the output or its cost");
  return out;
}

Json batch(const std::shared_ptr<Engine>& engine, int runs, int count) {
  Ids ids(*engine);
  std::vector<std::vector<TokenId>> prompts;
  for (int i = 0; i < runs; ++i) prompts.push_back(ids.draw(8));
  std::vector<Generation> alone(static_cast<std::size_t>(runs)), together = alone;
  LocalModel first(engine, "alone"), second(engine, "together");
  const double one_by_one = seconds_of([&] {
    for (std::size_t i = 0; i < prompts.size(); ++i) alone[i] = generate(first, prompts[i], count, i);
  });
  const double at_once = seconds_of([&] {
    std::vector<std::jthread> threads;
    for (std::size_t i = 0; i < prompts.size(); ++i) threads.emplace_back([&, i] { together[i] = generate(second, prompts[i], count, i); });
  });
  std::int64_t tokens = 0, same = 0;
  for (std::size_t i = 0; i < prompts.size(); ++i) tokens += std::ssize(alone[i].tokens), same += alone[i].tokens == together[i].tokens;
  const auto speed = [&](double seconds) { return static_cast<double>(tokens) / seconds; };
  return Json{{"bench", "batch"}, {"runs", runs}, {"tokens", tokens}, {"alone_tokens_per_second", speed(one_by_one)},
              {"together_tokens_per_second", speed(at_once)}, {"ratio", one_by_one / at_once}, {"identical", same}};
}

/// A document of 400 tokens; the answer names fields (4 tokens each) and copies their values (12 tokens each).
Json guess(const std::shared_ptr<Engine>& engine) {
  constexpr int kFields = 10, kName = 4, kValue = 12;
  Ids ids(*engine);
  const std::vector<TokenId> document = ids.draw(400);
  std::vector<TokenId> answer;
  for (int field = 0; field < kFields; ++field) {
    append(answer, ids.draw(kName));
    append(answer, std::span(document).subspan(static_cast<std::size_t>(field) * 37 + 5, kValue));
  }
  double speed[2] = {};
  Usage usage;
  for (const bool look_ahead : {false, true}) {
    LocalModel model(engine, look_ahead ? "guess" : "plain");
    GenerateRequest request;
    request.prompt.push_back({"", true, document});
    request.guess = look_ahead;
    request.sampling.temperature = 0;
    request.constraint = std::make_shared<Script>(answer, engine->config().vocabulary);
    const auto made = model.generate(request, nullptr);
    if (!made) give_up(made.error().describe());
    if (made->tokens != answer) give_up("the output is not the script");
    speed[look_ahead] = static_cast<double>(answer.size()) / made->usage.decode_seconds;
    usage = made->usage;
  }
  return Json{{"bench", "guess"}, {"tokens", answer.size()}, {"guessed", usage.guessed}, {"right", usage.guessed_right},
              {"plain_tokens_per_second", speed[0]}, {"guess_tokens_per_second", speed[1]}, {"ratio", speed[1] / speed[0]}};
}

}  // namespace

int main(int count, char** words) {
  const auto word = [&](int i) { return i < count ? std::string(words[i]) : std::string(); };
  const auto number = [&](int i, int otherwise) { return i < count ? std::atoi(words[i]) : otherwise; };
  EngineOptions options;
  options.backend.device = "cpu";
  options.backend.threads = number(3, 0);
  const auto engine = Engine::open(word(2), options);
  if (!engine) give_up(engine.error().describe());
  Json result;
  if (word(1) == "loop") result = loop(*engine, number(4, 10));
  else if (word(1) == "batch") result = batch(*engine, number(4, 16), number(5, 24));
  else if (word(1) == "guess") result = guess(*engine);
  else if (word(1) == "ahead") result = ahead(*engine);
  else give_up("loop, batch, guess or ahead");
  std::printf("%s\n", result.dump().c_str());
  return 0;
}
