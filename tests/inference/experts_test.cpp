// Mixtures of experts: which are chosen, and that it does not matter where their weights are.

#include "inference/backend.hpp"
#include "inference/expert_choice.hpp"
#include "inference/golden.hpp"

#include "base/json.hpp"
#include "tests/support/catch.hpp"

#include <nlohmann/json.hpp>

#include <cmath>
#include <fstream>
#include <iostream>
#include <iterator>
#include <limits>

namespace kontor::inference {
namespace {

std::vector<ExpertChoice> choose(const ExpertShape& shape, const std::vector<float>& logits, const std::vector<float>& bias = {}) {
  std::vector<ExpertChoice> chosen(static_cast<std::size_t>(shape.used));
  choose_experts(shape, logits, bias.empty() ? nullptr : bias.data(), chosen);
  return chosen;
}

ExpertShape shape_of(std::int64_t count, std::int64_t used) {
  ExpertShape shape;
  shape.count = count;
  shape.used = used;
  return shape;
}

}  // namespace

TEST_CASE("experts are chosen by score, the lower number first among equals", "[experts]") {
  const auto chosen = choose(shape_of(4, 2), {1.0f, 3.0f, 3.0f, 0.0f});
  CHECK(chosen[0].expert == 1);
  CHECK(chosen[1].expert == 2);
  const double sum = std::exp(-2.0) + 1 + 1 + std::exp(-3.0);
  CHECK(std::fabs(chosen[0].weight - 1 / sum) < 1e-6);
}

TEST_CASE("weights are normalised and scaled where the model says so", "[experts]") {
  ExpertShape shape = shape_of(4, 2);
  shape.normalize = true;
  shape.scale = 2.5f;
  const auto chosen = choose(shape, {1.0f, 3.0f, 2.0f, 0.0f});
  CHECK(std::fabs(chosen[0].weight + chosen[1].weight - 2.5f) < 1e-6f);
  CHECK(std::fabs(chosen[0].weight / chosen[1].weight - std::exp(1.0f)) < 1e-5f);
}

TEST_CASE("a bias moves the choice but not the weight", "[experts]") {
  ExpertShape shape = shape_of(3, 1);
  shape.sigmoid = true;
  const auto chosen = choose(shape, {2.0f, 1.0f, 0.0f}, {0.0f, 0.0f, 5.0f});
  CHECK(chosen[0].expert == 2);
  CHECK(chosen[0].weight == 0.5f);
}

TEST_CASE("only experts of the best groups are considered", "[experts]") {
  ExpertShape shape = shape_of(6, 2);
  shape.sigmoid = true;
  shape.groups = 3;
  shape.groups_used = 1;
  // The best single expert is in a group whose second best is poor.
  auto chosen = choose(shape, {3.0f, -9.0f, 1.0f, 1.0f, 0.0f, 0.0f});
  CHECK(chosen[0].expert == 2);
  CHECK(chosen[1].expert == 3);
  shape.group_leaders = 1;
  chosen = choose(shape, {3.0f, -9.0f, 1.0f, 1.0f, 0.0f, 0.0f});
  CHECK(chosen[0].expert == 0);
  CHECK(chosen[1].expert == 1);
}

TEST_CASE("logits that are not numbers still give experts that exist", "[experts]") {
  ExpertShape shape = shape_of(6, 3);
  shape.groups = 3;
  shape.groups_used = 2;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const ExpertChoice& choice : choose(shape, {nan, nan, nan, nan, nan, nan})) {
    CHECK(choice.expert >= 0);
    CHECK(choice.expert < 6);
  }
}

TEST_CASE("experts read from the file compute the bits of those in memory", "[experts]") {
  const std::string shared = test::shared_dir();
  std::ifstream in(shared + "/golden/manifest.json");
  const auto manifest = parse_json(std::string{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()});
  if (shared.empty() || !manifest || !manifest->contains("models")) return test::count_cases("experts-mapped", 0, 0, 1);
  int passed = 0, failed = 0;
  for (const Json& model : manifest->at("models")) {
    const auto architecture = model.at("architecture").get<std::string>();
    if (architecture != "qwen3moe" && architecture != "deepseek2") continue;
    const auto file = WeightFile::open(shared + "/golden/" + model.at("file").get<std::string>());
    REQUIRE(file.has_value());
    GoldenInput input;
    input.one = model.at("sequences").at("seq1").get<std::vector<TokenId>>();
    input.some = model.at("sequences").at("seq17").get<std::vector<TokenId>>();
    input.many = model.at("sequences").at("seq130").get<std::vector<TokenId>>();
    input.chunks = model.at("chunks").get<std::vector<std::int64_t>>();
    input.positions = model.at("rows").at("seq130_at").at("positions").get<std::vector<std::int64_t>>();
    for (const Compute compute : {Compute::native, Compute::f32}) {
      std::vector<GoldenOutput> outputs;
      // All in memory; none; some, so that they take turns.
      for (const std::uint64_t limit : {std::uint64_t{1} << 40, std::uint64_t{1}, std::uint64_t{60000}}) {
        BackendOptions options{"cpu", 2, compute, ""};
        options.expert_bytes = limit;
        auto backend = open_backend(*file, options);
        REQUIRE(backend.has_value());
        auto output = run_golden(**backend, input);
        REQUIRE(output.has_value());
        outputs.push_back(std::move(*output));
        const ExpertUse use = (*backend)->expert_use();
        CHECK(use.uses > 0);
        CHECK(use.packed_bytes <= limit);
        CHECK(use.predicted_right <= use.predicted);
      }
      const bool same = outputs[0].rows == outputs[1].rows && outputs[0].rows == outputs[2].rows && outputs[0].greedy == outputs[1].greedy &&
                        outputs[0].greedy == outputs[2].greedy && outputs[1].differences.empty() && outputs[2].differences.empty();
      (same ? passed : failed) += 1;
      if (!same) std::cout << "experts-mapped " << model.at("id") << " differs\n";
    }
  }
  test::count_cases("experts-mapped", passed, failed, 0);
  REQUIRE(failed == 0);
}

}  // namespace kontor::inference
