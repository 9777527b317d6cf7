#pragma once
// Activations in int8, as every kernel that ends in them writes them.

#include "base/cuda/warp.cuh"
#include "inference/cuda/kernels.hpp"

namespace kontor::inference::cuda {

/// The int8 form of one span of `values` (in global or shared memory), done by a whole warp.
__device__ inline void quantize_span(float value, std::int64_t span, const ActivationTarget& out, int lane) {
  constexpr float kTiniest = 1e-36f;  // As on the CPU: blocks with nothing larger are zero.
  const float largest = warp_max(fabsf(value));
  // max drops NaN, a sum does not.
  const bool finite = fabsf(warp_sum(value * 0.0f)) == 0.0f && largest <= 3.4e38f;
  const float scale = largest > kTiniest ? largest / 127.0f : 0.0f;
  const float inverse = largest > kTiniest ? 127.0f / largest : 0.0f;
  const float code = finite ? rintf(value * inverse) : 0.0f;
  const float total = warp_sum(code);
  out.codes[span * kSpan + lane] = static_cast<std::int8_t>(code);
  if (lane == 0) {
    out.scales[span] = finite ? scale : __builtin_nanf("");
    out.sums[span] = finite ? scale * total : __builtin_nanf("");
  }
}

}  // namespace kontor::inference::cuda
