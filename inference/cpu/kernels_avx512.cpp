// AVX-512 with VNNI (Zen 4, Ice Lake and later). Compiled with its own flags; call only after checking the processor.

#include "inference/cpu/kernels.hpp"

#if defined(__AVX512F__) && defined(__AVX512VNNI__)

#include <immintrin.h>

namespace kontor::inference::cpu {
namespace {

#include "inference/cpu/vector_avx512.inl"
#include "inference/cpu/kernels_generic.inl"
#include "inference/cpu/kernels_sampling.inl"

void quantize(const float* x, std::int64_t index, const QuantizedRows& rows) {
  const std::int64_t blocks = rows.k / kBlock;
  for (std::int64_t b = 0; b < blocks; ++b, x += kBlock) {
    const V v0 = load(x), v1 = load(x + 16);
    float top = largest(max(_mm512_abs_ps(v0), _mm512_abs_ps(v1)));
    if (top < kTiniest) top = 0;
    const float inverse = top > 0 ? 127.0f / top : 0.0f;
    const __mmask16 nan = _mm512_cmp_ps_mask(v0, v1, _CMP_UNORD_Q);
    const bool finite = nan == 0 && top <= __FLT_MAX__;
    __m512i q0 = _mm512_setzero_si512(), q1 = q0;
    if (finite) {
      q0 = _mm512_cvtps_epi32(_mm512_mul_ps(v0, splat(inverse)));
      q1 = _mm512_cvtps_epi32(_mm512_mul_ps(v1, splat(inverse)));
    }
    const std::int64_t at = index * blocks + b;
    auto* out = reinterpret_cast<__m128i*>(rows.values + at * kBlock);
    _mm_storeu_si128(out, _mm512_cvtepi32_epi8(q0));
    _mm_storeu_si128(out + 1, _mm512_cvtepi32_epi8(q1));
    const std::int32_t s0 = _mm512_reduce_add_epi32(q0), s1 = _mm512_reduce_add_epi32(q1);
    const float scale = finite ? top / 127.0f : __builtin_nanf("");
    rows.scales[at] = scale;
    rows.sums[at] = scale * static_cast<float>(s0 + s1);
    rows.half_sums[2 * at] = s0;
    rows.half_sums[2 * at + 1] = s1;
    rows.half_starts[2 * at] = -128 * s0;
    rows.half_starts[2 * at + 1] = -128 * s1;
  }
}

using u8 = std::uint8_t;

inline __m512i load_i(const u8* p) { return _mm512_loadu_si512(p); }
inline __m512i word_of(const std::int8_t* x, int g) {
  std::int32_t value;
  __builtin_memcpy(&value, x + 4 * g, 4);
  return _mm512_set1_epi32(value);
}
inline __m512i pair_of(const std::int16_t* x, int g) {
  std::int32_t value;
  __builtin_memcpy(&value, x + 2 * g, 4);
  return _mm512_set1_epi32(value);
}
inline V halves(const u8* p) { return load_half(reinterpret_cast<const std::uint16_t*>(p)); }
inline __m512i bytes_u(const u8* p) { return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
inline __m512i bytes_s(const u8* p) { return _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }

inline V bfloats(const u8* p) { return load_bf16(reinterpret_cast<const std::uint16_t*>(p)); }

/// Tables hold signed values; codes are unsigned.
inline constexpr int offset_of(CodeTable table, int offset) { return table == CodeTable::none ? offset : 128; }

/// Codes of word g of a block for 16 rows.
template <int Bits, CodeTable Table = CodeTable::none>
inline __m512i codes_of(const u8* p, int g) {
  // w | (shifted & bits)
  const auto with = [](__m512i w, __m512i high, int left, char bits) {
    const __m512i shifted = left >= 0 ? _mm512_slli_epi16(high, static_cast<unsigned>(left)) : _mm512_srli_epi16(high, static_cast<unsigned>(-left));
    return _mm512_ternarylogic_epi32(w, shifted, _mm512_set1_epi8(bits), 0xf8);
  };
  if constexpr (Bits == 8) return load_i(p + 64 * g);
  if constexpr (Bits < 4) {
    const __m512i low = _mm512_and_si512(_mm512_srli_epi16(load_i(p + 64 * (g / 4)), static_cast<unsigned>(2 * (g % 4))), _mm512_set1_epi8(3));
    return Bits == 2 ? low : with(low, load_i(p + 128), 2 - g, 4);
  }
  __m512i w = load_i(p + 64 * (g % 4));
  if (g >= 4) w = _mm512_srli_epi16(w, 4);
  w = _mm512_and_si512(w, _mm512_set1_epi8(15));
  if constexpr (Table != CodeTable::none) {
    const __m128i row = _mm_loadu_si128(reinterpret_cast<const __m128i*>(kCodeTables[static_cast<int>(Table)]));
    return _mm512_shuffle_epi8(_mm512_xor_si512(_mm512_broadcast_i32x4(row), _mm512_set1_epi8(-128)), w);
  }
  if constexpr (Bits == 5) return with(w, load_i(p + 256), 4 - g, 16);
  if constexpr (Bits == 6) return with(w, load_i(p + 256 + 64 * (g / 4)), 4 - 2 * (g % 4), 48);
  return w;
}

/// sums[r][t] += words [From, To) of tile r times activations of row t.
template <int Bits, CodeTable Table, int From, int To, int R, int T>
inline void dots(const u8* const (&p)[R], const std::int8_t* const (&x)[T], __m512i (&sums)[R][T]) {
#pragma GCC unroll 8
  for (int g = From; g < To; ++g) {
    __m512i w[R];
#pragma GCC unroll 2
    for (int r = 0; r < R; ++r) w[r] = codes_of<Bits, Table>(p[r], g);
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      const __m512i values = word_of(x[t], g);
#pragma GCC unroll 2
      for (int r = 0; r < R; ++r) sums[r][t] = _mm512_dpbusd_epi32(sums[r][t], w[r], values);
    }
  }
}

/// Brings weights a little ahead of the current ones into the second-level cache. Measured on Zen 4 with matrices far
/// larger than the caches (docs/performance.md): 1 KiB ahead is as good as any distance up to 2 KiB; from 4 KiB on it
/// works against the hardware's own prefetcher.
inline void prefetch(const u8* p, int bytes) {
#pragma GCC unroll 64
  for (int i = 0; i < bytes; i += 64) __builtin_prefetch(p + 1024 + i, 0, 2);
}

/// What a pass over the weights asks for meanwhile: what lies a little ahead, and a share of the tiles that come next. A
/// batch passes several times over the same tiles; memory would be idle in all passes but the first.
struct Fetch {
  bool stream;         ///< The pass reads its weights from memory.
  const u8* ahead;     ///< What comes next, from here on ...
  const u8* upto;      ///< ... has been asked for up to here.
  std::int64_t share;  ///< Bytes for each block of 32.

