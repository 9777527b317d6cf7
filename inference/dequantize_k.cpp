#include "inference/dequantize_blocks.hpp"

namespace kontor::inference::blocks {

void q2_k(const std::byte* in, std::int64_t n, float* out) {
  // 16 scale bytes (low nibble scale, high nibble minimum), 64 bytes of 2-bit codes, d, dmin
  for (std::int64_t b = 0; b < n / 256; ++b, in += 84) {
    const float d = half_at(in + 80);
    const float dmin = half_at(in + 82);
    for (int sub = 0; sub < 16; ++sub) {
      const int packed = static_cast<int>(byte_at(in + sub));
      const float scale = d * static_cast<float>(packed & 15);
      const float minimum = dmin * static_cast<float>(packed >> 4);
      const std::byte* codes = in + 16 + 32 * (sub / 8) + 16 * (sub % 2);
      const int shift = 2 * (sub % 8 / 2);
      for (int l = 0; l < 16; ++l) *out++ = scale * static_cast<float>((byte_at(codes + l) >> shift) & 3) - minimum;
    }
  }
}

void q3_k(const std::byte* in, std::int64_t n, float* out) {
  // 32 bytes of high bits, 64 bytes of 2-bit codes, 12 bytes of 6-bit scales, d
  for (std::int64_t b = 0; b < n / 256; ++b, in += 110) {
    const float d = half_at(in + 108);
    const std::byte* packed = in + 96;
    for (int sub = 0; sub < 16; ++sub) {
      const int nibble = static_cast<int>(byte_at(packed + sub % 8) >> (sub < 8 ? 0 : 4)) & 15;
      const int high = static_cast<int>(byte_at(packed + 8 + sub % 4) >> (2 * (sub / 4))) & 3;
      const float scale = d * static_cast<float>((nibble | high << 4) - 32);
      const int column = 16 * (sub % 2);
      const std::byte* codes = in + 32 + 32 * (sub / 8) + column;
      const int shift = 2 * (sub % 8 / 2);
      for (int l = 0; l < 16; ++l) {
        const int code = static_cast<int>(byte_at(codes + l) >> shift) & 3;
        const bool third_bit = (byte_at(in + column + l) >> (sub / 2)) & 1;
        *out++ = scale * static_cast<float>(third_bit ? code : code - 4);
      }
    }
  }
}

void q4_k(const std::byte* in, std::int64_t n, float* out) {
  // d, dmin, 12 bytes of scales and minima, 128 bytes of nibbles
  for (std::int64_t b = 0; b < n / 256; ++b, in += 144) {
    const float d = half_at(in);
    const float dmin = half_at(in + 2);
    for (int sub = 0; sub < 8; ++sub) {
      const ScaleMin packed = scale_min_at(in + 4, sub);
      const float scale = d * static_cast<float>(packed.scale);
      const float minimum = dmin * static_cast<float>(packed.minimum);
      const std::byte* codes = in + 16 + 32 * (sub / 2);
      const int shift = 4 * (sub % 2);
      for (int l = 0; l < 32; ++l) *out++ = scale * static_cast<float>((byte_at(codes + l) >> shift) & 15) - minimum;
    }
  }
}

void q5_k(const std::byte* in, std::int64_t n, float* out) {
  // as Q4_K with 32 bytes of fifth bits before the nibbles
  for (std::int64_t b = 0; b < n / 256; ++b, in += 176) {
    const float d = half_at(in);
    const float dmin = half_at(in + 2);
    for (int sub = 0; sub < 8; ++sub) {
      const ScaleMin packed = scale_min_at(in + 4, sub);
      const float scale = d * static_cast<float>(packed.scale);
      const float minimum = dmin * static_cast<float>(packed.minimum);
      const std::byte* codes = in + 48 + 32 * (sub / 2);
      const int shift = 4 * (sub % 2);
      for (int l = 0; l < 32; ++l) {
        const unsigned code = ((byte_at(codes + l) >> shift) & 15) | ((byte_at(in + 16 + l) >> sub) & 1) << 4;
        *out++ = scale * static_cast<float>(code) - minimum;
      }
    }
  }
}

void q6_k(const std::byte* in, std::int64_t n, float* out) {
  // 128 bytes of low nibbles, 64 bytes of high bit pairs, 16 signed scales, d
  for (std::int64_t b = 0; b < n / 256; ++b, in += 210) {
    const float d = half_at(in + 208);
    for (int sub = 0; sub < 16; ++sub) {
      const float scale = d * static_cast<float>(load<std::int8_t>(in + 192 + sub));
      const int group = sub % 8 / 2;  // of 32 values within a half
      const std::byte* low = in + 64 * (sub / 8) + 32 * (group % 2) + 16 * (sub % 2);
      const std::byte* high = in + 128 + 32 * (sub / 8) + 16 * (sub % 2);
      for (int l = 0; l < 16; ++l) {
        const int code = static_cast<int>((byte_at(low + l) >> (4 * (group / 2))) & 15) | static_cast<int>((byte_at(high + l) >> (2 * group)) & 3) << 4;
        *out++ = scale * static_cast<float>(code - 32);
      }
    }
  }
}

namespace {
constexpr std::int8_t kNonLinear[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
}

void iq4_nl(const std::byte* in, std::int64_t n, float* out) {
  for (std::int64_t b = 0; b < n / 32; ++b, in += 18, out += 32) {
    const float d = half_at(in);
    for (int j = 0; j < 16; ++j) {
      const unsigned q = byte_at(in + 2 + j);
      out[j] = d * static_cast<float>(kNonLinear[q & 15]);
      out[j + 16] = d * static_cast<float>(kNonLinear[q >> 4]);
    }
  }
}

void iq4_xs(const std::byte* in, std::int64_t n, float* out) {
  // d, 16 bits of high scale parts, 4 bytes of low scale parts, 128 bytes of nibbles
  for (std::int64_t b = 0; b < n / 256; ++b, in += 136) {
    const float d = half_at(in);
    const unsigned high = load<std::uint16_t>(in + 2);
    for (int sub = 0; sub < 8; ++sub, out += 32) {
      const int low = static_cast<int>(byte_at(in + 4 + sub / 2) >> (4 * (sub % 2))) & 15;
      const float scale = d * static_cast<float>((low | static_cast<int>((high >> (2 * sub)) & 3) << 4) - 32);
      for (int j = 0; j < 16; ++j) {
        const unsigned q = byte_at(in + 8 + 16 * sub + j);
        out[j] = scale * static_cast<float>(kNonLinear[q & 15]);
        out[j + 16] = scale * static_cast<float>(kNonLinear[q >> 4]);
      }
    }
  }
}

}  // namespace kontor::inference::blocks
