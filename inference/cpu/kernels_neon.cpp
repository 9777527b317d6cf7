// NEON with the dot product of Armv8.2 (Graviton 2, Apple M1, Cortex-A76 and later). Compiled with its own flags; call
// only after checking the processor. A tile's 16 rows are four vectors of 4 rows.

#include "inference/cpu/kernels.hpp"

#if defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD)

#include <arm_neon.h>

namespace kontor::inference::cpu {
namespace {

constexpr int kWidth = 4;
constexpr int kGroupRows = 4;    // Activations that share one unpacking of a block of weights.
constexpr int kDenseTokens = 4;  // 16 accumulators of 32 registers.
using V = float32x4_t;
inline float half_bits_to_float(std::uint16_t bits) { return vgetq_lane_f32(vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(bits))), 0); }
inline V zero() { return vdupq_n_f32(0); }
inline V splat(float f) { return vdupq_n_f32(f); }
inline V load(const float* p) { return vld1q_f32(p); }
inline V load_half(const std::uint16_t* p) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }
inline V load_bf16(const std::uint16_t* p) { return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16)); }
inline V load_bytes(const std::int8_t* p) {
  std::uint32_t word;
  __builtin_memcpy(&word, p, 4);
  return vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_u32(vdup_n_u32(word))))));
}
inline void store(float* p, V v) { vst1q_f32(p, v); }
inline void store_words(std::int16_t* p, V v) { vst1_s16(p, vqmovn_s32(vcvtnq_s32_f32(v))); }
inline V fma(V a, V b, V c) { return vfmaq_f32(c, a, b); }
inline float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
inline V add(V a, V b) { return vaddq_f32(a, b); }
inline V sub(V a, V b) { return vsubq_f32(a, b); }
inline V mul(V a, V b) { return vmulq_f32(a, b); }
inline V div(V a, V b) { return vdivq_f32(a, b); }
inline V max(V a, V b) { return vmaxnmq_f32(a, b); }
inline float sum(V a) { return vaddvq_f32(a); }
inline float largest(V a) { return vmaxnmvq_f32(a); }
inline void sum4(const V (&a)[4], float* out) { vst1q_f32(out, vpaddq_f32(vpaddq_f32(a[0], a[1]), vpaddq_f32(a[2], a[3]))); }
/// e^x within 2 ulp; the same method as in kernels_avx512.cpp. Results below 2^-126 become 0.
inline V exp(V x) {
  const V n = vrndnq_f32(mul(x, splat(1.44269504f)));
  V r = vfmsq_f32(x, n, splat(0.693359375f));
  r = vfmsq_f32(r, n, splat(-2.12194440e-4f));
  V p = splat(1.0f / 5040);
  p = fma(p, r, splat(1.0f / 720));
  p = fma(p, r, splat(1.0f / 120));
  p = fma(p, r, splat(1.0f / 24));
  p = fma(p, r, splat(1.0f / 6));
  p = fma(p, r, splat(0.5f));
  p = fma(p, r, splat(1.0f));
  p = fma(p, r, splat(1.0f));
  // Half of the exponent at a time: 2^128 does not fit into one float.
  const int32x4_t whole = vcvtq_s32_f32(n), half = vshrq_n_s32(whole, 1), bias = vdupq_n_s32(127);
  const V power1 = vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(half, bias), 23));
  const V power2 = vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vsubq_s32(whole, half), bias), 23));
  const V scaled = mul(mul(p, power1), power2);
  const uint32x4_t high = vcgtq_f32(x, splat(88.8f)), low = vcltq_f32(x, splat(-87.3f));
  return vbslq_f32(low, zero(), vbslq_f32(high, splat(__builtin_inff()), scaled));
}

#include "inference/cpu/kernels_generic.inl"
#include "inference/cpu/kernels_sampling.inl"

