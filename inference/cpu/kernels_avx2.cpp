// AVX2 with FMA and F16C (2013 and later). Compiled with its own flags; call only after checking the processor.
// A tile's 16 rows are two vectors of 8 rows.

#include "inference/cpu/kernels.hpp"

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)

#include <immintrin.h>

namespace kontor::inference::cpu {
namespace {

constexpr int kWidth = 8;
constexpr int kGroupRows = 2;  // Activations that share one unpacking of a block of weights: 16 registers hold no more.
constexpr int kDenseTokens = 2;
using V = __m256;
inline float half_bits_to_float(std::uint16_t bits) { return _cvtsh_ss(bits); }
inline V zero() { return _mm256_setzero_ps(); }
inline V splat(float f) { return _mm256_set1_ps(f); }
inline V load(const float* p) { return _mm256_loadu_ps(p); }
inline V load_half(const std::uint16_t* p) { return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
inline V load_bf16(const std::uint16_t* p) {
  const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}
inline V load_bytes(const std::int8_t* p) {
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
inline void store(float* p, V v) { _mm256_storeu_ps(p, v); }
inline void store_words(std::int16_t* p, V v) {
  const __m256i whole = _mm256_cvtps_epi32(v);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1)));
}
inline V fma(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
inline float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
inline V add(V a, V b) { return _mm256_add_ps(a, b); }
inline V sub(V a, V b) { return _mm256_sub_ps(a, b); }
inline V mul(V a, V b) { return _mm256_mul_ps(a, b); }
inline V div(V a, V b) { return _mm256_div_ps(a, b); }
inline V max(V a, V b) { return _mm256_max_ps(a, b); }
inline float sum(V a) {
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
inline void sum4(const V (&a)[4], float* out) {
  const V all = _mm256_hadd_ps(_mm256_hadd_ps(a[0], a[1]), _mm256_hadd_ps(a[2], a[3]));
  _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1)));
}
inline float largest(V a) {
  __m128 s = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  s = _mm_max_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}
/// e^x within 2 ulp; the same method as in kernels_avx512.cpp. Results below 2^-126 become 0.
inline V exp(V x) {
  const V n = _mm256_round_ps(_mm256_mul_ps(x, splat(1.44269504f)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  V r = _mm256_fnmadd_ps(n, splat(0.693359375f), x);
  r = _mm256_fnmadd_ps(n, splat(-2.12194440e-4f), r);
  V p = splat(1.0f / 5040);
  p = fma(p, r, splat(1.0f / 720));
  p = fma(p, r, splat(1.0f / 120));
  p = fma(p, r, splat(1.0f / 24));
  p = fma(p, r, splat(1.0f / 6));
  p = fma(p, r, splat(0.5f));
  p = fma(p, r, splat(1.0f));
  p = fma(p, r, splat(1.0f));
  // Half of the exponent at a time: 2^128 does not fit into one float.
  const __m256i whole = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(whole, 1), bias = _mm256_set1_epi32(127);
  const V power1 = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23));
  const V power2 = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(whole, half), bias), 23));
  const V scaled = mul(mul(p, power1), power2);
  const V high = _mm256_cmp_ps(x, splat(88.8f), _CMP_GT_OQ), low = _mm256_cmp_ps(x, splat(-87.3f), _CMP_LT_OQ);
  return _mm256_blendv_ps(_mm256_blendv_ps(scaled, splat(__builtin_inff()), high), zero(), low);
}

#include "inference/cpu/kernels_generic.inl"
#include "inference/cpu/kernels_sampling.inl"

inline std::int32_t sum_i(__m256i a) {
  __m128i s = _mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
  s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1)));
}

