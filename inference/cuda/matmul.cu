// Quantised matrix times a few vectors (decoding): bound by the bytes of the matrix. A warp computes two neighbouring output
// rows for up to eight tokens; each lane takes spans of 32 weights, so that a warp reads 512 contiguous bytes of codes.
// Several matrices with the same input (queries, keys, values; gate and up) share a launch.

#include "inference/cuda/kernels.hpp"
#include "inference/cuda/warp.cuh"

namespace kontor::inference::cuda {
namespace {

constexpr int kWarps = 4;       // of a block
constexpr int kWarpRows = 2;    // output rows of a warp
constexpr int kBlockRows = kWarps * kWarpRows;

template <Format F, int N>
__device__ void quantized_rows(const MatrixView& m, const ActivationView& x, std::int64_t row, std::int64_t token, float (&sum)[kWarpRows][N]) {
  const std::int64_t spans = m.columns / kSpan;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const bool second = row + 1 < m.rows;
  for (std::int64_t s = lane; s < spans; s += kWarp) {
    const WeightSpan a = weight_span<F>(m, row, s);
    const WeightSpan b = second ? weight_span<F>(m, row + 1, s) : WeightSpan{};
#pragma unroll
    for (int t = 0; t < N; ++t) {
      const std::int64_t at = token + t;
      const QuantizedToken q{x.codes + at * x.columns, x.scales + at * spans, x.sums + at * spans};
      const SpanCodes codes = activation_span(q, s);
      const float scale = q.scales[s], total = q.sums[s];
      sum[0][t] += span_dot<F>(a, codes, scale, total);
      sum[1][t] += span_dot<F>(b, codes, scale, total);
    }
  }
}

/// Eight values at a time: 16 bytes of binary16 or bfloat16, 32 of float32.
template <Format F, int N>
__device__ void plain_rows(const MatrixView& m, const ActivationView& x, std::int64_t row, std::int64_t token, float (&sum)[kWarpRows][N]) {
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
      const float* values = x.values + (token + t) * x.columns + c;
      for (int i = 0; i < kStep; ++i) {
        sum[0][t] += w[0][i] * values[i];
        sum[1][t] += w[1][i] * values[i];
      }
    }
  }
}

template <int N>
__global__ void __launch_bounds__(kWarps* kWarp) multiply_kernel(ProductsView products, ActivationView x, std::int64_t first_token) {
  std::int64_t block = blockIdx.y;
  int index = 0;
  while (index + 1 < products.count) {
    const std::int64_t blocks = (products.product[index].matrix.rows + kBlockRows - 1) / kBlockRows;
    if (block < blocks) break;
    block -= blocks;
    ++index;
  }
  const ProductView& p = products.product[index];
  const std::int64_t row = block * kBlockRows + static_cast<int>(threadIdx.x) / kWarp * kWarpRows;
  if (row >= p.matrix.rows) return;  // A whole warp: nobody waits for it.
  const std::int64_t token = first_token + static_cast<std::int64_t>(blockIdx.x) * N;
  float sum[kWarpRows][N] = {};
  switch (p.matrix.format) {
    case Format::f32: plain_rows<Format::f32, N>(p.matrix, x, row, token, sum); break;
    case Format::f16: plain_rows<Format::f16, N>(p.matrix, x, row, token, sum); break;
    case Format::bf16: plain_rows<Format::bf16, N>(p.matrix, x, row, token, sum); break;
    case Format::q8_0: quantized_rows<Format::q8_0, N>(p.matrix, x, row, token, sum); break;
    case Format::q4_0: quantized_rows<Format::q4_0, N>(p.matrix, x, row, token, sum); break;
    case Format::q4_k: quantized_rows<Format::q4_k, N>(p.matrix, x, row, token, sum); break;
    case Format::q5_k: quantized_rows<Format::q5_k, N>(p.matrix, x, row, token, sum); break;
    case Format::q6_k: quantized_rows<Format::q6_k, N>(p.matrix, x, row, token, sum); break;
  }
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
  for (int r = 0; r < kWarpRows; ++r)
#pragma unroll
    for (int t = 0; t < N; ++t) {
      float total = warp_sum(sum[r][t]);
      if (lane != 0 || row + r >= p.matrix.rows) continue;
      if (p.bias) total += p.bias[row + r];
      float* out = p.out + (token + t) * p.out_stride + row + r;
      *out = p.accumulate ? *out + total : total;
    }
}

