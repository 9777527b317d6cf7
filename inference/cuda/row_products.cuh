#pragma once
// Two neighbouring rows of a matrix times up to eight vectors, computed by a warp: each lane takes spans of 32 weights, so
// that the warp reads 512 contiguous bytes of codes. Dense products and products of experts and heads share this.
// Compiled with -fmad=false: whether a product and a sum are fused is written here, or a token's bits could depend on the number of
// tokens that the compiler unrolled for.

#include "inference/cuda/kernels.hpp"
#include "base/cuda/warp.cuh"

namespace kontor::inference::cuda {

inline constexpr int kWarps = 4;     ///< Of a block.
inline constexpr int kWarpRows = 2;  ///< Output rows of a warp.
inline constexpr int kBlockRows = kWarps * kWarpRows;

template <Format F, int N, class At>
__device__ void quantized_rows(const MatrixView& m, const ActivationView& x, std::int64_t row, const At& at_row, float (&sum)[kWarpRows][N]) {
  const std::int64_t spans = m.columns / kSpan;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const bool second = row + 1 < m.rows;
  for (std::int64_t s = lane; s < spans; s += kWarp) {
    const WeightSpan a = weight_span<F>(m, row, s);
    const WeightSpan b = second ? weight_span<F>(m, row + 1, s) : WeightSpan{};
#pragma unroll
    for (int t = 0; t < N; ++t) {
      const std::int64_t at = at_row(t);
      const QuantizedToken q{x.codes + at * x.columns, x.scales + at * spans, x.sums + at * spans};
      const SpanCodes codes = activation_span(q, s);
      const float scale = q.scales[s], total = q.sums[s];
      sum[0][t] += span_dot<F>(a, codes, scale, total);
      sum[1][t] += span_dot<F>(b, codes, scale, total);
    }
  }
}

/// Eight values at a time: 16 bytes of binary16 or bfloat16, 32 of float32.
template <Format F, int N, class At>
__device__ void plain_rows(const MatrixView& m, const ActivationView& x, std::int64_t row, const At& at_row, float (&sum)[kWarpRows][N]) {
  constexpr int kStep = 8;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  for (std::int64_t c = lane * kStep; c < m.columns; c += kWarp * kStep) {
    float w[kWarpRows][kStep];
#pragma unroll
    for (int r = 0; r < kWarpRows; ++r) {
      if (row + r >= m.rows) {
        for (int i = 0; i < kStep; ++i) w[r][i] = 0;
      } else if constexpr (F == Format::f32) {
        const Words4* from = reinterpret_cast<const Words4*>(static_cast<const float*>(m.codes) + (row + r) * m.columns + c);
        const Words4 a = from[0], b = from[1];
        for (int i = 0; i < 4; ++i) {
          w[r][i] = __builtin_bit_cast(float, a.at[i]);
          w[r][i + 4] = __builtin_bit_cast(float, b.at[i]);
        }
      } else {
        const Words4 a = *reinterpret_cast<const Words4*>(static_cast<const std::uint16_t*>(m.codes) + (row + r) * m.columns + c);
        for (int i = 0; i < 4; ++i) {
          const std::uint16_t low = static_cast<std::uint16_t>(a.at[i]), high = static_cast<std::uint16_t>(a.at[i] >> 16);
          w[r][2 * i] = F == Format::f16 ? half_value(low) : bfloat_value(low);
          w[r][2 * i + 1] = F == Format::f16 ? half_value(high) : bfloat_value(high);
        }
      }
    }
#pragma unroll
    for (int t = 0; t < N; ++t) {
      const float* values = x.values + at_row(t) * x.columns + c;
      for (int i = 0; i < kStep; ++i) {
        sum[0][t] = fmaf(w[0][i], values[i], sum[0][t]);
        sum[1][t] = fmaf(w[1][i], values[i], sum[1][t]);
      }
    }
  }
}

/// sum[r][t] of this lane: row + r of the matrix times activation row at_row(t); the warp's sum is the product.
template <int N, class At>
__device__ void row_products(const MatrixView& m, const ActivationView& x, std::int64_t row, const At& at_row, float (&sum)[kWarpRows][N]) {
  switch (m.format) {
    case Format::f32: plain_rows<Format::f32, N>(m, x, row, at_row, sum); break;
    case Format::f16: plain_rows<Format::f16, N>(m, x, row, at_row, sum); break;
    case Format::bf16: plain_rows<Format::bf16, N>(m, x, row, at_row, sum); break;
    case Format::q8_0: quantized_rows<Format::q8_0, N>(m, x, row, at_row, sum); break;
    case Format::q4_0: quantized_rows<Format::q4_0, N>(m, x, row, at_row, sum); break;
    case Format::q4_k: quantized_rows<Format::q4_k, N>(m, x, row, at_row, sum); break;
    case Format::q5_k: quantized_rows<Format::q5_k, N>(m, x, row, at_row, sum); break;
    case Format::q6_k: quantized_rows<Format::q6_k, N>(m, x, row, at_row, sum); break;
  }
}

}  // namespace kontor::inference::cuda