void quantize(const float* x, std::int64_t index, const QuantizedRows& rows) {
  const std::int64_t blocks = rows.k / kBlock;
  for (std::int64_t b = 0; b < blocks; ++b, x += kBlock) {
    V v[8], tops = zero();
    uint32x4_t ordered = vdupq_n_u32(~0u);
    for (int i = 0; i < 8; ++i) {
      v[i] = load(x + 4 * i);
      tops = max(tops, vabsq_f32(v[i]));
      ordered = vandq_u32(ordered, vceqq_f32(v[i], v[i]));
    }
    float top = largest(tops);
    if (top < kTiniest) top = 0;
    const bool finite = vminvq_u32(ordered) != 0 && top <= __FLT_MAX__;
    const V inverse = splat(top > 0 ? 127.0f / top : 0.0f);
    const std::int64_t at = index * blocks + b;
    std::int8_t* out = rows.values + at * kBlock;
    std::int32_t sums[2];
    for (int half = 0; half < 2; ++half) {
      int32x4_t q[4];
      for (int i = 0; i < 4; ++i) q[i] = finite ? vcvtnq_s32_f32(mul(v[4 * half + i], inverse)) : vdupq_n_s32(0);
      sums[half] = vaddvq_s32(vaddq_s32(vaddq_s32(q[0], q[1]), vaddq_s32(q[2], q[3])));
      const int16x8_t low = vcombine_s16(vqmovn_s32(q[0]), vqmovn_s32(q[1])), high = vcombine_s16(vqmovn_s32(q[2]), vqmovn_s32(q[3]));
      vst1q_s8(out + 16 * half, vcombine_s8(vqmovn_s16(low), vqmovn_s16(high)));
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

inline V halves(const u8* p) { return load_half(reinterpret_cast<const std::uint16_t*>(p)); }
inline V bfloats(const u8* p) { return load_bf16(reinterpret_cast<const std::uint16_t*>(p)); }
inline std::uint32_t four_bytes(const u8* p) {
  std::uint32_t value;
  __builtin_memcpy(&value, p, 4);
  return value;
}
inline int32x4_t bytes_u(const u8* p) {
  return vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(four_bytes(p)))))));
}
inline int32x4_t bytes_s(const u8* p) { return vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_u32(vdup_n_u32(four_bytes(p)))))); }

/// Codes are signed where 8 bits or a table make them so; the others stay below 128.
inline constexpr bool is_signed(int bits, CodeTable table) { return bits == 8 || table != CodeTable::none; }

/// v moved right by a constant, or left where it is negative.
template <int By>
inline uint8x16_t moved(uint8x16_t v) {
  if constexpr (By > 0) return vshrq_n_u8(v, By);
  else if constexpr (By < 0) return vshlq_n_u8(v, -By);
  else return v;
}

/// Codes of word G for the 4 rows whose codes begin at p (16 * quarter into the vectors).
template <int Bits, CodeTable Table, int G>
inline int8x16_t codes_of(const u8* p) {
  uint8x16_t code;
  if constexpr (Bits == 8) {
    code = veorq_u8(vld1q_u8(p + 64 * G), vdupq_n_u8(128));
  } else if constexpr (Bits < 4) {
    code = vandq_u8(moved<2 * (G % 4)>(vld1q_u8(p + 64 * (G / 4))), vdupq_n_u8(3));
    if constexpr (Bits == 3) code = vorrq_u8(code, vandq_u8(moved<G - 2>(vld1q_u8(p + 128)), vdupq_n_u8(4)));
  } else {
    code = vandq_u8(moved<(G >= 4 ? 4 : 0)>(vld1q_u8(p + 64 * (G % 4))), vdupq_n_u8(15));
    if constexpr (Table != CodeTable::none) return vqtbl1q_s8(vld1q_s8(kCodeTables[static_cast<int>(Table)]), code);
    if constexpr (Bits == 5) code = vorrq_u8(code, vandq_u8(moved<G - 4>(vld1q_u8(p + 256)), vdupq_n_u8(16)));
    if constexpr (Bits == 6) code = vorrq_u8(code, vandq_u8(moved<2 * (G % 4) - 4>(vld1q_u8(p + 256 + 64 * (G / 4))), vdupq_n_u8(48)));
  }
  return vreinterpretq_s8_u8(code);
}

/// sums[t] += words [4 * Half, 4 * Half + 4) of the 4 rows times activations of T rows.
template <int Bits, CodeTable Table, int Half, int T>
inline void dots(const u8* p, const std::int8_t* const (&x)[T], int32x4_t (&sums)[T]) {
  const int8x16_t w0 = codes_of<Bits, Table, 4 * Half>(p), w1 = codes_of<Bits, Table, 4 * Half + 1>(p);
  const int8x16_t w2 = codes_of<Bits, Table, 4 * Half + 2>(p), w3 = codes_of<Bits, Table, 4 * Half + 3>(p);
#pragma GCC unroll 4
  for (int t = 0; t < T; ++t) {
    const int8x16_t a = vld1q_s8(x[t] + 16 * Half);
    sums[t] = vdotq_laneq_s32(sums[t], w0, a, 0);
    sums[t] = vdotq_laneq_s32(sums[t], w1, a, 1);
    sums[t] = vdotq_laneq_s32(sums[t], w2, a, 2);
    sums[t] = vdotq_laneq_s32(sums[t], w3, a, 3);
  }
}

