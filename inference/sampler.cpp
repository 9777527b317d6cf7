#include "inference/sampler.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <unordered_map>

namespace kontor::inference {
namespace {

/// SplitMix64 (Steele, Lea, Flood 2014): a bijection that turns counters into random-looking bits.
std::uint64_t mix(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

Error not_finite() {
  return fail(Errc::internal, "the model computed values that are not numbers", "nonfinite_logits");
}

/// Larger logit first, smaller id among equals: a total order, so results do not depend on the sort.
template <class Scored>
bool before(const Scored& a, const Scored& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
}

}  // namespace

double random_uniform(std::uint64_t seed, std::uint64_t index) {
  return static_cast<double>(mix(mix(seed) ^ mix(~index)) >> 11) * 0x1p-53;
}

Result<TokenId> arg_max(std::span<const float> logits) {
  if (logits.empty()) return not_finite();
  std::size_t best = 0;
  bool bad = false;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    bad |= !(logits[i] < std::numeric_limits<float>::infinity());
    if (logits[i] > logits[best]) best = i;
  }
  if (bad || !std::isfinite(logits[best])) return not_finite();
  return static_cast<TokenId>(best);
}

Result<void> Sampler::score(std::span<const float> logits, std::span<const TokenId> history) {
  scored_.resize(logits.size());
  bool bad = false;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    bad |= !(logits[i] < std::numeric_limits<float>::infinity());
    scored_[i] = {logits[i], static_cast<TokenId>(i)};
  }
  if (bad || logits.empty()) return not_finite();
  if (settings_.penalty_last_n > 0) {
    const auto last = std::min(history.size(), static_cast<std::size_t>(settings_.penalty_last_n));
    std::unordered_map<TokenId, int> counts;
    for (const TokenId id : history.last(last)) ++counts[id];
    for (const auto& [id, count] : counts) {
      if (id < 0 || static_cast<std::size_t>(id) >= scored_.size()) continue;
      double& x = scored_[static_cast<std::size_t>(id)].logit;
      x = x > 0 ? x / double{settings_.repeat_penalty} : x * double{settings_.repeat_penalty};
      x -= count * double{settings_.frequency_penalty} + double{settings_.presence_penalty};
    }
  }
  // Masked tokens are gone before anything is counted.
  std::erase_if(scored_, [](const Scored& s) { return !(s.logit > -std::numeric_limits<double>::infinity()); });
  if (scored_.empty()) return not_finite();
  return {};
}

void Sampler::keep_most_probable(double share) {
  // Over 150,000 tokens, of which few matter: sort a growing head only.
  double top = -std::numeric_limits<double>::infinity(), total = 0;
  for (const Scored& s : scored_) top = std::max(top, s.logit);
  for (const Scored& s : scored_) total += std::exp(s.logit - top);
  double sum = 0;
  std::size_t sorted = 0;
  for (std::size_t i = 0; i < scored_.size(); ++i) {
    if (i == sorted) {
      const std::size_t next = std::min(scored_.size(), std::max<std::size_t>(64, sorted * 4));
      const auto begin = scored_.begin() + static_cast<std::ptrdiff_t>(sorted);
      std::partial_sort(begin, scored_.begin() + static_cast<std::ptrdiff_t>(next), scored_.end(), before<Scored>);
      sorted = next;
    }
    sum += std::exp(scored_[i].logit - top) / total;
    if (sum >= share) {
      scored_.resize(i + 1);
      return;
    }
  }
}

Result<std::span<const Candidate>> Sampler::distribution(std::span<const float> logits, std::span<const TokenId> history) {
  if (const auto scored = score(logits, history); !scored) return scored.error();
  candidates_.clear();
  const auto order = [](const Scored& a, const Scored& b) { return before(a, b); };
  if (settings_.temperature <= 0) {
    candidates_.push_back({std::min_element(scored_.begin(), scored_.end(), order)->id, 1.0});
    return std::span<const Candidate>(candidates_);
  }
  if (settings_.top_k > 0 && static_cast<std::size_t>(settings_.top_k) < scored_.size()) {
    const auto cut = scored_.begin() + settings_.top_k;
    std::nth_element(scored_.begin(), cut, scored_.end(), order);
    scored_.erase(cut, scored_.end());
  }
  if (settings_.top_p < 1.0f) keep_most_probable(settings_.top_p);
  double top = -std::numeric_limits<double>::infinity();
  for (const Scored& s : scored_) top = std::max(top, s.logit);
  if (settings_.min_p > 0) {
    const double least = top + std::log(double{settings_.min_p});
    std::erase_if(scored_, [&](const Scored& s) { return s.logit < least && s.logit < top; });
  }
  std::sort(scored_.begin(), scored_.end(), order);
  double total = 0;
  for (const Scored& s : scored_) {
    candidates_.push_back({s.id, std::exp((s.logit - top) / double{settings_.temperature})});
    total += candidates_.back().probability;
  }
  for (Candidate& candidate : candidates_) candidate.probability /= total;
  return std::span<const Candidate>(candidates_);
}

Result<Candidate> Sampler::sample(std::span<const float> logits, std::span<const TokenId> history) {
  const double draw = random_uniform(settings_.seed, draws_++);
  const auto left = distribution(logits, history);
  if (!left) return left.error();
  Candidate chosen = left->back();
  double sum = 0;
  for (const Candidate& candidate : *left) {
    sum += candidate.probability;
    if (draw < sum) {
      chosen = candidate;
      break;
    }
  }
  float top = -std::numeric_limits<float>::infinity();
  for (const float x : logits) top = std::max(top, x);
  double total = 0;
  for (const float x : logits) total += static_cast<double>(std::exp(x - top));
  chosen.probability = static_cast<double>(std::exp(logits[static_cast<std::size_t>(chosen.id)] - top)) / total;
  return chosen;
}

}  // namespace kontor::inference
