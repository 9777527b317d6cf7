// Attention over the paged cache. Decoding: the timeline's pages are shared out over blocks, each block keeps a running softmax
// for the query heads of one key head, and a second kernel joins the parts. Which page goes where depends on the timeline's
// length alone, so a token's result does not depend on its batch. Prefill: kernels around matrix products of the library.

#include "inference/cuda/kv_blocks.cuh"
#include "inference/cuda/quantize.cuh"

namespace kontor::inference::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = 128;
constexpr float kNothing = -3.0e38f;  ///< Below every score.

struct SplitArguments {
  const float* projected;
  AttentionShape shape;
  float scale;
  const RowInfo* rows;
  KvView cache;
  int splits;
  float* partial;
};

/// Floats of shared memory: queries, weights of each warp, accumulators of all warps but the first.
template <int G>
constexpr std::int64_t shared_floats(const AttentionShape& s) {
  return G * s.key_length + kWarps * G * kPagePositions + (kWarps - 1) * G * (s.value_length + 2);
}

/// Latent: positions lie as rows (key_length), whose beginning is the value; else keys lie with neighbouring positions together.
template <KvFormat F, bool Latent, int G, int VL>
__global__ void __launch_bounds__(kThreads) split_kernel(SplitArguments a) {
  begin_kernel();
  KONTOR_DYNAMIC_SHARED(float, shared);
  const AttentionShape& shape = a.shape;
  const int key_length = static_cast<int>(shape.key_length), value_length = static_cast<int>(shape.value_length);
  const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = static_cast<int>(threadIdx.x) % kWarp;
  const std::int64_t group = shape.heads / shape.kv_heads, chunks = (group + G - 1) / G;
  const std::int64_t kv_head = blockIdx.y / chunks, chunk = blockIdx.y % chunks, first_head = kv_head * group + chunk * G;
  const int queries = static_cast<int>(chunk * G + G <= group ? G : group - chunk * G);
  const RowInfo info = a.rows[blockIdx.z];

  float* query = shared;  // (key_length, G): the queries of a key's value lie together
  float* weights = shared + G * key_length + warp * G * kPagePositions;
  float* others = shared + G * key_length + kWarps * G * kPagePositions;
  const float* from = a.projected + static_cast<std::int64_t>(blockIdx.z) * shape.total() + first_head * key_length;
  for (int i = static_cast<int>(threadIdx.x); i < G * key_length; i += kThreads) {
    const int g = i % G, d = i / G;
    query[i] = g < queries ? from[g * key_length + d] * a.scale : 0.0f;
  }
  __syncthreads();

  const int visible = info.position + 1, pages = (visible + kPagePositions - 1) / kPagePositions;
  const int share = (pages + a.splits - 1) / a.splits;
  const int begin = static_cast<int>(blockIdx.x) * share, end = begin + share < pages ? begin + share : pages;
  float most[G], total[G], mixed[G][VL];
#pragma unroll
  for (int g = 0; g < G; ++g) {
    most[g] = kNothing;
    total[g] = 0;
#pragma unroll
    for (int j = 0; j < VL; ++j) mixed[g][j] = 0;
  }
  for (int p = begin + warp; p < end; p += kWarps) {
    const std::int64_t page = info.pages[p];
    float score[G][2] = {};
    const std::byte* keys = a.cache.key_block(page, kv_head, shape.key_length);
    if constexpr (Latent) {
      for (int d = 0; d < key_length; d += 8) {
        float k0[8], k1[8];
        eight_of_row<F>(keys, shape.key_length, 2 * lane, d, k0);
        eight_of_row<F>(keys, shape.key_length, 2 * lane + 1, d, k1);
#pragma unroll
        for (int j = 0; j < 8; ++j)
#pragma unroll
          for (int g = 0; g < G; ++g) {
            const float q = query[(d + j) * G + g];
            score[g][0] += q * k0[j];
            score[g][1] += q * k1[j];
          }
      }
    } else {
      for (int d = 0; d < key_length; d += 4) {
        float k0[4], k1[4];
        four_of_two_keys<F>(keys, shape.key_length, d, 2 * lane, k0, k1);
#pragma unroll
        for (int j = 0; j < 4; ++j)
#pragma unroll
          for (int g = 0; g < G; ++g) {
            const float q = query[(d + j) * G + g];
            score[g][0] += q * k0[j];
            score[g][1] += q * k1[j];
          }
      }
    }
    const int left = visible - p * kPagePositions;  // Positions of this page that may be seen; at least one.
#pragma unroll
    for (int g = 0; g < G; ++g) {
      const float s0 = 2 * lane < left ? score[g][0] : kNothing, s1 = 2 * lane + 1 < left ? score[g][1] : kNothing;
      const float next = fmaxf(most[g], warp_max(fmaxf(s0, s1)));
      const float keep = expf(most[g] - next);
      const float w0 = 2 * lane < left ? expf(s0 - next) : 0.0f, w1 = 2 * lane + 1 < left ? expf(s1 - next) : 0.0f;
      total[g] = total[g] * keep + warp_sum(w0 + w1);
#pragma unroll
      for (int j = 0; j < VL; ++j) mixed[g][j] *= keep;
      most[g] = next;
      weights[g * kPagePositions + 2 * lane] = w0;
      weights[g * kPagePositions + 2 * lane + 1] = w1;
    }
    __syncwarp();
    const int count = left < kPagePositions ? left : kPagePositions;
    const std::byte* values = Latent ? keys : a.cache.value_block(page, kv_head, shape.value_length);
    const std::int64_t row_length = Latent ? shape.key_length : shape.value_length;
    for (int i = 0; i < count; ++i) {
      float v[VL];
      piece_of_row<F, VL>(values, row_length, i, lane * VL, value_length, v);
#pragma unroll
      for (int g = 0; g < G; ++g) {
        const float w = weights[g * kPagePositions + i];
#pragma unroll
        for (int j = 0; j < VL; ++j) mixed[g][j] += w * v[j];
      }
    }
    __syncwarp();
  }

  const int entry = value_length + 2;
  if (warp > 0)
#pragma unroll
    for (int g = 0; g < G; ++g) {
      float* to = others + ((warp - 1) * G + g) * entry;
#pragma unroll
      for (int j = 0; j < VL; ++j)
        if (lane * VL + j < value_length) to[lane * VL + j] = mixed[g][j];
      if (lane == 0) {
        to[value_length] = most[g];
        to[value_length + 1] = total[g];
      }
    }
  __syncthreads();
  if (warp > 0) return;
  for (int g = 0; g < queries; ++g) {
    float top = most[g];
    for (int w = 0; w < kWarps - 1; ++w) top = fmaxf(top, others[(w * G + g) * entry + value_length]);
    float sum = total[g] * expf(most[g] - top);
#pragma unroll
    for (int j = 0; j < VL; ++j) mixed[g][j] *= expf(most[g] - top);
    for (int w = 0; w < kWarps - 1; ++w) {
      const float* part = others + (w * G + g) * entry;
      const float factor = expf(part[value_length] - top);
      sum += part[value_length + 1] * factor;
#pragma unroll
      for (int j = 0; j < VL; ++j)
        if (lane * VL + j < value_length) mixed[g][j] += part[lane * VL + j] * factor;
    }
    float* to = a.partial + ((static_cast<std::int64_t>(blockIdx.z) * shape.heads + first_head + g) * a.splits + blockIdx.x) * entry;
#pragma unroll
    for (int j = 0; j < VL; ++j)
      if (lane * VL + j < value_length) to[lane * VL + j] = mixed[g][j];
    if (lane == 0) {
      to[value_length] = top;
      to[value_length + 1] = sum;
    }
  }
}

