#include "inference/sampler.hpp"

#include "base/json.hpp"
#include "tests/support/catch.hpp"

#include <nlohmann/json.hpp>

#include <cmath>
#include <fstream>
#include <iostream>
#include <iterator>
#include <limits>
#include <set>

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
