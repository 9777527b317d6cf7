#include "inference/expert_choice.hpp"

#include "inference/expert_score.hpp"

#include <algorithm>
#include <limits>
#include <numeric>
#include <vector>

namespace kontor::inference {
namespace {

std::vector<double> scores_of(std::span<const float> logits, bool sigmoid) {
  std::vector<double> scores(logits.begin(), logits.end());
  const double largest = *std::max_element(scores.begin(), scores.end());
  double sum = 0;
  for (double& x : scores) sum += x = expert_score(x, largest, sigmoid);
  if (!sigmoid)
    for (double& x : scores) x /= sum;
  return scores;
}

/// Indices of the `count` largest values, best first.
std::vector<std::int32_t> best_of(const std::vector<double>& values, std::int64_t count) {
  std::vector<std::int32_t> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  std::partial_sort(order.begin(), order.begin() + count, order.end(), [&](std::int32_t a, std::int32_t b) {
    return ranks_before(values[static_cast<std::size_t>(a)], a, values[static_cast<std::size_t>(b)], b);
  });
  order.resize(static_cast<std::size_t>(count));
  return order;
}

/// Leaves only experts of the best groups in the running.
void drop_groups(const ExpertShape& shape, std::vector<double>& scores) {
  const std::int64_t size = shape.count / shape.groups;
  std::vector<double> groups;
  for (std::int64_t g = 0; g < shape.groups; ++g) {
    const std::vector<double> members(scores.begin() + g * size, scores.begin() + (g + 1) * size);
    double sum = 0;
    for (const std::int32_t best : best_of(members, std::min(shape.group_leaders, size))) sum += members[static_cast<std::size_t>(best)];
    groups.push_back(sum);
  }
  std::vector<bool> kept(groups.size());
  for (const std::int32_t g : best_of(groups, shape.groups_used)) kept[static_cast<std::size_t>(g)] = true;
  for (std::int64_t e = 0; e < shape.count; ++e)
    if (!kept[static_cast<std::size_t>(e / size)]) scores[static_cast<std::size_t>(e)] = -std::numeric_limits<double>::infinity();
}

}  // namespace

void choose_experts(const ExpertShape& shape, std::span<const float> logits, const float* bias, std::span<ExpertChoice> chosen) {
  const std::vector<double> scores = scores_of(logits, shape.sigmoid);
  std::vector<double> ranking = scores;
  if (bias)
    for (std::size_t i = 0; i < ranking.size(); ++i) ranking[i] += double{bias[i]};
  if (shape.groups_used < shape.groups) drop_groups(shape, ranking);
  const std::vector<std::int32_t> best = best_of(ranking, shape.used);
  double sum = 0;
  for (const std::int32_t e : best) sum += scores[static_cast<std::size_t>(e)];
  const double factor = expert_factor(sum, shape.normalize, shape.scale);
  for (std::size_t i = 0; i < best.size(); ++i)
    chosen[i] = {best[i], static_cast<float>(scores[static_cast<std::size_t>(best[i])] * factor)};
}

}  // namespace kontor::inference