void quantize(const float* x, std::int64_t index, const QuantizedRows& rows) {
  const std::int64_t blocks = rows.k / kBlock;
  const V sign = splat(-0.0f);
  for (std::int64_t b = 0; b < blocks; ++b, x += kBlock) {
    V v[4], tops = zero(), nan = zero();
    for (int i = 0; i < 4; ++i) {
      v[i] = load(x + 8 * i);
      tops = max(tops, _mm256_andnot_ps(sign, v[i]));
      nan = _mm256_or_ps(nan, _mm256_cmp_ps(v[i], v[i], _CMP_UNORD_Q));
    }
    float top = largest(tops);
    if (top < kTiniest) top = 0;
    const bool finite = _mm256_movemask_ps(nan) == 0 && top <= __FLT_MAX__;
    const float inverse = top > 0 ? 127.0f / top : 0.0f;
    const std::int64_t at = index * blocks + b;
    std::int8_t* out = rows.values + at * kBlock;
    std::int32_t sums[2];
    for (int half = 0; half < 2; ++half) {
      __m256i q0 = _mm256_setzero_si256(), q1 = q0;
      if (finite) {
        q0 = _mm256_cvtps_epi32(mul(v[2 * half], splat(inverse)));
        q1 = _mm256_cvtps_epi32(mul(v[2 * half + 1], splat(inverse)));
      }
      sums[half] = sum_i(_mm256_add_epi32(q0, q1));
      const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(q0, q1), 0xd8);
      const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(out + 16 * half), bytes);
    }
    const float scale = finite ? top / 127.0f : __builtin_nanf("");
    rows.scales[at] = scale;
    rows.sums[at] = scale * static_cast<float>(sums[0] + sums[1]);
    rows.half_sums[2 * at] = sums[0];
    rows.half_sums[2 * at + 1] = sums[1];
    rows.half_starts[2 * at] = -128 * sums[0];
    rows.half_starts[2 * at + 1] = -128 * sums[1];
  }
}

using u8 = std::uint8_t;

inline __m256i load_i(const u8* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
inline __m256i word_of(const std::int8_t* x, int g) {
  std::int32_t value;
  __builtin_memcpy(&value, x + 4 * g, 4);
  return _mm256_set1_epi32(value);
}
inline __m256i pair_of(const std::int16_t* x, int g) {
  std::int32_t value;
  __builtin_memcpy(&value, x + 2 * g, 4);
  return _mm256_set1_epi32(value);
}
inline V halves(const u8* p) { return load_half(reinterpret_cast<const std::uint16_t*>(p)); }
inline V bfloats(const u8* p) { return load_bf16(reinterpret_cast<const std::uint16_t*>(p)); }
inline __m256i bytes_u(const u8* p) { return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))); }
inline __m256i bytes_s(const u8* p) { return _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))); }

/// Codes of word g for the 8 rows whose codes begin at p (32 * half into the vectors).
template <int Bits, CodeTable Table = CodeTable::none>
inline __m256i codes_of(const u8* p, int g) {
  if (Bits < 4) {
    const __m256i four = load_i(p + 64 * (g / 4));
    const __m256i low = _mm256_and_si256(_mm256_srli_epi16(four, 2 * (g % 4)), _mm256_set1_epi8(3));
    if (Bits == 2) return low;
    const __m256i high = load_i(p + 128);
    const __m256i moved = g <= 2 ? _mm256_slli_epi16(high, 2 - g) : _mm256_srli_epi16(high, g - 2);
    return _mm256_or_si256(low, _mm256_and_si256(moved, _mm256_set1_epi8(4)));
  }
  if (Bits == 8) return _mm256_xor_si256(load_i(p + 64 * g), _mm256_set1_epi8(-128));  // Signed again: 255 * 127 * 2 would saturate.
  __m256i low = load_i(p + 64 * (g % 4));
  if (g >= 4) low = _mm256_srli_epi16(low, 4);
  low = _mm256_and_si256(low, _mm256_set1_epi8(15));
  if (Table != CodeTable::none) {
    const __m128i row = _mm_loadu_si128(reinterpret_cast<const __m128i*>(kCodeTables[static_cast<int>(Table)]));
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(row), low);
  }
  if (Bits == 5) {
    const __m256i high = load_i(p + 256);
    const __m256i moved = g < 4 ? _mm256_slli_epi16(high, 4 - g) : _mm256_srli_epi16(high, g - 4);
    return _mm256_or_si256(low, _mm256_and_si256(moved, _mm256_set1_epi8(16)));
  }
  if (Bits == 6) {
    const __m256i high = load_i(p + 256 + 64 * (g / 4));
    const int left = 4 - 2 * (g % 4);
    const __m256i moved = left >= 0 ? _mm256_slli_epi16(high, left) : _mm256_srli_epi16(high, 2);
    return _mm256_or_si256(low, _mm256_and_si256(moved, _mm256_set1_epi8(48)));
  }
  return low;
}

