// Everything between the matrix products: norms, activations, rotary positions, the KV cache. Bound by launches rather than
// by work, so what follows each other on the same values is one kernel.

#include "inference/cuda/kv_blocks.cuh"
#include "inference/cuda/quantize.cuh"

namespace kontor::inference::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kWide = 256;

dim3 blocks_for(std::int64_t items, int threads = kThreads) { return dim3(static_cast<unsigned>((items + threads - 1) / threads)); }
dim3 count_of(std::int64_t n) { return dim3(static_cast<unsigned>(n)); }

__global__ void rms_norm_kernel(const float* x, std::int64_t columns, const float* weight, float epsilon, ActivationTarget out) {
  begin_kernel();
  const std::int64_t row = blockIdx.x;
  const float* from = x + row * columns;
  float square = 0;
  for (std::int64_t i = threadIdx.x; i < columns; i += blockDim.x) square += from[i] * from[i];
  const float inverse = 1.0f / sqrtf(block_sum(square) / static_cast<float>(columns) + epsilon);
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  const std::int64_t spans = columns / kSpan;
  for (std::int64_t s = warp; s < spans; s += kWide / kWarp) {
    const std::int64_t at = s * kSpan + lane;
    const float value = from[at] * inverse * weight[at];
    out.values[row * columns + at] = value;
    if (out.codes) quantize_span(value, row * spans + s, out, lane);
  }
}

