#pragma once
// Which experts compute a token, and with which weights.

#include "inference/model_config.hpp"

#include <cstdint>
#include <span>

namespace kontor::inference {

struct ExpertChoice {
  std::int32_t expert = 0;
  float weight = 0;
};

/// Chooses `shape.used` experts from the router's `logits` (one for each expert) into `chosen`, best first. `bias` (may
/// be null) is added to the scores for choosing, not for weighting (DeepSeek-V3, 2024, section 2.1.2). With groups only
/// experts of the best groups are considered; a group is as good as its best experts together. Of equal scores the lower
/// number wins.
void choose_experts(const ExpertShape& shape, std::span<const float> logits, const float* bias, std::span<ExpertChoice> chosen);

}  // namespace kontor::inference