/// Signed codes are widened first.
inline constexpr bool is_signed(int bits, CodeTable table) { return bits == 8 || table != CodeTable::none; }

template <bool Signed>
inline __m256i multiply(__m256i w, __m256i x) {
  if (Signed) {  // Even and odd bytes as 16-bit numbers.
    const __m256i even = _mm256_madd_epi16(_mm256_srai_epi16(_mm256_slli_epi16(w, 8), 8), _mm256_srai_epi16(_mm256_slli_epi16(x, 8), 8));
    return _mm256_add_epi32(even, _mm256_madd_epi16(_mm256_srai_epi16(w, 8), _mm256_srai_epi16(x, 8)));
  }
  return _mm256_madd_epi16(_mm256_maddubs_epi16(w, x), _mm256_set1_epi16(1));
}

/// sums[t] = start[t] + words [From, To) of the 8 rows times activations of T rows.
template <int Bits, CodeTable Table, int From, int To, int T>
inline void dots(const u8* p, const std::int8_t* const (&x)[T], __m256i (&sums)[T]) {
#pragma GCC unroll 8
  for (int g = From; g < To; ++g) {
    const __m256i w = codes_of<Bits, Table>(p, g);
#pragma GCC unroll 2
    for (int t = 0; t < T; ++t) sums[t] = _mm256_add_epi32(sums[t], multiply<is_signed(Bits, Table)>(w, word_of(x[t], g)));
  }
}

template <int Bits, int Offset, bool Minimum, CodeTable Table, bool Bf16, int T>
void simple_block(const u8* p, const QuantizedRows& a, std::int64_t first, float* out, std::int64_t out_stride) {
  constexpr int kHeader = Minimum ? 64 : 32, kGroup = kHeader + Bits * 64;
  const std::int64_t blocks = a.k / kBlock;
  for (int half = 0; half < 2; ++half) {
    V acc[T];
    for (int t = 0; t < T; ++t) acc[t] = zero();
    const u8* q = p;
    for (std::int64_t b = 0; b < blocks; ++b, q += kGroup) {
      const std::int8_t* x[T];
      __m256i sums[T];
      for (int t = 0; t < T; ++t) {
        const std::int64_t at = (first + t) * blocks + b;
        x[t] = a.values + at * kBlock;
        sums[t] = is_signed(Bits, Table) ? _mm256_setzero_si256() : _mm256_set1_epi32(-Offset * (a.half_sums[2 * at] + a.half_sums[2 * at + 1]));
      }
      dots<Bits, Table, 0, 8, T>(q + kHeader + 32 * half, x, sums);
      const V scale = Bf16 ? bfloats(q + 16 * half) : halves(q + 16 * half);
      for (int t = 0; t < T; ++t) {
        const std::int64_t at = (first + t) * blocks + b;
        acc[t] = fma(mul(_mm256_cvtepi32_ps(sums[t]), splat(a.scales[at])), scale, acc[t]);
        if (Minimum) acc[t] = fma(halves(q + 32 + 16 * half), splat(a.sums[at]), acc[t]);
      }
    }
    for (int t = 0; t < T; ++t) store(out + t * out_stride + 8 * half, acc[t]);
  }
}