template <int Bits, int Offset, bool Minimum, CodeTable Table, bool Bf16, int T>
void simple_block(const u8* p, const QuantizedRows& a, std::int64_t first, float* out, std::int64_t out_stride) {
  constexpr int kHeader = Minimum ? 64 : 32, kGroup = kHeader + Bits * 64, kOffset = is_signed(Bits, Table) ? 0 : Offset;
  const std::int64_t blocks = a.k / kBlock;
  for (int quarter = 0; quarter < 4; ++quarter) {
    V acc[T];
    for (int t = 0; t < T; ++t) acc[t] = zero();
    const u8* q = p;
    for (std::int64_t b = 0; b < blocks; ++b, q += kGroup) {
      const std::int8_t* x[T];
      int32x4_t sums[T];
      for (int t = 0; t < T; ++t) {
        const std::int64_t at = (first + t) * blocks + b;
        x[t] = a.values + at * kBlock;
        sums[t] = vdupq_n_s32(-kOffset * (a.half_sums[2 * at] + a.half_sums[2 * at + 1]));
      }
      dots<Bits, Table, 0, T>(q + kHeader + 16 * quarter, x, sums);
      dots<Bits, Table, 1, T>(q + kHeader + 16 * quarter, x, sums);
      const V scale = Bf16 ? bfloats(q + 8 * quarter) : halves(q + 8 * quarter);
      for (int t = 0; t < T; ++t) {
        const std::int64_t at = (first + t) * blocks + b;
        acc[t] = fma(mul(vcvtq_f32_s32(sums[t]), splat(a.scales[at])), scale, acc[t]);
        if (Minimum) acc[t] = fma(halves(q + 32 + 8 * quarter), splat(a.sums[at]), acc[t]);
      }
    }
    for (int t = 0; t < T; ++t) store(out + t * out_stride + 4 * quarter, acc[t]);
  }
}

template <int Bits, int T>
void k_block(const u8* p, const QuantizedRows& a, std::int64_t first, float* out, std::int64_t out_stride) {
  constexpr int kHeader = 64 + 8 * 32, kCodes = Bits * 64;
  const std::int64_t groups = a.k / kSuperBlock;
  for (int quarter = 0; quarter < 4; ++quarter) {
    V acc[T];
    for (int t = 0; t < T; ++t) acc[t] = zero();
    const u8* q = p;
    for (std::int64_t g = 0; g < groups; ++g, q += kHeader + 8 * kCodes) {
      V products[T], minima[T];
      for (int t = 0; t < T; ++t) products[t] = minima[t] = zero();
      for (int j = 0; j < 8; ++j) {
        const u8* scales = q + 64 + j * 32 + 4 * quarter;
        const std::int8_t* x[T];
        int32x4_t sums[T];
        for (int t = 0; t < T; ++t) {
          x[t] = a.values + (((first + t) * groups + g) * 8 + j) * kBlock;
          sums[t] = vdupq_n_s32(0);
        }
        dots<Bits, CodeTable::none, 0, T>(q + kHeader + j * kCodes + 16 * quarter, x, sums);
        dots<Bits, CodeTable::none, 1, T>(q + kHeader + j * kCodes + 16 * quarter, x, sums);
        const int32x4_t scale = bytes_u(scales);
        const V minimum = vcvtq_f32_s32(bytes_u(scales + 16));
        for (int t = 0; t < T; ++t) {
          const std::int64_t at = ((first + t) * groups + g) * 8 + j;
          products[t] = fma(vcvtq_f32_s32(vmulq_s32(sums[t], scale)), splat(a.scales[at]), products[t]);
          minima[t] = fma(minimum, splat(a.sums[at]), minima[t]);
        }
      }
      const V d = halves(q + 8 * quarter), dmin = halves(q + 32 + 8 * quarter);
      for (int t = 0; t < T; ++t) acc[t] = vfmsq_f32(fma(d, products[t], acc[t]), dmin, minima[t]);
    }
    for (int t = 0; t < T; ++t) store(out + t * out_stride + 4 * quarter, acc[t]);
  }
}

