// Generations that share forward passes: each gets what it gets alone, whatever the others do, and guesses change
// nothing but the number of passes.

#include "inference/scheduler.hpp"

#include "inference/constraint.hpp"
#include "inference/local_model.hpp"
#include "tests/support/catch.hpp"

#include <atomic>
#include <latch>
#include <thread>

using namespace kontor;
using namespace kontor::inference;

namespace {

constexpr const char* kStories = "/models/stories260K/stories260K.f16.gguf";
constexpr const char* kQuantized = "/golden/models/qmix.q4_k_m.gguf";

std::shared_ptr<Engine> open(const std::string& name, std::int64_t context = 0, std::uint64_t cache_bytes = 0) {
  EngineOptions options;
  options.backend.device = "cpu";
  options.backend.threads = 2;
  options.context = context;
  options.prefix_cache_bytes = cache_bytes;
  const auto engine = Engine::open(test::shared_dir() + name, options);
  REQUIRE(engine.has_value());
  return *engine;
}

std::vector<TokenId> ids(std::size_t n, int seed) {
  std::vector<TokenId> result;
  for (std::size_t i = 0; i < n; ++i) result.push_back(3 + static_cast<TokenId>(random_uniform(static_cast<std::uint64_t>(seed), i) * 490));
  return result;
}

GenerateRequest request_for(std::vector<TokenId> prompt, float temperature, std::uint64_t seed, int most) {
  GenerateRequest request;
  request.prompt.push_back({"", true, std::move(prompt)});
  request.sampling.temperature = temperature;
  request.sampling.seed = seed;
  request.max_tokens = most;
  return request;
}

/// Only tokens of one residue may come, a different one at each place; every fifth place is forced.
class Residues final : public TokenConstraint {
 public:
  explicit Residues(std::size_t words) : mask_(words) {}
  std::span<const std::uint32_t> mask() override {
    std::fill(mask_.begin(), mask_.end(), 0);
    for (std::size_t id = 3; id < mask_.size() * 32; ++id)
      if (fits(static_cast<TokenId>(id))) mask_[id / 32] |= 1u << (id % 32);
    return mask_;
  }
  std::span<const TokenId> forced() override {
    if (at_ % 5 != 0) return {};
    forced_ = {static_cast<TokenId>(20 + at_ % 100), static_cast<TokenId>(21 + at_ % 100)};
    return forced_;
  }
  Result<void> accept(TokenId token) override {
    if (at_ % 5 > 1 && !fits(token)) return fail(Errc::usage, "not allowed here", "constraint_violated");
    ++at_;
    return {};
  }
  bool finished() const override { return at_ >= 60; }
  std::unique_ptr<TokenConstraint> fork() const override { return std::make_unique<Residues>(*this); }

 private:
  bool fits(TokenId id) const { return id % 7 == static_cast<TokenId>(at_ % 7); }
  std::size_t at_ = 0;
  std::vector<std::uint32_t> mask_;
  std::vector<TokenId> forced_;
};

}  // namespace

TEST_CASE("sixteen generations at once write what each of them writes alone, and compute a shared prompt once") {
  if (test::shared_dir().empty()) return test::count_cases("batching", 0, 0, 1);
  for (const char* name : {kStories, kQuantized}) {
    INFO(name);
    constexpr std::size_t kRuns = 16;
    const auto system = ids(200, 1);
    std::vector<GenerateRequest> requests;
    for (std::size_t i = 0; i < kRuns; ++i) {
      auto prompt = system;
      const auto task = ids(5 + i * 9, 100 + static_cast<int>(i));
      prompt.insert(prompt.end(), task.begin(), task.end());
      requests.push_back(request_for(std::move(prompt), i % 2 ? 0.8f : 0.0f, i, 20 + static_cast<int>(i)));
    }
    std::vector<Generation> alone, together(kRuns);
    for (const auto& request : requests) {
      LocalModel model(open(name));
      const auto made = model.generate(request, nullptr);
      REQUIRE(made.has_value());
      alone.push_back(*made);
    }
    LocalModel model(open(name));
    std::latch all_there(kRuns);
    std::atomic<int> failures = 0;
    {
      std::vector<std::jthread> threads;
      for (std::size_t i = 0; i < kRuns; ++i)
        threads.emplace_back([&, i] {
          all_there.arrive_and_wait();
          const auto made = model.generate(requests[i], nullptr);
          if (made) together[i] = *made;
          else ++failures;
        });
    }
    CHECK(failures == 0);
    std::int64_t computed = 0, expected = 200;
    for (std::size_t i = 0; i < kRuns; ++i) {
      CHECK(together[i].tokens == alone[i].tokens);
      CHECK(together[i].text == alone[i].text);
      CHECK(together[i].usage.prompt_tokens_new + together[i].usage.prompt_tokens_reused == 205 + static_cast<std::int64_t>(i) * 9);
      computed += together[i].usage.prompt_tokens_new;
      expected += 5 + static_cast<std::int64_t>(i) * 9;
    }
    CHECK(computed == expected);
    CHECK(model.engine()->prefix_cache("")->check_integrity().has_value());
  }
}

