// The prefix cache alone, with pages that say what they hold, and sessions that live on it: nothing known is computed
// again, and no bit of the logits changes.

#include "inference/prefix_cache.hpp"

#include "inference/local_model.hpp"
#include "inference/sampler.hpp"
#include "inference/session.hpp"
#include "tests/support/catch.hpp"

#include <cstring>
#include <random>

using namespace kontor;
using namespace kontor::inference;

namespace {

/// A page that knows the timeline it was computed for.
class NamedPage final : public KvPage {
 public:
  explicit NamedPage(std::vector<TokenId> timeline) : timeline(std::move(timeline)) {}
  void copy_to(std::span<std::byte>) const override {}
  std::vector<TokenId> timeline;
};

std::vector<KvPageRef> pages_for(std::span<const TokenId> tokens) {
  std::vector<KvPageRef> pages;
  for (std::size_t at = 0; at < tokens.size(); at += kPagePositions)
    pages.push_back(std::make_shared<NamedPage>(std::vector<TokenId>(tokens.begin(), tokens.end())));
  return pages;
}

std::size_t common(std::span<const TokenId> a, std::span<const TokenId> b) {
  return static_cast<std::size_t>(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin());
}

std::vector<TokenId> ids(std::size_t n, int seed) {
  std::vector<TokenId> result;
  for (std::size_t i = 0; i < n; ++i) result.push_back(static_cast<TokenId>(random_uniform(static_cast<std::uint64_t>(seed), i) * 500));
  return result;
}

std::vector<TokenId> joined(std::vector<TokenId> a, std::span<const TokenId> b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

std::shared_ptr<Engine> open_reference(const std::string& name, std::uint64_t cache_bytes = 0) {
  EngineOptions options;
  options.backend.device = "cpu";
  options.backend.threads = 1;
  options.backend.compute = Compute::f32;
  options.prefix_cache_bytes = cache_bytes;
  const auto engine = Engine::open(test::shared_dir() + name, options);
  REQUIRE(engine.has_value());
  return *engine;
}

bool same(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

constexpr const char* kModels[] = {"/golden/models/qwen2.f32.gguf", "/golden/models/qmix.q4_k_m.gguf"};

}  // namespace

TEST_CASE("the prefix cache finds the longest prefix of everything that was put into it") {
  PrefixCache cache(1, 1 << 20);
  std::mt19937 random(3);
  std::vector<std::vector<TokenId>> all;
  for (int round = 0; round < 300; ++round) {
    // Few different tokens and shared beginnings, so that timelines meet within pages and at their edges.
    std::vector<TokenId> tokens;
    if (!all.empty()) {
      const auto& other = all[random() % all.size()];
      tokens.assign(other.begin(), other.begin() + static_cast<std::ptrdiff_t>(random() % (other.size() + 1)));
    }
    for (std::size_t more = 1 + random() % 150; more > 0; --more) tokens.push_back(static_cast<TokenId>(random() % 3));
    std::size_t longest = 0;
    for (const auto& other : all) longest = std::max(longest, common(other, tokens));
    const PrefixCache::Match match = cache.find(tokens);
    REQUIRE(match.length == static_cast<std::int64_t>(longest));
    REQUIRE(match.length == cache.match_length(tokens));
    REQUIRE(match.pages.size() == (longest + kPagePositions - 1) / kPagePositions);
    for (std::size_t p = 0; p < match.pages.size(); ++p) {
      const auto& page = static_cast<const NamedPage&>(*match.pages[p]);
      REQUIRE(common(page.timeline, tokens) >= std::min<std::size_t>(longest, (p + 1) * kPagePositions));
    }
    cache.insert(tokens, pages_for(tokens));
    REQUIRE(cache.check_integrity().has_value());
    all.push_back(std::move(tokens));
  }
}

TEST_CASE("a full prefix cache forgets what was used least recently and never holds more than it may") {
  PrefixCache cache(100, 1050);
  const auto a = ids(64 * 4, 1), b = ids(64 * 4, 2), c = ids(64 * 4, 3);
  cache.insert(a, pages_for(a));
  cache.insert(b, pages_for(b));
  CHECK(cache.bytes() == 800);
  (void)cache.find(a);
  cache.insert(c, pages_for(c));
  CHECK(cache.bytes() == 1000);
  CHECK(cache.match_length(a) == 256);
  CHECK(cache.match_length(b) == 128);  // Its end went first.
  CHECK(cache.match_length(c) == 256);
  REQUIRE(cache.check_integrity().has_value());
  const auto huge = ids(64 * 100, 4);
  cache.insert(huge, pages_for(huge));
  CHECK(cache.bytes() <= 1050);
  CHECK(cache.match_length(huge) == 640);
  REQUIRE(cache.check_integrity().has_value());
  cache.clear();
  CHECK(cache.bytes() == 0);
  PrefixCache none(100, 50);
  none.insert(a, pages_for(a));
  CHECK(none.bytes() == 0);
  CHECK(none.find(a).length == 0);
}

TEST_CASE("a cache under pressure stays whole") {
  PrefixCache cache(10, 170);
  std::mt19937 random(5);
  for (int round = 0; round < 500; ++round) {
    std::vector<TokenId> tokens;
    for (std::size_t n = 1 + random() % 400; n > 0; --n) tokens.push_back(static_cast<TokenId>(tokens.size() < 100 ? round % 3 : random() % 2));
    if (round % 3 == 0) (void)cache.find(tokens);
    cache.insert(tokens, pages_for(tokens));
    REQUIRE(cache.check_integrity().has_value());
    REQUIRE(cache.bytes() <= 170);
  }
}

TEST_CASE("a ten-step tool loop that drops old reasoning computes only tokens it has never seen, with the bits of a clean prefill") {
  if (test::shared_dir().empty()) return test::count_cases("tool-loop", 0, 0, 1);
  for (const char* name : kModels) {
    INFO(name);
    const auto engine = open_reference(name);
    const auto cache = engine->prefix_cache("");
    Session session(engine, cache);
    std::vector<std::vector<TokenId>> seen;
    std::vector<TokenId> kept = ids(75, 1);  // System prompt, schemas, task.
    for (int step = 0; step < 10; ++step) {
      std::size_t longest = 0;
      for (const auto& timeline : seen) longest = std::max(longest, common(timeline, kept));
      const auto prefill = session.sync(kept);
      REQUIRE(prefill.has_value());
      REQUIRE(prefill->reused == static_cast<std::int64_t>(longest));
      REQUIRE(prefill->computed == static_cast<std::int64_t>(kept.size() - longest));
      Session clean(engine);
      REQUIRE(clean.sync(kept).has_value());
      REQUIRE(same(session.logits(), clean.logits()));
      // The model thinks and calls; the next prompt has the call and the result, not the thoughts.
      const auto thoughts = ids(37, 100 + step), call = ids(9, 200 + step), result = ids(20, 300 + step);
      for (const TokenId id : joined(thoughts, call)) REQUIRE(session.append(id).has_value());
      seen.push_back({session.tokens().begin(), session.tokens().end()});
      kept = joined(joined(kept, call), result);
      if (step % 3 == 2) {  // Another session goes on: the run was parked and its memory given to others.
        session.publish();
        session = Session(engine, cache);
      }
      REQUIRE(cache->check_integrity().has_value());
    }
  }
}

TEST_CASE("forks go their own way and leave each other's memory alone") {
  if (test::shared_dir().empty()) return test::count_cases("fork", 0, 0, 1);
  const auto engine = open_reference(kModels[0]);
  const auto cache = engine->prefix_cache("");
  Session trunk(engine, cache);
  const auto prompt = ids(90, 1);
  REQUIRE(trunk.sync(prompt).has_value());
  std::vector<Session> branches;
  for (int i = 0; i < 3; ++i) branches.push_back(trunk.fork());
  for (std::size_t i = 0; i < 50; ++i)
    for (std::size_t b = 0; b < branches.size(); ++b) REQUIRE(branches[b].append(ids(50, 10 + static_cast<int>(b))[i]).has_value());
  trunk.roll_back(70);
  const auto other = joined(ids(70, 1), ids(40, 77));
  Session copy = trunk.fork();
  REQUIRE(trunk.sync(joined(ids(70, 1), ids(40, 78))).has_value());
  REQUIRE(copy.sync(other).has_value());
  const auto check = [&](const Session& session) {
    Session clean(engine);
    REQUIRE(clean.sync(session.tokens()).has_value());
    CHECK(same(session.logits(), clean.logits()));
  };
  for (const Session& branch : branches) check(branch);
  check(trunk);
  check(copy);
  REQUIRE(cache->check_integrity().has_value());
}

TEST_CASE("random forks, rollbacks, publications and evictions change no bit") {
  if (test::shared_dir().empty()) return test::count_cases("session-random", 0, 0, 1);
  const auto engine = open_reference(kModels[0], 30 * 64 * 1024);
  const auto cache = engine->prefix_cache("");
  std::mt19937 random(11);
  std::vector<Session> sessions;
  for (int i = 0; i < 4; ++i) sessions.emplace_back(engine, cache);
  for (int round = 0; round < 150; ++round) {
    Session& session = sessions[random() % sessions.size()];
    switch (random() % 4) {
      case 0: session.roll_back(random() % (session.tokens().size() + 1)); break;
      case 1: session.publish(); break;
      case 2: session = sessions[random() % sessions.size()].fork(); break;
      default: {
        auto tokens = joined({session.tokens().begin(), session.tokens().end()}, ids(1 + random() % 70, static_cast<int>(random() % 3)));
        if (tokens.size() > 400) tokens.resize(100);
        REQUIRE(session.sync(tokens).has_value());
        Session clean(engine);
        REQUIRE(clean.sync(tokens).has_value());
        REQUIRE(same(session.logits(), clean.logits()));
      }
    }
    REQUIRE(cache->check_integrity().has_value());
  }
}

TEST_CASE("a second model over the same engine reuses the common beginning of its first prompt; another tenant does not") {
  if (test::shared_dir().empty()) return test::count_cases("second-run", 0, 0, 1);
  const auto engine = open_reference("/models/stories260K/stories260K.f16.gguf");
  const auto generate = [&](const std::string& tenant, const std::vector<TokenId>& prompt) {
    LocalModel model(engine, tenant);
    GenerateRequest request;
    request.prompt.push_back({"", true, prompt});
    request.max_tokens = 5;
    const auto made = model.generate(request, nullptr);
    REQUIRE(made.has_value());
    return made->usage;
  };
  const auto system = ids(150, 1);
  const auto first = generate("a", joined(system, ids(20, 2)));
  CHECK(first.prompt_tokens_reused == 0);
  const auto second = generate("a", joined(system, ids(25, 3)));
  CHECK(second.prompt_tokens_reused == 150);
  CHECK(second.prompt_tokens_new == 25);
  CHECK(generate("b", joined(system, ids(25, 3))).prompt_tokens_reused == 0);
}
