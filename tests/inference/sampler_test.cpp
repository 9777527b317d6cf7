#include "inference/sampler.hpp"

#include "base/json.hpp"
#include "tests/support/catch.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iostream>
#include <iterator>
#include <limits>
#include <set>
#include <tuple>

using namespace kontor;
using namespace kontor::inference;

namespace {

Sampling settings_of(const Json& json) {
  Sampling settings;
  settings.temperature = json.value("temperature", 1.0f);
  settings.top_k = json.value("top_k", 0);
  settings.top_p = json.value("top_p", 1.0f);
  settings.min_p = json.value("min_p", 0.0f);
  settings.repeat_penalty = json.value("repeat_penalty", 1.0f);
  settings.frequency_penalty = json.value("frequency_penalty", 0.0f);
  settings.presence_penalty = json.value("presence_penalty", 0.0f);
  settings.penalty_last_n = json.value("penalty_last_n", 0);
  return settings;
}

/// "" when the distribution is the expected one.
std::string judge(const Json& item) {
  Sampler sampler(settings_of(item.at("settings")));
  const auto logits = item.at("logits").get<std::vector<float>>();
  const auto history = item.at("history").get<std::vector<TokenId>>();
  const auto got = sampler.distribution(logits, history);
  if (!got) return got.error().message;
  const auto ids = item.at("ids").get<std::vector<TokenId>>();
  const auto probabilities = item.at("probs").get<std::vector<double>>();
  if (got->size() != ids.size()) return std::to_string(got->size()) + " candidates, not " + std::to_string(ids.size());
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if ((*got)[i].id != ids[i]) return "candidate " + std::to_string(i) + " is " + std::to_string((*got)[i].id);
    if (!(std::fabs((*got)[i].probability - probabilities[i]) <= 1e-5))
      return "probability of " + std::to_string(ids[i]);
  }
  return "";
}

}  // namespace

TEST_CASE("the sampler gives the probabilities of the reference vectors") {
  const std::string shared = test::shared_dir();
  if (shared.empty()) return test::count_cases("sampler", 0, 0, 1);
  std::ifstream in(shared + "/golden/sampler/vectors.json");
  const auto vectors = parse_json(std::string{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()});
  REQUIRE(vectors.has_value());
  int passed = 0, failed = 0;
  for (const Json& item : vectors->at("cases")) {
    const std::string why = judge(item);
    why.empty() ? ++passed : ++failed;
    if (!why.empty()) std::cout << item.at("id").get<std::string>() << ": " << why << "\n";
  }
  test::count_cases("sampler", passed, failed);
  REQUIRE(failed == 0);
}

TEST_CASE("the same seed draws the same tokens and another seed others") {
  std::vector<float> logits(1000);
  for (std::size_t i = 0; i < logits.size(); ++i) logits[i] = static_cast<float>(random_uniform(3, i));
  const auto draw = [&](std::uint64_t seed) {
    Sampling settings;
    settings.seed = seed;
    settings.temperature = 1;
    settings.top_p = 1;
    Sampler sampler(settings);
    std::vector<TokenId> ids;
    for (int i = 0; i < 20; ++i) ids.push_back(sampler.sample(logits, {})->id);
    return ids;
  };
  CHECK(draw(1) == draw(1));
  CHECK(draw(1) != draw(2));
}

TEST_CASE("draws follow the distribution") {
  const std::vector<float> logits{std::log(0.5f), std::log(0.3f), std::log(0.2f)};
  Sampling settings;
  settings.temperature = 1;
  settings.top_p = 1;
  settings.seed = 11;
  Sampler sampler(settings);
  int counts[3] = {};
  constexpr int kDraws = 20000;
  for (int i = 0; i < kDraws; ++i) ++counts[sampler.sample(logits, {})->id];
  // Five standard deviations of a binomial count are below 0.018 of the draws.
  CHECK(std::fabs(counts[0] / double{kDraws} - 0.5) < 0.018);
  CHECK(std::fabs(counts[1] / double{kDraws} - 0.3) < 0.018);
}

TEST_CASE("a mask restricts the draw, and the probability stays the model's own") {
  std::vector<float> logits(70, 0.0f);
  logits[3] = 5, logits[66] = 4;
  Sampling settings;
  settings.temperature = 0;
  Sampler sampler(settings);
  const std::vector<std::uint32_t> mask{0xFFFFFFF7u, 0u, 0x4u};
  const auto chosen = sampler.sample(logits, {}, mask);
  REQUIRE(chosen.has_value());
  CHECK(chosen->id == 66);
  CHECK(std::fabs(chosen->probability - std::exp(4.0) / (std::exp(5.0) + std::exp(4.0) + 68)) < 1e-5);
  CHECK(sampler.sample(logits, {}, std::vector<std::uint32_t>{0u, 0u, 0u}).error().kind == "nonfinite_logits");
  logits[0] = std::nanf("");
  CHECK(sampler.sample(logits, {}, mask).error().kind == "nonfinite_logits");
}

