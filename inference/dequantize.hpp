#pragma once
// Expands stored blocks to float32, one value at a time: the reference that faster kernels are measured against.
// Results are bit-identical on every machine (no fused multiply-add, no reordering).

#include "base/error.hpp"
#include "inference/tensor.hpp"

#include <cstddef>
#include <cstdint>

namespace kontor::inference {

/// Reads `elements` values (a multiple of the type's block) from `blocks` (no alignment needed) into `out`.
using Dequantizer = void (*)(const std::byte* blocks, std::int64_t elements, float* out);

/// Null where the blocks alone cannot be expanded (integer types, F8_E4M3, and what docs/model-files.md lists).
Dequantizer find_dequantizer(TensorType type);

/// Whether dequantize_row expands the type.
bool can_expand(TensorType type);

/// Expands a whole row of a tensor; `out` has room for row_elements(). Errors: unsupported (kind bad_tensor_type).
Result<void> dequantize_row(const Tensor& tensor, std::int64_t row, float* out);

/// IEEE binary16, with subnormals, infinities and NaN.
float half_to_float(std::uint16_t bits);
/// Round to nearest even.
std::uint16_t float_to_half(float value);
inline float bfloat16_to_float(std::uint16_t bits) { return __builtin_bit_cast(float, std::uint32_t{bits} << 16); }

}  // namespace kontor::inference
