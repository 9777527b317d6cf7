// Kernels that are the same for every instruction set up to the width of a vector. Included inside the anonymous
// namespace of each kernels_*.cpp after it has defined
//   kWidth, V, zero(), splat(f), load(const float*), load_half(const uint16_t*), load_bf16(const uint16_t*),
//   store(float*, V), fma(a, b, c) = a * b + c, fma(float, float, float), add, sub, mul, div, max, sum(V), largest(V), exp(V),
//   half_bits_to_float(uint16_t).
// No std:: templates here: code compiled for one processor must not be picked by the linker for another.

struct LoadF32 {
  using Element = float;
  static V vector(const float* p) { return load(p); }
  static float scalar(const float* p) { return *p; }
};
struct LoadF16 {
  using Element = std::uint16_t;
  static V vector(const std::uint16_t* p) { return load_half(p); }
  static float scalar(const std::uint16_t* p) { return half_bits_to_float(*p); }
};
struct LoadBf16 {
  using Element = std::uint16_t;
  static V vector(const std::uint16_t* p) { return load_bf16(p); }
  static float scalar(const std::uint16_t* p) { return __builtin_bit_cast(float, std::uint32_t{*p} << 16); }
};

/// R weight rows times T activations; one accumulator for each pair, so that the sum of a pair never depends on R, T.
template <class Load, int R, int T>
void dense_block(const typename Load::Element* w, std::int64_t k, const float* x, std::int64_t x_stride, float* out,
                 std::int64_t out_stride) {
  V acc[R][T];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) acc[r][t] = zero();
  std::int64_t i = 0;
  for (; i + kWidth <= k; i += kWidth) {
    V activations[T];
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) activations[t] = load(x + t * x_stride + i);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const V weights = Load::vector(w + r * k + i);
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) acc[r][t] = fma(weights, activations[t], acc[r][t]);
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int t = 0; t < T; ++t) {
      float tail = 0;
      for (std::int64_t j = i; j < k; ++j) tail = fma(Load::scalar(w + r * k + j), x[t * x_stride + j], tail);
      out[t * out_stride + r] = sum(acc[r][t]) + tail;
    }
  }
}

template <class Load, int R>
void dense_rows(const typename Load::Element* w, std::int64_t k, const float* x, std::int64_t x_stride,
                std::int64_t count, float* out, std::int64_t out_stride) {
  std::int64_t t = 0;
  for (; t + 4 <= count; t += 4) dense_block<Load, R, 4>(w, k, x + t * x_stride, x_stride, out + t * out_stride, out_stride);
  for (; t < count; ++t) dense_block<Load, R, 1>(w, k, x + t * x_stride, x_stride, out + t * out_stride, out_stride);
}

template <class Load>
void dense(const void* weights, std::int64_t rows, std::int64_t k, const float* x, std::int64_t x_stride,
           std::int64_t count, float* out, std::int64_t out_stride) {
  const auto* w = static_cast<const typename Load::Element*>(weights);
  std::int64_t r = 0;
  for (; r + 4 <= rows; r += 4) dense_rows<Load, 4>(w + r * k, k, x, x_stride, count, out + r, out_stride);
  for (; r < rows; ++r) dense_rows<Load, 1>(w + r * k, k, x, x_stride, count, out + r, out_stride);
}

