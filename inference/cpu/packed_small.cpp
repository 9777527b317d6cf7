// Packers of F16 and of the types with four bits and less: Q2_K, Q3_K, MXFP4 and the IQ types. Layouts of the blocks as
// in dequantize_k.cpp and dequantize_codebook.cpp.

#include "inference/cpu/packed_parts.hpp"
#include "inference/dequantize.hpp"

#include <algorithm>
#include <cmath>

namespace kontor::inference::cpu::packing {
namespace {

std::uint16_t half_word(const u8* p) {
  std::uint16_t value;
  std::memcpy(&value, p, 2);
  return value;
}

/// Two codes of 16 bytes: low nibbles are values 0 to 15, high ones 16 to 31.
void nibbles(const u8* in, u8* codes) {
  for (int i = 0; i < 16; ++i) {
    codes[i] = in[i] & 15;
    codes[i + 16] = in[i] >> 4;
  }
}

/// A block whose values are d * scales[i / 16] * an integer from -128 to 127.
struct Fine {
  float d;
  int scales[16];
};

Fine fine_of(TensorType type, const u8* in) {
  Fine f{};
  const float d = half_to_float(half_word(in));
  const auto nibble = [&](int first, int i) { return (in[first + i / 2] >> (4 * (i % 2))) & 15; };
  switch (type) {
    case TensorType::iq2_xxs:
      f.d = d * 0.125f;
      for (int g = 0; g < 16; ++g) f.scales[g] = 2 * static_cast<int>(word(in + 6 + 8 * (g / 2)) >> 28) + 1;
      break;
    case TensorType::iq2_xs: case TensorType::iq2_s:
      f.d = d * 0.125f;
      for (int g = 0; g < 16; ++g) f.scales[g] = 2 * nibble(type == TensorType::iq2_xs ? 66 : 74, g) + 1;
      break;
    case TensorType::iq3_xxs:
      f.d = d * 0.25f;
      for (int g = 0; g < 16; ++g) f.scales[g] = 2 * static_cast<int>(word(in + 66 + 4 * (g / 2)) >> 28) + 1;
      break;
    case TensorType::iq3_s:
      f.d = d;
      for (int g = 0; g < 16; ++g) f.scales[g] = 2 * nibble(106, g / 2) + 1;
      break;
    case TensorType::iq1_s:
      f.d = d * 0.125f;
      for (int g = 0; g < 16; ++g) f.scales[g] = 2 * ((half_word(in + 34 + 2 * (g / 2)) >> 12) & 7) + 1;
      break;
    default: {  // iq1_m
      unsigned bits = 0;
      for (int i = 0; i < 4; ++i) bits |= static_cast<unsigned>(half_word(in + 48 + 2 * i) >> 12) << (4 * i);
      f.d = half_to_float(static_cast<std::uint16_t>(bits)) * 0.125f;
      for (int g = 0; g < 16; ++g) f.scales[g] = 2 * ((half_word(in + 48 + 2 * (g / 4)) >> (3 * (g % 4))) & 7) + 1;
    }
  }
  return f;
}

}  // namespace

void pack_2k(const u8* block, int row, u8* out) {
  std::memcpy(out + row * 2, block + 80, 2);
  std::memcpy(out + 32 + row * 2, block + 82, 2);
  for (int j = 0; j < 16; ++j) {
    out[64 + j * 16 + row] = block[j] & 15;
    out[64 + 256 + j * 16 + row] = block[j] >> 4;
  }
  u8* to = out + header_bytes(PackedFormat::q2_k);
  for (int j = 0; j < 8; ++j, to += code_bytes(PackedFormat::q2_k)) {
    u8 codes[kBlock];
    for (int i = 0; i < kBlock; ++i) codes[i] = (block[16 + 32 * (j / 4) + i] >> (2 * (j % 4))) & 3;
    put_codes(codes, 2, row, to);
  }
}

void pack_3k(const u8* block, int row, u8* out) {
  std::memcpy(out + row * 2, block + 108, 2);
  const u8* packed = block + 96;
  for (int j = 0; j < 16; ++j) {
    const int low = (packed[j % 8] >> (j < 8 ? 0 : 4)) & 15, high = (packed[8 + j % 4] >> (2 * (j / 4))) & 3;
    out[32 + j * 16 + row] = static_cast<u8>((low | high << 4) - 32);
  }
  u8* to = out + header_bytes(PackedFormat::q3_k);
  for (int j = 0; j < 8; ++j, to += code_bytes(PackedFormat::q3_k)) {
    u8 codes[kBlock];
    for (int i = 0; i < kBlock; ++i)
      codes[i] = static_cast<u8>(((block[32 + 32 * (j / 4) + i] >> (2 * (j % 4))) & 3) | ((block[i] >> j) & 1) << 2);
    put_codes(codes, 3, row, to);
  }
}

void pack_4nl(const u8* block, int row, u8* out) {
  std::memcpy(out + row * 2, block, 2);
  u8 codes[kBlock];
  nibbles(block + 2, codes);
  put_codes(codes, 4, row, out + header_bytes(PackedFormat::iq4_nl));
}

void pack_4xs(const u8* block, int row, u8* out) {
  std::memcpy(out + row * 2, block, 2);
  const unsigned high = half_word(block + 2);
  u8* to = out + header_bytes(PackedFormat::iq4_xs);
  for (int j = 0; j < 8; ++j, to += code_bytes(PackedFormat::iq4_xs)) {
    const int low = (block[4 + j / 2] >> (4 * (j % 2))) & 15;
    const auto scale = static_cast<u8>((low | static_cast<int>((high >> (2 * j)) & 3) << 4) - 32);
    out[32 + 2 * j * 16 + row] = out[32 + (2 * j + 1) * 16 + row] = scale;
    u8 codes[kBlock];
    nibbles(block + 8 + 16 * j, codes);
    put_codes(codes, 4, row, to);
  }
}

void pack_mxfp4(const u8* block, int row, u8* out) {
  // The table holds doubled values. Powers of two are exact in bfloat16, the smallest ones as subnormals.
  const float scale = std::ldexp(1.0f, block[0] - 128);
  const auto bits = static_cast<std::uint16_t>(__builtin_bit_cast(std::uint32_t, scale) >> 16);
  std::memcpy(out + row * 2, &bits, 2);
  u8 codes[kBlock];
  nibbles(block + 1, codes);
  put_codes(codes, 4, row, out + header_bytes(PackedFormat::mxfp4));
}

void pack_wide(TensorType type, const u8* block, int row, u8* out) {
  const Fine f = fine_of(type, block);
  std::memcpy(out + row * 4, &f.d, 4);
  float values[kSuperBlock];
  find_dequantizer(type)(reinterpret_cast<const std::byte*>(block), kSuperBlock, values);
  u8 codes[kSuperBlock];
  for (int g = 0; g < 16; ++g) {
    out[64 + g * 16 + row] = static_cast<u8>(f.scales[g]);
    const float unit = f.d * static_cast<float>(f.scales[g]);
    // Products of small integers: the quotient is off an integer by rounding only. Scales that are not finite stay in d.
    const bool usable = unit != 0 && std::isfinite(unit);
    for (int i = 16 * g; i < 16 * (g + 1); ++i) codes[i] = static_cast<u8>((usable ? std::lrintf(values[i] / unit) : 0) + 128);
  }
  for (int j = 0; j < 8; ++j) put_codes(codes + kBlock * j, 8, row, out + header_bytes(PackedFormat::wide_k) + j * code_bytes(PackedFormat::wide_k));
}

/// 32 binary16 values. Loops that compilers vectorise: a model has billions of them.
void pack_half(const u8* values, int row, u8* out) {
  std::uint16_t bits[kBlock];
  std::memcpy(bits, values, sizeof(bits));
  int top = 0;
  for (const std::uint16_t b : bits) top = std::max(top, b & 0x7fff);
  // The scale is rounded up, so that no code exceeds the largest.
  constexpr int kInfinity = 0x7c00;
  std::uint32_t scale = 0x7fc0;
  if (top < kInfinity) scale = (__builtin_bit_cast(std::uint32_t, half_to_float(static_cast<std::uint16_t>(top)) / kHalfCodes) + 0xffff) >> 16;
  const float value = __builtin_bit_cast(float, scale << 16);
  // binary16 bits moved to the place of float32 ones are the number times 2^-112; adding 1.5 * 2^23 rounds to an integer.
  const float inverse = top > 0 && top < kInfinity ? 1.0f / value : 0.0f;
  std::int16_t codes[kBlock];
  for (int i = 0; i < kBlock; ++i) {
    const float magnitude = __builtin_bit_cast(float, (bits[i] & 0x7fffu) << 13);
    const int code = static_cast<int>(__builtin_bit_cast(std::uint32_t, magnitude * 0x1p112f * inverse + 12582912.0f) & 0x3fff);
    codes[i] = static_cast<std::int16_t>(bits[i] & 0x8000 ? -code : code);
  }
  const auto stored = static_cast<std::uint16_t>(scale);
  std::memcpy(out + row * 2, &stored, 2);
  for (int p = 0; p < kBlock / 2; ++p) std::memcpy(out + 32 + p * kVector + row * 4, codes + 2 * p, 4);
}

}  // namespace kontor::inference::cpu::packing