TEST_CASE("guesses change no token, greedy or sampled, and save passes where the output repeats the prompt") {
  if (test::shared_dir().empty()) return test::count_cases("guesses", 0, 0, 1);
  std::int64_t right = 0;
  for (const char* name : {kStories, kQuantized}) {
    for (const float temperature : {0.0f, 0.3f, 1.0f}) {
      LocalModel model(open(name));
      auto prompt = ids(30, 5);
      for (int i = 0; i < 3; ++i) prompt.insert(prompt.end(), prompt.begin(), prompt.begin() + 30);
      auto request = request_for(prompt, temperature, 9, 200);
      request.sampling.repeat_penalty = 1.05f;
      const auto with = model.generate(request, nullptr);
      request.guess = false;
      const auto without = model.generate(request, nullptr);
      REQUIRE(with.has_value());
      REQUIRE(without.has_value());
      CHECK(with->tokens == without->tokens);
      CHECK(with->usage.generated == without->usage.generated);
      CHECK(without->usage.guessed == 0);
      CHECK(with->usage.guessed_right <= with->usage.guessed);
      right += with->usage.guessed_right;
    }
  }
  CHECK(right > 20);
}

TEST_CASE("a constraint is obeyed, its forced tokens are not sampled, and guesses respect both") {
  if (test::shared_dir().empty()) return test::count_cases("constraint", 0, 0, 1);
  const auto engine = open(kQuantized);
  LocalModel model(engine);
  const auto words = static_cast<std::size_t>(engine->config().vocabulary + 31) / 32;
  std::vector<TokenId> outputs[2];
  for (const bool guess : {false, true}) {
    auto request = request_for(ids(40, 3), 0.7f, 4, 500);
    request.guess = guess;
    request.constraint = std::make_shared<Residues>(words);
    const auto made = model.generate(request, nullptr);
    REQUIRE(made.has_value());
    outputs[guess] = made->tokens;
    CHECK(made->stop_reason == StopReason::end_of_turn);
    CHECK(made->tokens.size() == 60);
    CHECK(made->usage.forced == 24);
    CHECK(made->usage.generated == 36);
  }
  CHECK(outputs[0] == outputs[1]);
  // The output itself is now the prompt of what it says again: every guess is right.
  auto prompt = ids(40, 3);
  prompt.insert(prompt.end(), outputs[0].begin(), outputs[0].end());
  auto request = request_for(prompt, 0.0f, 4, 500);
  request.constraint = std::make_shared<Residues>(words);
  const auto again = model.generate(request, nullptr);
  request.guess = false;
  request.constraint = std::make_shared<Residues>(words);
  const auto plain = model.generate(request, nullptr);
  REQUIRE(again.has_value());
  REQUIRE(plain.has_value());
  CHECK(again->tokens == plain->tokens);
}