template <int Bits, int T>
void k_block(const u8* p, const QuantizedRows& a, std::int64_t first, float* out, std::int64_t out_stride) {
  constexpr int kHeader = 64 + 8 * 32, kCodes = Bits * 64;
  const std::int64_t groups = a.k / kSuperBlock;
  for (int half = 0; half < 2; ++half) {
    V acc[T];
    for (int t = 0; t < T; ++t) acc[t] = zero();
    const u8* q = p;
    for (std::int64_t g = 0; g < groups; ++g, q += kHeader + 8 * kCodes) {
      V products[T], minima[T];
      for (int t = 0; t < T; ++t) products[t] = minima[t] = zero();
      for (int j = 0; j < 8; ++j) {
        const u8* scales = q + 64 + j * 32 + 8 * half;
        const std::int8_t* x[T];
        __m256i sums[T];
        for (int t = 0; t < T; ++t) {
          x[t] = a.values + (((first + t) * groups + g) * 8 + j) * kBlock;
          sums[t] = _mm256_setzero_si256();
        }
        dots<Bits, CodeTable::none, 0, 8, T>(q + kHeader + j * kCodes + 32 * half, x, sums);
        const __m256i scale = bytes_u(scales);
        const V minimum = _mm256_cvtepi32_ps(bytes_u(scales + 16));
        for (int t = 0; t < T; ++t) {
          const std::int64_t at = ((first + t) * groups + g) * 8 + j;
          products[t] = fma(_mm256_cvtepi32_ps(_mm256_mullo_epi32(sums[t], scale)), splat(a.scales[at]), products[t]);
          minima[t] = fma(minimum, splat(a.sums[at]), minima[t]);
        }
      }
      const V d = halves(q + 16 * half), dmin = halves(q + 32 + 16 * half);
      for (int t = 0; t < T; ++t) acc[t] = _mm256_fnmadd_ps(dmin, minima[t], fma(d, products[t], acc[t]));
    }
    for (int t = 0; t < T; ++t) store(out + t * out_stride + 8 * half, acc[t]);
  }
}

template <int Bits, int Offset, CodeTable Table, bool Minimum, bool Wide, int T>
void fine_block(const u8* p, const QuantizedRows& a, std::int64_t first, float* out, std::int64_t out_stride) {
  constexpr int kFloats = (Wide ? 64 : 32) + (Minimum ? 32 : 0), kMinima = kFloats + 16 * 16;
  constexpr int kHeader = kMinima + (Minimum ? 16 * 16 : 0), kCodes = Bits * 64;
  constexpr int kOffset = is_signed(Bits, Table) ? 0 : Offset;
  const std::int64_t groups = a.k / kSuperBlock;
  for (int half = 0; half < 2; ++half) {
    V acc[T];
    for (int t = 0; t < T; ++t) acc[t] = zero();
    const u8* q = p;
    for (std::int64_t g = 0; g < groups; ++g, q += kHeader + 8 * kCodes) {
      V products[T], minima[T];
      for (int t = 0; t < T; ++t) products[t] = minima[t] = zero();
      for (int j = 0; j < 8; ++j) {
        const std::int8_t* x[T];
        __m256i sums0[T], sums1[T];
        for (int t = 0; t < T; ++t) {
          const std::int64_t at = ((first + t) * groups + g) * 8 + j;
          x[t] = a.values + at * kBlock;
          sums0[t] = _mm256_set1_epi32(-kOffset * a.half_sums[2 * at]);
          sums1[t] = _mm256_set1_epi32(-kOffset * a.half_sums[2 * at + 1]);
        }
        const u8* codes = q + kHeader + j * kCodes + 32 * half;
        dots<Bits, Table, 0, 4, T>(codes, x, sums0);
        dots<Bits, Table, 4, 8, T>(codes, x, sums1);
        const u8* scales = q + kFloats + 2 * j * 16 + 8 * half;
        const __m256i scale0 = bytes_s(scales), scale1 = bytes_s(scales + 16);
        for (int t = 0; t < T; ++t) {
          const std::int64_t at = ((first + t) * groups + g) * 8 + j;
          const __m256i sum = _mm256_add_epi32(_mm256_mullo_epi32(sums0[t], scale0), _mm256_mullo_epi32(sums1[t], scale1));
          products[t] = fma(_mm256_cvtepi32_ps(sum), splat(a.scales[at]), products[t]);
          if (Minimum) {
            const u8* least = q + kMinima + 2 * j * 16 + 8 * half;
            const __m256i low = _mm256_add_epi32(_mm256_mullo_epi32(bytes_u(least), _mm256_set1_epi32(a.half_sums[2 * at])),
                                                 _mm256_mullo_epi32(bytes_u(least + 16), _mm256_set1_epi32(a.half_sums[2 * at + 1])));
            minima[t] = fma(_mm256_cvtepi32_ps(low), splat(a.scales[at]), minima[t]);
          }
        }
      }
      const V d = Wide ? load(reinterpret_cast<const float*>(q) + 8 * half) : halves(q + 16 * half);
      for (int t = 0; t < T; ++t) acc[t] = fma(d, products[t], acc[t]);
      if (Minimum) {
        const V dmin = halves(q + kFloats - 32 + 16 * half);
        for (int t = 0; t < T; ++t) acc[t] = _mm256_fnmadd_ps(dmin, minima[t], acc[t]);
      }
    }
    for (int t = 0; t < T; ++t) store(out + t * out_stride + 8 * half, acc[t]);
  }
}

