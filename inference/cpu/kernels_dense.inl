// Matrices that lie row by row. Included inside the anonymous namespace of a kernels_*.cpp after what kernels_generic.inl
// asks for. A Load says how a type of weights meets its activations:
//   Element, Activation         what lies in memory
//   Weights, kStep              a vector of so many weights
//   vector(p), activations(p)   loads them; scalar(p), scalar_activation(x): one of them as float32
//   multiply(w, x, sums)        adds the products to 16 (kWidth) sums; which lane a product goes to depends on its column only

/// Weights of any width that meet float32 activations in float32.
struct FloatActivations {
  using Activation = float;
  using Weights = V;
  static constexpr int kStep = kWidth;
  static V activations(const float* p) { return load(p); }
  static float scalar_activation(float x) { return x; }
  static V multiply(V weights, V activations, V sums) { return fma(weights, activations, sums); }
};
struct LoadF32 : FloatActivations {
  using Element = float;
  static V vector(const float* p) { return load(p); }
  static float scalar(const float* p) { return *p; }
};
struct LoadF16 : FloatActivations {
  using Element = std::uint16_t;
  static V vector(const std::uint16_t* p) { return load_half(p); }
  static float scalar(const std::uint16_t* p) { return half_bits_to_float(*p); }
};
struct LoadBf16 : FloatActivations {
  using Element = std::uint16_t;
  static V vector(const std::uint16_t* p) { return load_bf16(p); }
  static float scalar(const std::uint16_t* p) { return __builtin_bit_cast(float, std::uint32_t{*p} << 16); }
};

constexpr int kDenseRows = 4;               // Weight rows that share one load of an activation.
constexpr std::int64_t kDenseChunk = 1024;  // Columns: a chunk of kDenseTokens activations fits into the first-level cache.
constexpr std::int64_t kDensePiece = 64;    // Rows whose sums are held between chunks.

/// Adds columns [begin, end) of R weight rows times T activations to `acc`. A pair's sum is that of its own lanes in the
/// order of columns, whatever R, T and the chunks. Fetch: asks for the next chunk of activations meanwhile.
template <class Load, int R, int T, bool Fetch>
inline void dense_chunk(const typename Load::Element* w, std::int64_t k, std::int64_t begin, std::int64_t end, const typename Load::Activation* x,
                        std::int64_t x_stride, V (&acc)[T][kDenseRows]) {
  constexpr std::int64_t kAhead = 1024 / static_cast<int>(sizeof(typename Load::Element));
  for (std::int64_t i = begin; i < end; i += Load::kStep) {
    // Decoding streams the weights: behind the end of its row a prefetch goes on in the next block of rows.
    if constexpr (T == 1) {
      const std::int64_t ahead = i + kAhead < k ? i + kAhead : i + kAhead + (R - 1) * k;
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) __builtin_prefetch(w + r * k + ahead, 0, 2);
    }
    typename Load::Weights weights[R];
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) weights[r] = Load::vector(w + r * k + i);
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      if constexpr (Fetch) __builtin_prefetch(x + t * x_stride + i + kDenseChunk, 0, 2);
      const auto activation = Load::activations(x + t * x_stride + i);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) acc[t][r] = Load::multiply(weights[r], activation, acc[t][r]);
    }
  }
}

/// Sums of the accumulators, and the columns behind the last whole vector.
template <class Load, int R, int T>
inline void dense_finish(const typename Load::Element* w, std::int64_t k, const typename Load::Activation* x, std::int64_t x_stride,
                         const V (&acc)[T][kDenseRows], float* out, std::int64_t out_stride) {
#pragma GCC unroll 8
  for (int t = 0; t < T; ++t) {
    float sums[kDenseRows];
    sum4(acc[t], sums);
    for (int r = 0; r < R; ++r) {
      float tail = 0;
      for (std::int64_t j = k / Load::kStep * Load::kStep; j < k; ++j) tail = fma(Load::scalar(w + r * k + j), Load::scalar_activation(x[t * x_stride + j]), tail);
      out[t * out_stride + r] = sums[r] + tail;
    }
  }
}

