#pragma once
// A value and its number as one integer that sorts: larger value first, smaller number among equals.

#include "base/cuda/portable.hpp"

#include <cstdint>

namespace kontor::gpu {

/// 0 stands for nothing; no finite value has it.
KONTOR_HD std::uint64_t rank_key(float value, std::int64_t number) {
  const std::uint32_t bits = __builtin_bit_cast(std::uint32_t, value + 0.0f);  // No negative zero: it equals the other.
  const std::uint32_t ordered = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
  return static_cast<std::uint64_t>(ordered) << 32 | (0xffffffffu - static_cast<std::uint32_t>(number));
}
KONTOR_HD float key_value(std::uint64_t key) {
  const auto ordered = static_cast<std::uint32_t>(key >> 32);
  return __builtin_bit_cast(float, ordered & 0x80000000u ? ordered & 0x7fffffffu : ~ordered);
}
KONTOR_HD std::uint32_t key_number(std::uint64_t key) { return 0xffffffffu - static_cast<std::uint32_t>(key); }

}  // namespace kontor::gpu