/// Groups of tokens that read the same rows are neighbours in the grid: the second finds the rows in the cache.
template <int N>
void launch(const ProductsView& products, const ActivationView& x, std::int64_t first, std::int64_t groups, Stream stream) {
  std::int64_t blocks = 0;
  for (int i = 0; i < products.count; ++i) blocks += (products.product[i].matrix.rows + kBlockRows - 1) / kBlockRows;
  const auto kernel = multiply_kernel<N>;
  KONTOR_LAUNCH(kernel, dim3(static_cast<unsigned>(groups), static_cast<unsigned>(blocks)), dim3(kWarps * kWarp), 0, stream, products, x, first);
}

template <Format F>
__global__ void expand_kernel(MatrixView m, std::int64_t first, std::int64_t rows, std::uint16_t* out) {
  const std::int64_t spans = m.columns / kSpan, index = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (index >= rows * spans) return;
  const std::int64_t row = index / spans, s = index % spans;
  std::uint16_t* to = out + row * m.columns + s * kSpan;
  if constexpr (takes_int8(F)) {
    const WeightSpan w = weight_span<F>(m, first + row, s);
    for (int i = 0; i < kSpan; ++i) to[i] = half_bits(span_value<F>(w, i));
  } else {
    for (int i = 0; i < kSpan; ++i) to[i] = half_bits(plain_value(m, (first + row) * m.columns + s * kSpan + i));
  }
}

template <Format F>
__global__ void embed_kernel(MatrixView m, const RowInfo* rows, std::int64_t count, float* out) {
  const std::int64_t spans = m.columns / kSpan, index = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (index >= count * spans) return;
  const std::int64_t t = index / spans, s = index % spans, row = rows[t].token;
  float* to = out + t * m.columns + s * kSpan;
  if constexpr (takes_int8(F)) {
    const WeightSpan w = weight_span<F>(m, row, s);
    for (int i = 0; i < kSpan; ++i) to[i] = span_value<F>(w, i);
  } else {
    for (int i = 0; i < kSpan; ++i) to[i] = plain_value(m, row * m.columns + s * kSpan + i);
  }
}

constexpr int kThreads = 128;

dim3 blocks_for(std::int64_t items) { return dim3(static_cast<unsigned>((items + kThreads - 1) / kThreads)); }

}  // namespace

void multiply(const ProductsView& products, const ActivationView& x, Stream stream) {
  std::int64_t done = 0;
  if (x.count >= 8) {
    launch<8>(products, x, 0, x.count / 8, stream);
    done = x.count / 8 * 8;
  }
  if (x.count - done >= 4) {
    launch<4>(products, x, done, 1, stream);
    done += 4;
  }
  if (x.count - done >= 2) {
    launch<2>(products, x, done, 1, stream);
    done += 2;
  }
  if (x.count - done >= 1) launch<1>(products, x, done, 1, stream);
}

void expand_rows(const MatrixView& matrix, std::int64_t first, std::int64_t rows, std::uint16_t* out, Stream stream) {
  with_format(matrix.format, [&]<Format F>() {
    const auto kernel = expand_kernel<F>;
    KONTOR_LAUNCH(kernel, blocks_for(rows * (matrix.columns / kSpan)), dim3(kThreads), 0, stream, matrix, first, rows, out);
  });
}

void embed(const MatrixView& embedding, const RowInfo* rows, std::int64_t count, float* out, Stream stream) {
  with_format(embedding.format, [&]<Format F>() {
    const auto kernel = embed_kernel<F>;
    KONTOR_LAUNCH(kernel, blocks_for(count * (embedding.columns / kSpan)), dim3(kThreads), 0, stream, embedding, rows, count, out);
  });
}

}  // namespace kontor::inference::cuda
