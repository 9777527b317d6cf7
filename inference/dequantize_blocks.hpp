#pragma once
// Block formats of GGUF tensors; each function expands n values (a multiple of the block) without any alignment.

#include "inference/dequantize.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace kontor::inference::blocks {

template <class T>
T load(const std::byte* at) {
  T value;
  std::memcpy(&value, at, sizeof(T));
  return value;
}
inline unsigned byte_at(const std::byte* at) { return std::to_integer<unsigned>(*at); }
inline float half_at(const std::byte* at) { return half_to_float(load<std::uint16_t>(at)); }

// K-quants: 256 values in sub-blocks of 16 or 32, whose scales are themselves quantised.
void q2_k(const std::byte* in, std::int64_t n, float* out);
void q3_k(const std::byte* in, std::int64_t n, float* out);
void q4_k(const std::byte* in, std::int64_t n, float* out);
void q5_k(const std::byte* in, std::int64_t n, float* out);
void q6_k(const std::byte* in, std::int64_t n, float* out);
// Four-bit codes of a non-linear table.
void iq4_nl(const std::byte* in, std::int64_t n, float* out);
void iq4_xs(const std::byte* in, std::int64_t n, float* out);
// Indices into code books of vectors (codebooks.hpp).
void iq2_xxs(const std::byte* in, std::int64_t n, float* out);
void iq2_xs(const std::byte* in, std::int64_t n, float* out);
void iq2_s(const std::byte* in, std::int64_t n, float* out);
void iq3_xxs(const std::byte* in, std::int64_t n, float* out);
void iq3_s(const std::byte* in, std::int64_t n, float* out);
void iq1_s(const std::byte* in, std::int64_t n, float* out);
void iq1_m(const std::byte* in, std::int64_t n, float* out);

/// Scale (first) and minimum (second) of sub-block j (0 to 7) of Q4_K and Q5_K: six bits each in twelve bytes.
struct ScaleMin {
  int scale;
  int minimum;
};
inline ScaleMin scale_min_at(const std::byte* packed, int j) {
  const auto p = [&](int i) { return static_cast<int>(byte_at(packed + i)); };
  if (j < 4) return {p(j) & 63, p(j + 4) & 63};
  return {(p(j + 4) & 15) | (p(j - 4) >> 6) << 4, (p(j + 4) >> 4) | (p(j) >> 6) << 4};
}

}  // namespace kontor::inference::blocks
