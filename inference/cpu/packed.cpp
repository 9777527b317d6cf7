#include "inference/cpu/packed_parts.hpp"

#include <algorithm>
#include <cstring>

namespace kontor::inference::cpu {

using namespace packing;

int packing::code_bytes(PackedFormat format) {
  switch (format) {
    case PackedFormat::q2_k: return 2 * kVector;
    case PackedFormat::q3_k: return 3 * kVector;
    case PackedFormat::q4_0: case PackedFormat::q4_1: case PackedFormat::q4_k: case PackedFormat::iq4_nl: case PackedFormat::iq4_xs:
    case PackedFormat::mxfp4: return 4 * kVector;
    case PackedFormat::q5_0: case PackedFormat::q5_1: case PackedFormat::q5_k: return 5 * kVector;
    case PackedFormat::q6_k: return 6 * kVector;
    case PackedFormat::q8_0: case PackedFormat::wide_k: return 8 * kVector;
    case PackedFormat::half: return 16 * kVector;
  }
  return 0;
}

int packing::header_bytes(PackedFormat format) {
  switch (format) {
    case PackedFormat::q4_0: case PackedFormat::q5_0: case PackedFormat::q8_0: case PackedFormat::iq4_nl: case PackedFormat::mxfp4:
    case PackedFormat::half: return 32;
    case PackedFormat::q4_1: case PackedFormat::q5_1: return 64;
    case PackedFormat::q4_k: case PackedFormat::q5_k: return 64 + 8 * 32;
    case PackedFormat::q3_k: case PackedFormat::q6_k: case PackedFormat::iq4_xs: return 32 + 16 * 16;
    case PackedFormat::q2_k: return 64 + 2 * 16 * 16;
    case PackedFormat::wide_k: return 64 + 16 * 16;
  }
  return 0;
}

void packing::put_codes(const u8* codes, int bits, int row, u8* out) {
  if (bits == 8) {
    for (int g = 0; g < 8; ++g) std::memcpy(out + g * kVector + row * 4, codes + g * 4, 4);
    return;
  }
  const auto put = [&](int vector, std::uint32_t packed) { std::memcpy(out + vector * kVector + row * 4, &packed, 4); };
  // Bit `shift` of every byte of the eight words, gathered in one.
  const auto bit_of_words = [&](int shift) {
    std::uint32_t all = 0;
    for (int g = 0; g < 8; ++g) all |= ((word(codes + 4 * g) >> shift) & 0x01010101u) << g;
    return all;
  };
  const auto pairs_of_words = [&](int half, int shift) {
    std::uint32_t all = 0;
    for (int g = 0; g < 4; ++g) all |= ((word(codes + 16 * half + 4 * g) >> shift) & 0x03030303u) << (2 * g);
    return all;
  };
  if (bits < 4) {
    for (int half = 0; half < 2; ++half) put(half, pairs_of_words(half, 0));
    if (bits == 3) put(2, bit_of_words(2));
    return;
  }
  for (int p = 0; p < 4; ++p) put(p, (word(codes + 4 * p) & 0x0f0f0f0fu) | ((word(codes + 16 + 4 * p) & 0x0f0f0f0fu) << 4));
  if (bits == 5) put(4, bit_of_words(4));
  if (bits == 6)
    for (int half = 0; half < 2; ++half) put(4 + half, pairs_of_words(half, 4));
}

namespace {

/// Two 6-bit numbers of K-quant scales: eight scales and eight minima in 12 bytes.
void unpack_scales(const u8* in, u8* scales, u8* minima) {
  for (int j = 0; j < 4; ++j) {
    scales[j] = in[j] & 63;
    minima[j] = in[j + 4] & 63;
    scales[j + 4] = static_cast<u8>((in[j + 8] & 15) | ((in[j] >> 6) << 4));
    minima[j + 4] = static_cast<u8>((in[j + 8] >> 4) | ((in[j + 4] >> 6) << 4));
  }
}

/// Blocks of 32 with binary16 scales in front (Q4_0, Q4_1, Q5_0, Q5_1, Q8_0).
void pack_simple(PackedFormat format, const u8* block, int row, u8* out) {
  const bool has_minimum = format == PackedFormat::q4_1 || format == PackedFormat::q5_1;
  std::memcpy(out + row * 2, block, 2);
  if (has_minimum) std::memcpy(out + 32 + row * 2, block + 2, 2);
  const u8* in = block + (has_minimum ? 4 : 2);
  u8* codes_out = out + header_bytes(format);
  u8 codes[kBlock];
  if (format == PackedFormat::q8_0) {
    for (int i = 0; i < kBlock; ++i) codes[i] = in[i] ^ 0x80;
    put_codes(codes, 8, row, codes_out);
    return;
  }
  const bool five = format == PackedFormat::q5_0 || format == PackedFormat::q5_1;
  const std::uint32_t high = five ? word(in) : 0;
  if (five) in += 4;
  for (int i = 0; i < 16; ++i) {
    codes[i] = static_cast<u8>((in[i] & 15) | (((high >> i) & 1) << 4));
    codes[i + 16] = static_cast<u8>((in[i] >> 4) | (((high >> (i + 16)) & 1) << 4));
  }
  put_codes(codes, five ? 5 : 4, row, codes_out);
}

/// Q4_K: d, dmin, 12 bytes of scales, 128 bytes of nibbles; Q5_K has 32 bytes of fifth bits before the nibbles.
void pack_k(PackedFormat format, const u8* block, int row, u8* out) {
  const bool five = format == PackedFormat::q5_k;
  std::memcpy(out + row * 2, block, 2);
  std::memcpy(out + 32 + row * 2, block + 2, 2);
  u8 scales[8], minima[8];
  unpack_scales(block + 4, scales, minima);
  for (int j = 0; j < 8; ++j) {
    out[64 + j * 32 + row] = scales[j];
    out[64 + j * 32 + 16 + row] = minima[j];
  }
  const u8* high = block + 16;
  const u8* nibbles = block + (five ? 48 : 16);
  u8* codes_out = out + header_bytes(format);
  for (int j = 0; j < 8; ++j, codes_out += code_bytes(format)) {
    u8 codes[kBlock];
    const u8* in = nibbles + (j / 2) * 32;
    for (int i = 0; i < kBlock; ++i) codes[i] = j % 2 ? in[i] >> 4 : in[i] & 15;
    if (five)
      for (int i = 0; i < kBlock; ++i) codes[i] |= static_cast<u8>(((high[i] >> j) & 1) << 4);
    put_codes(codes, five ? 5 : 4, row, codes_out);
  }
}

/// Q6_K: 128 bytes of low nibbles, 64 bytes of high bits, 16 signed scales, d.
void pack_6k(const u8* block, int row, u8* out) {
  std::memcpy(out + row * 2, block + 208, 2);
  for (int j = 0; j < 16; ++j) out[32 + j * 16 + row] = block[192 + j];
  u8* codes_out = out + header_bytes(PackedFormat::q6_k);
  for (int j = 0; j < 8; ++j, codes_out += code_bytes(PackedFormat::q6_k)) {
    const u8* low = block + (j / 4) * 64 + (j % 2) * 32;
    const u8* high = block + 128 + (j / 4) * 32;
    const int low_shift = (j % 4) / 2 * 4, high_shift = (j % 4) * 2;
    u8 codes[kBlock];
    for (int i = 0; i < kBlock; ++i)
      codes[i] = static_cast<u8>(((low[i] >> low_shift) & 15) | (((high[i] >> high_shift) & 3) << 4));
    put_codes(codes, 6, row, codes_out);
  }
}

}  // namespace

std::optional<PackedFormat> packed_format(TensorType type, std::int64_t columns) {
  switch (type) {
    case TensorType::f16: return columns % kBlock == 0 ? std::optional(PackedFormat::half) : std::nullopt;
    case TensorType::q4_0: return PackedFormat::q4_0;
    case TensorType::q4_1: return PackedFormat::q4_1;
    case TensorType::q5_0: return PackedFormat::q5_0;
    case TensorType::q5_1: return PackedFormat::q5_1;
    case TensorType::q8_0: return PackedFormat::q8_0;
    case TensorType::q4_k: return PackedFormat::q4_k;
    case TensorType::q5_k: return PackedFormat::q5_k;
    case TensorType::q6_k: return PackedFormat::q6_k;
    case TensorType::q2_k: return PackedFormat::q2_k;
    case TensorType::q3_k: return PackedFormat::q3_k;
    case TensorType::iq4_nl: return PackedFormat::iq4_nl;
    case TensorType::iq4_xs: return PackedFormat::iq4_xs;
    case TensorType::mxfp4: return PackedFormat::mxfp4;
    case TensorType::iq1_s: case TensorType::iq1_m: case TensorType::iq2_xxs: case TensorType::iq2_xs: case TensorType::iq2_s:
    case TensorType::iq3_xxs: case TensorType::iq3_s: return PackedFormat::wide_k;
    default: return std::nullopt;
  }
}

GroupSize group_size(PackedFormat format) {
  switch (format) {
    case PackedFormat::q4_0: case PackedFormat::q4_1: case PackedFormat::q5_0: case PackedFormat::q5_1: case PackedFormat::q8_0:
    case PackedFormat::iq4_nl: case PackedFormat::mxfp4: case PackedFormat::half: return {kBlock, header_bytes(format) + code_bytes(format)};
    default: return {kSuperBlock, header_bytes(format) + 8 * code_bytes(format)};
  }
}

std::int64_t tile_bytes(PackedFormat format, std::int64_t k) {
  const GroupSize group = group_size(format);
  return k / group.values * group.bytes;
}

void pack_tile(PackedFormat format, const Tensor& tensor, std::int64_t first_row, std::byte* out) {
  const GroupSize group = group_size(format);
  const std::int64_t groups = tensor.row_elements() / group.values;
  const std::int64_t block_bytes = info(tensor.type).block_bytes * (group.values / info(tensor.type).block_elements);
  const int rows = static_cast<int>(std::min<std::int64_t>(kTileRows, tensor.rows() - first_row));
  // Missing rows: all bits zero is scale zero, so the codes do not matter.
  if (rows < kTileRows) std::memset(out, 0, static_cast<std::size_t>(groups * group.bytes));
  for (int row = 0; row < rows; ++row) {
    const auto* in = reinterpret_cast<const u8*>(tensor.row(first_row + row));
    auto* to = reinterpret_cast<u8*>(out);
    for (std::int64_t g = 0; g < groups; ++g, in += block_bytes, to += group.bytes) {
      switch (format) {
        case PackedFormat::q6_k: pack_6k(in, row, to); break;
        case PackedFormat::q4_k: case PackedFormat::q5_k: pack_k(format, in, row, to); break;
        case PackedFormat::q2_k: pack_2k(in, row, to); break;
        case PackedFormat::q3_k: pack_3k(in, row, to); break;
        case PackedFormat::iq4_nl: pack_4nl(in, row, to); break;
        case PackedFormat::iq4_xs: pack_4xs(in, row, to); break;
        case PackedFormat::mxfp4: pack_mxfp4(in, row, to); break;
        case PackedFormat::half: pack_half(in, row, to); break;
        case PackedFormat::wide_k: pack_wide(tensor.type, in, row, to); break;
        default: pack_simple(format, in, row, to);
      }
    }
  }
}

}  // namespace kontor::inference::cpu
