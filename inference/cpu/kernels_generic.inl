// Kernels that are the same for every instruction set up to the width of a vector. Included inside the anonymous
// namespace of each kernels_*.cpp after it has defined
//   kWidth, kDenseTokens, V, zero(), splat(f), load(const float*), load_half(const uint16_t*), load_bf16(const uint16_t*),
//   load_bytes(const int8_t*), store(float*, V), fma(a, b, c) = a * b + c, fma(float, float, float), add, sub, mul, div, max, sum(V), largest(V), exp(V),
//   sum4(const V (&)[4], float*): the sums of four vectors,
//   half_bits_to_float(uint16_t), store_words(int16_t*, V): the nearest integers.
// No std:: templates here: code compiled for one processor must not be picked by the linker for another.

#include "inference/cpu/kernels_dense.inl"

/// Asks for elements that are needed soon: the pages of a timeline lie apart, which no prefetcher of the hardware sees.
template <class Load>
inline void fetch(const typename Load::Element* p, int count) {
  constexpr int kLine = 64 / static_cast<int>(sizeof(typename Load::Element));
  for (int i = 0; i < count; i += kLine) __builtin_prefetch(p + i, 0, 2);
}

/// One pass over the keys for Q queries; P vectors of positions at a time.
template <class Load, int Q>
void score_block(const float* q, std::int64_t q_stride, const typename Load::Element* keys,
                 const typename Load::Element* next, int head, float* scores, std::int64_t score_stride) {
  constexpr int P = kWidth >= 16 ? 2 : 1;
  for (int p = 0; p < kPage; p += P * kWidth) {
    V acc[Q][P];
#pragma GCC unroll 8
    for (int i = 0; i < Q; ++i)
#pragma GCC unroll 2
      for (int j = 0; j < P; ++j) acc[i][j] = zero();
    for (int d = 0; d < head; ++d) {
      if (next) fetch<Load>(next + d * kPage + p, P * kWidth);
      V key[P];
#pragma GCC unroll 2
      for (int j = 0; j < P; ++j) key[j] = Load::vector(keys + d * kPage + p + j * kWidth);
#pragma GCC unroll 8
      for (int i = 0; i < Q; ++i) {
        const V value = splat(q[i * q_stride + d]);
#pragma GCC unroll 2
        for (int j = 0; j < P; ++j) acc[i][j] = fma(value, key[j], acc[i][j]);
      }
    }
#pragma GCC unroll 8
    for (int i = 0; i < Q; ++i)
#pragma GCC unroll 2
      for (int j = 0; j < P; ++j) store(scores + i * score_stride + p + j * kWidth, acc[i][j]);
  }
}

template <class Load>
void score(const float* q, std::int64_t q_stride, int queries, const void* keys, const void* next_keys, int head,
           float* scores, std::int64_t score_stride) {
  const auto* k = static_cast<const typename Load::Element*>(keys);
  const auto* next = static_cast<const typename Load::Element*>(next_keys);
  int i = 0;
  for (; i + 6 <= queries; i += 6, next = nullptr)
    score_block<Load, 6>(q + i * q_stride, q_stride, k, next, head, scores + i * score_stride, score_stride);
  for (; i + 2 <= queries; i += 2, next = nullptr)
    score_block<Load, 2>(q + i * q_stride, q_stride, k, next, head, scores + i * score_stride, score_stride);
  for (; i < queries; ++i, next = nullptr)
    score_block<Load, 1>(q + i * q_stride, q_stride, k, next, head, scores + i * score_stride, score_stride);
}