TEST_CASE("one generation stops at exactly the token it was told to, and the others never notice") {
  if (test::shared_dir().empty()) return test::count_cases("cancel", 0, 0, 1);
  LocalModel model(open(kStories));
  const auto expected = model.generate(request_for(ids(20, 1), 0.0f, 1, 60), nullptr);
  REQUIRE(expected.has_value());
  for (std::size_t at = 1; at < 12; ++at) {
    std::stop_source source;
    auto request = request_for(ids(25, 2), 0.9f, 2, 200);
    request.stop = source.get_token();
    Result<Generation> stopped = fail(Errc::internal, "not run"), other = fail(Errc::internal, "not run");
    {
      std::jthread first([&] {
        std::size_t pieces = 0;
        stopped = model.generate(request, [&](const Piece&) {
          if (++pieces == at) source.request_stop();
          return true;
        });
      });
      std::jthread second([&] { other = model.generate(request_for(ids(20, 1), 0.0f, 1, 60), nullptr); });
    }
    REQUIRE(stopped.has_value());
    CHECK(stopped->stop_reason == StopReason::cancelled);
    CHECK(stopped->tokens.size() == at);
    REQUIRE(other.has_value());
    CHECK(other->tokens == expected->tokens);
  }
}

TEST_CASE("a long prompt does not stall those who write") {
  if (test::shared_dir().empty()) return test::count_cases("stall", 0, 0, 1);
  const auto engine = open(kQuantized);
  LocalModel model(engine);
  const auto long_prompt = static_cast<std::size_t>(engine->context()) * 3 / 4;
  std::atomic<int> written = 0, before = -1;
  std::atomic<bool> writing = false;
  Result<Generation> reader = fail(Errc::internal, "not run");
  {
    std::jthread writer([&] {
      (void)model.generate(request_for(ids(10, 1), 1.0f, 1, 2000), [&](const Piece&) {
        writing = true;
        ++written;
        return before < 0;
      });
    });
    while (!writing) std::this_thread::yield();
    const int start = written;
    reader = model.generate(request_for(ids(long_prompt, 2), 0.0f, 1, 2), [&](const Piece&) {
      if (before < 0) before = written - start;
      return true;
    });
    before = std::max(0, before.load());
  }
  REQUIRE(reader.has_value());
  // One token for each 64 of the prompt at least, unless the writer ended by itself.
  CHECK((before >= static_cast<int>(long_prompt / 64) - 1 || written < 2000));
}

TEST_CASE("errors stay with the generation that caused them, and a full queue says so") {
  if (test::shared_dir().empty()) return test::count_cases("queue", 0, 0, 1);
  const auto engine = open(kQuantized, 64);
  LocalModel model(engine);
  CHECK(model.generate(request_for(ids(65, 1), 0.0f, 1, 5), nullptr).error().kind == "context_full");
  CHECK(model.generate(request_for({1, 100000}, 0.0f, 1, 5), nullptr).error().kind == "bad_token");
  CHECK(model.generate(request_for({}, 0.0f, 1, 5), nullptr).error().kind == "empty_prompt");
  const auto thrown = model.generate(request_for(ids(5, 1), 0.0f, 1, 5), [](const Piece&) -> bool { throw std::runtime_error("no space left"); });
  CHECK(thrown.error().kind == "sink_failed");
  const auto full = model.generate(request_for(ids(60, 1), 1.0f, 1, 50), nullptr);
  REQUIRE(full.has_value());
  CHECK(full->tokens.size() <= 5);

  SchedulerOptions options;
  options.active_most = 1;
  options.waiting_most = 2;
  Scheduler scheduler(*engine, options);
  std::atomic<bool> running = false, go_on = false;
  const auto request = request_for(ids(5, 1), 1.0f, 1, 10);
  const Generator::Sink slow = [&](const Piece&) {
    running = true;
    while (!go_on) std::this_thread::yield();
    return true;
  };
  const Generator::Sink none;
  std::atomic<int> refused = 0, done = 0;
  {
    std::jthread first([&] {
      Generator generator(Session(engine), ids(5, 1), request, slow);
      if (scheduler.run(generator, &generator, {})) ++done;
    });
    while (!running) std::this_thread::yield();
    std::vector<std::jthread> more;
    std::atomic<int> asked = 0;
    for (int i = 0; i < 5; ++i)
      more.emplace_back([&] {
        Generator generator(Session(engine), ids(5, 1), request, none);
        const auto ran = scheduler.run(generator, &generator, {});
        if (ran) ++done;
        else if (ran.error().kind == "queue_full") ++refused;
        ++asked;
      });
    while (asked < 3) std::this_thread::yield();
    go_on = true;
  }
  CHECK(refused == 3);
  CHECK(done == 3);
}