/// One pass over the keys for Q queries; P vectors of positions at a time.
template <class Load, int Q>
void score_block(const float* q, std::int64_t q_stride, const typename Load::Element* keys, int head, float* scores,
                 std::int64_t score_stride) {
  constexpr int P = kWidth >= 16 ? 2 : 1;
  for (int p = 0; p < kPage; p += P * kWidth) {
    V acc[Q][P];
#pragma GCC unroll 8
    for (int i = 0; i < Q; ++i)
#pragma GCC unroll 2
      for (int j = 0; j < P; ++j) acc[i][j] = zero();
    for (int d = 0; d < head; ++d) {
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
void score(const float* q, std::int64_t q_stride, int queries, const void* keys, int head, float* scores,
           std::int64_t score_stride) {
  const auto* k = static_cast<const typename Load::Element*>(keys);
  int i = 0;
  for (; i + 6 <= queries; i += 6) score_block<Load, 6>(q + i * q_stride, q_stride, k, head, scores + i * score_stride, score_stride);
  for (; i + 2 <= queries; i += 2) score_block<Load, 2>(q + i * q_stride, q_stride, k, head, scores + i * score_stride, score_stride);
  for (; i < queries; ++i) score_block<Load, 1>(q + i * q_stride, q_stride, k, head, scores + i * score_stride, score_stride);
}

/// Values [d, d + P * kWidth) of Q mixtures.
template <class Load, int Q, int P>
inline void mix_span(const float* weights, std::int64_t weight_stride, const typename Load::Element* values, int head,
                     int count, int d, float* out, std::int64_t out_stride) {
  V acc[Q][P];
#pragma GCC unroll 8
  for (int i = 0; i < Q; ++i)
#pragma GCC unroll 2
    for (int j = 0; j < P; ++j) acc[i][j] = load(out + i * out_stride + d + j * kWidth);
  for (int p = 0; p < count; ++p) {
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
void mix_block(const float* weights, std::int64_t weight_stride, const typename Load::Element* values, int head,
               int count, float* out, std::int64_t out_stride) {
  constexpr int P = kWidth >= 16 ? 2 : 1;
  int d = 0;
  for (; d + P * kWidth <= head; d += P * kWidth)
    mix_span<Load, Q, P>(weights, weight_stride, values, head, count, d, out, out_stride);
  for (; d + kWidth <= head; d += kWidth)
    mix_span<Load, Q, 1>(weights, weight_stride, values, head, count, d, out, out_stride);
  for (; d < head; ++d)
    for (int i = 0; i < Q; ++i) {
      float total = out[i * out_stride + d];
      for (int p = 0; p < count; ++p) total = fma(weights[i * weight_stride + p], Load::scalar(values + p * head + d), total);
      out[i * out_stride + d] = total;
    }
}

template <class Load>
void mix(const float* weights, std::int64_t weight_stride, int queries, const void* values, int head, int count,
         float* out, std::int64_t out_stride) {
  const auto* v = static_cast<const typename Load::Element*>(values);
  int i = 0;
  for (; i + 6 <= queries; i += 6)
    mix_block<Load, 6>(weights + i * weight_stride, weight_stride, v, head, count, out + i * out_stride, out_stride);
  for (; i + 2 <= queries; i += 2)
    mix_block<Load, 2>(weights + i * weight_stride, weight_stride, v, head, count, out + i * out_stride, out_stride);
  for (; i < queries; ++i)
    mix_block<Load, 1>(weights + i * weight_stride, weight_stride, v, head, count, out + i * out_stride, out_stride);
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

void softmax(float* x, float scale, std::int64_t n) {
  V top = splat(-__builtin_inff());
  std::int64_t i = 0;
  for (; i + kWidth <= n; i += kWidth) top = max(top, load(x + i));
  float highest = largest(top);
  for (; i < n; ++i) highest = x[i] > highest ? x[i] : highest;
  const V factor = splat(scale), shift = splat(-highest * scale);
  V sums = zero();
  for (i = 0; i + kWidth <= n; i += kWidth) {
    const V e = exp(fma(load(x + i), factor, shift));
    sums = add(sums, e);
    store(x + i, e);
  }
  float total = sum(sums);
  for (; i < n; ++i) total += x[i] = __builtin_expf((x[i] - highest) * scale);
  const float inverse = 1.0f / total;
  const V share = splat(inverse);
  for (i = 0; i + kWidth <= n; i += kWidth) store(x + i, mul(load(x + i), share));
  for (; i < n; ++i) x[i] *= inverse;
}
