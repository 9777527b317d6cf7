#pragma once
// How weights lie in device memory: the codes of the file in planes, so that the lanes of a warp read neighbouring 16-byte
// pieces whatever the block size of the file (which is 34 bytes for Q8_0 and 210 for Q6_K). No bit of a weight is changed.

#include "base/cuda/portable.hpp"

#include <cstdint>

namespace kontor::inference::cuda {

using namespace gpu;  // What all kernels of Kontor share.

enum class Format : std::uint8_t { f32, f16, bf16, q8_0, q4_0, q4_k, q5_k, q6_k };

inline constexpr int kSpan = 32;    ///< Values that one lane takes at a time.
inline constexpr int kSuper = 256;  ///< Values of a K-quant block.

/// A matrix (rows, columns) in device memory; columns is a multiple of kSpan, for K-quants of kSuper. Row after row, with s
/// for a span and S for a super-block:
///
///   format   codes              high             scales               super
///   f32/f16  values
///   q8_0     int8 x 32 / s                       half / s
///   q4_0     16 bytes / s                        half / s
///   q4_k     16 bytes / s                        scale, minimum / s   half d, half dmin / S
///   q5_k     16 bytes / s       1 bit x 32 / s   scale, minimum / s   half d, half dmin / S
///   q6_k     16 bytes / s       2 bits x 32 / s  int8 x 2 / s         half d / S
///
/// Four-bit codes: byte i holds value i in its low half and value i + 16 in its high half.
struct MatrixView {
  Format format = Format::f32;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  const void* codes = nullptr;
  const void* high = nullptr;
  const void* scales = nullptr;
  const void* super = nullptr;
  bool on_host = false;  ///< Read over the bus.
};

/// Does the format multiply with activations in int8 (else with float32)?
KONTOR_HD constexpr bool takes_int8(Format format) { return format != Format::f32 && format != Format::f16 && format != Format::bf16; }

/// Sixteen bytes that are loaded at once.
struct alignas(16) Words4 {
  std::uint32_t at[4];
};

/// int8 activations of one token: value = scale[s] * code. sum[s] is the scale times the sum of the codes of span s.
struct QuantizedToken {
  const std::int8_t* codes;
  const float* scales;
  const float* sums;
};

/// The eight words of codes of span `s`.
struct SpanCodes {
  std::uint32_t word[8];  ///< Bytes of word k: values 4k .. 4k+3.
};
KONTOR_HD SpanCodes activation_span(const QuantizedToken& x, std::int64_t s) {
  const Words4* from = reinterpret_cast<const Words4*>(x.codes + s * kSpan);
  const Words4 a = from[0], b = from[1];
  return {{a.at[0], a.at[1], a.at[2], a.at[3], b.at[0], b.at[1], b.at[2], b.at[3]}};
}

/// Weights of a span as signed bytes, and how they become numbers: value = scale[half] * byte - minimum.
struct WeightSpan {
  SpanCodes codes;
  float scale[2];  ///< Of values 0..15 and 16..31.
  float minimum;
};

/// Four low bits of a word's bytes to bit 4 of the bytes of another: bit i of `bits` goes to byte i.
KONTOR_HD std::uint32_t spread_bits(std::uint32_t bits) { return ((bits & 15u) * 0x00204081u & 0x01010101u) << 4; }

template <Format F>
KONTOR_HD WeightSpan weight_span(const MatrixView& m, std::int64_t row, std::int64_t s) {
  WeightSpan out{};
  const std::int64_t spans = m.columns / kSpan, at = row * spans + s;
  if constexpr (F == Format::q8_0) {
    const Words4* from = static_cast<const Words4*>(m.codes) + at * 2;
    const Words4 a = from[0], b = from[1];
    for (int k = 0; k < 4; ++k) {
      out.codes.word[k] = a.at[k];
      out.codes.word[k + 4] = b.at[k];
    }
    out.scale[0] = out.scale[1] = half_value(static_cast<const std::uint16_t*>(m.scales)[at]);
    return out;
  } else {
    const Words4 packed = static_cast<const Words4*>(m.codes)[at];
    for (int k = 0; k < 4; ++k) {
      out.codes.word[k] = packed.at[k] & 0x0f0f0f0fu;
      out.codes.word[k + 4] = packed.at[k] >> 4 & 0x0f0f0f0fu;
    }
    if constexpr (F == Format::q4_0) {
      out.scale[0] = out.scale[1] = half_value(static_cast<const std::uint16_t*>(m.scales)[at]);
      out.minimum = 8.0f * out.scale[0];
      return out;
    }
    if constexpr (F == Format::q5_k) {
      const std::uint32_t high = static_cast<const std::uint32_t*>(m.high)[at];
      for (int k = 0; k < 8; ++k) out.codes.word[k] |= spread_bits(high >> 4 * k);
    }
    if constexpr (F == Format::q4_k || F == Format::q5_k) {
      const std::uint32_t d = static_cast<const std::uint32_t*>(m.super)[at / (kSuper / kSpan)];
      const std::uint16_t sub = static_cast<const std::uint16_t*>(m.scales)[at];
      out.scale[0] = out.scale[1] = half_value(static_cast<std::uint16_t>(d)) * static_cast<float>(sub & 255u);
      out.minimum = half_value(static_cast<std::uint16_t>(d >> 16)) * static_cast<float>(sub >> 8);
    }
    if constexpr (F == Format::q6_k) {
      const std::uint32_t* high = static_cast<const std::uint32_t*>(m.high) + at * 2;
      const std::uint32_t low_half = high[0], high_half = high[1];
      for (int k = 0; k < 4; ++k) {
        out.codes.word[k] |= (low_half >> 2 * k & 0x03030303u) << 4;
        out.codes.word[k + 4] |= (high_half >> 2 * k & 0x03030303u) << 4;
      }
      const float d = half_value(static_cast<const std::uint16_t*>(m.super)[at / (kSuper / kSpan)]);
      const std::uint16_t sub = static_cast<const std::uint16_t*>(m.scales)[at];
      out.scale[0] = d * static_cast<float>(static_cast<std::int8_t>(sub & 255u));
      out.scale[1] = d * static_cast<float>(static_cast<std::int8_t>(sub >> 8));
    }
    return out;
  }
}

/// Dot product of a span of weights and a span of activations.
template <Format F>
KONTOR_HD float span_dot(const WeightSpan& w, const SpanCodes& x, float x_scale, float x_sum) {
  int low = 0, high = 0;
  for (int k = 0; k < 4; ++k) {
    low = dot4(static_cast<int>(w.codes.word[k]), static_cast<int>(x.word[k]), low);
    high = dot4(static_cast<int>(w.codes.word[k + 4]), static_cast<int>(x.word[k + 4]), high);
  }
  if constexpr (F == Format::q6_k) {  // Codes are 0..63 for -32..31.
    for (int k = 0; k < 4; ++k) {
      low = dot4(static_cast<int>(0xe0e0e0e0u), static_cast<int>(x.word[k]), low);
      high = dot4(static_cast<int>(0xe0e0e0e0u), static_cast<int>(x.word[k + 4]), high);
    }
    return x_scale * (w.scale[0] * static_cast<float>(low) + w.scale[1] * static_cast<float>(high));
  }
  return w.scale[0] * x_scale * static_cast<float>(low + high) - w.minimum * x_sum;
}

/// Value i (0..31) of a span.
template <Format F>
KONTOR_HD float span_value(const WeightSpan& w, int i) {
  const int code = static_cast<std::int8_t>(w.codes.word[i / 4] >> 8 * (i % 4));
  const float scale = w.scale[i / 16];
  if constexpr (F == Format::q6_k) return scale * static_cast<float>(code - 32);
  return scale * static_cast<float>(code) - w.minimum;
}

/// Value at a place of a matrix without quantisation.
KONTOR_HD float plain_value(const MatrixView& m, std::int64_t at) {
  if (m.format == Format::f32) return static_cast<const float*>(m.codes)[at];
  const std::uint16_t bits = static_cast<const std::uint16_t*>(m.codes)[at];
  return m.format == Format::f16 ? half_value(bits) : bfloat_value(bits);
}

/// Calls f with the format as a compile-time constant (host only).
template <class Function>
void with_format(Format format, const Function& f) {
  switch (format) {
    case Format::f32: return f.template operator()<Format::f32>();
    case Format::f16: return f.template operator()<Format::f16>();
    case Format::bf16: return f.template operator()<Format::bf16>();
    case Format::q8_0: return f.template operator()<Format::q8_0>();
    case Format::q4_0: return f.template operator()<Format::q4_0>();
    case Format::q4_k: return f.template operator()<Format::q4_k>();
    case Format::q5_k: return f.template operator()<Format::q5_k>();
    case Format::q6_k: return f.template operator()<Format::q6_k>();
  }
}

}  // namespace kontor::inference::cuda