  template <int Bytes, int R>
  void block(const u8* const (&p)[R]) {
    if (stream)
      for (int r = 0; r < R; ++r) prefetch(p[r], Bytes);
    // Single tiles have nothing that comes next; the loop alone would cost decoding a quarter of its speed.
    if constexpr (R > 1)
      for (upto += share; ahead < upto; ahead += 64) __builtin_prefetch(ahead, 0, 2);
  }
};

/// How often the offset, a power of two, goes into 128, as a power of two.
inline constexpr unsigned shift_of(int offset) { return offset >= 128 ? 0 : 1 + shift_of(2 * offset); }
/// -Offset times the sum of `Halves` halves of a block, in every lane. Loads and shifts leave the multipliers alone, which
/// set the pace.
template <int Offset, int Halves>
inline __m512i start_of(const std::int32_t* half_starts) {
  if constexpr (Offset == 0) {
    return _mm512_setzero_si512();
  } else {
    __m512i start = _mm512_set1_epi32(half_starts[0]);
    if constexpr (Halves == 2) start = _mm512_add_epi32(start, _mm512_set1_epi32(half_starts[1]));
    return shift_of(Offset) == 0 ? start : _mm512_srai_epi32(start, shift_of(Offset));
  }
}

#define KONTOR_EACH _Pragma("GCC unroll 2") for (int r = 0; r < R; ++r) _Pragma("GCC unroll 8") for (int t = 0; t < T; ++t)

// The blocks below: R tiles times T activations. With two tiles an activation is read once for both, so that the
// multiplier, not the reading of operands, sets the pace.

template <int Bits, int Offset, bool Minimum, CodeTable Table = CodeTable::none, bool Bf16 = false>
struct Simple {
  static constexpr int kPaired = 6;  // Activations that meet two tiles: their sums stay in registers.

