#pragma once
// A draw from a distribution in which many tokens matter, without sorting them.

#include "inference/text_model.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace kontor::inference {

/// A token and its logit.
struct Scored {
  float logit;
  TokenId id;
};

/// Larger logit first, smaller id among equals: a total order, so results do not depend on the sort.
inline bool before(const Scored& a, const Scored& b) { return a.logit != b.logit ? a.logit > b.logit : a.id < b.id; }

/// What to draw from: the tokens in their order up to and including the one at which the sum of e^(x - top) / total
/// reaches `share` (1 or more: all), of these the ones that are not below `least`, with weights e^((x - top) / temperature).
struct FlatDraw {
  std::span<const float> logits;  ///< Minus infinity: never drawn.
  float top;                      ///< The largest logit, finite.
  float least;                    ///< At most `top`.
  double temperature;             ///< Above 0.
  double share;
  double total;
  double draw;                    ///< From 0 to below 1.
};

/// Sums weights in buckets of neighbouring logits and orders only those buckets in which the sums decide. Keeps its memory
/// between draws. Not thread-safe.
class FlatSampler {
 public:
  /// The token at which the running sum of weights exceeds `draw` of all: the same that sorting and adding up in order
  /// gives. Nothing where rounding could decide differently there (one draw of ten thousand, or fewer).
  std::optional<TokenId> choose(const FlatDraw& draw);

 private:
  struct Sums {
    double share = 0, weight = 0;
  };
  void fill_buckets(const FlatDraw& draw);
  void gather(const FlatDraw& draw, std::size_t bucket);

  std::vector<std::int32_t> buckets_;  ///< For each token.
  std::vector<Sums> sums_;             ///< For each bucket.
  std::vector<Scored> members_;
};

}  // namespace kontor::inference
