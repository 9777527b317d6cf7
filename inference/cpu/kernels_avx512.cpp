// AVX-512 with VNNI (Zen 4, Ice Lake and later). Compiled with its own flags; call only after checking the processor.

#include "inference/cpu/kernels.hpp"

#if defined(__AVX512F__) && defined(__AVX512VNNI__)

#include <immintrin.h>

namespace kontor::inference::cpu {
namespace {

constexpr int kWidth = 16;
constexpr int kGroupRows = 8;  // Activations that share one unpacking of a block of weights.
constexpr int kDenseTokens = 6;  // Activations that share one load of dense weights: 24 accumulators of 32 registers.
using V = __m512;
inline float half_bits_to_float(std::uint16_t bits) { return _cvtsh_ss(bits); }
inline V zero() { return _mm512_setzero_ps(); }
inline V splat(float f) { return _mm512_set1_ps(f); }
inline V load(const float* p) { return _mm512_loadu_ps(p); }
inline V load_half(const std::uint16_t* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
inline V load_bf16(const std::uint16_t* p) {
  const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}
inline void store(float* p, V v) { _mm512_storeu_ps(p, v); }
inline V fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
inline float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
inline V add(V a, V b) { return _mm512_add_ps(a, b); }
inline V sub(V a, V b) { return _mm512_sub_ps(a, b); }
inline V mul(V a, V b) { return _mm512_mul_ps(a, b); }
inline V div(V a, V b) { return _mm512_div_ps(a, b); }
inline V max(V a, V b) { return _mm512_max_ps(a, b); }
inline float sum(V a) { return _mm512_reduce_add_ps(a); }
inline float largest(V a) { return _mm512_reduce_max_ps(a); }
inline void sum4(const V (&a)[4], float* out) {
  const V ab = add(_mm512_unpacklo_ps(a[0], a[1]), _mm512_unpackhi_ps(a[0], a[1]));
  const V cd = add(_mm512_unpacklo_ps(a[2], a[3]), _mm512_unpackhi_ps(a[2], a[3]));
  const __m512d x = _mm512_castps_pd(ab), y = _mm512_castps_pd(cd);
  const V all = add(_mm512_castpd_ps(_mm512_unpacklo_pd(x, y)), _mm512_castpd_ps(_mm512_unpackhi_pd(x, y)));
  const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(all), _mm512_extractf32x8_ps(all, 1));
  _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1)));
}
/// e^x within 2 ulp: 2^n times a polynomial on [-ln2/2, ln2/2]; 0 and infinity outside the range, NaN stays.
inline V exp(V x) {
  const V n = _mm512_roundscale_ps(_mm512_mul_ps(x, splat(1.44269504f)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  V r = _mm512_fnmadd_ps(n, splat(0.693359375f), x);
  r = _mm512_fnmadd_ps(n, splat(-2.12194440e-4f), r);
  V p = splat(1.0f / 5040);
  p = fma(p, r, splat(1.0f / 720));
  p = fma(p, r, splat(1.0f / 120));
  p = fma(p, r, splat(1.0f / 24));
  p = fma(p, r, splat(1.0f / 6));
  p = fma(p, r, splat(0.5f));
  p = fma(p, r, splat(1.0f));
  p = fma(p, r, splat(1.0f));
  const V scaled = _mm512_scalef_ps(p, n);
  // Infinite x: r is NaN by infinity minus infinity.
  const __mmask16 high = _mm512_cmp_ps_mask(x, splat(89.0f), _CMP_GT_OQ), low = _mm512_cmp_ps_mask(x, splat(-104.0f), _CMP_LT_OQ);
  return _mm512_mask_blend_ps(low, _mm512_mask_blend_ps(high, scaled, splat(__builtin_inff())), zero());
}

#include "inference/cpu/kernels_generic.inl"

void quantize(const float* x, std::int64_t index, const QuantizedRows& rows) {
  const std::int64_t blocks = rows.k / kBlock;
  for (std::int64_t b = 0; b < blocks; ++b, x += kBlock) {
    const V v0 = load(x), v1 = load(x + 16);
    float top = largest(max(_mm512_abs_ps(v0), _mm512_abs_ps(v1)));
    if (top < kTiniest) top = 0;
    const float inverse = top > 0 ? 127.0f / top : 0.0f;
    const __mmask16 nan = _mm512_cmp_ps_mask(v0, v1, _CMP_UNORD_Q);
    const bool finite = nan == 0 && top <= __FLT_MAX__;
    __m512i q0 = _mm512_setzero_si512(), q1 = q0;
    if (finite) {
      q0 = _mm512_cvtps_epi32(_mm512_mul_ps(v0, splat(inverse)));
      q1 = _mm512_cvtps_epi32(_mm512_mul_ps(v1, splat(inverse)));
    }
    const std::int64_t at = index * blocks + b;
    auto* out = reinterpret_cast<__m128i*>(rows.values + at * kBlock);
    _mm_storeu_si128(out, _mm512_cvtepi32_epi8(q0));
    _mm_storeu_si128(out + 1, _mm512_cvtepi32_epi8(q1));
    const std::int32_t s0 = _mm512_reduce_add_epi32(q0), s1 = _mm512_reduce_add_epi32(q1);
    const float scale = finite ? top / 127.0f : __builtin_nanf("");
    rows.scales[at] = scale;
    rows.sums[at] = scale * static_cast<float>(s0 + s1);
    rows.half_sums[2 * at] = s0;
    rows.half_sums[2 * at + 1] = s1;
  }
}

using u8 = std::uint8_t;

inline __m512i load_i(const u8* p) { return _mm512_loadu_si512(p); }
inline __m512i word_of(const std::int8_t* x, int g) {
  std::int32_t value;
  __builtin_memcpy(&value, x + 4 * g, 4);
  return _mm512_set1_epi32(value);
}
inline V halves(const u8* p) { return load_half(reinterpret_cast<const std::uint16_t*>(p)); }
inline __m512i bytes_u(const u8* p) { return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
inline __m512i bytes_s(const u8* p) { return _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }

inline V bfloats(const u8* p) { return load_bf16(reinterpret_cast<const std::uint16_t*>(p)); }

/// Tables hold signed values; codes are unsigned.
inline constexpr int offset_of(CodeTable table, int offset) { return table == CodeTable::none ? offset : 128; }

/// Codes of a block as 8 vectors of 16 row words.
template <int Bits, CodeTable Table = CodeTable::none>
inline void unpack(const u8* p, __m512i (&w)[8]) {
  if constexpr (Bits < 4) {
    const __m512i low = _mm512_set1_epi8(3);
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      const __m512i four = load_i(p + 64 * half);
      w[4 * half] = _mm512_and_si512(four, low);
      w[4 * half + 1] = _mm512_and_si512(_mm512_srli_epi16(four, 2), low);
      w[4 * half + 2] = _mm512_and_si512(_mm512_srli_epi16(four, 4), low);
      w[4 * half + 3] = _mm512_and_si512(_mm512_srli_epi16(four, 6), low);
    }
    if constexpr (Bits == 3) {
      const __m512i high = load_i(p + 128), third = _mm512_set1_epi8(4);
      w[0] = _mm512_ternarylogic_epi32(w[0], _mm512_slli_epi16(high, 2), third, 0xf8);
      w[1] = _mm512_ternarylogic_epi32(w[1], _mm512_slli_epi16(high, 1), third, 0xf8);
      w[2] = _mm512_ternarylogic_epi32(w[2], high, third, 0xf8);
#pragma GCC unroll 5
      for (int g = 3; g < 8; ++g) w[g] = _mm512_ternarylogic_epi32(w[g], _mm512_srli_epi16(high, g - 2), third, 0xf8);
    }
    return;
  }
  if constexpr (Bits == 8) {
#pragma GCC unroll 8
    for (int g = 0; g < 8; ++g) w[g] = load_i(p + 64 * g);
    return;
  }
  const __m512i nibble = _mm512_set1_epi8(15);
#pragma GCC unroll 4
  for (int g = 0; g < 4; ++g) {
    const __m512i both = load_i(p + 64 * g);
    w[g] = _mm512_and_si512(both, nibble);
    w[g + 4] = _mm512_and_si512(_mm512_srli_epi16(both, 4), nibble);
  }
  if constexpr (Table != CodeTable::none) {
    const __m128i row = _mm_loadu_si128(reinterpret_cast<const __m128i*>(kCodeTables[static_cast<int>(Table)]));
    const __m512i values = _mm512_xor_si512(_mm512_broadcast_i32x4(row), _mm512_set1_epi8(-128));
#pragma GCC unroll 8
    for (int g = 0; g < 8; ++g) w[g] = _mm512_shuffle_epi8(values, w[g]);
  }
  if constexpr (Bits == 5) {
    const __m512i high = load_i(p + 256), bit = _mm512_set1_epi8(16);
    // w | (shifted & 16)
#pragma GCC unroll 4
    for (int g = 0; g < 4; ++g) w[g] = _mm512_ternarylogic_epi32(w[g], _mm512_slli_epi16(high, 4 - g), bit, 0xf8);
    w[4] = _mm512_ternarylogic_epi32(w[4], high, bit, 0xf8);
#pragma GCC unroll 3
    for (int g = 5; g < 8; ++g) w[g] = _mm512_ternarylogic_epi32(w[g], _mm512_srli_epi16(high, g - 4), bit, 0xf8);
  }
  if constexpr (Bits == 6) {
    const __m512i bits = _mm512_set1_epi8(48);
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      const __m512i high = load_i(p + 256 + 64 * half);
      w[4 * half] = _mm512_ternarylogic_epi32(w[4 * half], _mm512_slli_epi16(high, 4), bits, 0xf8);
      w[4 * half + 1] = _mm512_ternarylogic_epi32(w[4 * half + 1], _mm512_slli_epi16(high, 2), bits, 0xf8);
      w[4 * half + 2] = _mm512_ternarylogic_epi32(w[4 * half + 2], high, bits, 0xf8);
      w[4 * half + 3] = _mm512_ternarylogic_epi32(w[4 * half + 3], _mm512_srli_epi16(high, 2), bits, 0xf8);
    }
  }
}

/// start + sum over words [From, To) of codes times activations; two chains hide the latency.
template <int From, int To>
inline __m512i dot(const __m512i (&w)[8], const std::int8_t* x, __m512i start) {
  __m512i even = start, odd = _mm512_setzero_si512();
#pragma GCC unroll 8
  for (int g = From; g < To; g += 2) {
    even = _mm512_dpbusd_epi32(even, w[g], word_of(x, g));
    odd = _mm512_dpbusd_epi32(odd, w[g + 1], word_of(x, g + 1));
  }
  return _mm512_add_epi32(even, odd);
}

/// Brings weights a little ahead of the current ones into the second-level cache. Measured on Zen 4 with matrices far
/// larger than the caches (docs/performance.md): 1 KiB ahead is as good as any distance up to 2 KiB; from 4 KiB on it
/// works against the hardware's own prefetcher.
inline void prefetch(const u8* p, int bytes) {
#pragma GCC unroll 64
  for (int i = 0; i < bytes; i += 64) __builtin_prefetch(p + 1024 + i, 0, 2);
}

template <int Bits, int Offset, bool Minimum, CodeTable Table, bool Bf16, int T>
void simple_block(const u8* p, const QuantizedRows& a, std::int64_t first, float* out, std::int64_t out_stride) {
  constexpr int kHeader = Minimum ? 64 : 32, kGroup = kHeader + Bits * 64, kOffset = offset_of(Table, Offset);
  const std::int64_t blocks = a.k / kBlock;
  V acc[T];
#pragma GCC unroll 8
  for (int t = 0; t < T; ++t) acc[t] = zero();
  for (std::int64_t b = 0; b < blocks; ++b, p += kGroup) {
    if constexpr (T == 1) prefetch(p, kGroup);
    __m512i w[8];
    unpack<Bits, Table>(p + kHeader, w);
    const V scale = Bf16 ? bfloats(p) : halves(p);
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      const std::int64_t at = (first + t) * blocks + b;
      __m512i start = _mm512_setzero_si512();
      if constexpr (kOffset != 0) start = _mm512_set1_epi32(-kOffset * (a.half_sums[2 * at] + a.half_sums[2 * at + 1]));
      const V sum = _mm512_cvtepi32_ps(dot<0, 8>(w, a.values + at * kBlock, start));
      acc[t] = fma(mul(sum, splat(a.scales[at])), scale, acc[t]);
      if constexpr (Minimum) acc[t] = fma(halves(p + 32), splat(a.sums[at]), acc[t]);
    }
  }
#pragma GCC unroll 8
  for (int t = 0; t < T; ++t) store(out + t * out_stride, acc[t]);
}

