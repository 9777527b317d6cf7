#pragma once
// Keys and values of one head in a page, as threads read and write them. The layout stands at KvView.

#include "inference/cuda/kernels.hpp"
#include "base/cuda/warp.cuh"

namespace kontor::inference::cuda {

__device__ inline const std::uint16_t* q8_scales(const void* block, std::int64_t length) {
  return reinterpret_cast<const std::uint16_t*>(static_cast<const std::int8_t*>(block) + kPagePositions * length);
}

/// Value d of a key.
template <KvFormat F>
__device__ float key_value_at(const void* block, std::int64_t length, std::int64_t d, std::int64_t slot) {
  if constexpr (F == KvFormat::f32) return static_cast<const float*>(block)[d * kPagePositions + slot];
  if constexpr (F == KvFormat::f16) return half_value(static_cast<const std::uint16_t*>(block)[d * kPagePositions + slot]);
  const float scale = half_value(q8_scales(block, length)[d / kSpan * kPagePositions + slot]);
  return scale * static_cast<float>(static_cast<const std::int8_t*>(block)[(d / 4 * kPagePositions + slot) * 4 + d % 4]);
}

/// Value d of a row.
template <KvFormat F>
__device__ float row_value_at(const void* block, std::int64_t length, std::int64_t slot, std::int64_t d) {
  if constexpr (F == KvFormat::f32) return static_cast<const float*>(block)[slot * length + d];
  if constexpr (F == KvFormat::f16) return half_value(static_cast<const std::uint16_t*>(block)[slot * length + d]);
  const float scale = half_value(q8_scales(block, length)[slot * (length / kSpan) + d / kSpan]);
  return scale * static_cast<float>(static_cast<const std::int8_t*>(block)[slot * length + d]);
}

/// Four values of the keys of two neighbouring positions: d is a multiple of 4, slot of 2.
template <KvFormat F>
__device__ void four_of_two_keys(const void* block, std::int64_t length, int d, int slot, float (&a)[4], float (&b)[4]) {
  if constexpr (F == KvFormat::q8) {
    const auto* codes = reinterpret_cast<const std::uint32_t*>(block) + d / 4 * kPagePositions + slot;
    const std::uint32_t first = codes[0], second = codes[1];
    const std::uint32_t scales = *reinterpret_cast<const std::uint32_t*>(q8_scales(block, length) + d / kSpan * kPagePositions + slot);
    const float first_scale = half_value(static_cast<std::uint16_t>(scales)), second_scale = half_value(static_cast<std::uint16_t>(scales >> 16));
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      a[j] = first_scale * static_cast<float>(static_cast<std::int8_t>(first >> 8 * j));
      b[j] = second_scale * static_cast<float>(static_cast<std::int8_t>(second >> 8 * j));
    }
  } else {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int at = (d + j) * kPagePositions + slot;
      if constexpr (F == KvFormat::f16) {
        const std::uint32_t both = *reinterpret_cast<const std::uint32_t*>(static_cast<const std::uint16_t*>(block) + at);
        a[j] = half_value(static_cast<std::uint16_t>(both));
        b[j] = half_value(static_cast<std::uint16_t>(both >> 16));
      } else {
        a[j] = static_cast<const float*>(block)[at];
        b[j] = static_cast<const float*>(block)[at + 1];
      }
    }
  }
}

/// Eight neighbouring values of a row; d and length are multiples of eight.
template <KvFormat F>
__device__ void eight_of_row(const void* block, std::int64_t length, std::int64_t slot, std::int64_t d, float* out) {
  const std::int64_t at = slot * length + d;
  if constexpr (F == KvFormat::q8) {
    const auto* codes = reinterpret_cast<const std::uint32_t*>(static_cast<const std::int8_t*>(block) + at);
    const std::uint32_t low = codes[0], high = codes[1];
    const float scale = half_value(q8_scales(block, length)[slot * (length / kSpan) + d / kSpan]);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      out[i] = scale * static_cast<float>(static_cast<std::int8_t>(low >> 8 * i));
      out[i + 4] = scale * static_cast<float>(static_cast<std::int8_t>(high >> 8 * i));
    }
  } else if constexpr (F == KvFormat::f16) {
    const Words4 words = *reinterpret_cast<const Words4*>(static_cast<const std::uint16_t*>(block) + at);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      out[2 * i] = half_value(static_cast<std::uint16_t>(words.at[i]));
      out[2 * i + 1] = half_value(static_cast<std::uint16_t>(words.at[i] >> 16));
    }
  } else {
    const Words4* words = reinterpret_cast<const Words4*>(static_cast<const float*>(block) + at);
    const Words4 a = words[0], b = words[1];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      out[i] = __builtin_bit_cast(float, a.at[i]);
      out[i + 4] = __builtin_bit_cast(float, b.at[i]);
    }
  }
}

