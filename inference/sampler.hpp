#pragma once
// From logits to a token: penalties, truncation, temperature, and a seeded draw.

#include "base/error.hpp"
#include "inference/sampler_flat.hpp"
#include "inference/text_model.hpp"

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace kontor::inference {

/// A token and its share of what truncation left.
struct Candidate {
  TokenId id = 0;
  double probability = 0;
};

/// Counter-based random numbers: number `index` of stream `seed` is a function of the two alone (SplitMix64 of
/// seed-dependent counters), so a run can be resumed at any token. Uniform in [0, 1) with 53 bits.
double random_uniform(std::uint64_t seed, std::uint64_t index);

/// Draws tokens for one generation. Not thread-safe. The same settings, seed, logits and history give the same tokens
/// on every machine whose logits agree.
class Sampler {
 public:
  explicit Sampler(const Sampling& settings) : settings_(settings) {}

  /// What the settings leave of the logits, in descending order: (1) penalties over the last `penalty_last_n` tokens
  /// of `history`, once per distinct token: x > 0 ? x / repeat : x * repeat, then x -= count * frequency + presence;
  /// (2) top-k; (3) top-p, up to and including the token at which the sum reaches p; (4) min-p, x >= max + ln(min_p);
  /// (5) x / temperature (at or below 0: arg max with probability 1); (6) softmax. A value of -infinity is never
  /// drawn. Errors: internal (kind nonfinite_logits) for NaN, +infinity, or nothing left.
  /// `mask`: bit `id % 32` of word `id / 32` is set where a token may be drawn; empty: all may. Masked tokens count as
  /// -infinity before step 1.
  Result<std::span<const Candidate>> distribution(std::span<const float> logits, std::span<const TokenId> history,
                                                  std::span<const std::uint32_t> mask = {});

  /// One draw; consumes one random number. `probability` is the token's share of the softmax of the logits as they
  /// came (no penalties, truncation, temperature or mask): how far the model itself wanted this token, so a mask cannot
  /// turn a reluctant choice into a confident one.
  Result<Candidate> sample(std::span<const float> logits, std::span<const TokenId> history,
                           std::span<const std::uint32_t> mask = {});

  const Sampling& settings() const { return settings_; }

 private:
  Result<void> load(std::span<const float> logits, std::span<const TokenId> history,
                    std::span<const std::uint32_t> mask);
  Result<void> find_top();
  double total();
  void gather(float least);
  void keep_best();
  bool keep_most_probable(std::size_t most);
  float least() const;
  bool truncate(std::size_t most);
  TokenId choose(double draw);

  Sampling settings_;
  std::uint64_t draws_ = 0;
  std::span<const float> logits_;  ///< With penalties and mask: those that came, or `own_`.
  std::vector<float> own_;
  bool changed_ = false;       ///< `logits_` is `own_`.
  float top_ = 0;              ///< The largest of them.
  std::optional<double> total_;  ///< Sum of e^(x - top), once it is needed.
  std::vector<Scored> kept_;   ///< What truncation has left so far, in descending order.
  std::vector<Candidate> candidates_;
  FlatSampler flat_;
};

/// The index of the largest logit (the first of equals). Errors: as `distribution`.
Result<TokenId> arg_max(std::span<const float> logits);

}  // namespace kontor::inference
