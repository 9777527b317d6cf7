// Quantised matrix times a few vectors (decoding): bound by the bytes of the matrix. A warp computes two neighbouring output
// rows for up to eight tokens; each lane takes spans of 32 weights, so that a warp reads 512 contiguous bytes of codes.
// Several matrices with the same input (queries, keys, values; gate and up) share a launch.

#include "inference/cuda/kernels.hpp"
#include "inference/cuda/row_products.cuh"

namespace kontor::inference::cuda {
namespace {

template <int N>
__global__ void __launch_bounds__(kWarps* kWarp) multiply_kernel(ProductsView products, ActivationView x, std::int64_t first_token, std::int64_t groups) {
  begin_kernel();
  std::int64_t block = blockIdx.x / groups;
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
  const std::int64_t token = first_token + blockIdx.x % groups * N;
  float sum[kWarpRows][N] = {};
  row_products<N>(p.matrix, x, row, [&](int t) { return token + t; }, sum);
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  warp_sums<kWarpRows * N>(&sum[0][0]);
#pragma unroll
  for (int r = 0; r < kWarpRows; ++r)
#pragma unroll
    for (int t = 0; t < N; ++t) {
      float total = sum[r][t];
      if (lane != 0 || row + r >= p.matrix.rows) continue;
      if (p.bias) total += p.bias[row + r];
      float* out = p.out + (token + t) * p.out_stride + row + r;
      *out = p.accumulate ? *out + total : total;
    }
}

/// Groups of tokens that read the same rows are neighbours in the grid: the second finds the rows in the cache. One dimension, for
/// the others end at 65,535.
template <int N>
void launch(const ProductsView& products, const ActivationView& x, std::int64_t first, std::int64_t groups, Stream stream) {
  std::int64_t blocks = 0;
  for (int i = 0; i < products.count; ++i) blocks += (products.product[i].matrix.rows + kBlockRows - 1) / kBlockRows;
  const auto kernel = multiply_kernel<N>;
  KONTOR_LAUNCH(kernel, dim3(static_cast<unsigned>(groups * blocks)), dim3(kWarps * kWarp), 0, stream, products, x, first, groups);
}

template <Format F>
__global__ void expand_kernel(MatrixView m, std::int64_t first, std::int64_t rows, const Tile* blocks, std::int64_t slab_rows, std::uint16_t* out) {
  begin_kernel();
  const std::int64_t spans = m.columns / kSpan, index = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (index >= rows * spans) return;
  const std::int64_t row = index / spans, s = index % spans;
  const std::int64_t source = blocks ? blocks[row / slab_rows].slab * slab_rows + row % slab_rows : first + row;
  Words4* to = reinterpret_cast<Words4*>(out + row * m.columns + s * kSpan);
  WeightSpan w{};
  if constexpr (takes_int8(F)) w = weight_span<F>(m, source, s);
  const std::int64_t from = source * m.columns + s * kSpan;
  const auto value = [&](int i) { return takes_int8(F) ? span_value<F>(w, i) : plain_value(m, from + i); };
#pragma unroll
  for (int part = 0; part < kSpan / 8; ++part) {
    Words4 words;
#pragma unroll
    for (int i = 0; i < 4; ++i)
      words.at[i] = half_bits(value(8 * part + 2 * i)) | std::uint32_t{half_bits(value(8 * part + 2 * i + 1))} << 16;
    to[part] = words;
  }
}

template <Format F>
__global__ void embed_kernel(MatrixView m, const RowInfo* rows, std::int64_t count, float* out) {
  begin_kernel();
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
    KONTOR_LAUNCH(kernel, blocks_for(rows * (matrix.columns / kSpan)), dim3(kThreads), 0, stream, matrix, first, rows, nullptr, 0, out);
  });
}

void expand_slabs(const MatrixView& matrix, std::int64_t rows, const Tile* blocks, std::int64_t count, std::uint16_t* out, Stream stream) {
  with_format(matrix.format, [&]<Format F>() {
    const auto kernel = expand_kernel<F>;
    KONTOR_LAUNCH(kernel, blocks_for(count * rows * (matrix.columns / kSpan)), dim3(kThreads), 0, stream, matrix, 0, count * rows, blocks, rows, out);
  });
}

void embed(const MatrixView& embedding, const RowInfo* rows, std::int64_t count, float* out, Stream stream) {
  with_format(embedding.format, [&]<Format F>() {
    const auto kernel = embed_kernel<F>;
    KONTOR_LAUNCH(kernel, blocks_for(count * (embedding.columns / kSpan)), dim3(kThreads), 0, stream, embedding, rows, count, out);
  });
}

}  // namespace kontor::inference::cuda
