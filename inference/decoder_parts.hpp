#pragma once
// Internals of the decoder that its source files share: the rows of a batch, their activations, attention of a block.

#include "inference/decoder.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace kontor::inference {

class Decoder::Timeline final : public Sequence {
 public:
  explicit Timeline(const KvShape& shape) : cache(shape) {}
  std::int64_t length() const override { return positions; }
  void truncate(std::int64_t length) override {
    if (length < 0 || length >= positions) return;
    positions = length;
    cache.shrink(length);
  }
  std::uint64_t bytes() const override { return cache.bytes(); }
  std::unique_ptr<Sequence> fork() const override { return std::make_unique<Timeline>(*this); }
  std::vector<KvPageRef> pages() const override { return {cache.pages().begin(), cache.pages().end()}; }
  void adopt(std::span<const KvPageRef> pages, std::int64_t length) override {
    std::vector<std::shared_ptr<HostPage>> own;
    for (const KvPageRef& page : pages) own.push_back(std::static_pointer_cast<HostPage>(page));
    cache.adopt(std::move(own));
    positions = length;
  }

  KvCache cache;
  std::int64_t positions = 0;
};

struct Decoder::Row {
  Timeline* timeline;
  std::int64_t position;
  std::int64_t visible;  ///< Positions that it attends to: those before it and itself; for encoders all.
  TokenId token;
  float* hidden;  ///< Where to put the final state, or null.
  float* logits;  ///< Where to put the logits, or null.
};

/// Grown to the largest batch so far, never shrunk.
struct Decoder::Scratch {
  std::vector<float> stream;     ///< (rows, width): the residual stream
  std::vector<float> normed;     ///< (rows, width)
  std::vector<float> rotation;   ///< (rows, 2, rope/2): cosines, then sines
  std::vector<float> projected;  ///< (rows, queries | keys | values)
  std::vector<float> mixed;      ///< (rows, heads * value_length)
  std::vector<float> gate, up;   ///< (rows, feed_forward)
  std::vector<float> step;       ///< (rows, width): what a step adds to the stream
  // Latent attention.
  std::vector<float> low, queries;  ///< (rows, query_rank | rank + rotary), (rows, heads * (plain + rotary))
  std::vector<float> values;        ///< (rows, heads * value)
  // Experts.
  std::vector<float> router;     ///< (rows, experts)
  std::vector<float> gathered;   ///< (rows of one expert, width)
  std::vector<float> expert_out; ///< (rows of one expert, width)
  cpu::ConvertedRows converted;
  /// For each thread.
  struct Attention {
    std::vector<float> queries, scores, partials;
    cpu::ConvertedRows coded;  ///< The queries for a cache in codes.
  };
  std::vector<Attention> attention;
  std::vector<float> split;  ///< Partial results of spans that are shared out among threads.
  struct Head {
    std::vector<float> in;
    cpu::ConvertedRows converted;
  };
  std::vector<Head> heads;

  /// For a batch of `rows` and matrices that take activations in `form`. False where the system has no memory left.
  bool reserve(std::int64_t rows, const ModelConfig& config, int threads, cpu::ActivationForm form, KvElement element);
  void reserve_latent(std::int64_t rows, const ModelConfig& config, int threads, cpu::ActivationForm form);
};

/// Rows that one thread multiplies by a head's matrix at a time.
inline constexpr std::int64_t kHeadRows = 32;

inline cpu::Activations slice(const cpu::Activations& all, std::int64_t first, std::int64_t count, std::int64_t columns) {
  cpu::Activations part = all;
  part.values += first * columns;
  part.count = count;
  if (part.narrow) part.narrow += first * columns;
  cpu::QuantizedRows& q = part.quantized;
  const std::int64_t blocks = first * (columns / cpu::kBlock);
  if (q.values) q.values += first * columns, q.scales += blocks, q.sums += blocks, q.half_sums += 2 * blocks, q.half_starts += 2 * blocks;
  if (q.wide) q.wide += first * columns, q.wide_scales += blocks;
  return part;
}

}  // namespace kontor::inference