TEST_CASE("a token masked with minus infinity is never drawn, and nothing left is an error") {
  constexpr float kNever = -std::numeric_limits<float>::infinity();
  Sampling settings;
  settings.temperature = 5;
  settings.top_p = 1;
  Sampler sampler(settings);
  for (int i = 0; i < 50; ++i) CHECK(sampler.sample(std::vector<float>{9, kNever, 1, kNever}, {})->id % 2 == 0);
  CHECK(sampler.sample(std::vector<float>{kNever, kNever}, {}).error().kind == "nonfinite_logits");
  CHECK(sampler.sample(std::vector<float>{0, std::nanf("")}, {}).error().kind == "nonfinite_logits");
  CHECK(sampler.sample(std::vector<float>{0, std::numeric_limits<float>::infinity()}, {}).error().kind ==
        "nonfinite_logits");
  CHECK(arg_max(std::vector<float>{std::nanf(""), 1}).error().kind == "nonfinite_logits");
  CHECK(*arg_max(std::vector<float>{1, 3, 3, kNever}) == 1);
}

namespace {

/// The draw by definition: all candidates in order, added up until the sum exceeds the number.
TokenId by_sorting(const Sampling& settings, const std::vector<float>& logits, std::uint64_t index) {
  Sampler sampler(settings);
  const auto candidates = sampler.distribution(logits, {});
  REQUIRE(candidates.has_value());
  const double draw = random_uniform(settings.seed, index);
  double sum = 0;
  for (const Candidate& candidate : *candidates)
    if (draw < (sum += candidate.probability)) return candidate.id;
  return candidates->back().id;
}

/// Logits of many shapes: bell curves, all equal, few values with many ties, a spike over a plain, steps that sums meet
/// exactly, a long ramp, values far below the top, gaps of minus infinity.
std::vector<std::vector<float>> many_logits(std::size_t size) {
  std::vector<std::vector<float>> all;
  const auto add = [&](auto&& value) {
    auto& logits = all.emplace_back(size);
    for (std::size_t i = 0; i < size; ++i) logits[i] = value(i);
  };
  const auto uniform = [](std::uint64_t seed, std::size_t i) { return static_cast<float>(random_uniform(seed, i)); };
  for (const float spread : {0.01f, 0.3f, 1.0f, 3.0f})
    add([&](std::size_t i) {
      float sum = 0;
      for (std::uint64_t k = 0; k < 6; ++k) sum += uniform(k, i) - 0.5f;
      return spread * 1.414f * sum;
    });
  add([](std::size_t) { return 2.5f; });
  add([&](std::size_t i) { return std::floor(uniform(7, i) * 4) * 0.25f; });
  add([](std::size_t i) { return i == 77 ? 9.0f : 0.0f; });
  add([](std::size_t i) { return i % 2 ? 0.0f : -0.69314718f; });
  add([&](std::size_t i) { return -30.0f * static_cast<float>(i) / static_cast<float>(size); });
  add([&](std::size_t i) { return i % 1000 == 5 ? 0.0f : -200.0f * uniform(8, i); });
  add([&](std::size_t i) { return i % 3 ? -std::numeric_limits<float>::infinity() : uniform(9, i); });
  add([&](std::size_t i) { return 1e30f * uniform(10, i); });
  return all;
}

}  // namespace

TEST_CASE("draws from flat distributions are those of a full sort") {
  for (const std::size_t size : {std::size_t{1030}, std::size_t{32001}}) {
    for (const auto& logits : many_logits(size)) {
      for (const auto& [temperature, top_p, min_p] : {std::tuple(1.0f, 1.0f, 0.0f), std::tuple(0.6f, 0.95f, 0.0f), std::tuple(1.5f, 0.5f, 0.02f),
                                                      std::tuple(1.0f, 0.9999999f, 0.0f), std::tuple(2.0f, 1.0f, 0.3f), std::tuple(0.05f, 0.75f, 0.0f)}) {
        Sampling settings;
        settings.temperature = temperature, settings.top_p = top_p, settings.min_p = min_p, settings.seed = size;
        Sampler sampler(settings);
        for (std::uint64_t i = 0; i < 6; ++i) {
          const auto chosen = sampler.sample(logits, {});
          REQUIRE(chosen.has_value());
          CHECK(chosen->id == by_sorting(settings, logits, i));
        }
      }
    }
  }
}

TEST_CASE("a draw without a sort gives up only next to a boundary, and never takes what weighs nothing") {
  const auto all = many_logits(50'000);
  FlatSampler flat;
  FlatDraw draw{.logits = all[2], .top = *std::max_element(all[2].begin(), all[2].end()), .least = -HUGE_VALF, .temperature = 1, .share = 1, .total = 0, .draw = 0};
  int given_up = 0;
  for (std::uint64_t i = 0; i < 200; ++i) draw.draw = random_uniform(4, i), given_up += !flat.choose(draw).has_value();
  CHECK(given_up <= 2);
  // Half of the weight, exactly: rounding decides between two tokens.
  const std::vector<float> equal(4096, 1.0f);
  draw.logits = equal, draw.top = 1;
  draw.draw = 0.5;
  CHECK(!flat.choose(draw).has_value());
  draw.draw = 0.5 + 1e-5;
  CHECK(flat.choose(draw) == TokenId{2048});
  draw.draw = 0;
  CHECK(flat.choose(draw) == TokenId{0});
  draw.share = 0.25, draw.total = 4095.9, draw.draw = 0.99999;
  CHECK(flat.choose(draw) == TokenId{1023});
  draw.logits = all[10], draw.top = *std::max_element(all[10].begin(), all[10].end()), draw.share = 1, draw.least = draw.top - 0.5f;
  for (std::uint64_t i = 0; i < 100; ++i) {
    draw.draw = random_uniform(5, i);
    if (const auto id = flat.choose(draw)) CHECK(all[10][static_cast<std::size_t>(*id)] >= draw.least);
  }
}