__global__ void silu_mul_kernel(const float* gate, const float* up, std::int64_t spans, ActivationTarget out) {
  begin_kernel();
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const std::int64_t span = (static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / kWarp;
  if (span >= spans) return;  // Whole warps.
  const std::int64_t at = span * kSpan + lane;
  const float g = gate[at], value = g / (1.0f + expf(-g)) * up[at];
  out.values[at] = value;
  if (out.codes) quantize_span(value, span, out, lane);
}

__global__ void quantize_kernel(const float* values, std::int64_t spans, ActivationTarget out) {
  begin_kernel();
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const std::int64_t span = (static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / kWarp;
  if (span >= spans) return;
  quantize_span(values[span * kSpan + lane], span, out, lane);
}

__global__ void take_columns_kernel(const float* x, std::int64_t step, std::int64_t columns, std::int64_t spans, ActivationTarget out) {
  begin_kernel();
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const std::int64_t span = (static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / kWarp, of_row = columns / kSpan;
  if (span >= spans) return;
  const float value = x[span / of_row * step + span % of_row * kSpan + lane];
  out.values[span * kSpan + lane] = value;
  if (out.codes) quantize_span(value, span, out, lane);
}

__global__ void gather_rows_kernel(const float* x, const std::int32_t* index, std::int64_t columns, float* out) {
  begin_kernel();
  const std::int64_t from = index[blockIdx.x], to = blockIdx.x;
  for (std::int64_t i = threadIdx.x; i < columns; i += blockDim.x) out[to * columns + i] = x[from * columns + i];
}

__global__ void to_half_kernel(const float* x, std::int64_t columns, std::uint16_t* out, float* factors) {
  begin_kernel();
  const std::int64_t row = blockIdx.x;
  float largest = 0;
  for (std::int64_t i = threadIdx.x; i < columns; i += blockDim.x) largest = fmaxf(largest, fabsf(x[row * columns + i]));
  largest = block_max(largest);
  int exponent = 0;
  if (largest > 0 && largest <= 3.4e38f) frexpf(largest, &exponent);
  const float down = ldexpf(1.0f, -exponent);
  for (std::int64_t i = threadIdx.x; i < columns; i += blockDim.x) out[row * columns + i] = half_bits(x[row * columns + i] * down);
  if (threadIdx.x == 0) factors[row] = ldexpf(1.0f, exponent);
}

__global__ void to_bfloats_kernel(const float* x, std::int64_t items, std::uint16_t* out) {
  begin_kernel();
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= items) return;
  const std::uint16_t nearest = bfloat_bits(x[i]);
  const float left = x[i] - bfloat_value(nearest);
  out[i] = nearest;
  out[items + i] = fabsf(left) <= 3.4e38f ? bfloat_bits(left) : std::uint16_t{0};  // Nothing is left of what is not finite.
}

__global__ void finish_kernel(const float* in, const float* factors, const float* bias, std::int64_t rows, float* out, std::int64_t stride,
                              bool accumulate, bool pair) {
  begin_kernel();
  const std::int64_t t = blockIdx.y, r = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (r >= rows) return;
  float value = in[t * rows + r];
  if (pair) value += in[(gridDim.y + t) * rows + r];
  if (factors) value *= factors[t];
  if (bias) value += bias[r];
  float* to = out + t * stride + r;
  *to = accumulate ? *to + value : value;
}

__global__ void fill_rope_kernel(const double* frequencies, float magnitude, std::int64_t pairs, const RowInfo* rows, std::int64_t count,
                                 float* cosines, float* sines) {
  begin_kernel();
  const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (index >= count * pairs) return;
  const double angle = static_cast<double>(rows[index / pairs].position) * frequencies[index % pairs];
  cosines[index] = static_cast<float>(cos(angle)) * magnitude;
  sines[index] = static_cast<float>(sin(angle)) * magnitude;
}

/// By a warp, in place.
__device__ void rotate(float* at, const RopeView& rope, std::int64_t row, int lane) {
  const std::int64_t step = rope.halves ? 1 : 2, gap = rope.halves ? rope.pairs : 1;
  for (std::int64_t p = lane; p < rope.pairs; p += kWarp) {
    const float c = rope.cosines[row * rope.pairs + p], s = rope.sines[row * rope.pairs + p];
    const float a = at[p * step], b = at[p * step + gap];
    at[p * step] = a * c - b * s;
    at[p * step + gap] = a * s + b * c;
  }
}

__device__ void norm_in_place(float* at, const float* weight, float epsilon, std::int64_t length, int lane) {
  float square = 0;
  for (std::int64_t i = lane; i < length; i += kWarp) square += at[i] * at[i];
  const float inverse = 1.0f / sqrtf(warp_sum(square) / static_cast<float>(length) + epsilon);
  for (std::int64_t i = lane; i < length; i += kWarp) at[i] = at[i] * inverse * weight[i];
}

/// A warp for each head of queries and keys, then for each value head.
template <KvFormat F>
__global__ void place_heads_kernel(float* projected, AttentionShape shape, const float* query_norm, const float* key_norm, float epsilon,
                                   RopeView rope, const RowInfo* rows, KvView cache) {
  begin_kernel();
  const int lane = static_cast<int>(threadIdx.x);
  const std::int64_t row = blockIdx.y, head = blockIdx.x;
  const RowInfo info = rows[row];
  float* base = projected + row * shape.total();
  const std::int64_t turned = shape.heads + shape.kv_heads;
  const std::int64_t page = info.pages[info.position / kPagePositions], slot = info.position % kPagePositions;
  if (head >= turned) {
    const std::int64_t h = head - turned;
    const float* value = base + turned * shape.key_length + h * shape.value_length;
    store_row<F>(cache.value_block(page, h, shape.value_length), shape.value_length, slot, value, lane);
    return;
  }
  float* at = base + head * shape.key_length;
  if (const float* norm = head < shape.heads ? query_norm : key_norm) {
    norm_in_place(at, norm, epsilon, shape.key_length, lane);
    __syncwarp();
  }
  rotate(at, rope, row, lane);
  if (head < shape.heads) return;
  __syncwarp();
  store_key<F>(cache.key_block(page, head - shape.heads, shape.key_length), shape.key_length, slot, at, lane);
}

/// A warp for each head's query, then one for the key.
template <KvFormat F>
__global__ void place_latent_kernel(float* projected, const float* queries, float* low, AttentionShape shape, LatentPart part, const float* norm,
                                    float epsilon, RopeView rope, const RowInfo* rows, KvView cache) {
  begin_kernel();
  const int lane = static_cast<int>(threadIdx.x);
  const std::int64_t row = blockIdx.y, head = blockIdx.x;
  if (head < shape.heads) {
    const float* from = queries + (row * shape.heads + head) * (part.plain + part.rotary) + part.plain;
    float* to = projected + row * shape.total() + head * shape.key_length + part.rank;
    for (std::int64_t i = lane; i < part.rotary; i += kWarp) to[i] = from[i];
    __syncwarp();
    rotate(to, rope, row, lane);
    return;
  }
  const RowInfo info = rows[row];
  float* key = low + row * shape.key_length;
  norm_in_place(key, norm, epsilon, part.rank, lane);
  rotate(key + part.rank, rope, row, lane);
  __syncwarp();
  const std::int64_t page = info.pages[info.position / kPagePositions];
  store_row<F>(cache.key_block(page, 0, shape.key_length), shape.key_length, info.position % kPagePositions, key, lane);
}

}  // namespace

void rms_norm(const float* x, std::int64_t count, std::int64_t columns, const float* weight, float epsilon, const ActivationTarget& out,
              Stream stream) {
  KONTOR_LAUNCH(rms_norm_kernel, count_of(count), dim3(kWide), 0, stream, x, columns, weight, epsilon, out);
}

void silu_mul(const float* gate, const float* up, std::int64_t count, std::int64_t columns, const ActivationTarget& out, Stream stream) {
  const std::int64_t spans = count * (columns / kSpan);
  KONTOR_LAUNCH(silu_mul_kernel, blocks_for(spans * kWarp), dim3(kThreads), 0, stream, gate, up, spans, out);
}

void quantize(const float* values, std::int64_t count, std::int64_t columns, const ActivationTarget& out, Stream stream) {
  const std::int64_t spans = count * (columns / kSpan);
  KONTOR_LAUNCH(quantize_kernel, blocks_for(spans * kWarp), dim3(kThreads), 0, stream, values, spans, out);
}

void take_columns(const float* x, std::int64_t rows, std::int64_t step, std::int64_t columns, const ActivationTarget& out, Stream stream) {
  const std::int64_t spans = rows * (columns / kSpan);
  KONTOR_LAUNCH(take_columns_kernel, blocks_for(spans * kWarp), dim3(kThreads), 0, stream, x, step, columns, spans, out);
}

void gather_rows(const float* x, const std::int32_t* index, std::int64_t count, std::int64_t columns, float* out, Stream stream) {
  KONTOR_LAUNCH(gather_rows_kernel, count_of(count), dim3(kThreads), 0, stream, x, index, columns, out);
}

void to_half(const float* x, std::int64_t count, std::int64_t columns, std::uint16_t* out, float* factors, Stream stream) {
  KONTOR_LAUNCH(to_half_kernel, count_of(count), dim3(kWide), 0, stream, x, columns, out, factors);
}

void to_bfloats(const float* x, std::int64_t count, std::int64_t columns, std::uint16_t* out, Stream stream) {
  KONTOR_LAUNCH(to_bfloats_kernel, blocks_for(count * columns), dim3(kThreads), 0, stream, x, count * columns, out);
}

void finish_product(const float* in, const float* factors, const float* bias, std::int64_t count, std::int64_t rows, float* out,
                    std::int64_t out_stride, bool accumulate, bool pair, Stream stream) {
  dim3 grid = blocks_for(rows, kWide);
  grid.y = static_cast<unsigned>(count);
  KONTOR_LAUNCH(finish_kernel, grid, dim3(kWide), 0, stream, in, factors, bias, rows, out, out_stride, accumulate, pair);
}

void fill_rope(const double* frequencies, float magnitude, std::int64_t pairs, const RowInfo* rows, std::int64_t count, float* cosines,
               float* sines, Stream stream) {
  KONTOR_LAUNCH(fill_rope_kernel, blocks_for(count * pairs), dim3(kThreads), 0, stream, frequencies, magnitude, pairs, rows, count, cosines, sines);
}

void place_heads(float* projected, std::int64_t count, const AttentionShape& shape, const float* query_norm, const float* key_norm,
                 float epsilon, const RopeView& rope, const RowInfo* rows, const KvView& cache, Stream stream) {
  const dim3 grid(static_cast<unsigned>(shape.heads + 2 * shape.kv_heads), static_cast<unsigned>(count));
  with_kv_format(cache.format, [&]<KvFormat F>() {
    const auto kernel = place_heads_kernel<F>;
    KONTOR_LAUNCH(kernel, grid, dim3(kWarp), 0, stream, projected, shape, query_norm, key_norm, epsilon, rope, rows, cache);
  });
}

void place_latent(float* projected, const float* queries, float* low, std::int64_t count, const AttentionShape& shape, const LatentPart& part,
                  const float* norm, float epsilon, const RopeView& rope, const RowInfo* rows, const KvView& cache, Stream stream) {
  const dim3 grid(static_cast<unsigned>(shape.heads + 1), static_cast<unsigned>(count));
  with_kv_format(cache.format, [&]<KvFormat F>() {
    const auto kernel = place_latent_kernel<F>;
    KONTOR_LAUNCH(kernel, grid, dim3(kWarp), 0, stream, projected, queries, low, shape, part, norm, epsilon, rope, rows, cache);
  });
}

}  // namespace kontor::inference::cuda
