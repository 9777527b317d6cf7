#include "inference/sampler_flat.hpp"

#include <algorithm>
#include <cmath>

namespace kontor::inference {
namespace {

constexpr std::size_t kBuckets = 2048;
/// Logits that lie this far below the top and further share the last bucket.
constexpr float kRange = 16.0f;
/// Few enough to be sorted.
constexpr std::size_t kFew = 48;
/// Error of exp_near, and what two sums in double precision can be apart for each token: both relative to the whole sum.
constexpr double kExpError = 5e-11, kSumError = 4.5e-16;

/// e^x for x <= 0 within 1e-11, what is below -700 as e^-700: a power of two times a polynomial, in a form that compilers
/// vectorise.
inline double exp_near(double x) {
  constexpr double kRound = 0x1.8p52;  // Adding it leaves the nearest integer in the low bits.
  const double y = (x > -700.0 ? x : -700.0) * 1.4426950408889634, shifted = y + kRound, r = (y - (shifted - kRound)) * 0.6931471805599453;
  double p = 1.0 / 362880;
  p = p * r + 1.0 / 40320;
  p = p * r + 1.0 / 5040;
  p = p * r + 1.0 / 720;
  p = p * r + 1.0 / 120;
  p = p * r + 1.0 / 24;
  p = p * r + 1.0 / 6;
  p = p * r + 0.5;
  p = p * r + 1.0;
  p = p * r + 1.0;
  return p * __builtin_bit_cast(double, (__builtin_bit_cast(std::uint64_t, shifted) + 1023) << 52);
}

/// Larger logits have smaller numbers.
inline std::int32_t bucket_of(float logit, float top) {
  const float place = (top - logit) * (static_cast<float>(kBuckets) / kRange);
  return static_cast<std::int32_t>(place < static_cast<float>(kBuckets - 1) ? place : static_cast<float>(kBuckets - 1));
}

inline double share_of(float logit, const FlatDraw& draw) { return exp_near(double{logit} - double{draw.top}); }
inline double weight_of(float logit, const FlatDraw& draw) {
  return logit >= draw.least ? exp_near((double{logit} - double{draw.top}) / draw.temperature) : 0.0;
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
  constexpr std::size_t kChunk = 256;
  buckets_.assign(kBuckets, {});
  const bool shares = draw.share < 1;
  double share[kChunk] = {}, weight[kChunk];
  std::int32_t bucket[kChunk];
  for (std::size_t first = 0; first < draw.logits.size(); first += kChunk) {
    const std::size_t count = std::min(kChunk, draw.logits.size() - first);
    const float* x = draw.logits.data() + first;
    for (std::size_t i = 0; i < count; ++i) bucket[i] = bucket_of(x[i], draw.top);
    for (std::size_t i = 0; i < count; ++i) weight[i] = weight_of(x[i], draw);
    if (shares)
      for (std::size_t i = 0; i < count; ++i) share[i] = share_of(x[i], draw);
    for (std::size_t i = 0; i < count; ++i) {
      Sums& sums = buckets_[static_cast<std::size_t>(bucket[i])];
      sums.share += share[i];
      sums.weight += weight[i];
    }
  }
}

void FlatSampler::gather(const FlatDraw& draw, std::size_t bucket) {
  members_.clear();
  for (std::size_t i = 0; i < draw.logits.size(); ++i)
    if (static_cast<std::size_t>(bucket_of(draw.logits[i], draw.top)) == bucket && draw.logits[i] > -HUGE_VALF)
      members_.push_back({draw.logits[i], static_cast<TokenId>(i)});
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
    for (last = 0; last + 1 < kBuckets && sum + buckets_[last].share < target; ++last) sum += buckets_[last].share;
    gather(draw, last);
    const Crossing at = find_crossing(members_, sum, target, [&](float logit) { return share_of(logit, draw); });
    if (target - at.before <= doubt * draw.total || (at.count > 0 && at.after - target <= doubt * draw.total)) return std::nullopt;
    if (at.count > 0) members_.resize(at.count);
    cut = true;
    buckets_[last].weight = 0;
    for (const Scored& member : members_) buckets_[last].weight += weight_of(member.logit, draw);
  }

  double whole = 0;
  for (std::size_t b = 0; b <= last; ++b) whole += buckets_[b].weight;
  const double target = draw.draw * whole;
  double sum = 0;
  std::size_t chosen = 0;
  while (chosen < last && sum + buckets_[chosen].weight < target) sum += buckets_[chosen++].weight;
  if (!cut || chosen != last) gather(draw, chosen);
  const Crossing at = find_crossing(members_, sum, target, [&](float logit) { return weight_of(logit, draw); });
  // A draw near zero is that of the first token, whatever the rounding.
  const bool first = chosen == 0 && at.count == 1;
  if (at.count == 0 || at.after - target <= doubt * whole || (!first && target - at.before <= doubt * whole)) return std::nullopt;
  return members_[at.count - 1].id;
}

}  // namespace kontor::inference