/// VL neighbouring values of a row of `length`; those from `limit` on are zero.
template <KvFormat F, int VL>
__device__ void piece_of_row(const void* block, std::int64_t length, std::int64_t slot, int first, int limit, float (&out)[VL]) {
  if constexpr (VL % 8 == 0) {
    if (first + VL <= limit && limit % VL == 0) {
#pragma unroll
      for (int j = 0; j < VL; j += 8) eight_of_row<F>(block, length, slot, first + j, out + j);
      return;
    }
  }
  if constexpr (F == KvFormat::q8 && (VL == 2 || VL == 4)) {
    if (first + VL <= limit && limit % VL == 0) {
      const auto* from = static_cast<const std::int8_t*>(block) + slot * length + first;
      std::uint32_t codes;
      if constexpr (VL == 4) codes = *reinterpret_cast<const std::uint32_t*>(from);
      else codes = *reinterpret_cast<const std::uint16_t*>(from);
      const float scale = half_value(q8_scales(block, length)[slot * (length / kSpan) + first / kSpan]);
#pragma unroll
      for (int j = 0; j < VL; ++j) out[j] = scale * static_cast<float>(static_cast<std::int8_t>(codes >> 8 * j));
      return;
    }
  }
  if constexpr (F == KvFormat::f16) {
    if (first + VL <= limit && limit % VL == 0) {
      const auto* from = reinterpret_cast<const std::uint32_t*>(static_cast<const std::uint16_t*>(block) + slot * length + first);
#pragma unroll
      for (int j = 0; j < VL / 2; ++j) {
        out[2 * j] = half_value(static_cast<std::uint16_t>(from[j]));
        out[2 * j + 1] = half_value(static_cast<std::uint16_t>(from[j] >> 16));
      }
      return;
    }
  }
#pragma unroll
  for (int j = 0; j < VL; ++j) out[j] = first + j < limit ? row_value_at<F>(block, length, slot, first + j) : 0.0f;
}

/// What a warp stores of 32 neighbouring values, one each lane; all lanes get the scale.
struct CodedValue {
  std::int8_t code;
  std::uint16_t scale;
};
__device__ inline CodedValue coded(float value) {
  constexpr float kTiniest = 1e-36f;  // As activations: blocks with nothing larger are zero.
  const float largest = warp_max(fabsf(value));
  const bool finite = fabsf(warp_sum(value * 0.0f)) == 0.0f && largest <= 3.4e38f;  // max drops NaN, a sum does not.
  const float inverse = largest > kTiniest ? 127.0f / largest : 0.0f;
  const float scale = largest > kTiniest ? largest / 127.0f : 0.0f;
  return {static_cast<std::int8_t>(finite ? rintf(value * inverse) : 0.0f), half_bits(finite ? scale : __builtin_nanf(""))};
}

/// By a warp: the key of a position, and a row.
template <KvFormat F>
__device__ void store_key(void* block, std::int64_t length, std::int64_t slot, const float* key, int lane) {
  for (std::int64_t d = lane; d < length; d += kWarp) {
    if constexpr (F == KvFormat::f32) static_cast<float*>(block)[d * kPagePositions + slot] = key[d];
    else if constexpr (F == KvFormat::f16) static_cast<std::uint16_t*>(block)[d * kPagePositions + slot] = half_bits(key[d]);
    else {
      const CodedValue value = coded(key[d]);
      static_cast<std::int8_t*>(block)[(d / 4 * kPagePositions + slot) * 4 + d % 4] = value.code;
      if (lane == 0) const_cast<std::uint16_t*>(q8_scales(block, length))[d / kSpan * kPagePositions + slot] = value.scale;
    }
  }
}
template <KvFormat F>
__device__ void store_row(void* block, std::int64_t length, std::int64_t slot, const float* row, int lane) {
  for (std::int64_t d = lane; d < length; d += kWarp) {
    if constexpr (F == KvFormat::f32) static_cast<float*>(block)[slot * length + d] = row[d];
    else if constexpr (F == KvFormat::f16) static_cast<std::uint16_t*>(block)[slot * length + d] = half_bits(row[d]);
    else {
      const CodedValue value = coded(row[d]);
      static_cast<std::int8_t*>(block)[slot * length + d] = value.code;
      if (lane == 0) const_cast<std::uint16_t*>(q8_scales(block, length))[slot * (length / kSpan) + d / kSpan] = value.scale;
    }
  }
}

}  // namespace kontor::inference::cuda
