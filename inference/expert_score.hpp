#pragma once
// The arithmetic of choosing experts for one token, shared by the CPU and the kernels: scores, their order, weights.

#include "base/cuda/portable.hpp"

#include <cmath>
#include <cstdint>

namespace kontor::inference {

/// Of one expert before the division by the sum of all (softmax), or as it is (sigmoid). `largest`: of all logits.
KONTOR_HD double expert_score(double logit, double largest, bool sigmoid) {
  return sigmoid ? 1 / (1 + ::exp(-logit)) : ::exp(logit - largest);
}

/// A total order, best first: the larger value, the lower number among equals; what is not a number comes last.
KONTOR_HD bool ranks_before(double a, std::int32_t a_number, double b, std::int32_t b_number) {
  if (a != a) a = -HUGE_VAL;
  if (b != b) b = -HUGE_VAL;
  return a != b ? a > b : a_number < b_number;
}

/// What a chosen expert's score is multiplied by; `sum`: of the chosen scores.
KONTOR_HD double expert_factor(double sum, bool normalize, float scale) {
  return static_cast<double>(scale) / (normalize ? (sum < 1e-20 ? 1e-20 : sum) : 1.0);
}

}  // namespace kontor::inference