  template <int R, int T>
  static void block(const u8* (&p)[R], const QuantizedRows& a, std::int64_t first, float* out, std::int64_t out_stride, Fetch& fetch) {
    constexpr int kHeader = Minimum ? 64 : 32, kGroup = kHeader + Bits * 64, kOffset = offset_of(Table, Offset);
    const std::int64_t blocks = a.k / kBlock;
    V acc[R][T];
    KONTOR_EACH acc[r][t] = zero();
    for (std::int64_t b = 0; b < blocks; ++b) {
      fetch.template block<kGroup>(p);
      const u8* codes[R];
      const std::int8_t* x[T];
      __m512i sums[R][T];
      for (int r = 0; r < R; ++r) codes[r] = p[r] + kHeader;
      for (int t = 0; t < T; ++t) {
        const std::int64_t at = (first + t) * blocks + b;
        x[t] = a.values + at * kBlock;
        const __m512i start = start_of<kOffset, 2>(a.half_starts + 2 * at);
        for (int r = 0; r < R; ++r) sums[r][t] = start;
      }
      dots<Bits, Table, 0, 8, R, T>(codes, x, sums);
      for (int r = 0; r < R; ++r) {
        const V scale = Bf16 ? bfloats(p[r]) : halves(p[r]);
#pragma GCC unroll 8
        for (int t = 0; t < T; ++t) {
          const std::int64_t at = (first + t) * blocks + b;
          acc[r][t] = fma(mul(_mm512_cvtepi32_ps(sums[r][t]), splat(a.scales[at])), scale, acc[r][t]);
          if constexpr (Minimum) acc[r][t] = fma(halves(p[r] + 32), splat(a.sums[at]), acc[r][t]);
        }
        p[r] += kGroup;
      }
    }
    KONTOR_EACH store(out + t * out_stride + r * kTileRows, acc[r][t]);
  }
};

template <int Bits>
struct Nested {
  static constexpr int kPaired = 6;

