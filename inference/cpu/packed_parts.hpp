#pragma once
// Internals that the packers of the block types share.

#include "inference/cpu/packed.hpp"

#include <cstdint>
#include <cstring>

namespace kontor::inference::cpu::packing {

using u8 = std::uint8_t;

inline constexpr int kVector = 64;  ///< 16 rows x 4 bytes

inline std::uint32_t word(const u8* p) {
  std::uint32_t value;
  std::memcpy(&value, p, 4);
  return value;
}

/// Bytes of the codes of 16 rows x 32 values.
int code_bytes(PackedFormat format);
/// Bytes of scales in front of a group's codes.
int header_bytes(PackedFormat format);
/// Writes the codes (one a byte) of one row's block of 32.
void put_codes(const u8* codes, int bits, int row, u8* out);

// One block of one row into the group at `out`.
void pack_2k(const u8* block, int row, u8* out);
void pack_3k(const u8* block, int row, u8* out);
void pack_4nl(const u8* block, int row, u8* out);
void pack_4xs(const u8* block, int row, u8* out);
void pack_half(const u8* values, int row, u8* out);
void pack_mxfp4(const u8* block, int row, u8* out);
void pack_wide(TensorType type, const u8* block, int row, u8* out);

}  // namespace kontor::inference::cpu::packing
