// Attention over the paged cache. Decoding: the timeline's pages are shared out over blocks, each block keeps a running softmax
// for the query heads of one key head, and a second kernel joins the parts. Which page goes where depends on the timeline's
// length alone, so a token's result does not depend on its batch. Prefill: kernels around matrix products of the library.

#include "inference/cuda/kernels.hpp"
#include "base/cuda/warp.cuh"

namespace kontor::inference::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = 128;
constexpr float kNothing = -3.0e38f;  ///< Below every score.

template <bool Half>
__device__ void key_pair(const void* keys, std::int64_t at, float& a, float& b) {
  if constexpr (Half) {
    const std::uint32_t both = *reinterpret_cast<const std::uint32_t*>(static_cast<const std::uint16_t*>(keys) + at);
    a = half_value(static_cast<std::uint16_t>(both));
    b = half_value(static_cast<std::uint16_t>(both >> 16));
  } else {
    a = static_cast<const float*>(keys)[at];
    b = static_cast<const float*>(keys)[at + 1];
  }
}

/// Eight neighbouring values; `at` is a multiple of eight.
template <bool Half>
__device__ void eight_values(const void* from, std::int64_t at, float* out) {
  if constexpr (Half) {
    const Words4 words = *reinterpret_cast<const Words4*>(static_cast<const std::uint16_t*>(from) + at);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      out[2 * i] = half_value(static_cast<std::uint16_t>(words.at[i]));
      out[2 * i + 1] = half_value(static_cast<std::uint16_t>(words.at[i] >> 16));
    }
  } else {
    const Words4* words = reinterpret_cast<const Words4*>(static_cast<const float*>(from) + at);
    const Words4 a = words[0], b = words[1];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      out[i] = __builtin_bit_cast(float, a.at[i]);
      out[i + 4] = __builtin_bit_cast(float, b.at[i]);
    }
  }
}