  template <int R, int T>
  static void block(const u8* (&p)[R], const QuantizedRows& a, std::int64_t first, float* out, std::int64_t out_stride, Fetch& fetch) {
    constexpr int kHeader = 64 + 8 * 32, kCodes = Bits * 64;
    const std::int64_t groups = a.k / kSuperBlock;
    V acc[R][T];
    KONTOR_EACH acc[r][t] = zero();
    for (std::int64_t g = 0; g < groups; ++g) {
      V products[R][T];
      KONTOR_EACH products[r][t] = zero();
      for (int j = 0; j < 8; ++j) {
        const u8* codes[R];
        const std::int8_t* x[T];
        __m512i sums[R][T];
        for (int r = 0; r < R; ++r) codes[r] = p[r] + kHeader + j * kCodes;
        fetch.template block<kCodes>(codes);
        for (int t = 0; t < T; ++t) x[t] = a.values + (((first + t) * groups + g) * 8 + j) * kBlock;
        KONTOR_EACH sums[r][t] = _mm512_setzero_si512();
        dots<Bits, CodeTable::none, 0, 8, R, T>(codes, x, sums);
#pragma GCC unroll 2
        for (int r = 0; r < R; ++r) {
          const __m512i scale = bytes_u(p[r] + 64 + j * 32);
#pragma GCC unroll 8
          for (int t = 0; t < T; ++t) {
            const std::int64_t at = ((first + t) * groups + g) * 8 + j;
            products[r][t] = fma(_mm512_cvtepi32_ps(_mm512_mullo_epi32(sums[r][t], scale)), splat(a.scales[at]), products[r][t]);
          }
        }
      }
#pragma GCC unroll 2
      for (int r = 0; r < R; ++r) {
        V minima[T];
        for (int t = 0; t < T; ++t) minima[t] = zero();
        for (int j = 0; j < 8; ++j) {
          const V minimum = _mm512_cvtepi32_ps(bytes_u(p[r] + 64 + j * 32 + 16));
#pragma GCC unroll 8
          for (int t = 0; t < T; ++t) minima[t] = fma(minimum, splat(a.sums[((first + t) * groups + g) * 8 + j]), minima[t]);
        }
        const V d = halves(p[r]), dmin = halves(p[r] + 32);
#pragma GCC unroll 8
        for (int t = 0; t < T; ++t) acc[r][t] = _mm512_fnmadd_ps(dmin, minima[t], fma(d, products[r][t], acc[r][t]));
        p[r] += kHeader + 8 * kCodes;
      }
    }
    KONTOR_EACH store(out + t * out_stride + r * kTileRows, acc[r][t]);
  }
};

/// Blocks of 256 with a scale for 16 values (q6_k and those like it).
template <int Bits, int Offset, CodeTable Table = CodeTable::none, bool Minimum = false, bool Wide = false>
struct Fine {
  static constexpr int kPaired = 4;

  template <int R, int T>
  static void block(const u8* (&p)[R], const QuantizedRows& a, std::int64_t first, float* out, std::int64_t out_stride, Fetch& fetch) {
    constexpr int kFloats = (Wide ? 64 : 32) + (Minimum ? 32 : 0), kMinima = kFloats + 16 * 16;
    constexpr int kHeader = kMinima + (Minimum ? 16 * 16 : 0), kCodes = Bits * 64, kOffset = offset_of(Table, Offset);
    const std::int64_t groups = a.k / kSuperBlock;
    V acc[R][T];
    KONTOR_EACH acc[r][t] = zero();
    for (std::int64_t g = 0; g < groups; ++g) {
      V products[R][T];
      KONTOR_EACH products[r][t] = zero();
      for (int j = 0; j < 8; ++j) {
        const u8* codes[R];
        const std::int8_t* x[T];
        __m512i sums[2][R][T];
        for (int r = 0; r < R; ++r) codes[r] = p[r] + kHeader + j * kCodes;
        fetch.template block<kCodes>(codes);
        for (int t = 0; t < T; ++t) {
          const std::int64_t at = ((first + t) * groups + g) * 8 + j;
          x[t] = a.values + at * kBlock;
          for (int half = 0; half < 2; ++half) {
            const __m512i start = start_of<kOffset, 1>(a.half_starts + 2 * at + half);
            for (int r = 0; r < R; ++r) sums[half][r][t] = start;
          }
        }
        dots<Bits, Table, 0, 4, R, T>(codes, x, sums[0]);
        dots<Bits, Table, 4, 8, R, T>(codes, x, sums[1]);
#pragma GCC unroll 2
        for (int r = 0; r < R; ++r) {
          const __m512i scale0 = bytes_s(p[r] + kFloats + 2 * j * 16), scale1 = bytes_s(p[r] + kFloats + (2 * j + 1) * 16);
#pragma GCC unroll 8
          for (int t = 0; t < T; ++t) {
            const __m512i sum = _mm512_add_epi32(_mm512_mullo_epi32(sums[0][r][t], scale0), _mm512_mullo_epi32(sums[1][r][t], scale1));
            products[r][t] = fma(_mm512_cvtepi32_ps(sum), splat(a.scales[((first + t) * groups + g) * 8 + j]), products[r][t]);
          }
        }
      }
#pragma GCC unroll 2
      for (int r = 0; r < R; ++r) {
        const V d = Wide ? load(reinterpret_cast<const float*>(p[r])) : halves(p[r]);
#pragma GCC unroll 8
        for (int t = 0; t < T; ++t) acc[r][t] = fma(d, products[r][t], acc[r][t]);
        if constexpr (Minimum) {
          V minima[T];
#pragma GCC unroll 8
          for (int t = 0; t < T; ++t) minima[t] = zero();
          for (int j = 0; j < 8; ++j) {
            const __m512i minimum0 = bytes_u(p[r] + kMinima + 2 * j * 16), minimum1 = bytes_u(p[r] + kMinima + (2 * j + 1) * 16);
#pragma GCC unroll 8
            for (int t = 0; t < T; ++t) {
              const std::int64_t at = ((first + t) * groups + g) * 8 + j;
              const __m512i sum = _mm512_add_epi32(_mm512_mullo_epi32(minimum0, _mm512_set1_epi32(a.half_sums[2 * at])),
                                                   _mm512_mullo_epi32(minimum1, _mm512_set1_epi32(a.half_sums[2 * at + 1])));
              minima[t] = fma(_mm512_cvtepi32_ps(sum), splat(a.scales[at]), minima[t]);
            }
          }
          const V dmin = halves(p[r] + kFloats - 32);
#pragma GCC unroll 8
          for (int t = 0; t < T; ++t) acc[r][t] = _mm512_fnmadd_ps(dmin, minima[t], acc[r][t]);
        }
        p[r] += kHeader + 8 * kCodes;
      }
    }
    KONTOR_EACH store(out + t * out_stride + r * kTileRows, acc[r][t]);
  }
};

/// Codes of 16 bit.
struct Half {
  static constexpr int kPaired = 6;

