#pragma once
// What the device computes, as functions that put a kernel onto a stream. All pointers but those in host structs are
// device memory; shapes stand in brackets, rows one after the other. Nothing allocates or waits.

#include "inference/cuda/formats.hpp"

#include <cstddef>
#include <cstdint>

namespace kontor::inference::cuda {

/// A cudaStream_t; the emulation ignores it.
using Stream = void*;

/// Activations of `count` tokens with `columns` values each.
struct ActivationView {
  const float* values = nullptr;        ///< (count, columns)
  const std::int8_t* codes = nullptr;   ///< (count, columns); null where no product takes int8
  const float* scales = nullptr;        ///< (count, columns / 32)
  const float* sums = nullptr;          ///< (count, columns / 32)
  std::int64_t count = 0;
  std::int64_t columns = 0;
};

/// The same, to be written.
struct ActivationTarget {
  float* values = nullptr;
  std::int8_t* codes = nullptr;
  float* scales = nullptr;
  float* sums = nullptr;
};

inline constexpr int kMaxProducts = 3;

/// out (count, rows) with a distance of out_stride between tokens: activations * matrix^T (+ bias) (+ out).
struct ProductView {
  MatrixView matrix;
  const float* bias = nullptr;  ///< (rows)
  float* out = nullptr;
  std::int64_t out_stride = 0;
  bool accumulate = false;
};

/// All of the same activations in one launch. A token's result does not depend on the count.
struct ProductsView {
  ProductView product[kMaxProducts];
  int count = 0;
};
void multiply(const ProductsView& products, const ActivationView& x, Stream stream);

// Products with one of several equal matrices, the slabs of one MatrixView: the experts that a token chose, the heads of
// latent attention. A pair is a token and one of its slabs; pair p belongs to token p / each.

/// Pairs of one slab, order[first .. first + count) in Pairs: up to eight for multiply_slabs, all of them for the library's products.
struct Tile {
  std::int32_t slab, first, count;
};
struct Pairs {
  std::int64_t tokens = 0;
  std::int64_t each = 0;                       ///< Pairs of a token.
  std::int64_t slabs = 0;
  const Tile* tiles = nullptr;                 ///< Null: pair k of each token belongs to slab k.
  const std::int32_t* tile_count = nullptr;    ///< (1)
  const std::int32_t* order = nullptr;         ///< (tokens * each): pairs, those of a slab together.
  KONTOR_HD std::int64_t count() const { return tokens * each; }
};
inline constexpr int kTilePairs = 8;

/// out[token * token_step + k * pair_step + r] = row r of the pair's slab * its activations.
struct SlabProduct {
  MatrixView matrix;  ///< (slabs * rows, columns)
  std::int64_t rows = 0;
  float* out = nullptr;
  std::int64_t token_step = 0, pair_step = 0;
};
struct SlabProducts {
  SlabProduct product[2];
  int count = 0;
};
/// All in one launch. Row p of x belongs to pair p, or with `by_token` row t to all pairs of token t. A pair's result does
/// not depend on the others.
void multiply_slabs(const SlabProducts& products, const Pairs& pairs, const ActivationView& x, bool by_token, Stream stream);

// The same through matrix products of the library: all pairs of each of `count` slabs, padded to `most` of them. `blocks`: one for each
// slab; null: slabs first_slab .. first_slab + count, each with all tokens.

/// The slabs' matrices as binary16, one behind the other: out (count, rows, columns).
void expand_slabs(const MatrixView& matrix, std::int64_t rows, const Tile* blocks, std::int64_t count, std::uint16_t* out, Stream stream);
/// Rows of `halves`, of the pairs or with `by_token` of their tokens: out (count, most, columns). What pads is left as it is.
void gather_pairs(const std::uint16_t* halves, std::int64_t columns, const Pairs& pairs, const Tile* blocks, std::int64_t count, std::int64_t most,
                  bool by_token, std::uint16_t* out, Stream stream);
/// in (count, most, product.rows), times the factor of the pair's row of activations, to where the product's results belong.
void finish_pairs(const float* in, const float* factors, const Pairs& pairs, const Tile* blocks, std::int64_t first_slab, std::int64_t count,
                  std::int64_t most, bool by_token, const SlabProduct& product, Stream stream);

/// As inference::ExpertShape says.
struct RoutingShape {
  std::int64_t experts = 0, used = 0, groups = 1, groups_used = 1, leaders = 2;
  bool sigmoid = false, normalize = false;
  float scale = 1.0f;
};
inline constexpr std::int64_t kMaxExperts = 1024;

/// The experts of each token, by inference::choose_experts' rules, in ascending order: chosen and weights (count, used). Bias
/// may be null.
void route(const float* logits, std::int64_t count, const RoutingShape& shape, const float* bias, std::int32_t* chosen, float* weights,
           Stream stream);
/// Pairs by expert, for multiply_slabs: fills order, tiles and tile_count. `tiles` has room for most_tiles().
void group_pairs(const std::int32_t* chosen, std::int64_t pairs, std::int64_t experts, std::int32_t* order, Tile* tiles,
                 std::int32_t* tile_count, Stream stream);
KONTOR_HD constexpr std::int64_t most_tiles(std::int64_t pairs, std::int64_t slabs) {
  return pairs / kTilePairs + (pairs < slabs ? pairs : slabs);
}
/// stream (count, width) += shared (count, width; may be null) + the sum of weights (count, used) * outs (count, used, width).
void add_experts(const float* shared, const float* outs, const float* weights, std::int64_t count, std::int64_t used, std::int64_t width,
                 float* stream_rows, Stream stream);

/// The first `columns` values of each of `rows` rows that begin `step` apart: out (rows, columns); int8 form too where asked for.
void take_columns(const float* x, std::int64_t rows, std::int64_t step, std::int64_t columns, const ActivationTarget& out, Stream stream);

/// Rows first .. first + rows of a matrix as binary16, for a matrix product by the library: out (rows, columns).
void expand_rows(const MatrixView& matrix, std::int64_t first, std::int64_t rows, std::uint16_t* out, Stream stream);

/// x (count, columns) as binary16, each token divided by a power of two so that its largest value is at most 1; the power
/// goes to factors (count).
void to_half(const float* x, std::int64_t count, std::int64_t columns, std::uint16_t* out, float* factors, Stream stream);

/// x (count, columns) as the sum of two bfloat16, which is x but for 2^-17 of it: out (2, count, columns), first the nearest, then what is left.
void to_bfloats(const float* x, std::int64_t count, std::int64_t columns, std::uint16_t* out, Stream stream);

/// out[t * out_stride + r] (+)= factors[t] * in[t * rows + r] + bias[r]; factors and bias may be null. `pair`: in (2, count, rows), added first.
void finish_product(const float* in, const float* factors, const float* bias, std::int64_t count, std::int64_t rows, float* out,
                    std::int64_t out_stride, bool accumulate, bool pair, Stream stream);

/// Where a token of the batch stands.
struct RowInfo {
  std::int32_t token = 0;
  std::int32_t position = 0;
  const std::int32_t* pages = nullptr;  ///< Page numbers of its timeline.
};

/// out (count, columns): rows of the embedding.
void embed(const MatrixView& embedding, const RowInfo* rows, std::int64_t count, float* out, Stream stream);

/// out = x / rms(x) * weight for (count, columns) with the given distances between rows; int8 form too where asked for.
void rms_norm(const float* x, std::int64_t count, std::int64_t columns, const float* weight, float epsilon, const ActivationTarget& out,
              Stream stream);

/// Rows of x picked by index: out (count, columns).
void gather_rows(const float* x, const std::int32_t* index, std::int64_t count, std::int64_t columns, float* out, Stream stream);

/// out = silu(gate) * up over (count, columns); int8 form too where asked for. out.values may be gate.
void silu_mul(const float* gate, const float* up, std::int64_t count, std::int64_t columns, const ActivationTarget& out, Stream stream);

/// The int8 form of values (count, columns) that are in place: fills out.codes, out.scales, out.sums.
void quantize(const float* values, std::int64_t count, std::int64_t columns, const ActivationTarget& out, Stream stream);

// Shortlists: what sampling looks at, of each row of logits (inference/shortlist.hpp).

inline constexpr int kShortlistLength = 64;
struct ShortlistResult {
  float logits[kShortlistLength];
  std::int32_t ids[kShortlistLength];  ///< In descending order of the logits; -1: no more.
  double total, all_total;
  float all_top;
  std::int32_t bad;                    ///< NaN or plus infinity in the row.
};
/// Of a piece of a row: the largest value; not 0 where one is NaN or plus infinity.
struct ShortlistSeen {
  float top, bad;
};
struct ShortlistWork {
  std::int64_t vocabulary = 0;
  std::int64_t pieces = 0;                    ///< shortlist_pieces(vocabulary)
  std::int64_t chunks = 0;                    ///< shortlist_chunks(vocabulary)
  std::int64_t mask_words = 0;
  const std::int32_t* masked = nullptr;       ///< (rows): whether the row has a mask
  const std::uint32_t* masks = nullptr;       ///< (rows, mask_words)
  std::uint64_t* lists[2] = {};               ///< (rows, pieces, kShortlistLength) each
  ShortlistSeen* seen = nullptr;              ///< (rows, pieces)
  float* sums = nullptr;                      ///< (rows, 2, chunks, 8)
  ShortlistResult* results = nullptr;         ///< (rows)
};
std::int64_t shortlist_pieces(std::int64_t vocabulary);
std::int64_t shortlist_chunks(std::int64_t vocabulary);
/// logits (rows, vocabulary); fills w.results. A row's result does not depend on the others.
void find_shortlists(const float* logits, std::int64_t rows, const ShortlistWork& w, Stream stream);

inline constexpr int kPagePositions = 64;

/// What keys and values are held in. q8: codes of 8 bit, of 32 neighbouring values of a head with one scale in binary16.
enum class KvFormat : std::uint8_t { f32, f16, q8 };
/// Of a head's keys or values in a page.
KONTOR_HD constexpr std::int64_t kv_bytes(KvFormat format, std::int64_t length) {
  return format == KvFormat::f32 ? kPagePositions * length * 4 : format == KvFormat::f16 ? kPagePositions * length * 2 : kPagePositions * (length + length / kSpan * 2);
}

/// The paged KV cache of one layer. A page holds 64 positions of all heads, each kv_bytes() long. Keys lie with neighbouring positions
/// together, values position by position:
///
///            keys                                                        values
///   f32/f16  (key_length, 64)                                            (64, value_length)
///   q8       codes (key_length / 4, 64, 4), scales (key_length / 32, 64)  codes (64, value_length), scales (64, value_length / 32)
///
/// With latent attention a page holds one block of rows like values, of key_length values, whose first value_length are the values too.
struct KvView {
  void* keys = nullptr;        ///< Of page 0.
  void* values = nullptr;
  std::int64_t page_step = 0;  ///< Bytes from one page to the next.
  KvFormat format = KvFormat::f16;
  bool latent = false;
  KONTOR_HD std::byte* key_block(std::int64_t page, std::int64_t head, std::int64_t key_length) const {
    return static_cast<std::byte*>(keys) + page * page_step + head * kv_bytes(format, key_length);
  }
  KONTOR_HD std::byte* value_block(std::int64_t page, std::int64_t head, std::int64_t value_length) const {
    return static_cast<std::byte*>(values) + page * page_step + head * kv_bytes(format, value_length);
  }
};
/// Calls f with the format as a compile-time constant (host only).
template <class Function>
void with_kv_format(KvFormat format, const Function& f) {
  switch (format) {
    case KvFormat::f32: return f.template operator()<KvFormat::f32>();
    case KvFormat::f16: return f.template operator()<KvFormat::f16>();
    case KvFormat::q8: return f.template operator()<KvFormat::q8>();
  }
}

struct AttentionShape {
  std::int64_t heads = 0, kv_heads = 0, key_length = 0, value_length = 0;
  KONTOR_HD std::int64_t total() const { return heads * key_length + kv_heads * (key_length + value_length); }
};

/// Rotary embedding, RoPE: cosines and sines of (tokens of the batch, pairs).
struct RopeView {
  const float* cosines = nullptr;
  const float* sines = nullptr;
  std::int64_t pairs = 0;
  bool halves = false;
};

/// In place on projected (count, queries | keys | values): norm of queries and keys (weights may be null), rotation; keys and
/// values go into the cache.
void place_heads(float* projected, std::int64_t count, const AttentionShape& shape, const float* query_norm, const float* key_norm,
                 float epsilon, const RopeView& rope, const RowInfo* rows, const KvView& cache, Stream stream);

/// What latent attention needs in place of place_heads. queries (count, heads, plain + rotary): their rotated last part goes behind
/// the `rank` values of each head in projected; low (count, rank + rotary) is normed and rotated in place and goes into the cache.
struct LatentPart {
  std::int64_t rank = 0, plain = 0, rotary = 0;
};
void place_latent(float* projected, const float* queries, float* low, std::int64_t count, const AttentionShape& shape, const LatentPart& part,
                  const float* norm, float epsilon, const RopeView& rope, const RowInfo* rows, const KvView& cache, Stream stream);

/// Fills the rotation tables for the positions of the rows.
void fill_rope(const double* frequencies, float magnitude, std::int64_t pairs, const RowInfo* rows, std::int64_t count, float* cosines,
               float* sines, Stream stream);

/// Attention of every row over its timeline up to itself, the positions shared out over `splits` blocks (flash decoding,
/// arXiv 2205.14135 and its split-KV form). out (count, heads, value_length); int8 form too where asked for, for a value_length that is a
/// multiple of kSpan. `partial` has room for count * heads * splits * (value_length + 2) floats.
void attend(const float* projected, std::int64_t count, const AttentionShape& shape, float scale, const RowInfo* rows, const KvView& cache,
            int splits, float* partial, const ActivationTarget& out, Stream stream);

/// Blocks that share one row's work in attend(), for each split; and what it can compute.
std::int64_t attention_blocks(const AttentionShape& shape, bool latent);
inline constexpr std::int64_t kMaxHead = 256, kMaxLatentKey = 640, kMaxLatentValue = 512;

// Attention of many neighbouring tokens of one timeline through matrix products of the library.

/// Pages to contiguous memory: keys (kv_heads, key_length, stride), values (kv_heads, length, value_length) in binary16. Of a latent
/// cache: keys (stride, key_length), no values.
void gather_cache(const KvView& cache, const std::int32_t* pages, const AttentionShape& shape, std::int64_t length, std::int64_t stride,
                  std::uint16_t* keys, std::uint16_t* values, Stream stream);
/// Queries to (kv_heads, count, group, key_length) in binary16, times scale.
void gather_queries(const float* projected, std::int64_t count, const AttentionShape& shape, float scale, std::uint16_t* out, Stream stream);
/// Row r of scores (rows, stride) belongs to position first + r % (count * group) / group: softmax over what it may see, zero
/// behind; weights (rows, stride) in binary16.
void causal_softmax(const float* scores, std::int64_t rows, std::int64_t count, std::int64_t group, std::int64_t first, std::int64_t stride,
                    std::uint16_t* weights, Stream stream);
/// (kv_heads, count, group, value_length) to (count, heads, value_length).
void scatter_mixed(const float* in, std::int64_t count, const AttentionShape& shape, float* out, Stream stream);

}  // namespace kontor::inference::cuda