template <int T>
void half_block(const u8* p, const QuantizedRows& a, std::int64_t first, float* out, std::int64_t out_stride) {
  const std::int64_t blocks = a.k / kBlock;
  for (int half = 0; half < 2; ++half) {
    V acc[T];
    for (int t = 0; t < T; ++t) acc[t] = zero();
    const u8* q = p + 32 * half;
    for (std::int64_t b = 0; b < blocks; ++b, q += 32 + 16 * 64) {
      __m256i sums[T];
      for (int t = 0; t < T; ++t) sums[t] = _mm256_setzero_si256();
#pragma GCC unroll 16
      for (int g = 0; g < 16; ++g) {
        const __m256i w = load_i(q + 32 + 64 * g);
#pragma GCC unroll 2
        for (int t = 0; t < T; ++t)
          sums[t] = _mm256_add_epi32(sums[t], _mm256_madd_epi16(w, pair_of(a.wide + ((first + t) * blocks + b) * kBlock, g)));
      }
      const V scale = bfloats(q - 16 * half);
      for (int t = 0; t < T; ++t) acc[t] = fma(mul(_mm256_cvtepi32_ps(sums[t]), splat(a.wide_scales[(first + t) * blocks + b])), scale, acc[t]);
    }
    for (int t = 0; t < T; ++t) store(out + t * out_stride + 8 * half, acc[t]);
  }
}

#include "inference/cpu/kernels_tiles.inl"

constexpr KernelSet kSet{
    "avx2",
    KONTOR_TILE_KERNELS(tile_simple, tile_k, tile_fine, tile_half),
    dense<LoadF32>, dense<LoadF16>, dense<LoadBf16>,
    score<LoadF32>, score<LoadF16>, mix<LoadF32>, mix<LoadF16>, mix_coded,
    quantize, quantize_wide, rms_norm, silu_mul, add_rows, exp_weights, sum_all, kSampling};

}  // namespace

const KernelSet* avx2_kernels() { return &kSet; }

}  // namespace kontor::inference::cpu

#else

namespace kontor::inference::cpu {
const KernelSet* avx2_kernels() { return nullptr; }
}  // namespace kontor::inference::cpu

#endif