/// VL neighbouring values; those from `limit` on are zero.
template <bool Half, int VL>
__device__ void value_piece(const void* values, std::int64_t base, int first, int limit, float (&out)[VL]) {
  if constexpr (VL % 8 == 0) {
    if (first + VL <= limit && limit % VL == 0) {
#pragma unroll
      for (int j = 0; j < VL; j += 8) eight_values<Half>(values, base + first + j, out + j);
      return;
    }
  }
  if (Half && first + VL <= limit && limit % VL == 0) {
    const std::uint32_t* from = reinterpret_cast<const std::uint32_t*>(static_cast<const std::uint16_t*>(values) + base + first);
#pragma unroll
    for (int j = 0; j < VL / 2; ++j) {
      out[2 * j] = half_value(static_cast<std::uint16_t>(from[j]));
      out[2 * j + 1] = half_value(static_cast<std::uint16_t>(from[j] >> 16));
    }
    return;
  }
#pragma unroll
  for (int j = 0; j < VL; ++j) {
    if (first + j >= limit) out[j] = 0;
    else if constexpr (Half) out[j] = half_value(static_cast<const std::uint16_t*>(values)[base + first + j]);
    else out[j] = static_cast<const float*>(values)[base + first + j];
  }
}

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
template <bool Half, bool Latent, int G, int VL>
__global__ void __launch_bounds__(kThreads) split_kernel(SplitArguments a) {
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
    if constexpr (Latent) {
      const std::int64_t first = page * a.cache.page_step + 2 * lane * shape.key_length, second = first + shape.key_length;
      for (int d = 0; d < key_length; d += 8) {
        float k0[8], k1[8];
        eight_values<Half>(a.cache.keys, first + d, k0);
        eight_values<Half>(a.cache.keys, second + d, k1);
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
      const std::int64_t key_base = page * a.cache.page_step + kv_head * shape.key_length * kPagePositions + 2 * lane;
      for (int d = 0; d < key_length; ++d) {
        float k0, k1;
        key_pair<Half>(a.cache.keys, key_base + static_cast<std::int64_t>(d) * kPagePositions, k0, k1);
#pragma unroll
        for (int g = 0; g < G; ++g) {
          const float q = query[d * G + g];
          score[g][0] += q * k0;
          score[g][1] += q * k1;
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
    const std::int64_t value_base = page * a.cache.page_step + kv_head * kPagePositions * shape.value_length;
    const std::int64_t value_step = Latent ? key_length : value_length;
    for (int i = 0; i < count; ++i) {
      float v[VL];
      value_piece<Half, VL>(Latent ? a.cache.keys : a.cache.values, value_base + static_cast<std::int64_t>(i) * value_step, lane * VL, value_length, v);
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

/// One block for each head and row.
__global__ void join_kernel(const float* partial, int splits, std::int64_t value_length, float* out) {
  const std::int64_t index = static_cast<std::int64_t>(blockIdx.y) * gridDim.x + blockIdx.x, entry = value_length + 2;
  const float* parts = partial + index * splits * entry;
  float top = kNothing;
  for (int s = 0; s < splits; ++s) top = fmaxf(top, parts[s * entry + value_length]);
  for (std::int64_t i = threadIdx.x; i < value_length; i += blockDim.x) {
    float sum = 0, weight = 0;
    for (int s = 0; s < splits; ++s) {
      const float factor = expf(parts[s * entry + value_length] - top);
      sum += parts[s * entry + i] * factor;
      weight += parts[s * entry + value_length + 1] * factor;
    }
    out[index * value_length + i] = sum / weight;
  }
}

/// Query heads that a block takes together, of those that share a key head.
std::int64_t heads_together(const AttentionShape& shape, bool latent) {
  const std::int64_t group = shape.heads / shape.kv_heads;
  if (group <= 2) return group;
  return group <= 4 || latent ? 4 : 8;  // More of the wide latent heads do not fit into 48 KiB.
}

template <bool Half, bool Latent, int G, int VL>
void launch_split(const SplitArguments& a, std::int64_t count, Stream stream) {
  const std::int64_t group = a.shape.heads / a.shape.kv_heads, chunks = (group + G - 1) / G;
  const dim3 grid(static_cast<unsigned>(a.splits), static_cast<unsigned>(a.shape.kv_heads * chunks), static_cast<unsigned>(count));
  const auto bytes = static_cast<std::size_t>(shared_floats<G>(a.shape)) * sizeof(float);
  const auto kernel = split_kernel<Half, Latent, G, VL>;
  KONTOR_LAUNCH(kernel, grid, dim3(kThreads), bytes, stream, a);
}

template <bool Half, bool Latent, int VL>
void launch_group(const SplitArguments& a, std::int64_t count, Stream stream) {
  switch (heads_together(a.shape, Latent)) {
    case 1: return launch_split<Half, Latent, 1, VL>(a, count, stream);
    case 2: return launch_split<Half, Latent, 2, VL>(a, count, stream);
    case 4: return launch_split<Half, Latent, 4, VL>(a, count, stream);
    default:
      if constexpr (!Latent) launch_split<Half, Latent, 8, VL>(a, count, stream);
  }
}

template <bool Half>
void launch_width(const SplitArguments& a, std::int64_t count, Stream stream) {
  if (a.cache.latent) {
    if (a.shape.value_length <= 64) return launch_group<Half, true, 2>(a, count, stream);
    if (a.shape.value_length <= 256) return launch_group<Half, true, 8>(a, count, stream);
    return launch_group<Half, true, 16>(a, count, stream);
  }
  if (a.shape.value_length <= 64) return launch_group<Half, false, 2>(a, count, stream);
  if (a.shape.value_length <= 128) return launch_group<Half, false, 4>(a, count, stream);
  launch_group<Half, false, 8>(a, count, stream);
}

template <bool Half>
__global__ void gather_cache_kernel(KvView cache, const std::int32_t* pages, AttentionShape shape, std::int64_t length, std::int64_t stride,
                                    std::uint16_t* keys, std::uint16_t* values) {
  const std::int64_t head = blockIdx.y, page = blockIdx.x, from_page = pages[page];
  const auto read = [](const void* from, std::int64_t at) {
    if constexpr (Half) return static_cast<const std::uint16_t*>(from)[at];
    else return half_bits(static_cast<const float*>(from)[at]);
  };
  const std::int64_t key_base = from_page * cache.page_step + head * shape.key_length * kPagePositions;
  for (std::int64_t i = threadIdx.x; i < shape.key_length * kPagePositions; i += blockDim.x) {
    const std::int64_t d = i / kPagePositions, position = page * kPagePositions + i % kPagePositions;
    if (position < stride) keys[(head * shape.key_length + d) * stride + position] = position < length ? read(cache.keys, key_base + i) : 0;
  }
  const std::int64_t value_base = from_page * cache.page_step + head * kPagePositions * shape.value_length;
  for (std::int64_t i = threadIdx.x; i < kPagePositions * shape.value_length; i += blockDim.x) {
    const std::int64_t position = page * kPagePositions + i / shape.value_length;
    if (position < length) values[(head * length + position) * shape.value_length + i % shape.value_length] = read(cache.values, value_base + i);
  }
}

template <bool Half>
__global__ void gather_latent_kernel(KvView cache, const std::int32_t* pages, std::int64_t key_length, std::int64_t length, std::uint16_t* keys) {
  const std::int64_t position = blockIdx.x;
  const std::int64_t from = position < length ? pages[position / kPagePositions] * cache.page_step + position % kPagePositions * key_length : 0;
  for (std::int64_t i = threadIdx.x; i < key_length; i += blockDim.x) {
    std::uint16_t bits = 0;
    if (position < length) {
      if constexpr (Half) bits = static_cast<const std::uint16_t*>(cache.keys)[from + i];
      else bits = half_bits(static_cast<const float*>(cache.keys)[from + i]);
    }
    keys[position * key_length + i] = bits;
  }
}

__global__ void gather_queries_kernel(const float* projected, AttentionShape shape, float scale, std::int64_t count, std::uint16_t* out) {
  const std::int64_t t = blockIdx.y, head = blockIdx.x, group = shape.heads / shape.kv_heads;
  const float* from = projected + t * shape.total() + head * shape.key_length;
  std::uint16_t* to = out + ((head / group * count + t) * group + head % group) * shape.key_length;
  for (std::int64_t i = threadIdx.x; i < shape.key_length; i += blockDim.x) to[i] = half_bits(from[i] * scale);
}

__global__ void causal_softmax_kernel(const float* scores, std::int64_t count, std::int64_t group, std::int64_t first, std::int64_t stride,
                                      std::uint16_t* weights) {
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
  const std::int64_t t = blockIdx.y, head = blockIdx.x, group = shape.heads / shape.kv_heads;
  const float* from = in + ((head / group * count + t) * group + head % group) * shape.value_length;
  float* to = out + (t * shape.heads + head) * shape.value_length;
  for (std::int64_t i = threadIdx.x; i < shape.value_length; i += blockDim.x) to[i] = from[i];
}

dim3 grid_of(std::int64_t x, std::int64_t y) { return dim3(static_cast<unsigned>(x), static_cast<unsigned>(y)); }

}  // namespace

void attend(const float* projected, std::int64_t count, const AttentionShape& shape, float scale, const RowInfo* rows, const KvView& cache,
            int splits, float* partial, float* out, Stream stream) {
  const SplitArguments arguments{projected, shape, scale, rows, cache, splits, partial};
  cache.half ? launch_width<true>(arguments, count, stream) : launch_width<false>(arguments, count, stream);
  KONTOR_LAUNCH(join_kernel, grid_of(shape.heads, count), dim3(kWarp), 0, stream, partial, splits, shape.value_length, out);
}

std::int64_t attention_blocks(const AttentionShape& shape, bool latent) {
  const std::int64_t together = heads_together(shape, latent);
  return shape.kv_heads * ((shape.heads / shape.kv_heads + together - 1) / together);
}

void gather_cache(const KvView& cache, const std::int32_t* pages, const AttentionShape& shape, std::int64_t length, std::int64_t stride,
                  std::uint16_t* keys, std::uint16_t* values, Stream stream) {
  if (cache.latent) {
    const auto kernel = cache.half ? gather_latent_kernel<true> : gather_latent_kernel<false>;
    KONTOR_LAUNCH(kernel, grid_of(stride, 1), dim3(kThreads), 0, stream, cache, pages, shape.key_length, length, keys);
    return;
  }
  const dim3 grid = grid_of((length + kPagePositions - 1) / kPagePositions, shape.kv_heads);
  const auto kernel = cache.half ? gather_cache_kernel<true> : gather_cache_kernel<false>;
  KONTOR_LAUNCH(kernel, grid, dim3(kThreads), 0, stream, cache, pages, shape, length, stride, keys, values);
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
