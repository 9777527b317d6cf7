#include "inference/dequantize.hpp"

#include "inference/dequantize_blocks.hpp"

#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>

namespace kontor::inference {

float half_to_float(std::uint16_t bits) {
  const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000) << 16;
  const std::uint32_t exponent = (bits >> 10) & 0x1f;
  const std::uint32_t fraction = bits & 0x3ff;
  if (exponent == 0x1f) return std::bit_cast<float>(sign | 0x7f800000u | (fraction << 13));
  if (exponent != 0) return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (fraction << 13));
  const float value = static_cast<float>(fraction) * 0x1p-24f;  // exact: ten bits times a power of two
  return sign != 0 ? -value : value;
}

std::uint16_t float_to_half(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000);
  const std::uint32_t magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return static_cast<std::uint16_t>(sign | 0x7e00 | ((magnitude >> 13) & 0x3ff));
  if (magnitude >= 0x477ff000) return static_cast<std::uint16_t>(sign | 0x7c00);  // 65520 and above round to infinity
  if (magnitude < 0x38800000) {
    // Subnormal: adding 0.5 leaves the rounded multiple of 2^-24 in the low bits of the fraction.
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(shifted) - 0x3f000000u));
  }
  const std::uint32_t rounded = magnitude + 0xfff + ((magnitude >> 13) & 1);
  return static_cast<std::uint16_t>(sign | ((rounded - 0x38000000u) >> 13));
}

