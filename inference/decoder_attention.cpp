#include "inference/decoder_parts.hpp"

#include <algorithm>
#include <cstring>
#include <new>

namespace kontor::inference {

bool Decoder::Scratch::reserve(std::int64_t rows, std::int64_t longest, const ModelConfig& c, int threads) {
  const auto grow = [](auto& vector, std::int64_t size) {
    if (static_cast<std::int64_t>(vector.size()) < size) vector.resize(static_cast<std::size_t>(size));
  };
  const std::int64_t mixed_width = c.heads * c.value_length;
  const LatentShape& latent = c.latent;
  const std::int64_t inner = std::max({c.feed_forward, c.experts.shared, c.experts.feed_forward});
  const std::int64_t widest = std::max({c.width, mixed_width, inner, latent.query_rank, c.heads * latent.value});
  try {
    grow(stream, rows * c.width);
    grow(normed, rows * c.width);
    grow(rotation, rows * c.rope.dimensions);
    grow(projected, rows * (c.heads * c.key_length + c.kv_heads * (c.key_length + c.value_length)));
    grow(mixed, rows * mixed_width);
    grow(gate, rows * inner);
    grow(up, rows * inner);
    grow(step, rows * c.width);
    grow(codes, rows * widest);
    grow(scales, rows * widest / cpu::kBlock + 1);
    grow(sums, rows * widest / cpu::kBlock + 1);
    grow(half_sums, rows * widest / cpu::kBlock * 2 + 2);
    const std::int64_t group = c.heads / c.kv_heads, queries = std::max(group, kQueriesPerBlock);
    const std::int64_t positions = (longest + cpu::kPage - 1) / cpu::kPage * cpu::kPage;
    grow(attention, threads);
    for (Attention& part : attention) {
      grow(part.queries, queries * c.key_length);
      grow(part.scores, queries * positions);
      grow(part.out, queries * c.value_length);
    }
    if (latent.rank > 0) reserve_latent(rows, c, threads);
    if (c.experts.count > 0) {
      grow(router, rows * c.experts.count);
      grow(gathered, rows * c.width);
      grow(expert_out, rows * c.width);
    }
  } catch (const std::bad_alloc&) {
    return false;
  }
  return true;
}

void Decoder::attend_block(std::int64_t layer, std::int64_t kv_head, std::span<const Row> rows, std::int64_t first_row,
                           int thread) {
  const ModelConfig& c = config_;
  Scratch::Attention& scratch = scratch_->attention[static_cast<std::size_t>(thread)];
  const bool half = compute_ == Compute::native;
  const std::int64_t group = c.heads / c.kv_heads, key_length = c.key_length, value_length = c.value_length;
  const std::int64_t queries = group * static_cast<std::int64_t>(rows.size());
  const std::int64_t longest = rows.back().visible;
  const std::int64_t pages = (longest + cpu::kPage - 1) / cpu::kPage, stride = pages * cpu::kPage;
  std::fill(scratch.out.begin(), scratch.out.begin() + queries * value_length, 0.0f);

  const std::int64_t total = c.heads * key_length + c.kv_heads * (key_length + value_length);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const float* from = scratch_->projected.data() + (first_row + static_cast<std::int64_t>(i)) * total + kv_head * group * key_length;
    std::memcpy(scratch.queries.data() + static_cast<std::int64_t>(i) * group * key_length, from,
                static_cast<std::size_t>(group * key_length) * sizeof(float));
  }
  const KvCache& cache = rows.front().timeline->cache;
  const auto scores_kernel = half ? kernels_->scores_f16 : kernels_->scores_f32;
  const auto mix_kernel = half ? kernels_->mix_f16 : kernels_->mix_f32;
  for (std::int64_t p = 0; p < pages; ++p) {
    const void* next = p + 1 < pages ? cache.keys(layer, p + 1, kv_head) : cache.values(layer, 0, kv_head);
    scores_kernel(scratch.queries.data(), key_length, static_cast<int>(queries), cache.keys(layer, p, kv_head), next,
                  static_cast<int>(key_length), scratch.scores.data() + p * cpu::kPage, stride);
  }
  for (std::int64_t q = 0; q < queries; ++q) {
    const std::int64_t visible = rows[static_cast<std::size_t>(q / group)].visible;
    float* scores = scratch.scores.data() + q * stride;
    kernels_->softmax(scores, c.attention_scale, visible);
    std::fill(scores + visible, scores + longest, 0.0f);
  }
  for (std::int64_t p = 0; p < pages; ++p) {
    const std::int64_t count = std::min<std::int64_t>(cpu::kPage, longest - p * cpu::kPage);
    const void* next = p + 1 < pages ? cache.values(layer, p + 1, kv_head) : nullptr;
    mix_kernel(scratch.scores.data() + p * cpu::kPage, stride, static_cast<int>(queries), cache.values(layer, p, kv_head),
               next, static_cast<int>(value_length), static_cast<int>(count), scratch.out.data(), value_length);
  }
  for (std::size_t i = 0; i < rows.size(); ++i) {
    float* to = scratch_->mixed.data() + (first_row + static_cast<std::int64_t>(i)) * c.heads * value_length + kv_head * group * value_length;
    std::memcpy(to, scratch.out.data() + static_cast<std::int64_t>(i) * group * value_length,
                static_cast<std::size_t>(group * value_length) * sizeof(float));
  }
}

}  // namespace kontor::inference
