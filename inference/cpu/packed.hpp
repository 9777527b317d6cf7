#pragma once
// Layout of quantised matrices in memory. A tile holds 16 rows, so that one vector lane belongs to one row and no
// kernel ever sums across lanes. A tile is a sequence of groups along k, each with its scales before its codes.
//
// Codes of a block of 32 (words are 32 bit and hold the codes of four neighbouring k; word g covers k = 4g..4g+3):
//   2 bit  128 bytes: 2 vectors; bits 2i and 2i + 1 of vector v belong to word 4v + i
//   3 bit  192 bytes: the 2-bit part, then 1 vector whose bit g of byte i is the third bit of code 4g + i
//   4 bit  256 bytes: 4 vectors of 16 row words; low nibbles are word p, high nibbles word p + 4
//   5 bit  320 bytes: the 4-bit part, then 1 vector whose bit g of byte i is the fifth bit of code 4g + i
//   6 bit  384 bytes: the 4-bit part, then 2 vectors with two bits each for words 0..3 and 4..7
//   8 bit  512 bytes: 8 vectors, value + 128
//   16 bit 1024 bytes: 16 vectors of 16 row words, each with two neighbouring signed codes: word p covers k = 2p, 2p+1
// Groups (h16 = 16 binary16 values, one for each row):
//   q4_0 q5_0 q8_0   block of 32:  h16 scale, codes           value = scale * (code - 8, 16, 128)
//   q4_1 q5_1        block of 32:  h16 scale, h16 minimum, codes     value = scale * code + minimum
//   q4_k q5_k        256: h16 d, h16 dmin, 8 x (16 u8 scale, 16 u8 minimum), 8 blocks of codes
//                    value = d * scale * code - dmin * minimum
//   iq4_nl           block of 32:  h16 scale, codes           value = scale * table[code]
//   mxfp4            block of 32:  bfloat16 scale, codes      value = scale * table[code]
//   q6_k             256: h16 d, 16 x 16 i8 scale (one for 16 values), 8 blocks of codes;  value = d * scale * (code - 32)
//   q3_k iq4_xs      as q6_k with 3 bits (code - 4) and with 4 bits (table[code])
//   q2_k             256: h16 d, h16 dmin, 16 x 16 i8 scale, 16 x 16 u8 minimum, 8 blocks of codes
//   wide_k           256: 16 float32 d, 16 x 16 i8 scale, 8 blocks of 8-bit codes;  value = d * scale * (code - 128)
//   half             block of 32:  bfloat16 scale, codes -8191..8191       value = scale * code
// F16 weights are held as half: a code is off by at most 2^-13 of the largest weight of its block, which binary16 itself
// is of weights a quarter as large, and integers multiply at twice the rate of float32.
// The IQ1, IQ2 and IQ3 types are held as wide_k, which represents them exactly.

#include "inference/cpu/kernels.hpp"
#include "inference/tensor.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>

namespace kontor::inference::cpu {

/// The packed format of a stored type for rows of this length, or nothing where they are not held packed.
std::optional<PackedFormat> packed_format(TensorType type, std::int64_t columns);

/// Values in a group and bytes of a group for 16 rows.
struct GroupSize {
  std::int64_t values;
  std::int64_t bytes;
};
GroupSize group_size(PackedFormat format);

/// Bytes of a tile with rows of k values; k is a multiple of the group's values.
std::int64_t tile_bytes(PackedFormat format, std::int64_t k);

/// Packs rows [first_row, first_row + 16) of the tensor (rows behind the end become zero rows) into `out`.
void pack_tile(PackedFormat format, const Tensor& tensor, std::int64_t first_row, std::byte* out);

}  // namespace kontor::inference::cpu
