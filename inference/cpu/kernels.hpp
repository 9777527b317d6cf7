#pragma once
// The arithmetic of the CPU backend. Every instruction set has one table of functions; all are compiled in, the best
// one is chosen at run time, and each is addressable by name so that tests can hold it against the scalar one.
//
// Quantised matrices are held as tiles of 16 output rows (layouts in packed.hpp), activations as int8 blocks of 32.
// For one output element every kernel does the same operations in the same order whatever the number of rows in the
// batch, so that a token's result does not depend on what it was computed together with.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace kontor::inference::cpu {

inline constexpr int kTileRows = 16;
inline constexpr int kBlock = 32;         ///< Values that share a scale.
inline constexpr int kSuperBlock = 256;   ///< Values that share a second-level scale.
inline constexpr int kHalfCodes = 8191;   ///< 16-bit codes reach so far: a sum of 32 products of two of them fits into 32 bits.
inline constexpr float kTiniest = 1e-36f;  ///< Blocks with nothing larger are zero: 127 / x must not overflow.
inline constexpr int kPage = 64;          ///< Positions in a page of the KV cache.
inline constexpr int kValueGroup = kPage * (2 + kBlock);  ///< Bytes of 32 coded values of a page's positions.

/// How a tile stores its weights; see packed.hpp.
enum class PackedFormat : std::uint8_t { q4_0, q4_1, q5_0, q5_1, q8_0, q4_k, q5_k, q6_k, q2_k, q3_k, iq4_nl, iq4_xs, mxfp4, wide_k, half };
inline constexpr int kPackedFormats = 15;

/// What 4-bit codes stand for: themselves, or the values of a table.
enum class CodeTable { none, non_linear, e2m1_doubled };
inline constexpr signed char kCodeTables[3][16] = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
    {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113},
    {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12},
};

/// n rows of k activations, quantised in blocks of 32: value = scales[block] * values[i]. k is a multiple of 32.
/// Weights of 16 bit have codes of their own, written by quantize_wide.
struct QuantizedRows {
  std::int8_t* values = nullptr;        ///< n x k, -127..127
  float* scales = nullptr;              ///< n x k/32; NaN for a block with a value that is not finite
  float* sums = nullptr;                ///< n x k/32: scale times the sum of the block
  std::int32_t* half_sums = nullptr;    ///< n x k/16: sum of `values` over 16
  std::int32_t* half_starts = nullptr;  ///< n x k/16: -128 times `half_sums`, what sums of products with codes begin from that are 128 too large
  std::int16_t* wide = nullptr;         ///< n x k, -kHalfCodes..kHalfCodes
  float* wide_scales = nullptr;         ///< n x k/32, as `scales`
  std::int64_t k = 0;
};

/// out[t * out_stride + r] = dot(row r of the tile, activations first + t) for 16 rows and `count` activations.
using TileKernel = void (*)(const std::byte* tile, const QuantizedRows& rows, std::int64_t first, std::int64_t count,
                            float* out, std::int64_t out_stride);

/// What a pass over tiles fetches meanwhile.
struct Prefetch {
  bool stream = true;                ///< The tiles themselves come from memory.
  const std::byte* ahead = nullptr;  ///< What is wanted later, wherever it lies ...
  std::int64_t bytes = 0;            ///< ... and how much of it.
};

/// Two neighbouring tiles at once, with the same bits; the results of the second lie behind those of the first.
using TilePairKernel = void (*)(const std::byte* first_tile, const std::byte* second_tile, const Prefetch& prefetch, const QuantizedRows& rows,
                                std::int64_t first, std::int64_t count, float* out, std::int64_t out_stride);

/// out[t * out_stride + r] = dot(weights + r * k, x + t * x_stride) for `rows` rows and `count` activations.
using DenseKernel = void (*)(const void* weights, std::int64_t rows, std::int64_t k, const float* x,
                             std::int64_t x_stride, std::int64_t count, float* out, std::int64_t out_stride);

/// As DenseKernel, with weights and activations in bfloat16.
using Bf16Kernel = void (*)(const void* weights, std::int64_t rows, std::int64_t k, const std::uint16_t* x,
                            std::int64_t x_stride, std::int64_t count, float* out, std::int64_t out_stride);

