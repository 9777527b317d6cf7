// The reference: plain C++ for any processor. GCC's vector extension lets the compiler use whatever the baseline has
// (SSE2, NEON); the tile kernels decode code by code.

#include "inference/cpu/kernels.hpp"
#include "inference/cpu/packed.hpp"
#include "inference/dequantize.hpp"

#include <cmath>

namespace kontor::inference::cpu {
namespace {

constexpr int kWidth = 8;
constexpr int kDenseTokens = 2;
struct V {
  float lane[8];
};
template <class F>
inline V each(const F& f) {
  V r;
  for (int i = 0; i < kWidth; ++i) r.lane[i] = f(i);
  return r;
}
inline float half_bits_to_float(std::uint16_t bits) { return half_to_float(bits); }
inline V zero() { return V{}; }
inline V splat(float f) { return each([&](int) { return f; }); }
inline V load(const float* p) { return each([&](int i) { return p[i]; }); }
inline V load_half(const std::uint16_t* p) { return each([&](int i) { return half_to_float(p[i]); }); }
inline V load_bf16(const std::uint16_t* p) { return each([&](int i) { return bfloat16_to_float(p[i]); }); }
inline V load_bytes(const std::int8_t* p) { return each([&](int i) { return static_cast<float>(p[i]); }); }
inline void store(float* p, V v) { for (int i = 0; i < kWidth; ++i) p[i] = v.lane[i]; }
inline void store_words(std::int16_t* p, V v) { for (int i = 0; i < kWidth; ++i) p[i] = static_cast<std::int16_t>(std::lrintf(v.lane[i])); }
inline V fma(V a, V b, V c) { return each([&](int i) { return a.lane[i] * b.lane[i] + c.lane[i]; }); }
inline float fma(float a, float b, float c) { return a * b + c; }
inline V add(V a, V b) { return each([&](int i) { return a.lane[i] + b.lane[i]; }); }
inline V sub(V a, V b) { return each([&](int i) { return a.lane[i] - b.lane[i]; }); }
inline V mul(V a, V b) { return each([&](int i) { return a.lane[i] * b.lane[i]; }); }
inline V div(V a, V b) { return each([&](int i) { return a.lane[i] / b.lane[i]; }); }
inline V max(V a, V b) { return each([&](int i) { return a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]; }); }
inline V exp(V a) { return each([&](int i) { return std::exp(a.lane[i]); }); }
inline float sum(V a) {
  return ((a.lane[0] + a.lane[4]) + (a.lane[2] + a.lane[6])) + ((a.lane[1] + a.lane[5]) + (a.lane[3] + a.lane[7]));
}
inline void sum4(const V (&a)[4], float* out) { for (int i = 0; i < 4; ++i) out[i] = sum(a[i]); }
inline float largest(V a) {
  float top = a.lane[0];
  for (const float f : a.lane) top = f > top ? f : top;
  return top;
}

#include "inference/cpu/kernels_generic.inl"
#include "inference/cpu/kernels_sampling.inl"

void quantize(const float* x, std::int64_t index, const QuantizedRows& rows) {
  const std::int64_t blocks = rows.k / kBlock;
  for (std::int64_t b = 0; b < blocks; ++b, x += kBlock) {
    float top = 0;
    bool finite = true;
    for (int i = 0; i < kBlock; ++i) {
      top = std::fabs(x[i]) > top ? std::fabs(x[i]) : top;
      finite = finite && std::fabs(x[i]) <= __FLT_MAX__;
    }
    std::int8_t* out = rows.values + index * rows.k + b * kBlock;
    if (top < kTiniest) top = 0;
    const float scale = top / 127.0f, inverse = top > 0 ? 127.0f / top : 0.0f;
    std::int32_t sums[2] = {0, 0};
    for (int i = 0; i < kBlock; ++i) {
      out[i] = finite ? static_cast<std::int8_t>(std::lrintf(x[i] * inverse)) : std::int8_t{0};
      sums[i / 16] += out[i];
    }
    // A scale of NaN carries "not a number" through the integer product.
    const float stored = finite ? scale : __builtin_nanf("");
    rows.scales[index * blocks + b] = stored;
    rows.sums[index * blocks + b] = stored * static_cast<float>(sums[0] + sums[1]);
    rows.half_sums[(index * blocks + b) * 2] = sums[0];
    rows.half_sums[(index * blocks + b) * 2 + 1] = sums[1];
    rows.half_starts[(index * blocks + b) * 2] = -128 * sums[0];
    rows.half_starts[(index * blocks + b) * 2 + 1] = -128 * sums[1];
  }
}

using u8 = std::uint8_t;

/// Code of position i (0..31) of a row in a block.
template <int Bits>
int code_at(const u8* codes, int row, int i) {
  const int g = i / 4, byte = row * 4 + i % 4;
  if constexpr (Bits == 8) return codes[g * 64 + byte];
  if constexpr (Bits < 4) {
    const int low = (codes[(g / 4) * 64 + byte] >> (2 * (g % 4))) & 3;
    return Bits == 3 ? low | (((codes[2 * 64 + byte] >> g) & 1) << 2) : low;
  }
  const int low = (codes[(g % 4) * 64 + byte] >> (g / 4 * 4)) & 15;
  if constexpr (Bits == 5) return low | (((codes[4 * 64 + byte] >> g) & 1) << 4);
  if constexpr (Bits == 6) return low | (((codes[(4 + g / 4) * 64 + byte] >> (g % 4 * 2)) & 3) << 4);
  return low;
}

template <int Bits, CodeTable Table = CodeTable::none>
std::int32_t dot(const u8* codes, int row, const std::int8_t* x, int begin, int end) {
  std::int32_t total = 0;
  for (int i = begin; i < end; ++i) {
    const int code = code_at<Bits>(codes, row, i);
    total += (Table == CodeTable::none ? code : kCodeTables[static_cast<int>(Table)][code]) * x[i];
  }
  return total;
}

float half_at(const u8* p, int row) {
  std::uint16_t bits;
  __builtin_memcpy(&bits, p + row * 2, 2);
  return half_to_float(bits);
}

float bfloat_at(const u8* p, int row) {
  std::uint16_t bits;
  __builtin_memcpy(&bits, p + row * 2, 2);
  return bfloat16_to_float(bits);
}

/// value = scale * (code - Offset), or scale * code + minimum.
template <int Bits, int Offset, bool Minimum, CodeTable Table = CodeTable::none, bool Bf16 = false>
void tile_simple(const std::byte* tile, const QuantizedRows& a, std::int64_t first, std::int64_t count, float* out,
                 std::int64_t out_stride) {
  constexpr int kHeader = Minimum ? 64 : 32, kGroup = kHeader + Bits * 64;
  const std::int64_t blocks = a.k / kBlock;
  for (std::int64_t t = 0; t < count; ++t) {
    for (int row = 0; row < kTileRows; ++row) {
      const u8* p = reinterpret_cast<const u8*>(tile);
      float acc = 0;
      for (std::int64_t b = 0; b < blocks; ++b, p += kGroup) {
        const std::int64_t at = (first + t) * blocks + b;
        const std::int32_t offset = Offset * (a.half_sums[2 * at] + a.half_sums[2 * at + 1]);
        const std::int32_t sum = dot<Bits, Table>(p + kHeader, row, a.values + at * kBlock, 0, kBlock) - offset;
        acc += static_cast<float>(sum) * a.scales[at] * (Bf16 ? bfloat_at(p, row) : half_at(p, row));
        if (Minimum) acc += half_at(p + 32, row) * a.sums[at];
      }
      out[t * out_stride + row] = acc;
    }
  }
}

template <int Bits>
void tile_k(const std::byte* tile, const QuantizedRows& a, std::int64_t first, std::int64_t count, float* out,
            std::int64_t out_stride) {
  constexpr int kHeader = 64 + 8 * 32, kGroup = kHeader + 8 * Bits * 64;
  const std::int64_t groups = a.k / kSuperBlock;
  for (std::int64_t t = 0; t < count; ++t) {
    for (int row = 0; row < kTileRows; ++row) {
      const u8* p = reinterpret_cast<const u8*>(tile);
      float acc = 0;
      for (std::int64_t g = 0; g < groups; ++g, p += kGroup) {
        float products = 0, minima = 0;
        for (int j = 0; j < 8; ++j) {
          const std::int64_t at = ((first + t) * groups + g) * 8 + j;
          const u8* scale = p + 64 + j * 32;
          const std::int32_t sum = dot<Bits>(p + kHeader + j * Bits * 64, row, a.values + at * kBlock, 0, kBlock);
          products += static_cast<float>(sum * scale[row]) * a.scales[at];
          minima += static_cast<float>(scale[16 + row]) * a.sums[at];
        }
        acc += half_at(p, row) * products;
        acc -= half_at(p + 32, row) * minima;
      }
      out[t * out_stride + row] = acc;
    }
  }
}

/// A scale for 16 values.
template <int Bits, int Offset, CodeTable Table = CodeTable::none, bool Minimum = false, bool Wide = false>
void tile_fine(const std::byte* tile, const QuantizedRows& a, std::int64_t first, std::int64_t count, float* out,
               std::int64_t out_stride) {
  constexpr int kFloats = (Wide ? 64 : 32) + (Minimum ? 32 : 0), kMinima = kFloats + 16 * 16;
  constexpr int kHeader = kMinima + (Minimum ? 16 * 16 : 0), kGroup = kHeader + 8 * Bits * 64;
  const std::int64_t groups = a.k / kSuperBlock;
  for (std::int64_t t = 0; t < count; ++t) {
    for (int row = 0; row < kTileRows; ++row) {
      const u8* p = reinterpret_cast<const u8*>(tile);
      float acc = 0;
      for (std::int64_t g = 0; g < groups; ++g, p += kGroup) {
        float products = 0, minima = 0;
        for (int j = 0; j < 8; ++j) {
          const std::int64_t at = ((first + t) * groups + g) * 8 + j;
          std::int32_t sum = 0, low = 0;
          for (int half = 0; half < 2; ++half) {
            const auto scale = static_cast<std::int8_t>(p[kFloats + (2 * j + half) * 16 + row]);
            const std::int32_t part =
                dot<Bits, Table>(p + kHeader + j * Bits * 64, row, a.values + at * kBlock, 16 * half, 16 * half + 16);
            sum += scale * (part - Offset * a.half_sums[2 * at + half]);
            if (Minimum) low += p[kMinima + (2 * j + half) * 16 + row] * a.half_sums[2 * at + half];
          }
          products += static_cast<float>(sum) * a.scales[at];
          minima += static_cast<float>(low) * a.scales[at];
        }
        float d;
        __builtin_memcpy(&d, p + row * 4, 4);
        acc += (Wide ? d : half_at(p, row)) * products;
        if (Minimum) acc -= half_at(p + kFloats - 32, row) * minima;
      }
      out[t * out_stride + row] = acc;
    }
  }
}

void tile_half(const std::byte* tile, const QuantizedRows& a, std::int64_t first, std::int64_t count, float* out, std::int64_t out_stride) {
  const std::int64_t blocks = a.k / kBlock;
  for (std::int64_t t = 0; t < count; ++t) {
    for (int row = 0; row < kTileRows; ++row) {
      const u8* p = reinterpret_cast<const u8*>(tile);
      float acc = 0;
      for (std::int64_t b = 0; b < blocks; ++b, p += 32 + 16 * 64) {
        const std::int64_t at = (first + t) * blocks + b;
        std::int32_t sum = 0;
        for (int i = 0; i < kBlock; ++i) {
          std::int16_t code;
          __builtin_memcpy(&code, p + 32 + i / 2 * 64 + row * 4 + i % 2 * 2, 2);
          sum += code * a.wide[at * kBlock + i];
        }
        acc += static_cast<float>(sum) * a.wide_scales[at] * bfloat_at(p, row);
      }
      out[t * out_stride + row] = acc;
    }
  }
}

constexpr KernelSet kSet{
    "scalar",
    KONTOR_TILE_KERNELS(tile_simple, tile_k, tile_fine, tile_half),
    dense<LoadF32>, dense<LoadF16>, dense<LoadBf16>,
    score<LoadF32>, score<LoadF16>, mix<LoadF32>, mix<LoadF16>, mix_coded,
    quantize, quantize_wide, rms_norm, silu_mul, add_rows, exp_weights, sum_all, kSampling};

}  // namespace

const KernelSet* scalar_kernels() { return &kSet; }

}  // namespace kontor::inference::cpu
