#include "inference/sampler.hpp"

#include "inference/cpu/kernels.hpp"

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

constexpr float kInfinity = std::numeric_limits<float>::infinity();
/// Tokens further below the top have less than 6e-6 of its probability.
constexpr float kNear = 12.0f;
/// Where more tokens matter than these, a draw does not sort them.
constexpr std::size_t kSorted = 256;

const cpu::SamplingKernels& kernels() { return cpu::best_kernels().sampling; }

/// The largest logit. Errors: NaN or plus infinity among them, or nothing but minus infinity.
Result<float> largest(std::span<const float> logits) {
  bool bad = false;
  const float top = kernels().largest(logits.data(), std::ssize(logits), &bad);
  if (bad || !(top > -kInfinity)) return not_finite();
  return top;
}

double sum_of_exponentials(std::span<const float> logits, float top) { return kernels().exp_total(logits.data(), std::ssize(logits), top); }

/// Minus infinity for every token whose bit is not set; words that allow everything or nothing are the usual ones.
void apply_mask(std::vector<float>& logits, std::span<const std::uint32_t> mask) {
  for (std::size_t i = 0; i < logits.size(); i += 32) {
    const std::uint32_t word = i / 32 < mask.size() ? mask[i / 32] : 0;
    if (word == ~0u) continue;
    const std::size_t end = std::min(i + 32, logits.size());
    for (std::size_t id = i; id < end; ++id)
      if (!(word >> (id - i) & 1u)) logits[id] = -kInfinity;
  }
}

}  // namespace

double random_uniform(std::uint64_t seed, std::uint64_t index) {
  return static_cast<double>(mix(mix(seed) ^ mix(~index)) >> 11) * 0x1p-53;
}

Result<TokenId> arg_max(std::span<const float> logits) {
  const auto top = largest(logits);
  if (!top) return top.error();
  return static_cast<TokenId>(std::find(logits.begin(), logits.end(), *top) - logits.begin());
}

/// Logits, with penalties for what was said lately.
Result<void> Sampler::load(std::span<const float> logits, std::span<const TokenId> history,
                           std::span<const std::uint32_t> mask) {
  const auto last = std::min(history.size(), static_cast<std::size_t>(std::max(0, settings_.penalty_last_n)));
  const bool penalties = last > 0 && (settings_.repeat_penalty != 1 || settings_.frequency_penalty != 0 || settings_.presence_penalty != 0);
  changed_ = penalties || !mask.empty();
  if (!changed_) {
    logits_ = logits;
    return find_top();
  }
  own_.assign(logits.begin(), logits.end());
  logits_ = own_;
  if (!mask.empty()) {
    if (const auto all = largest(logits_); !all)
      return all.error();  // A mask must not hide values that are not numbers.
    apply_mask(own_, mask);
  }
  if (penalties) {
    std::unordered_map<TokenId, int> counts;
    for (const TokenId id : history.last(last)) ++counts[id];
    for (const auto& [id, count] : counts) {
      if (id < 0 || static_cast<std::size_t>(id) >= own_.size()) continue;
      double x = own_[static_cast<std::size_t>(id)];
      x = x > 0 ? x / double{settings_.repeat_penalty} : x * double{settings_.repeat_penalty};
      x -= count * double{settings_.frequency_penalty} + double{settings_.presence_penalty};
      own_[static_cast<std::size_t>(id)] = static_cast<float>(x);
    }
  }
  return find_top();
}

Result<void> Sampler::find_top() {
  const auto top = largest(logits_);
  if (!top) return top.error();
  top_ = *top;
  total_.reset();
  return {};
}

double Sampler::total() {
  if (!total_) total_ = sum_of_exponentials(logits_, top_);
  return *total_;
}

/// Fills kept_ with every token of at least this logit, unsorted. Minus infinity marks masked tokens.
void Sampler::gather(float least) {
  kept_.clear();
  for (std::size_t i = 0; i < logits_.size(); ++i)
    if (logits_[i] >= least && logits_[i] > -kInfinity) kept_.push_back({logits_[i], static_cast<TokenId>(i)});
}

/// Top-k. The k largest are nearly always close to the top: the whole vocabulary is only looked at where they are not.
void Sampler::keep_best() {
  const auto k = static_cast<std::size_t>(settings_.top_k);
  gather(top_ - kNear);
  if (kept_.size() < k) gather(-kInfinity);
  if (kept_.size() > k) {
    std::nth_element(kept_.begin(), kept_.begin() + settings_.top_k, kept_.end(), before);
    kept_.resize(k);
  }
  std::sort(kept_.begin(), kept_.end(), before);
}