/// One warp for each head and row.
__global__ void join_kernel(const float* partial, int splits, std::int64_t value_length, ActivationTarget out) {
  begin_kernel();
  const std::int64_t index = static_cast<std::int64_t>(blockIdx.y) * gridDim.x + blockIdx.x, entry = value_length + 2;
  const float* parts = partial + index * splits * entry;
  float top = kNothing;
  for (int s = 0; s < splits; ++s) top = fmaxf(top, parts[s * entry + value_length]);
  for (std::int64_t i = threadIdx.x; i < value_length; i += kWarp) {
    float sum = 0, weight = 0;
    for (int s = 0; s < splits; ++s) {
      const float factor = expf(parts[s * entry + value_length] - top);
      sum += parts[s * entry + i] * factor;
      weight += parts[s * entry + value_length + 1] * factor;
    }
    const float value = sum / weight;
    out.values[index * value_length + i] = value;
    if (out.codes) quantize_span(value, (index * value_length + i) / kSpan, out, static_cast<int>(threadIdx.x));
  }
}

/// Query heads that a block takes together, of those that share a key head.
std::int64_t heads_together(const AttentionShape& shape, bool latent) {
  const std::int64_t group = shape.heads / shape.kv_heads;
  if (group <= 2) return group;
  return group <= 4 || latent ? 4 : 8;  // More of the wide latent heads do not fit into 48 KiB.
}