/// scores[i * score_stride + p] = dot(q_i, key p) for `queries` rows of `head` floats against the 64 keys of a page,
/// which lie transposed: (head, 64). `next_keys`: the page that is read next (fetched meanwhile), or null.
using ScoreKernel = void (*)(const float* q, std::int64_t q_stride, int queries, const void* keys, const void* next_keys,
                             int head, float* scores, std::int64_t score_stride);

/// out_i += sum over p < count of weights[i * weight_stride + p] * value p; the page holds values as (64, head).
/// `next_values` as above.
using MixKernel = void (*)(const float* weights, std::int64_t weight_stride, int queries, const void* values,
                           const void* next_values, int head, int count, float* out, std::int64_t out_stride);

/// What drawing a token computes for n logits; the same bits in every set.
struct SamplingKernels {
  /// The largest; `bad`: NaN or infinity is among them.
  float (*largest)(const float* x, std::int64_t n, bool* bad);
  /// Sum of e^(x - top) within 1e-6 of itself; what is 80 below the top counts as e^-80.
  double (*exp_total)(const float* x, std::int64_t n, float top);
  /// out = e^((x - top) / divisor) within 1e-11 of itself, for x <= top; exponents below -700 count as -700.
  void (*exp_each)(const float* x, std::int64_t n, float top, double divisor, double* out);
  /// out = (top - x) * scale without its fraction, at most `last`.
  void (*bucket_each)(const float* x, std::int64_t n, float top, float scale, std::int32_t last, std::int32_t* out);
};

struct KernelSet {
  std::string_view name;
  TileKernel tile[kPackedFormats];
  DenseKernel dense_f32, dense_f16, dense_bf16;
  ScoreKernel scores_f32, scores_f16;
  MixKernel mix_f32, mix_f16;
  /// Values in codes of 8 bit: for each 32 of `head`, which is a multiple of 32, kValueGroup bytes: 64 binary16 scales, one
  /// for each position, then (64, 32) codes. Scores against coded keys are products with tiles of q8_0.
  MixKernel mix_q8;
  /// Quantises one row of k values into row `index` of `rows`.
  void (*quantize)(const float* x, std::int64_t index, const QuantizedRows& rows);
  void (*quantize_wide)(const float* x, std::int64_t index, const QuantizedRows& rows);
  /// out = x / rms(x) * weight, rms = sqrt(mean of squares + eps).
  void (*rms_norm)(const float* x, const float* weight, float eps, std::int64_t n, float* out);
  /// gate = silu(gate) * up.
  void (*silu_mul)(float* gate, const float* up, std::int64_t n);
  /// x += y.
  void (*add)(float* x, const float* y, std::int64_t n);
  /// x = e^(scale * x - top) with top = scale * the largest x, which must not be negative infinity for all; returns the sum.
  float (*exp_weights)(float* x, float scale, std::int64_t n, float* top);
  /// Sum of n values (in no particular order; for measuring how fast memory is read).
  float (*sum)(const float* x, std::int64_t n);
  SamplingKernels sampling;
  // Where registers hold the sums of two tiles and the processor gains by it, else null.
  TilePairKernel tile_pair[kPackedFormats] = {};
  // Where the processor multiplies bfloat16 faster than float32, else null.
  Bf16Kernel bf16_pairs = nullptr;
  /// Rounds to bfloat16, half to even.
  void (*narrow)(const float* x, std::int64_t n, std::uint16_t* out) = nullptr;
};

/// Null where the processor (or this build) lacks the instructions.
const KernelSet* find_kernels(std::string_view name);
/// Every set that runs here, best first; the last is "scalar".
std::span<const KernelSet* const> available_kernels();
inline const KernelSet& best_kernels() { return *available_kernels().front(); }

// One function for each instruction set; null where it is not compiled in. They check no processor features.
const KernelSet* scalar_kernels();
const KernelSet* avx2_kernels();
const KernelSet* avx512_kernels();
const KernelSet* avx512_bf16_kernels();
const KernelSet* neon_kernels();

}  // namespace kontor::inference::cpu