namespace blocks {
namespace {

void f32(const std::byte* in, std::int64_t n, float* out) { std::memcpy(out, in, static_cast<std::size_t>(n) * sizeof(float)); }

void f16(const std::byte* in, std::int64_t n, float* out) {
  for (std::int64_t i = 0; i < n; ++i) out[i] = half_at(in + 2 * i);
}

void bf16(const std::byte* in, std::int64_t n, float* out) {
  for (std::int64_t i = 0; i < n; ++i) out[i] = bfloat16_to_float(load<std::uint16_t>(in + 2 * i));
}

// Legacy types: 32 values per block. The low nibbles hold the first sixteen values, the high nibbles the others.

void q4_0(const std::byte* in, std::int64_t n, float* out) {
  for (std::int64_t b = 0; b < n / 32; ++b, in += 18, out += 32) {
    const float d = half_at(in);
    for (int j = 0; j < 16; ++j) {
      const int q = byte_at(in + 2 + j);
      out[j] = static_cast<float>((q & 15) - 8) * d;
      out[j + 16] = static_cast<float>((q >> 4) - 8) * d;
    }
  }
}

void q4_1(const std::byte* in, std::int64_t n, float* out) {
  for (std::int64_t b = 0; b < n / 32; ++b, in += 20, out += 32) {
    const float d = half_at(in);
    const float m = half_at(in + 2);
    for (int j = 0; j < 16; ++j) {
      const int q = byte_at(in + 4 + j);
      out[j] = static_cast<float>(q & 15) * d + m;
      out[j + 16] = static_cast<float>(q >> 4) * d + m;
    }
  }
}

/// Values of Q5_0 and Q5_1 before scaling: nibbles with a fifth bit from a mask of 32.
void unpack_q5(const std::byte* high, const std::byte* low, int* out) {
  const auto mask = load<std::uint32_t>(high);
  for (int j = 0; j < 16; ++j) {
    const int q = byte_at(low + j);
    out[j] = (q & 15) | static_cast<int>((mask >> j) & 1) << 4;
    out[j + 16] = (q >> 4) | static_cast<int>((mask >> (j + 16)) & 1) << 4;
  }
}

void q5_0(const std::byte* in, std::int64_t n, float* out) {
  int q[32];
  for (std::int64_t b = 0; b < n / 32; ++b, in += 22, out += 32) {
    const float d = half_at(in);
    unpack_q5(in + 2, in + 6, q);
    for (int j = 0; j < 32; ++j) out[j] = static_cast<float>(q[j] - 16) * d;
  }
}

void q5_1(const std::byte* in, std::int64_t n, float* out) {
  int q[32];
  for (std::int64_t b = 0; b < n / 32; ++b, in += 24, out += 32) {
    const float d = half_at(in);
    const float m = half_at(in + 2);
    unpack_q5(in + 4, in + 8, q);
    for (int j = 0; j < 32; ++j) out[j] = static_cast<float>(q[j]) * d + m;
  }
}

void q8_0(const std::byte* in, std::int64_t n, float* out) {
  for (std::int64_t b = 0; b < n / 32; ++b, in += 34, out += 32) {
    const float d = half_at(in);
    for (int j = 0; j < 32; ++j) out[j] = static_cast<float>(load<std::int8_t>(in + 2 + j)) * d;
  }
}

// Ternary types: values -1, 0, 1.

void tq1_0(const std::byte* in, std::int64_t n, float* out) {
  // Five base-3 digits in a byte, stored as a fraction of 256: multiplying by 3 moves the next digit above the point.
  constexpr std::uint8_t kPowers[5] = {1, 3, 9, 27, 81};
  for (std::int64_t b = 0; b < n / 256; ++b, in += 54) {
    const float d = half_at(in + 52);
    const auto digits = [&](const std::byte* q, int bytes, int count) {
      for (int p = 0; p < count; ++p)
        for (int m = 0; m < bytes; ++m) {
          const auto moved = static_cast<std::uint8_t>(byte_at(q + m) * kPowers[p]);
          *out++ = static_cast<float>(((moved * 3) >> 8) - 1) * d;
        }
    };
    digits(in, 32, 5);
    digits(in + 32, 16, 5);
    digits(in + 48, 4, 4);
  }
}

void tq2_0(const std::byte* in, std::int64_t n, float* out) {
  for (std::int64_t b = 0; b < n / 256; ++b, in += 66) {
    const float d = half_at(in + 64);
    for (int half = 0; half < 2; ++half)
      for (int shift = 0; shift < 8; shift += 2)
        for (int m = 0; m < 32; ++m) *out++ = static_cast<float>(static_cast<int>((byte_at(in + 32 * half + m) >> shift) & 3) - 1) * d;
  }
}

// Four-bit floats (OCP Microscaling). The table holds twice the E2M1 values, the scales are halved in turn.

constexpr std::int8_t kE2M1Doubled[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

void mxfp4(const std::byte* in, std::int64_t n, float* out) {
  for (std::int64_t b = 0; b < n / 32; ++b, in += 17, out += 32) {
    const float d = std::ldexp(1.0f, static_cast<int>(byte_at(in)) - 128);
    for (int j = 0; j < 16; ++j) {
      const int q = byte_at(in + 1 + j);
      out[j] = static_cast<float>(kE2M1Doubled[q & 15]) * d;
      out[j + 16] = static_cast<float>(kE2M1Doubled[q >> 4]) * d;
    }
  }
}

/// Unsigned E4M3 (bias 7), halved. 0x7f would be NaN and counts as zero.
float e4m3_halved(unsigned bits) {
  const int exponent = static_cast<int>((bits >> 3) & 15);
  const int fraction = static_cast<int>(bits & 7);
  if (bits == 0x7f) return 0.0f;
  return exponent == 0 ? std::ldexp(static_cast<float>(fraction), -10) : std::ldexp(static_cast<float>(8 + fraction), exponent - 11);
}

void nvfp4(const std::byte* in, std::int64_t n, float* out) {
  for (std::int64_t b = 0; b < n / 64; ++b, in += 36)
    for (int part = 0; part < 4; ++part, out += 16) {
      const float d = e4m3_halved(byte_at(in + part));
      for (int j = 0; j < 8; ++j) {
        const int q = byte_at(in + 4 + 8 * part + j);
        out[j] = static_cast<float>(kE2M1Doubled[q & 15]) * d;
        out[j + 8] = static_cast<float>(kE2M1Doubled[q >> 4]) * d;
      }
    }
}

}  // namespace
}  // namespace blocks

Dequantizer find_dequantizer(TensorType type) {
  switch (type) {
    case TensorType::f32: return blocks::f32;
    case TensorType::f16: return blocks::f16;
    case TensorType::bf16: return blocks::bf16;
    case TensorType::q4_0: return blocks::q4_0;
    case TensorType::q4_1: return blocks::q4_1;
    case TensorType::q5_0: return blocks::q5_0;
    case TensorType::q5_1: return blocks::q5_1;
    case TensorType::q8_0: return blocks::q8_0;
    case TensorType::q2_k: return blocks::q2_k;
    case TensorType::q3_k: return blocks::q3_k;
    case TensorType::q4_k: return blocks::q4_k;
    case TensorType::q5_k: return blocks::q5_k;
    case TensorType::q6_k: return blocks::q6_k;
    case TensorType::iq4_nl: return blocks::iq4_nl;
    case TensorType::iq4_xs: return blocks::iq4_xs;
    case TensorType::iq2_xxs: return blocks::iq2_xxs;
    case TensorType::iq2_xs: return blocks::iq2_xs;
    case TensorType::iq2_s: return blocks::iq2_s;
    case TensorType::iq3_xxs: return blocks::iq3_xxs;
    case TensorType::iq3_s: return blocks::iq3_s;
    case TensorType::iq1_s: return blocks::iq1_s;
    case TensorType::iq1_m: return blocks::iq1_m;
    case TensorType::tq1_0: return blocks::tq1_0;
    case TensorType::tq2_0: return blocks::tq2_0;
    case TensorType::mxfp4: return blocks::mxfp4;
    case TensorType::nvfp4: return blocks::nvfp4;
    default: return nullptr;
  }
}

namespace {

/// E4M3 without infinities (OCP 8-bit floating point, 2023): bias 7, 0x7f is not a number.
float e4m3(unsigned bits) {
  const int exponent = static_cast<int>((bits >> 3) & 15), fraction = static_cast<int>(bits & 7);
  if ((bits & 0x7f) == 0x7f) return std::numeric_limits<float>::quiet_NaN();
  const float magnitude = exponent == 0 ? std::ldexp(static_cast<float>(fraction), -9) : std::ldexp(static_cast<float>(8 + fraction), exponent - 10);
  return bits & 0x80 ? -magnitude : magnitude;
}

void f8_row(const Tensor& tensor, std::int64_t row, float* out) {
  static const auto kValues = [] {
    std::array<float, 256> values{};
    for (unsigned i = 0; i < 256; ++i) values[i] = e4m3(i);
    return values;
  }();
  const std::int64_t k = tensor.row_elements();
  const float* scales = tensor.scales ? tensor.scales + (tensor.first_row + row) / kScaleBlock * ((k + kScaleBlock - 1) / kScaleBlock) : nullptr;
  const std::byte* in = tensor.row(row);
  for (std::int64_t i = 0; i < k; ++i) out[i] = kValues[std::to_integer<std::size_t>(in[i])] * (scales ? scales[i / kScaleBlock] : 1.0f);
}

}  // namespace

bool can_expand(TensorType type) { return type == TensorType::f8_e4m3 || find_dequantizer(type) != nullptr; }

Result<void> dequantize_row(const Tensor& tensor, std::int64_t row, float* out) {
  if (tensor.type == TensorType::f8_e4m3) {
    f8_row(tensor, row, out);
    return {};
  }
  const Dequantizer expand = find_dequantizer(tensor.type);
  if (!expand)
    return fail(Errc::unsupported, "tensor '" + std::string(tensor.name) + "' has type " + std::string(to_string(tensor.type)) + ", which this build cannot expand",
                "bad_tensor_type");
  expand(tensor.row(row), tensor.row_elements(), out);
  return {};
}

}  // namespace kontor::inference
