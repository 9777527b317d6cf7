#include "inference/cuda/workspace.hpp"

namespace kontor::inference::cuda {

std::vector<std::pair<DeviceBuffer*, std::int64_t>> Workspace::entries(const ModelConfig& c, bool deterministic, bool outputs) {
  const std::int64_t n = kBatch, codes_most = most_codes(c), total = c.heads * c.key_length + c.kv_heads * (c.key_length + c.value_length);
  std::vector<std::pair<DeviceBuffer*, std::int64_t>> all = {
      {&info, n * static_cast<std::int64_t>(sizeof(RowInfo))}, {&stream, n * c.width * 4},
      {&normed, n * c.width * 4}, {&projected, n * total * 4}, {&mixed, n * c.heads * c.value_length * 4},
      {&gate, n * dense_width(c) * 4}, {&up, n * dense_width(c) * 4}, {&codes, n * codes_most}, {&scales, n * codes_most / kSpan * 4},
      {&sums, n * codes_most / kSpan * 4}, {&cosines, n * c.rope.dimensions * 2}, {&sines, n * c.rope.dimensions * 2},
      {&partial, kDecodeRows * c.heads * splits * (c.value_length + 2) * 4}};
  const auto add = [&](std::initializer_list<std::pair<DeviceBuffer*, std::int64_t>> more) { all.insert(all.end(), more); };
  if (const LatentShape& l = c.latent; l.rank > 0)
    add({{&low, n * l.query_rank * 4}, {&low_keys, n * c.key_length * 4}, {&queries_whole, n * c.heads * (l.plain + l.rotary) * 4},
         {&head_values, n * c.heads * std::max(l.plain, l.value) * 4}});
  if (const ExpertShape& e = c.experts; e.count > 0) {
    const std::int64_t pairs = n * e.used;
    add({{&router, n * e.count * 4}, {&chosen, pairs * 4}, {&chosen_weights, pairs * 4}, {&order, pairs * 4}, {&tile_count, 4},
         {&tiles, most_tiles(pairs, e.count) * static_cast<std::int64_t>(sizeof(Tile))}, {&expert_gate, pairs * e.feed_forward * 4},
         {&expert_up, pairs * e.feed_forward * 4}, {&expert_out, pairs * c.width * 4}, {&shared, e.shared > 0 ? n * c.width * 4 : 0}});
  }
  const std::int64_t pieces = kDecodeRows * shortlist_pieces(c.vocabulary);
  if (outputs)
    add({{&index, kDecodeRows * 4}, {&picked, kDecodeRows * c.width * 4}, {&logits, kDecodeRows * c.vocabulary * 4},
       {&masks, kDecodeRows * ((c.vocabulary + 31) / 32) * 4}, {&masked, kDecodeRows * 4}, {&lists, pieces * kShortlistLength * 8},
       {&other_lists, pieces * kShortlistLength * 8}, {&seen, pieces * static_cast<std::int64_t>(sizeof(ShortlistSeen))},
       {&sums_of_logits, kDecodeRows * 2 * shortlist_chunks(c.vocabulary) * 8 * 4},
       {&results, kDecodeRows * static_cast<std::int64_t>(sizeof(ShortlistResult))}});
  if (!deterministic && c.experts.count > 0)
    add({{&blocks, c.experts.count * static_cast<std::int64_t>(sizeof(Tile))}, {&pair_rows, static_cast<std::int64_t>(kTileBytes)}});
  if (!deterministic)
    add({{&halves, n * most_halves(c) * 2}, {&factors, n * most_half_rows(c) * 4}, {&tile, static_cast<std::int64_t>(kTileBytes)}, {&product, product_bytes(c)}});
  return all;
}

int attention_splits(const ModelConfig& c, int processors) {
  const AttentionShape shape{c.heads, c.kv_heads, c.key_length, c.value_length};
  return static_cast<int>(std::clamp<std::int64_t>(2 * processors / (c.latent.rank > 0 ? attention_blocks(shape, true) : c.kv_heads), 1, 32));
}

/// Scores and weights, then queries, results, and what grows with the timeline.
std::uint64_t prefill_bytes(const ModelConfig& c) {
  return 2 * kScoreBytes + (c.latent.rank > 0 ? static_cast<std::uint64_t>(kBatch * c.heads * (2 * c.key_length + 4 * c.value_length)) : 0);
}

}  // namespace kontor::inference::cuda
