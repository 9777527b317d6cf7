// AVX-512 with the dot product of bfloat16 (Zen 4, Cooper Lake and later): matrices of BF16 weights meet activations
// rounded to bfloat16; everything else is that of AVX-512. Two products a lane and instruction, so that a prefill takes
// half as many of them as in float32.

#include "inference/cpu/kernels.hpp"

#if defined(__AVX512BF16__)

#include <immintrin.h>

namespace kontor::inference::cpu {
namespace {

#include "inference/cpu/vector_avx512.inl"

#include "inference/cpu/kernels_dense.inl"

/// To the nearest bfloat16; the instructions take subnormal numbers as zero.
inline std::uint16_t rounded(float x) { return static_cast<std::uint16_t>(_mm_extract_epi16((__m128i)_mm_cvtneps_pbh(_mm_set_ss(x)), 0)); }
inline float bf16_value(std::uint16_t bits) { return __builtin_bit_cast(float, std::uint32_t{bits} << 16); }
/// Lane i adds the products of columns 2i and 2i + 1.
struct PairsOfBf16 {
  using Element = std::uint16_t;
  using Activation = std::uint16_t;
  using Weights = __m512bh;
  static constexpr int kStep = 2 * kWidth;
  static __m512bh vector(const std::uint16_t* p) { return (__m512bh)_mm512_loadu_si512(p); }
  static __m512bh activations(const std::uint16_t* p) { return vector(p); }
  static float scalar(const std::uint16_t* p) { return bf16_value(*p); }
  static float scalar_activation(std::uint16_t x) { return bf16_value(x); }
  static V multiply(__m512bh weights, __m512bh activations, V sums) { return _mm512_dpbf16_ps(sums, weights, activations); }
};

void narrow(const float* x, std::int64_t n, std::uint16_t* out) {
  std::int64_t i = 0;
  for (; i + 2 * kWidth <= n; i += 2 * kWidth)
    _mm512_storeu_si512(out + i, (__m512i)_mm512_cvtne2ps_pbh(load(x + i + kWidth), load(x + i)));
  for (; i < n; ++i) out[i] = rounded(x[i]);
}

KernelSet make_set() {
  KernelSet set = *avx512_kernels();
  set.name = "avx512_bf16";
  set.bf16_pairs = dense<PairsOfBf16>;
  set.narrow = narrow;
  return set;
}

}  // namespace

const KernelSet* avx512_bf16_kernels() {
  static const KernelSet set = make_set();
  return &set;
}

}  // namespace kontor::inference::cpu

#else

namespace kontor::inference::cpu {
const KernelSet* avx512_bf16_kernels() { return nullptr; }
}  // namespace kontor::inference::cpu

#endif
