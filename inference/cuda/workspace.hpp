#pragma once
// What a stage holds of a batch in its device's memory, and the limits that its size follows from.

#include "inference/cuda/device.hpp"
#include "inference/model_config.hpp"

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

namespace kontor::inference::cuda {

inline constexpr std::int64_t kBatch = 512;       ///< Tokens computed together.
inline constexpr std::int64_t kDecodeRows = 64;   ///< Tokens whose attention shares a launch; logits likewise.
inline constexpr std::int64_t kTiledRows = 32;    ///< From here on products go through cuBLAS.
inline constexpr std::uint64_t kTileBytes = 64 << 20;     ///< Of weights expanded at a time.
inline constexpr std::uint64_t kScoreBytes = 128 << 20;   ///< Of attention scores at a time in prefill.

/// Feed-forward width of what every token takes: the dense layers' or the shared experts', whichever is larger.
inline std::int64_t dense_width(const ModelConfig& c) { return std::max(c.feed_forward, c.experts.shared); }
/// Values that the heads give to the output matrix.
inline std::int64_t heads_width(const ModelConfig& c) { return c.heads * (c.latent.rank > 0 ? c.latent.value : c.value_length); }
/// The longest row that goes into a product of the library.
inline std::int64_t widest_input(const ModelConfig& c) { return std::max({c.width, heads_width(c), dense_width(c), c.latent.query_rank}); }
/// The most values of a token that are held in int8 at a time.
inline std::int64_t most_codes(const ModelConfig& c) {
  return std::max({widest_input(c), c.heads * std::max({c.value_length, c.latent.plain, c.latent.value}), c.experts.used * c.experts.feed_forward});
}

/// Values and rows of a token that are held in binary16 at a time.
inline std::int64_t most_halves(const ModelConfig& c) {
  return std::max({widest_input(c), c.heads * std::max(c.latent.plain, c.latent.rank), c.experts.used * c.experts.feed_forward});
}
inline std::int64_t most_half_rows(const ModelConfig& c) { return std::max({std::int64_t{1}, c.latent.rank > 0 ? c.heads : 0, c.experts.used}); }

/// Bytes of the workspace for products of many tokens: their float32 results for the rows of one tile of weights, or of one slab.
inline std::int64_t product_bytes(const ModelConfig& c) {
  const std::int64_t narrowest = std::min({c.width, heads_width(c), c.feed_forward});
  const std::int64_t tallest = std::max({c.heads * c.key_length, c.width, c.feed_forward});
  const std::int64_t slab = std::max({c.experts.count > 0 ? std::max(c.width, c.experts.feed_forward) : 0, c.latent.rank, c.latent.value});
  return kBatch * 4 * std::max(std::min(static_cast<std::int64_t>(kTileBytes) / (2 * narrowest), tallest), slab);
}

/// How a backend computes.
struct Arithmetic {
  bool exact = false;          ///< Compute::f32: float32 weights, activations and cache.
  bool deterministic = false;  ///< No products of the library.
  KvFormat kv = KvFormat::f16;
};

/// Activations of a batch in device memory. Sized for kBatch tokens when the model is loaded.
struct Workspace {
  std::int64_t rows = 0;
  int splits = 1;
  DeviceBuffer info;       ///< RowInfo
  DeviceBuffer tables;     ///< Page numbers of the timelines of a batch
  DeviceBuffer index;      ///< Rows whose logits are wanted
  std::vector<std::size_t> starts;  ///< Of each row's table in `tables`.
  DeviceBuffer picked;     ///< (kDecodeRows, width)
  DeviceBuffer stream;     ///< (rows, width)
  DeviceBuffer normed;     ///< (rows, width)
  DeviceBuffer projected;  ///< (rows, queries | keys | values)
  DeviceBuffer mixed;      ///< (rows, heads * value_length)
  DeviceBuffer gate, up;   ///< (rows, dense_width)
  // Latent attention.
  DeviceBuffer low, low_keys;  ///< (rows, query_rank), (rows, rank + rotary)
  DeviceBuffer queries_whole;  ///< (rows, heads, plain + rotary)
  DeviceBuffer head_values;    ///< (rows, heads, plain), later (rows, heads, value)
  // Experts; a pair is a token and one of its experts.
  DeviceBuffer router;                     ///< (rows, experts)
  DeviceBuffer chosen, chosen_weights;     ///< (rows, used)
  DeviceBuffer order, tiles, tile_count;
  DeviceBuffer expert_gate, expert_up;     ///< (pairs, feed_forward of an expert)
  DeviceBuffer expert_out;                 ///< (pairs, width)
  DeviceBuffer shared;                     ///< (rows, width): of the experts that every token takes
  DeviceBuffer codes, scales, sums;
  DeviceBuffer cosines, sines;
  DeviceBuffer partial;    ///< Of split attention
  DeviceBuffer logits;     ///< (kDecodeRows, vocabulary)
  // Shortlists of the rows in `logits`.
  DeviceBuffer masks, masked, lists, other_lists, seen, sums_of_logits, results;
  std::vector<ShortlistResult> received;
  std::vector<std::uint32_t> mask_row;
  DeviceBuffer blocks;     ///< Pairs of each expert that was chosen, as `block_list` has them
  DeviceBuffer pair_rows;  ///< Their activations in binary16, expert by expert
  std::vector<Tile> received_tiles, block_list;
  bool experts_tiled = false;  ///< Those of the layer at hand go through the library.
  // For products of many tokens.
  DeviceBuffer halves, factors, tile, product;
  // For attention of many tokens; grown with the timeline.
  DeviceBuffer keys, values, queries, scores, weights, blended;
  std::int64_t gathered = 0;  ///< Positions that keys and values have room for.

  /// What is allocated when the model is loaded, with its bytes; the plan adds up the same.
  /// `outputs`: it computes logits as well.
  std::vector<std::pair<DeviceBuffer*, std::int64_t>> entries(const ModelConfig& config, bool deterministic, bool outputs);
};

/// Blocks that share a row's positions in attention.
int attention_splits(const ModelConfig& config, int processors);
/// What a prefill allocates beside the entries, as far as it does not grow with the timeline.
std::uint64_t prefill_bytes(const ModelConfig& config);

}  // namespace kontor::inference::cuda