/// Top-p, over kept_ after top-k, else over all logits. False: it takes more than `most` tokens, and kept_ is not of use.
bool Sampler::keep_most_probable(std::size_t most) {
  const double share = settings_.top_p;
  double total = 0;
  bool all = settings_.top_k > 0;
  if (all) {
    for (const Scored& s : kept_) total += std::exp(double{s.logit} - double{top_});
  } else {
    total = this->total();
    if (static_cast<double>(most) < 0.999 * share * total) return false;  // No token weighs more than 1.
    gather(top_ - kNear);
  }
  for (;;) {
    double sum = 0;
    std::size_t sorted = 0;
    for (std::size_t i = 0; i < kept_.size(); ++i) {
      if (i == sorted) {  // Few tokens matter: sort a growing head only.
        if (sorted >= most) return false;
        sorted = std::min(kept_.size(), std::max<std::size_t>(64, sorted * 4));
        std::partial_sort(kept_.begin() + static_cast<std::ptrdiff_t>(i),
                          kept_.begin() + static_cast<std::ptrdiff_t>(sorted), kept_.end(), before);
      }
      sum += std::exp(double{kept_[i].logit} - double{top_}) / total;
      if (sum >= share) {
        kept_.resize(i + 1);
        return true;
      }
    }
    if (all) return true;
    all = true;
    gather(-kInfinity);
  }
}

float Sampler::least() const {
  return settings_.min_p > 0 ? static_cast<float>(double{top_} + std::log(double{settings_.min_p})) : -kInfinity;
}

/// Fills candidates_. False: more than `most` tokens would have to be sorted.
bool Sampler::truncate(std::size_t most) {
  candidates_.clear();
  if (settings_.temperature <= 0) {
    const auto best = std::find(logits_.begin(), logits_.end(), top_);
    candidates_.push_back({static_cast<TokenId>(best - logits_.begin()), 1.0});
    return true;
  }
  if (settings_.top_k > 0) keep_best();
  if (settings_.top_p < 1.0f && !keep_most_probable(most)) return false;
  if (settings_.top_k <= 0 && !(settings_.top_p < 1.0f)) {
    gather(std::min(least(), top_));
    if (kept_.size() > most) return false;
    std::sort(kept_.begin(), kept_.end(), before);
  }
  double total = 0;
  for (const Scored& s : kept_) {
    if (s.logit < least() && s.logit < top_) break;
    candidates_.push_back({s.id, std::exp((double{s.logit} - double{top_}) / double{settings_.temperature})});
    total += candidates_.back().probability;
  }
  for (Candidate& candidate : candidates_) candidate.probability /= total;
  return true;
}

Result<std::span<const Candidate>> Sampler::distribution(std::span<const float> logits,
                                                         std::span<const TokenId> history,
                                                         std::span<const std::uint32_t> mask) {
  if (const auto loaded = load(logits, history, mask); !loaded) return loaded.error();
  truncate(std::numeric_limits<std::size_t>::max());
  return std::span<const Candidate>(candidates_);
}

/// The token that the number `draw` stands for.
TokenId Sampler::choose(double draw) {
  if (!truncate(settings_.top_k > 0 ? std::numeric_limits<std::size_t>::max() : kSorted)) {
    const FlatDraw flat{.logits = logits_,
                        .top = top_,
                        .least = std::min(least(), top_),
                        .temperature = settings_.temperature,
                        .share = settings_.top_p,
                        .total = total(),
                        .draw = draw};
    if (const auto chosen = flat_.choose(flat)) return *chosen;
    truncate(std::numeric_limits<std::size_t>::max());
  }
  double sum = 0;
  for (const Candidate& candidate : candidates_) {
    sum += candidate.probability;
    if (draw < sum) return candidate.id;
  }
  return candidates_.back().id;
}

Result<Candidate> Sampler::sample(std::span<const float> logits, std::span<const TokenId> history,
                                  std::span<const std::uint32_t> mask) {
  const double draw = random_uniform(settings_.seed, draws_++);
  if (const auto loaded = load(logits, history, mask); !loaded) return loaded.error();
  const TokenId chosen = choose(draw);
  if (!changed_) return Candidate{chosen, std::exp(double{logits[static_cast<std::size_t>(chosen)]} - double{top_}) / total()};
  const auto top = largest(logits);
  if (!top) return top.error();
  return Candidate{chosen, std::exp(double{logits[static_cast<std::size_t>(chosen)]} - double{*top}) / sum_of_exponentials(logits, *top)};
}

}  // namespace kontor::inference