template <KvFormat F, bool Latent, int G, int VL>
void launch_split(const SplitArguments& a, std::int64_t count, Stream stream) {
  const std::int64_t group = a.shape.heads / a.shape.kv_heads, chunks = (group + G - 1) / G;
  const dim3 grid(static_cast<unsigned>(a.splits), static_cast<unsigned>(a.shape.kv_heads * chunks), static_cast<unsigned>(count));
  const auto bytes = static_cast<std::size_t>(shared_floats<G>(a.shape)) * sizeof(float);
  const auto kernel = split_kernel<F, Latent, G, VL>;
  KONTOR_LAUNCH(kernel, grid, dim3(kThreads), bytes, stream, a);
}

template <KvFormat F, bool Latent, int VL>
void launch_group(const SplitArguments& a, std::int64_t count, Stream stream) {
  switch (heads_together(a.shape, Latent)) {
    case 1: return launch_split<F, Latent, 1, VL>(a, count, stream);
    case 2: return launch_split<F, Latent, 2, VL>(a, count, stream);
    case 4: return launch_split<F, Latent, 4, VL>(a, count, stream);
    default:
      if constexpr (!Latent) launch_split<F, Latent, 8, VL>(a, count, stream);
  }
}

template <KvFormat F>
void launch_width(const SplitArguments& a, std::int64_t count, Stream stream) {
  if (a.cache.latent) {
    if (a.shape.value_length <= 64) return launch_group<F, true, 2>(a, count, stream);
    if (a.shape.value_length <= 256) return launch_group<F, true, 8>(a, count, stream);
    return launch_group<F, true, 16>(a, count, stream);
  }
  if (a.shape.value_length <= 64) return launch_group<F, false, 2>(a, count, stream);
  if (a.shape.value_length <= 128) return launch_group<F, false, 4>(a, count, stream);
  launch_group<F, false, 8>(a, count, stream);
}

template <KvFormat F>
__global__ void gather_cache_kernel(KvView cache, const std::int32_t* pages, AttentionShape shape, std::int64_t length, std::int64_t stride,
                                    std::uint16_t* keys, std::uint16_t* values) {
  begin_kernel();
  const std::int64_t head = blockIdx.y, page = blockIdx.x, from_page = pages[page];
  const std::byte* key_block = cache.key_block(from_page, head, shape.key_length);
  for (std::int64_t i = threadIdx.x; i < shape.key_length * kPagePositions; i += blockDim.x) {
    const std::int64_t d = i / kPagePositions, slot = i % kPagePositions, position = page * kPagePositions + slot;
    if (position >= stride) continue;
    keys[(head * shape.key_length + d) * stride + position] = position < length ? half_bits(key_value_at<F>(key_block, shape.key_length, d, slot)) : 0;
  }
  const std::byte* value_block = cache.value_block(from_page, head, shape.value_length);
  for (std::int64_t i = threadIdx.x; i < kPagePositions * shape.value_length; i += blockDim.x) {
    const std::int64_t slot = i / shape.value_length, position = page * kPagePositions + slot, d = i % shape.value_length;
    if (position < length)
      values[(head * length + position) * shape.value_length + d] = half_bits(row_value_at<F>(value_block, shape.value_length, slot, d));
  }
}

template <KvFormat F>
__global__ void gather_latent_kernel(KvView cache, const std::int32_t* pages, std::int64_t key_length, std::int64_t length, std::uint16_t* keys) {
  begin_kernel();
  const std::int64_t position = blockIdx.x, slot = position % kPagePositions;
  const std::byte* block = position < length ? cache.key_block(pages[position / kPagePositions], 0, key_length) : nullptr;
  for (std::int64_t i = threadIdx.x; i < key_length; i += blockDim.x)
    keys[position * key_length + i] = block ? half_bits(row_value_at<F>(block, key_length, slot, i)) : 0;
}

__global__ void gather_queries_kernel(const float* projected, AttentionShape shape, float scale, std::int64_t count, std::uint16_t* out) {
  begin_kernel();
  const std::int64_t t = blockIdx.y, head = blockIdx.x, group = shape.heads / shape.kv_heads;
  const float* from = projected + t * shape.total() + head * shape.key_length;
  std::uint16_t* to = out + ((head / group * count + t) * group + head % group) * shape.key_length;
  for (std::int64_t i = threadIdx.x; i < shape.key_length; i += blockDim.x) to[i] = half_bits(from[i] * scale);
}