  template <int R, int T>
  static void block(const u8* (&p)[R], const QuantizedRows& a, std::int64_t first, float* out, std::int64_t out_stride, Fetch& fetch) {
    constexpr int kHeader = 32, kGroup = kHeader + 16 * 64;
    const std::int64_t blocks = a.k / kBlock;
    V acc[R][T];
    KONTOR_EACH acc[r][t] = zero();
    for (std::int64_t b = 0; b < blocks; ++b) {
      fetch.template block<kGroup>(p);
      __m512i sums[R][T];
      KONTOR_EACH sums[r][t] = _mm512_setzero_si512();
#pragma GCC unroll 16
      for (int g = 0; g < 16; ++g) {
        __m512i w[R];
#pragma GCC unroll 2
        for (int r = 0; r < R; ++r) w[r] = load_i(p[r] + kHeader + 64 * g);
#pragma GCC unroll 8
        for (int t = 0; t < T; ++t) {
          const __m512i values = pair_of(a.wide + ((first + t) * blocks + b) * kBlock, g);
#pragma GCC unroll 2
          for (int r = 0; r < R; ++r) sums[r][t] = _mm512_dpwssd_epi32(sums[r][t], w[r], values);
        }
      }
#pragma GCC unroll 2
      for (int r = 0; r < R; ++r) {
        const V scale = bfloats(p[r]);
#pragma GCC unroll 8
        for (int t = 0; t < T; ++t)
          acc[r][t] = fma(mul(_mm512_cvtepi32_ps(sums[r][t]), splat(a.wide_scales[(first + t) * blocks + b])), scale, acc[r][t]);
        p[r] += kGroup;
      }
    }
    KONTOR_EACH store(out + t * out_stride + r * kTileRows, acc[r][t]);
  }
};

#undef KONTOR_EACH

/// Activations of the next group: Most, four, two or one. Six leave two of eight and three of nine, which cost nearly as
/// much as four: such remainders are taken by fours.
constexpr int group_of(std::int64_t left, int most) {
  if (left >= most && !(most == 6 && (left == 8 || left == 9))) return most;
  return left >= 4 ? 4 : left >= 2 ? 2 : 1;
}

template <class Layout, int R, int Most>
inline void in_groups(const std::byte* const (&tiles)[R], const Prefetch& prefetch, const QuantizedRows& a, std::int64_t first, std::int64_t count, float* out, std::int64_t out_stride) {
  const auto* ahead = reinterpret_cast<const u8*>(prefetch.ahead);
  Fetch fetch{prefetch.stream, ahead, ahead, 0};
  if (ahead) {
    std::int64_t groups = 0;
    for (std::int64_t t = 0; t < count; t += group_of(count - t, Most)) ++groups;
    // A single pass comes to what lies behind its tiles by streaming.
    const bool comes_by_itself = groups == 1 && prefetch.stream && prefetch.ahead == tiles[0] + R * (tiles[R - 1] - tiles[0]);
    fetch.share = comes_by_itself ? 0 : prefetch.bytes / (groups * (a.k / kBlock));
  }
  for (std::int64_t t = 0; t < count;) {
    const int group = group_of(count - t, Most);
    const auto take = [&]<int T>() {
      const u8* p[R];
      for (int r = 0; r < R; ++r) p[r] = reinterpret_cast<const u8*>(tiles[r]);
      Layout::template block<R, T>(p, a, first + t, out + t * out_stride, out_stride, fetch);
    };
    switch (group) {
      case 1: take.template operator()<1>(); break;
      case 2: take.template operator()<2>(); break;
      case 4: take.template operator()<4>(); break;
      default: take.template operator()<Most>();
    }
    t += group;
    fetch.stream = false;
  }
}

template <class Layout>
void tile(const std::byte* tile, const QuantizedRows& a, std::int64_t first, std::int64_t count, float* out, std::int64_t out_stride) {
  in_groups<Layout, 1, 8>({tile}, {}, a, first, count, out, out_stride);
}
template <class Layout>
void pair(const std::byte* tile, const std::byte* second, const Prefetch& prefetch, const QuantizedRows& a, std::int64_t first, std::int64_t count, float* out, std::int64_t out_stride) {
  in_groups<Layout, 2, Layout::kPaired>({tile, second}, prefetch, a, first, count, out, out_stride);
}


template <int Bits, int Offset, bool Minimum, CodeTable Table = CodeTable::none, bool Bf16 = false>
constexpr TileKernel tile_simple = tile<Simple<Bits, Offset, Minimum, Table, Bf16>>;
template <int Bits>
constexpr TileKernel tile_k = tile<Nested<Bits>>;
template <int Bits, int Offset, CodeTable Table = CodeTable::none, bool Minimum = false, bool Wide = false>
constexpr TileKernel tile_fine = tile<Fine<Bits, Offset, Table, Minimum, Wide>>;
constexpr TileKernel tile_half = tile<Half>;

template <int Bits, int Offset, bool Minimum, CodeTable Table = CodeTable::none, bool Bf16 = false>
constexpr TilePairKernel pair_simple = pair<Simple<Bits, Offset, Minimum, Table, Bf16>>;
template <int Bits>
constexpr TilePairKernel pair_k = pair<Nested<Bits>>;
template <int Bits, int Offset, CodeTable Table = CodeTable::none, bool Minimum = false, bool Wide = false>
constexpr TilePairKernel pair_fine = pair<Fine<Bits, Offset, Table, Minimum, Wide>>;
constexpr TilePairKernel pair_half = pair<Half>;

constexpr KernelSet kSet{
    "avx512",
    KONTOR_TILE_KERNELS(tile_simple, tile_k, tile_fine, tile_half),
    dense<LoadF32>, dense<LoadF16>, dense<LoadBf16>,
    score<LoadF32>, score<LoadF16>, mix<LoadF32>, mix<LoadF16>, mix_coded,
    quantize, quantize_wide, rms_norm, silu_mul, add_rows, exp_weights, sum_all, kSampling,
    KONTOR_TILE_KERNELS(pair_simple, pair_k, pair_fine, pair_half)};

}  // namespace

const KernelSet* avx512_kernels() { return &kSet; }

}  // namespace kontor::inference::cpu

#else

namespace kontor::inference::cpu {
const KernelSet* avx512_kernels() { return nullptr; }
}  // namespace kontor::inference::cpu

#endif