/// Values [d, d + P * kWidth) of Q mixtures.
template <class Load, int Q, int P>
inline void mix_span(const float* weights, std::int64_t weight_stride, const typename Load::Element* values,
                     const typename Load::Element* next, int head, int count, int d, float* out, std::int64_t out_stride) {
  V acc[Q][P];
#pragma GCC unroll 8
  for (int i = 0; i < Q; ++i)
#pragma GCC unroll 2
    for (int j = 0; j < P; ++j) acc[i][j] = load(out + i * out_stride + d + j * kWidth);
  for (int p = 0; p < count; ++p) {
    if (next) fetch<Load>(next + p * head + d, P * kWidth);
    V value[P];
#pragma GCC unroll 2
    for (int j = 0; j < P; ++j) value[j] = Load::vector(values + p * head + d + j * kWidth);
#pragma GCC unroll 8
    for (int i = 0; i < Q; ++i) {
      const V weight = splat(weights[i * weight_stride + p]);
#pragma GCC unroll 2
      for (int j = 0; j < P; ++j) acc[i][j] = fma(weight, value[j], acc[i][j]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < Q; ++i)
#pragma GCC unroll 2
    for (int j = 0; j < P; ++j) store(out + i * out_stride + d + j * kWidth, acc[i][j]);
}

template <class Load, int Q>
void mix_block(const float* weights, std::int64_t weight_stride, const typename Load::Element* values,
               const typename Load::Element* next, int head, int count, float* out, std::int64_t out_stride) {
  constexpr int P = kWidth >= 16 ? 2 : 1;
  int d = 0;
  for (; d + P * kWidth <= head; d += P * kWidth)
    mix_span<Load, Q, P>(weights, weight_stride, values, next, head, count, d, out, out_stride);
  for (; d + kWidth <= head; d += kWidth)
    mix_span<Load, Q, 1>(weights, weight_stride, values, next, head, count, d, out, out_stride);
  for (; d < head; ++d)
    for (int i = 0; i < Q; ++i) {
      float total = out[i * out_stride + d];
      for (int p = 0; p < count; ++p) total = fma(weights[i * weight_stride + p], Load::scalar(values + p * head + d), total);
      out[i * out_stride + d] = total;
    }
}

template <class Load>
void mix(const float* weights, std::int64_t weight_stride, int queries, const void* values, const void* next_values,
         int head, int count, float* out, std::int64_t out_stride) {
  const auto* v = static_cast<const typename Load::Element*>(values);
  const auto* next = static_cast<const typename Load::Element*>(next_values);
  int i = 0;
  for (; i + 6 <= queries; i += 6, next = nullptr)
    mix_block<Load, 6>(weights + i * weight_stride, weight_stride, v, next, head, count, out + i * out_stride, out_stride);
  for (; i + 2 <= queries; i += 2, next = nullptr)
    mix_block<Load, 2>(weights + i * weight_stride, weight_stride, v, next, head, count, out + i * out_stride, out_stride);
  for (; i < queries; ++i, next = nullptr)
    mix_block<Load, 1>(weights + i * weight_stride, weight_stride, v, next, head, count, out + i * out_stride, out_stride);
}

/// Values in codes; their scales are multiplied into the weights.
struct LoadCodes {
  using Element = std::int8_t;
  static V vector(const std::int8_t* p) { return load_bytes(p); }
};

template <int Q>
void mix_coded_block(const float* weights, std::int64_t weight_stride, const std::byte* values, const std::byte* next, int head, int count,
                     float* out, std::int64_t out_stride) {
  constexpr int P = kWidth >= 16 ? 2 : 1;
  float scaled[Q * kPage];
  for (int d = 0; d < head; d += kBlock, values += kValueGroup) {
    const auto* scales = reinterpret_cast<const std::uint16_t*>(values);
    const auto* codes = reinterpret_cast<const std::int8_t*>(values) + 2 * kPage;
    if (next) fetch<LoadF16>(reinterpret_cast<const std::uint16_t*>(next), kPage);
    for (int p = 0; p < kPage; p += kWidth) {
      const V scale = load_half(scales + p);
#pragma GCC unroll 8
      for (int i = 0; i < Q; ++i) store(scaled + i * kPage + p, mul(load(weights + i * weight_stride + p), scale));
    }
    for (int part = 0; part < kBlock; part += P * kWidth) {
      const auto* ahead = next && part == 0 ? reinterpret_cast<const std::int8_t*>(next) + 2 * kPage : nullptr;
      mix_span<LoadCodes, Q, P>(scaled, kPage, codes + part, ahead, kBlock, count, 0, out + d + part, out_stride);
    }
    if (next) next += kValueGroup;
  }
}

void mix_coded(const float* weights, std::int64_t weight_stride, int queries, const void* values, const void* next_values, int head, int count,
               float* out, std::int64_t out_stride) {
  const auto* v = static_cast<const std::byte*>(values);
  const auto* next = static_cast<const std::byte*>(next_values);
  int i = 0;
  for (; i + 6 <= queries; i += 6, next = nullptr)
    mix_coded_block<6>(weights + i * weight_stride, weight_stride, v, next, head, count, out + i * out_stride, out_stride);
  for (; i + 2 <= queries; i += 2, next = nullptr)
    mix_coded_block<2>(weights + i * weight_stride, weight_stride, v, next, head, count, out + i * out_stride, out_stride);
  for (; i < queries; ++i, next = nullptr)
    mix_coded_block<1>(weights + i * weight_stride, weight_stride, v, next, head, count, out + i * out_stride, out_stride);
}

void quantize_wide(const float* x, std::int64_t index, const QuantizedRows& rows) {
  const std::int64_t blocks = rows.k / kBlock;
  for (std::int64_t b = 0; b < blocks; ++b, x += kBlock) {
    V tops = zero(), unordered = zero();
    for (int i = 0; i < kBlock; i += kWidth) {
      const V v = load(x + i);
      tops = max(tops, max(v, sub(zero(), v)));
      unordered = add(unordered, sub(v, v));  // Infinity minus infinity is not a number either.
    }
    const float top = largest(tops), doubt = sum(unordered);
    const bool finite = doubt == 0;
    const float inverse = finite && top >= kTiniest ? kHalfCodes / top : 0.0f;
    const std::int64_t at = index * blocks + b;
    for (int i = 0; i < kBlock; i += kWidth) store_words(rows.wide + at * kBlock + i, finite ? mul(load(x + i), splat(inverse)) : zero());
    rows.wide_scales[at] = finite ? (top >= kTiniest ? top / kHalfCodes : 0.0f) : __builtin_nanf("");
  }
}

/// Eight vectors at a time, with the same prefetch as the matrix kernels: reads as fast as the memory gives.
float sum_all(const float* x, std::int64_t n) {
  V acc[8];
  for (V& a : acc) a = zero();
  std::int64_t i = 0;
  for (; i + 8 * kWidth <= n; i += 8 * kWidth) {
#pragma GCC unroll 8
    for (int j = 0; j < 8 * kWidth; j += 16) __builtin_prefetch(x + i + 256 + j, 0, 2);
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) acc[j] = add(acc[j], load(x + i + j * kWidth));
  }
  float total = 0;
  for (const V& a : acc) total += sum(a);
  for (; i < n; ++i) total += x[i];
  return total;
}

void rms_norm(const float* x, const float* weight, float eps, std::int64_t n, float* out) {
  V squares = zero();
  std::int64_t i = 0;
  for (; i + kWidth <= n; i += kWidth) {
    const V v = load(x + i);
    squares = fma(v, v, squares);
  }
  double total = sum(squares);
  for (; i < n; ++i) total += double{x[i]} * x[i];
  const float factor = static_cast<float>(1.0 / __builtin_sqrt(total / static_cast<double>(n) + double{eps}));
  const V f = splat(factor);
  for (i = 0; i + kWidth <= n; i += kWidth) store(out + i, mul(mul(load(x + i), f), load(weight + i)));
  for (; i < n; ++i) out[i] = x[i] * factor * weight[i];
}

void silu_mul(float* gate, const float* up, std::int64_t n) {
  std::int64_t i = 0;
  const V one = splat(1.0f);
  for (; i + kWidth <= n; i += kWidth) {
    const V g = load(gate + i);
    store(gate + i, mul(div(g, add(one, exp(sub(zero(), g)))), load(up + i)));
  }
  for (; i < n; ++i) gate[i] = gate[i] / (1.0f + __builtin_expf(-gate[i])) * up[i];
}

void add_rows(float* x, const float* y, std::int64_t n) {
  std::int64_t i = 0;
  for (; i + kWidth <= n; i += kWidth) store(x + i, add(load(x + i), load(y + i)));
  for (; i < n; ++i) x[i] += y[i];
}

float exp_weights(float* x, float scale, std::int64_t n, float* shift_out) {
  V top = splat(-__builtin_inff());
  std::int64_t i = 0;
  for (; i + kWidth <= n; i += kWidth) top = max(top, load(x + i));
  float highest = largest(top);
  for (; i < n; ++i) highest = x[i] > highest ? x[i] : highest;
  highest *= scale;
  const V factor = splat(scale), shift = splat(-highest);
  V sums = zero();
  for (i = 0; i + kWidth <= n; i += kWidth) {
    const V e = exp(fma(load(x + i), factor, shift));
    sums = add(sums, e);
    store(x + i, e);
  }
  float total = sum(sums);
  for (; i < n; ++i) total += x[i] = __builtin_expf(x[i] * scale - highest);
  *shift_out = highest;
  return total;
}

/// The tile kernels of a KernelSet, in the order of PackedFormat.
#define KONTOR_TILE_KERNELS(tile_simple, tile_k, tile_fine, tile_half)                                                  \
  {tile_simple<4, 8, false>, tile_simple<4, 0, true>, tile_simple<5, 16, false>, tile_simple<5, 0, true>,               \
   tile_simple<8, 128, false>, tile_k<4>, tile_k<5>, tile_fine<6, 32>,                                                  \
   tile_fine<2, 0, CodeTable::none, true>, tile_fine<3, 4>, tile_simple<4, 0, false, CodeTable::non_linear>,            \
   tile_fine<4, 0, CodeTable::non_linear>, tile_simple<4, 0, false, CodeTable::e2m1_doubled, true>,                     \
   tile_fine<8, 128, CodeTable::none, false, true>, tile_half}