template <int Bits, int T>
void k_block(const u8* p, const QuantizedRows& a, std::int64_t first, float* out, std::int64_t out_stride) {
  constexpr int kHeader = 64 + 8 * 32, kCodes = Bits * 64;
  const std::int64_t groups = a.k / kSuperBlock;
  V acc[T];
#pragma GCC unroll 8
  for (int t = 0; t < T; ++t) acc[t] = zero();
  for (std::int64_t g = 0; g < groups; ++g, p += kHeader + 8 * kCodes) {
    V products[T], minima[T];
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) products[t] = minima[t] = zero();
    for (int j = 0; j < 8; ++j) {
      const u8* codes = p + kHeader + j * kCodes;
      if constexpr (T == 1) prefetch(codes, kCodes);
      __m512i w[8];
      unpack<Bits>(codes, w);
      const __m512i scale = bytes_u(p + 64 + j * 32);
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) {
        const std::int64_t at = ((first + t) * groups + g) * 8 + j;
        const __m512i sum = dot<0, 8>(w, a.values + at * kBlock, _mm512_setzero_si512());
        products[t] = fma(_mm512_cvtepi32_ps(_mm512_mullo_epi32(sum, scale)), splat(a.scales[at]), products[t]);
      }
    }
    for (int j = 0; j < 8; ++j) {
      const V minimum = _mm512_cvtepi32_ps(bytes_u(p + 64 + j * 32 + 16));
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) minima[t] = fma(minimum, splat(a.sums[((first + t) * groups + g) * 8 + j]), minima[t]);
    }
    const V d = halves(p), dmin = halves(p + 32);
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) acc[t] = _mm512_fnmadd_ps(dmin, minima[t], fma(d, products[t], acc[t]));
  }