template <class Load, int R, int T>
void dense_whole(const typename Load::Element* w, std::int64_t k, const typename Load::Activation* x, std::int64_t x_stride, float* out,
                 std::int64_t out_stride) {
  V acc[T][kDenseRows];
#pragma GCC unroll 8
  for (int t = 0; t < T; ++t)
#pragma GCC unroll 4
    for (int r = 0; r < kDenseRows; ++r) acc[t][r] = zero();
  dense_chunk<Load, R, T, false>(w, k, 0, k / Load::kStep * Load::kStep, x, x_stride, acc);
  dense_finish<Load, R, T>(w, k, x, x_stride, acc, out, out_stride);
}

/// T activations times at most kDensePiece rows, a multiple of kDenseRows.
template <class Load, int T>
void dense_piece(const typename Load::Element* w, std::int64_t rows, std::int64_t k, const typename Load::Activation* x, std::int64_t x_stride,
                 float* out, std::int64_t out_stride) {
  if (T == 1 || k <= 2 * kDenseChunk) {
    for (std::int64_t r = 0; r < rows; r += kDenseRows) dense_whole<Load, kDenseRows, T>(w + r * k, k, x, x_stride, out + r, out_stride);
    return;
  }
  V held[kDensePiece / kDenseRows][T][kDenseRows];
  const std::int64_t whole = k / Load::kStep * Load::kStep;
  for (std::int64_t begin = 0; begin < whole; begin += kDenseChunk) {
    const std::int64_t end = begin + kDenseChunk < whole ? begin + kDenseChunk : whole;
    for (std::int64_t r = 0; r < rows; r += kDenseRows) {
      V acc[T][kDenseRows];
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t)
#pragma GCC unroll 4
        for (int i = 0; i < kDenseRows; ++i) acc[t][i] = begin == 0 ? zero() : held[r / kDenseRows][t][i];
      if (r == 0) dense_chunk<Load, kDenseRows, T, true>(w + r * k, k, begin, end, x, x_stride, acc);
      else dense_chunk<Load, kDenseRows, T, false>(w + r * k, k, begin, end, x, x_stride, acc);
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t)
#pragma GCC unroll 4
        for (int i = 0; i < kDenseRows; ++i) held[r / kDenseRows][t][i] = acc[t][i];
    }
  }
  for (std::int64_t r = 0; r < rows; r += kDenseRows)
    dense_finish<Load, kDenseRows, T>(w + r * k, k, x, x_stride, held[r / kDenseRows], out + r, out_stride);
}

template <class Load, int T>
void dense_tokens(const typename Load::Element* w, std::int64_t rows, std::int64_t k, const typename Load::Activation* x, std::int64_t x_stride,
                  float* out, std::int64_t out_stride) {
  std::int64_t r = 0;
  for (const std::int64_t whole = rows / kDenseRows * kDenseRows; r < whole; r += kDensePiece) {
    const std::int64_t n = whole - r < kDensePiece ? whole - r : kDensePiece;
    dense_piece<Load, T>(w + r * k, n, k, x, x_stride, out + r, out_stride);
  }
  for (r = rows / kDenseRows * kDenseRows; r < rows; ++r) dense_whole<Load, 1, T>(w + r * k, k, x, x_stride, out + r, out_stride);
}

/// Activations outside, rows inside: a group of activations stays in the first-level cache while the weights of a piece
/// come from the second level. The caller gives so many rows that they fit there.
template <class Load>
void dense(const void* weights, std::int64_t rows, std::int64_t k, const typename Load::Activation* x, std::int64_t x_stride,
           std::int64_t count, float* out, std::int64_t out_stride) {
  const auto* w = static_cast<const typename Load::Element*>(weights);
  std::int64_t t = 0;
  const auto take = [&]<int T>() {
    for (; t + T <= count; t += T) dense_tokens<Load, T>(w, rows, k, x + t * x_stride, x_stride, out + t * out_stride, out_stride);
  };
  take.template operator()<kDenseTokens>();
  if constexpr (kDenseTokens > 4) take.template operator()<4>();
  if constexpr (kDenseTokens > 2) take.template operator()<2>();
  take.template operator()<1>();
}