__global__ void causal_softmax_kernel(const float* scores, std::int64_t count, std::int64_t group, std::int64_t first, std::int64_t stride,
                                      std::uint16_t* weights) {
  begin_kernel();
  const std::int64_t row = blockIdx.x, visible = first + row % (count * group) / group + 1;
  const float* from = scores + row * stride;
  std::uint16_t* to = weights + row * stride;
  float top = kNothing;
  for (std::int64_t i = threadIdx.x; i < visible; i += blockDim.x) top = fmaxf(top, from[i]);
  top = block_max(top);
  float sum = 0;
  for (std::int64_t i = threadIdx.x; i < visible; i += blockDim.x) sum += expf(from[i] - top);
  const float inverse = 1.0f / block_sum(sum);
  for (std::int64_t i = threadIdx.x; i < stride; i += blockDim.x) to[i] = i < visible ? half_bits(expf(from[i] - top) * inverse) : 0;
}

__global__ void scatter_mixed_kernel(const float* in, AttentionShape shape, std::int64_t count, float* out) {
  begin_kernel();
  const std::int64_t t = blockIdx.y, head = blockIdx.x, group = shape.heads / shape.kv_heads;
  const float* from = in + ((head / group * count + t) * group + head % group) * shape.value_length;
  float* to = out + (t * shape.heads + head) * shape.value_length;
  for (std::int64_t i = threadIdx.x; i < shape.value_length; i += blockDim.x) to[i] = from[i];
}

dim3 grid_of(std::int64_t x, std::int64_t y) { return dim3(static_cast<unsigned>(x), static_cast<unsigned>(y)); }

}  // namespace

void attend(const float* projected, std::int64_t count, const AttentionShape& shape, float scale, const RowInfo* rows, const KvView& cache,
            int splits, float* partial, const ActivationTarget& out, Stream stream) {
  const SplitArguments arguments{projected, shape, scale, rows, cache, splits, partial};
  with_kv_format(cache.format, [&]<KvFormat F>() { launch_width<F>(arguments, count, stream); });
  KONTOR_LAUNCH(join_kernel, grid_of(shape.heads, count), dim3(kWarp), 0, stream, partial, splits, shape.value_length, out);
}

std::int64_t attention_blocks(const AttentionShape& shape, bool latent) {
  const std::int64_t together = heads_together(shape, latent);
  return shape.kv_heads * ((shape.heads / shape.kv_heads + together - 1) / together);
}

void gather_cache(const KvView& cache, const std::int32_t* pages, const AttentionShape& shape, std::int64_t length, std::int64_t stride,
                  std::uint16_t* keys, std::uint16_t* values, Stream stream) {
  if (cache.latent) {
    return with_kv_format(cache.format, [&]<KvFormat F>() {
      const auto kernel = gather_latent_kernel<F>;
      KONTOR_LAUNCH(kernel, grid_of(stride, 1), dim3(kThreads), 0, stream, cache, pages, shape.key_length, length, keys);
    });
  }
  const dim3 grid = grid_of((length + kPagePositions - 1) / kPagePositions, shape.kv_heads);
  with_kv_format(cache.format, [&]<KvFormat F>() {
    const auto kernel = gather_cache_kernel<F>;
    KONTOR_LAUNCH(kernel, grid, dim3(kThreads), 0, stream, cache, pages, shape, length, stride, keys, values);
  });
}

void gather_queries(const float* projected, std::int64_t count, const AttentionShape& shape, float scale, std::uint16_t* out, Stream stream) {
  KONTOR_LAUNCH(gather_queries_kernel, grid_of(shape.heads, count), dim3(kWarp), 0, stream, projected, shape, scale, count, out);
}

void causal_softmax(const float* scores, std::int64_t rows, std::int64_t count, std::int64_t group, std::int64_t first, std::int64_t stride,
                    std::uint16_t* weights, Stream stream) {
  KONTOR_LAUNCH(causal_softmax_kernel, grid_of(rows, 1), dim3(kThreads), 0, stream, scores, count, group, first, stride, weights);
}

void scatter_mixed(const float* in, std::int64_t count, const AttentionShape& shape, float* out, Stream stream) {
  KONTOR_LAUNCH(scatter_mixed_kernel, grid_of(shape.heads, count), dim3(kWarp), 0, stream, in, shape, count, out);
}

}  // namespace kontor::inference::cuda