#pragma GCC unroll 8
  for (int t = 0; t < T; ++t) store(out + t * out_stride, acc[t]);
}

/// Blocks of 256 with a scale for 16 values (q6_k and those like it).
template <int Bits, int Offset, CodeTable Table, bool Minimum, bool Wide, int T>
void fine_block(const u8* p, const QuantizedRows& a, std::int64_t first, float* out, std::int64_t out_stride) {
  constexpr int kFloats = (Wide ? 64 : 32) + (Minimum ? 32 : 0), kMinima = kFloats + 16 * 16;
  constexpr int kHeader = kMinima + (Minimum ? 16 * 16 : 0), kCodes = Bits * 64, kOffset = offset_of(Table, Offset);
  const std::int64_t groups = a.k / kSuperBlock;
  V acc[T];
#pragma GCC unroll 8
  for (int t = 0; t < T; ++t) acc[t] = zero();
  for (std::int64_t g = 0; g < groups; ++g, p += kHeader + 8 * kCodes) {
    V products[T];
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) products[t] = zero();
    for (int j = 0; j < 8; ++j) {
      const u8* codes = p + kHeader + j * kCodes;
      if constexpr (T == 1) prefetch(codes, kCodes);
      __m512i w[8];
      unpack<Bits, Table>(codes, w);
      const __m512i scale0 = bytes_s(p + kFloats + 2 * j * 16), scale1 = bytes_s(p + kFloats + (2 * j + 1) * 16);
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) {
        const std::int64_t at = ((first + t) * groups + g) * 8 + j;
        const std::int8_t* x = a.values + at * kBlock;
        __m512i start0 = _mm512_setzero_si512(), start1 = start0;
        if constexpr (kOffset != 0) {
          start0 = _mm512_set1_epi32(-kOffset * a.half_sums[2 * at]);
          start1 = _mm512_set1_epi32(-kOffset * a.half_sums[2 * at + 1]);
        }
        const __m512i sum0 = dot<0, 4>(w, x, start0), sum1 = dot<4, 8>(w, x, start1);
        const __m512i sum = _mm512_add_epi32(_mm512_mullo_epi32(sum0, scale0), _mm512_mullo_epi32(sum1, scale1));
        products[t] = fma(_mm512_cvtepi32_ps(sum), splat(a.scales[at]), products[t]);
      }
    }
    const V d = Wide ? load(reinterpret_cast<const float*>(p)) : halves(p);
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) acc[t] = fma(d, products[t], acc[t]);
    if constexpr (Minimum) {
      V minima[T];
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) minima[t] = zero();
      for (int j = 0; j < 8; ++j) {
        const __m512i minimum0 = bytes_u(p + kMinima + 2 * j * 16), minimum1 = bytes_u(p + kMinima + (2 * j + 1) * 16);
#pragma GCC unroll 8
        for (int t = 0; t < T; ++t) {
          const std::int64_t at = ((first + t) * groups + g) * 8 + j;
          const __m512i sum = _mm512_add_epi32(_mm512_mullo_epi32(minimum0, _mm512_set1_epi32(a.half_sums[2 * at])),
                                               _mm512_mullo_epi32(minimum1, _mm512_set1_epi32(a.half_sums[2 * at + 1])));
          minima[t] = fma(_mm512_cvtepi32_ps(sum), splat(a.scales[at]), minima[t]);
        }
      }
      const V dmin = halves(p + kFloats - 32);
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) acc[t] = _mm512_fnmadd_ps(dmin, minima[t], acc[t]);
    }
  }
#pragma GCC unroll 8
  for (int t = 0; t < T; ++t) store(out + t * out_stride, acc[t]);
}

#include "inference/cpu/kernels_tiles.inl"

constexpr KernelSet kSet{
    "avx512",
    KONTOR_TILE_KERNELS,
    dense<LoadF32>, dense<LoadF16>, dense<LoadBf16>,
    score<LoadF32>, score<LoadF16>, mix<LoadF32>, mix<LoadF16>,
    quantize, rms_norm, silu_mul, add_rows, exp_weights, sum_all};

}  // namespace

const KernelSet* avx512_kernels() { return &kSet; }

}  // namespace kontor::inference::cpu

#else

namespace kontor::inference::cpu {
const KernelSet* avx512_kernels() { return nullptr; }
}  // namespace kontor::inference::cpu

#endif
