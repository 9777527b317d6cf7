#pragma once
// The few tokens that a draw can fall on, found by a device beside its logits, so that a decoding step copies these
// instead of the whole row. What is drawn from them is what Sampler draws from the row: the same tokens in the same order
// with the same sums, and the same random numbers.

#include "base/error.hpp"
#include "inference/sampler.hpp"
#include "inference/text_model.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace kontor::inference {

struct Shortlist {
  static constexpr std::size_t kMost = 64;

  // Asked.
  Sampling settings;
  std::span<const std::uint32_t> mask;  ///< As for Sampler; must live until the pass is done.

  // Answered.
  bool filled = false;        ///< Else the row of logits was copied.
  bool finite = false;        ///< No NaN or infinity in the row, and the mask leaves something.
  std::vector<Scored> best;   ///< The largest that the mask allows, at most kMost, in Sampler's order.
  double total = 0;           ///< Sum of e^(x - best[0]) over what the mask allows, as Sampler adds it up.
  float all_top = 0;          ///< The largest of the row, whatever the mask says,
  double all_total = 0;       ///< and the sum of e^(x - all_top) over the whole row.

  /// Whether nothing outside `best` can be drawn with these settings.
  bool enough() const;
};

/// Settings under which a shortlist is worth asking for: no penalties, and truncation that usually leaves few tokens.
bool suits_shortlist(const Sampling& settings);

/// A Sampler that draws from rows and from shortlists alike; each draw consumes one random number.
class TokenChooser {
 public:
  explicit TokenChooser(const Sampling& settings);

  /// As Sampler::sample.
  Result<Candidate> sample(std::span<const float> logits, std::span<const TokenId> history, std::span<const std::uint32_t> mask);
  /// `list`: filled, and enough() for the settings of this object.
  Result<Candidate> sample(const Shortlist& list);

  const Sampling& settings() const { return rows_.settings(); }

 private:
  Sampler rows_;
  Sampler lists_;  ///< Of what truncation left; both are at the same random number.
  std::vector<float> kept_;
};

}  // namespace kontor::inference
