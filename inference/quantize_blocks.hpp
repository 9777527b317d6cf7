#pragma once
// From float32 to the block formats of GGUF. Scales are searched for, not only derived from the largest value: of several
// candidates the one with the least squared error wins, values far from zero counting more.

#include "inference/tensor.hpp"

#include <cstddef>
#include <cstdint>

namespace kontor::inference {

/// Writes `count` finite values (a multiple of the type's block) as blocks into `out`, which needs no alignment.
using Quantizer = void (*)(const float* values, std::int64_t count, std::byte* out);

/// For F32, F16, BF16, Q8_0, Q4_0, Q4_K, Q5_K and Q6_K; null for other types.
Quantizer find_quantizer(TensorType type);

}  // namespace kontor::inference