/// Blocks of 256 with a scale for 16 values (q6_k and those like it).
template <int Bits, int Offset, CodeTable Table, bool Minimum, bool Wide, int T>
void fine_block(const u8* p, const QuantizedRows& a, std::int64_t first, float* out, std::int64_t out_stride) {
  constexpr int kFloats = (Wide ? 64 : 32) + (Minimum ? 32 : 0), kMinima = kFloats + 16 * 16;
  constexpr int kHeader = kMinima + (Minimum ? 16 * 16 : 0), kCodes = Bits * 64;
  constexpr int kOffset = is_signed(Bits, Table) ? 0 : Offset;
  const std::int64_t groups = a.k / kSuperBlock;
  for (int quarter = 0; quarter < 4; ++quarter) {
    V acc[T];
    for (int t = 0; t < T; ++t) acc[t] = zero();
    const u8* q = p;
    for (std::int64_t g = 0; g < groups; ++g, q += kHeader + 8 * kCodes) {
      V products[T], minima[T];
      for (int t = 0; t < T; ++t) products[t] = minima[t] = zero();
      for (int j = 0; j < 8; ++j) {
        const std::int8_t* x[T];
        int32x4_t sums0[T], sums1[T];
        for (int t = 0; t < T; ++t) {
          const std::int64_t at = ((first + t) * groups + g) * 8 + j;
          x[t] = a.values + at * kBlock;
          sums0[t] = vdupq_n_s32(-kOffset * a.half_sums[2 * at]);
          sums1[t] = vdupq_n_s32(-kOffset * a.half_sums[2 * at + 1]);
        }
        const u8* codes = q + kHeader + j * kCodes + 16 * quarter;
        dots<Bits, Table, 0, T>(codes, x, sums0);
        dots<Bits, Table, 1, T>(codes, x, sums1);
        const u8* scales = q + kFloats + 2 * j * 16 + 4 * quarter;
        const int32x4_t scale0 = bytes_s(scales), scale1 = bytes_s(scales + 16);
        for (int t = 0; t < T; ++t) {
          const std::int64_t at = ((first + t) * groups + g) * 8 + j;
          const int32x4_t all = vmlaq_s32(vmulq_s32(sums0[t], scale0), sums1[t], scale1);
          products[t] = fma(vcvtq_f32_s32(all), splat(a.scales[at]), products[t]);
          if (Minimum) {
            const u8* least = q + kMinima + 2 * j * 16 + 4 * quarter;
            const int32x4_t low = vmlaq_n_s32(vmulq_n_s32(bytes_u(least), a.half_sums[2 * at]), bytes_u(least + 16), a.half_sums[2 * at + 1]);
            minima[t] = fma(vcvtq_f32_s32(low), splat(a.scales[at]), minima[t]);
          }
        }
      }
      const V d = Wide ? load(reinterpret_cast<const float*>(q) + 4 * quarter) : halves(q + 8 * quarter);
      for (int t = 0; t < T; ++t) acc[t] = fma(d, products[t], acc[t]);
      if (Minimum) {
        const V dmin = halves(q + kFloats - 32 + 8 * quarter);
        for (int t = 0; t < T; ++t) acc[t] = vfmsq_f32(acc[t], dmin, minima[t]);
      }
    }
    for (int t = 0; t < T; ++t) store(out + t * out_stride + 4 * quarter, acc[t]);
  }
}

/// Four rows, two columns a word: even and odd columns are multiplied apart and summed into the same lanes.
template <int T>
void half_block(const u8* p, const QuantizedRows& a, std::int64_t first, float* out, std::int64_t out_stride) {
  const std::int64_t blocks = a.k / kBlock;
  for (int quarter = 0; quarter < 4; ++quarter) {
    V acc[T];
    for (int t = 0; t < T; ++t) acc[t] = zero();
    const u8* q = p;
    for (std::int64_t b = 0; b < blocks; ++b, q += 32 + 16 * 64) {
      int32x4_t sums[T];
      for (int t = 0; t < T; ++t) sums[t] = vdupq_n_s32(0);
      for (int g = 0; g < 16; ++g) {
        const int16x4x2_t w = vld2_s16(reinterpret_cast<const std::int16_t*>(q + 32 + 64 * g + 16 * quarter));
        for (int t = 0; t < T; ++t) {
          const std::int16_t* x = a.wide + ((first + t) * blocks + b) * kBlock + 2 * g;
          sums[t] = vmlal_n_s16(vmlal_n_s16(sums[t], w.val[0], x[0]), w.val[1], x[1]);
        }
      }
      const V scale = bfloats(q + 8 * quarter);
      for (int t = 0; t < T; ++t) acc[t] = fma(mul(vcvtq_f32_s32(sums[t]), splat(a.wide_scales[(first + t) * blocks + b])), scale, acc[t]);
    }
    for (int t = 0; t < T; ++t) store(out + t * out_stride + 4 * quarter, acc[t]);
  }
}

#include "inference/cpu/kernels_tiles.inl"

constexpr KernelSet kSet{
    "neon",
    KONTOR_TILE_KERNELS(tile_simple, tile_k, tile_fine, tile_half),
    dense<LoadF32>, dense<LoadF16>, dense<LoadBf16>,
    score<LoadF32>, score<LoadF16>, mix<LoadF32>, mix<LoadF16>, mix_coded,
    quantize, quantize_wide, rms_norm, silu_mul, add_rows, exp_weights, sum_all, kSampling};

}  // namespace

const KernelSet* neon_kernels() { return &kSet; }

}  // namespace kontor::inference::cpu

#else

namespace kontor::inference::cpu {
const KernelSet* neon_kernels() { return nullptr; }
}  // namespace kontor::inference::cpu

#endif
