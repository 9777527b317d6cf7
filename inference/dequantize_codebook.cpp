// The IQ1, IQ2 and IQ3 formats: 256 values as indices into code books of short vectors, with signs and scales beside.

#include "inference/codebooks.hpp"
#include "inference/dequantize_blocks.hpp"

#include <bit>

namespace kontor::inference::blocks {
namespace {

constexpr float kLevels2[4] = {8, 25, 43, 0};
constexpr float kLevels3Xxs[8] = {4, 12, 20, 28, 36, 44, 52, 62};
constexpr float kLevels3S[8] = {1, 3, 5, 7, 9, 11, 13, 15};
constexpr float kLevels1[4] = {-1, 0, 1, 0};
constexpr float kShift1 = 0.125f;  ///< IQ1 moves all values of a group up or down by this.

/// Seven bits of signs; the eighth makes their number even.
unsigned even_signs(unsigned seven) { return seven | (std::popcount(seven) & 1u) << 7; }

float* put8(float* out, unsigned code, float scale, unsigned signs) {
  for (int j = 0; j < 8; ++j) {
    const float value = scale * kLevels2[(code >> (2 * j)) & 3];
    *out++ = (signs >> j) & 1 ? -value : value;
  }
  return out;
}

float* put4(float* out, unsigned code, const float* levels, float scale, unsigned signs) {
  for (int j = 0; j < 4; ++j) {
    const float value = scale * levels[(code >> (3 * j)) & 7];
    *out++ = (signs >> j) & 1 ? -value : value;
  }
  return out;
}

float* put8_shifted(float* out, unsigned code, float scale, float shift) {
  for (int j = 0; j < 8; ++j) *out++ = scale * (kLevels1[(code >> (2 * j)) & 3] + shift);
  return out;
}

float quarter_step(float d, unsigned code) { return d * (0.5f + static_cast<float>(code)) * 0.25f; }

}  // namespace

void iq2_xxs(const std::byte* in, std::int64_t n, float* out) {
  // d; for each 32 values four indices and a word of four sign sets and a scale
  for (std::int64_t b = 0; b < n / 256; ++b, in += 66) {
    const float d = half_at(in);
    for (int sub = 0; sub < 8; ++sub) {
      const std::byte* group = in + 2 + 8 * sub;
      const auto word = load<std::uint32_t>(group + 4);
      for (int l = 0; l < 4; ++l)
        out = put8(out, codebooks::kCodes2Xxs[byte_at(group + l)], quarter_step(d, word >> 28), even_signs((word >> (7 * l)) & 127));
    }
  }
}

void iq2_xs(const std::byte* in, std::int64_t n, float* out) {
  // d, 32 words of a nine-bit index and seven signs, 16 nibbles of scales
  for (std::int64_t b = 0; b < n / 256; ++b, in += 74) {
    const float d = half_at(in);
    for (int l = 0; l < 32; ++l) {
      const unsigned word = load<std::uint16_t>(in + 2 + 2 * l);
      const unsigned scale = (byte_at(in + 66 + l / 4) >> (4 * (l / 2 % 2))) & 15;
      out = put8(out, codebooks::kCodes2Xs[word & 511], quarter_step(d, scale), even_signs(word >> 9));
    }
  }
}

void iq2_s(const std::byte* in, std::int64_t n, float* out) {
  // d, 32 low index bytes, 32 sign bytes, 8 bytes of two high index bits, 16 nibbles of scales
  for (std::int64_t b = 0; b < n / 256; ++b, in += 82) {
    const float d = half_at(in);
    for (int l = 0; l < 32; ++l) {
      const unsigned index = byte_at(in + 2 + l) | ((byte_at(in + 66 + l / 4) >> (2 * (l % 4))) & 3) << 8;
      const unsigned scale = (byte_at(in + 74 + l / 4) >> (4 * (l / 2 % 2))) & 15;
      out = put8(out, codebooks::kCodes2S[index], quarter_step(d, scale), byte_at(in + 34 + l));
    }
  }
}

void iq3_xxs(const std::byte* in, std::int64_t n, float* out) {
  // d, 64 indices, for each 32 values a word of four sign sets and a scale
  for (std::int64_t b = 0; b < n / 256; ++b, in += 98) {
    const float d = half_at(in);
    for (int l = 0; l < 64; ++l) {
      const auto word = load<std::uint32_t>(in + 66 + 4 * (l / 8));
      const float scale = d * (0.5f + static_cast<float>(word >> 28)) * 0.5f;
      const unsigned signs = even_signs((word >> (7 * (l / 2 % 4))) & 127);
      out = put4(out, codebooks::kCodes3Xxs[byte_at(in + 2 + l)], kLevels3Xxs, scale, signs >> (4 * (l % 2)));
    }
  }
}

void iq3_s(const std::byte* in, std::int64_t n, float* out) {
  // d, 64 low index bytes, 8 bytes of ninth bits, 32 sign bytes, 8 nibbles of scales
  for (std::int64_t b = 0; b < n / 256; ++b, in += 110) {
    const float d = half_at(in);
    for (int l = 0; l < 64; ++l) {
      const unsigned index = byte_at(in + 2 + l) | ((byte_at(in + 66 + l / 8) >> (l % 8)) & 1) << 8;
      const unsigned code = (byte_at(in + 106 + l / 16) >> (4 * (l / 8 % 2))) & 15;
      const float scale = d * static_cast<float>(1 + 2 * code);
      out = put4(out, codebooks::kCodes3S[index], kLevels3S, scale, byte_at(in + 74 + l / 2) >> (4 * (l % 2)));
    }
  }
}

void iq1_s(const std::byte* in, std::int64_t n, float* out) {
  // d, 32 low index bytes, for each 32 values a word of four times three high bits, a scale and the shift's sign
  for (std::int64_t b = 0; b < n / 256; ++b, in += 50) {
    const float d = half_at(in);
    for (int l = 0; l < 32; ++l) {
      const unsigned word = load<std::uint16_t>(in + 34 + 2 * (l / 4));
      const unsigned index = byte_at(in + 2 + l) | ((word >> (3 * (l % 4))) & 7) << 8;
      const float scale = d * static_cast<float>(2 * ((word >> 12) & 7) + 1);
      out = put8_shifted(out, codebooks::kCodes1[index], scale, word & 0x8000 ? -kShift1 : kShift1);
    }
  }
}

void iq1_m(const std::byte* in, std::int64_t n, float* out) {
  // 32 low index bytes, 32 nibbles of three high bits and the shift's sign, four words of four scales of three bits;
  // d lies in the top nibbles of these words
  for (std::int64_t b = 0; b < n / 256; ++b, in += 56) {
    unsigned words[4], d_bits = 0;
    for (int i = 0; i < 4; ++i) {
      words[i] = load<std::uint16_t>(in + 48 + 2 * i);
      d_bits |= (words[i] >> 12) << (4 * i);
    }
    const float d = half_to_float(static_cast<std::uint16_t>(d_bits));
    for (int l = 0; l < 32; ++l) {
      const unsigned high = (byte_at(in + 32 + l / 2) >> (4 * (l % 2))) & 15;
      const unsigned code = (words[l / 8] >> (3 * (l / 2 % 4))) & 7;
      const unsigned index = byte_at(in + l) | (high & 7) << 8;
      out = put8_shifted(out, codebooks::kCodes1[index], d * static_cast<float>(2 * code + 1), high & 8 ? -kShift1 : kShift1);
    }
  }
}

}  // namespace kontor::inference::blocks
