#include "inference/sampler_flat.hpp"

#include "inference/cpu/kernels.hpp"

#include <algorithm>
#include <cmath>

namespace kontor::inference {
namespace {

constexpr std::size_t kBuckets = 2048, kChunk = 256;
/// Logits that lie this far below the top and further share the last bucket.
constexpr float kRange = 16.0f;
/// Few enough to be sorted.
constexpr std::size_t kFew = 48;
/// Error of a weight, and what two sums in double precision can be apart for each token: both relative to the whole sum.
constexpr double kExpError = 5e-11, kSumError = 4.5e-16;

/// Buckets of logits: larger ones have smaller numbers.
void buckets_of(std::span<const float> logits, float top, std::int32_t* out) {
  cpu::best_kernels().sampling.bucket_each(logits.data(), std::ssize(logits), top, static_cast<float>(kBuckets) / kRange, kBuckets - 1, out);
}

/// e^((x - top) / divisor).
void weights_of(std::span<const float> logits, float top, double divisor, double* out) {
  cpu::best_kernels().sampling.exp_each(logits.data(), std::ssize(logits), top, divisor, out);
}
double share_of(float logit, const FlatDraw& draw) {
  double result = 0;
  weights_of({&logit, 1}, draw.top, 1, &result);
  return result;
}
double weight_of(float logit, const FlatDraw& draw) {
  double result = 0;
  if (logit >= draw.least) weights_of({&logit, 1}, draw.top, draw.temperature, &result);
  return result;
}

/// Where a running sum crosses a target.
struct Crossing {
  std::size_t count;     ///< Members up to and including the one at which it does; 0: it does not.
  double before, after;  ///< The sum without and with that member.
};

/// Orders `members` as far as needed: the first `count` of them come before the others, the last of these is the crossing.
template <class Weight>
Crossing find_crossing(std::span<Scored> members, double sum, double target, const Weight& weight) {
  std::size_t begin = 0, end = members.size();
  const auto at = [&](std::size_t i) { return members.begin() + static_cast<std::ptrdiff_t>(i); };
  while (end - begin > kFew) {
    const std::size_t middle = begin + (end - begin) / 2;
    std::nth_element(at(begin), at(middle), at(end), before);
    double half = 0;
    for (std::size_t i = begin; i < middle; ++i) half += weight(members[i].logit);
    if (sum + half >= target) end = middle;
    else sum += half, begin = middle;
  }
  std::sort(at(begin), at(end), before);
  for (std::size_t i = begin; i < end; ++i) {
    const double next = sum + weight(members[i].logit);
    if (next >= target) return {i + 1, sum, next};
    sum = next;
  }
  return {0, sum, sum};
}

}  // namespace

void FlatSampler::fill_buckets(const FlatDraw& draw) {
  sums_.assign(kBuckets, {});
  buckets_.resize(draw.logits.size());
  buckets_of(draw.logits, draw.top, buckets_.data());
  const bool shares = draw.share < 1;
  double share[kChunk] = {}, weight[kChunk];
  for (std::size_t first = 0; first < draw.logits.size(); first += kChunk) {
    const auto part = draw.logits.subspan(first, std::min(kChunk, draw.logits.size() - first));
    weights_of(part, draw.top, draw.temperature, weight);
    if (shares) weights_of(part, draw.top, 1, share);
    for (std::size_t i = 0; i < part.size(); ++i) {
      Sums& sums = sums_[static_cast<std::size_t>(buckets_[first + i])];
      sums.share += share[i];
      sums.weight += part[i] >= draw.least ? weight[i] : 0.0;
    }
  }
}

void FlatSampler::gather(const FlatDraw& draw, std::size_t bucket) {
  members_.clear();
  const auto wanted = static_cast<std::int32_t>(bucket);
  for (std::size_t first = 0; first < buckets_.size(); first += kChunk) {
    const auto part = std::span(buckets_).subspan(first, std::min(kChunk, buckets_.size() - first));
    if (std::find(part.begin(), part.end(), wanted) == part.end()) continue;
    for (std::size_t i = 0; i < part.size(); ++i)
      if (part[i] == wanted && draw.logits[first + i] > -HUGE_VALF) members_.push_back({draw.logits[first + i], static_cast<TokenId>(first + i)});
  }
}

std::optional<TokenId> FlatSampler::choose(const FlatDraw& draw) {
  const double doubt = kExpError + kSumError * static_cast<double>(draw.logits.size());
  fill_buckets(draw);

  // Where top-p cuts: what lies behind weighs nothing.
  std::size_t last = kBuckets - 1;
  bool cut = false;  // members_ are those of the last bucket that are kept.
  if (draw.share < 1) {
    const double target = draw.share * draw.total;
    double sum = 0;
    for (last = 0; last + 1 < kBuckets && sum + sums_[last].share < target; ++last) sum += sums_[last].share;
    gather(draw, last);
    const Crossing at = find_crossing(members_, sum, target, [&](float logit) { return share_of(logit, draw); });
    if (target - at.before <= doubt * draw.total || (at.count > 0 && at.after - target <= doubt * draw.total)) return std::nullopt;
    if (at.count > 0) members_.resize(at.count);
    cut = true;
    sums_[last].weight = 0;
    for (const Scored& member : members_) sums_[last].weight += weight_of(member.logit, draw);
  }

  double whole = 0;
  for (std::size_t b = 0; b <= last; ++b) whole += sums_[b].weight;
  const double target = draw.draw * whole;
  double sum = 0;
  std::size_t chosen = 0;
  while (chosen < last && sum + sums_[chosen].weight < target) sum += sums_[chosen++].weight;
  if (!cut || chosen != last) gather(draw, chosen);
  const Crossing at = find_crossing(members_, sum, target, [&](float logit) { return weight_of(logit, draw); });
  // A draw near zero is that of the first token, whatever the rounding.
  const bool first = chosen == 0 && at.count == 1;
  if (at.count == 0 || at.after - target <= doubt * whole || (!first && target - at.before <= doubt * whole)) return std::nullopt;
  return members_[at.count - 1].id;
}

}  // namespace kontor::inference
