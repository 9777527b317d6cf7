#pragma once
// The CPU backend: a transformer over the kernels in cpu/. One forward pass serves every architecture: decoders (RMS norm
// before each step) with grouped-query or latent attention and dense or routed feed-forward, and the encoders of the
// BERT family (layer norm behind each step). What an architecture needs is data in model_config; latent attention is in
// decoder_mla.cpp, experts are in decoder_moe.cpp.

#include "inference/backend.hpp"
#include "inference/cpu/buffer.hpp"
#include "inference/cpu/kernels.hpp"
#include "inference/cpu/matrix.hpp"
#include "inference/cpu/thread_pool.hpp"
#include "inference/kv_cache.hpp"

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace kontor::inference {

/// A token's result does not depend on the batch it is computed in nor on the number of threads: a prefill gives bit
/// for bit what token-by-token decoding gives.
class Decoder final : public Backend {
 public:
  static Result<std::unique_ptr<Backend>> create(const WeightFile& file, const BackendOptions& options);
  ~Decoder() override;

  const ModelConfig& config() const override { return config_; }
  std::string device() const override { return "cpu"; }
  std::unique_ptr<Sequence> create_sequence() override;
  std::uint64_t page_bytes() const override { return KvCache(kv_shape()).page_bytes(); }
  std::string arithmetic() const override;
  Result<KvPageRef> load_page(std::span<const std::byte> content) override;
  Result<void> forward(std::span<const Extension> extensions) override;
  std::uint64_t weight_bytes_per_token() const override;
  ExpertUse expert_use() const override;
  int threads() const override { return pool_->threads(); }
  void set_threads(int threads) override;

 private:
  // Null pointers and empty matrices: the model has no such part.

  /// down(silu(gate(x)) * up(x)); without a gate down(gelu(up(x))).
  struct FeedForward {
    cpu::Matrix gate, up, down;
    const float* up_bias = nullptr;
    const float* down_bias = nullptr;
  };
  /// See LatentShape. Matrices of heads: one for each.
  struct LatentWeights {
    cpu::Matrix query_down, keys_down;      ///< (width) -> (query_rank), (rank + rotary)
    const float* query_norm = nullptr;      ///< (query_rank)
    const float* latent_norm = nullptr;     ///< (rank)
    std::vector<cpu::Matrix> key_heads;     ///< (plain) -> (rank): a head's query into the latent space
    std::vector<cpu::Matrix> value_heads;   ///< (rank) -> (value)
  };
  struct ExpertWeights {
    cpu::Matrix router;                     ///< (width) -> (experts)
    const float* selection_bias = nullptr;  ///< (experts)
    FeedForward shared;
    std::vector<FeedForward> experts;       ///< Packed, or mapped where there is no room for all; then also:
    struct Source {
      Tensor gate, up, down;
    };
    struct Use {
      double score = 0;
      std::int64_t last = 0;
    };
    std::vector<Source> sources;
    std::vector<Use> uses;
    std::vector<std::unique_ptr<FeedForward>> packed;  ///< Null: not held.
    std::vector<std::int32_t> predicted;    ///< Experts that were read ahead for the coming step; ascending.
  };
  class ExpertStore;  ///< Which experts are held in memory.
  struct Layer {
    const float* attention_norm = nullptr;  ///< (width)
    const float* attention_norm_bias = nullptr;
    cpu::Matrix query, key, value, output;  ///< With latent attention `query` takes the state or its low-rank form.
    const float* query_bias = nullptr;      ///< (heads * key_length); the others accordingly
    const float* key_bias = nullptr;
    const float* value_bias = nullptr;
    const float* output_bias = nullptr;
    const float* query_norm = nullptr;      ///< (key_length)
    const float* key_norm = nullptr;
    std::unique_ptr<LatentWeights> latent;
    const float* feed_forward_norm = nullptr;
    const float* feed_forward_norm_bias = nullptr;
    FeedForward dense;
    std::unique_ptr<ExpertWeights> routed;
  };
  struct Row;      ///< One token of a batch.
  struct Scratch;  ///< Activations of a batch.
  struct AttentionUnit;
  class Timeline;  ///< The Sequence of this backend.
  class Loader;    ///< Checks tensors and binds them to layers.

  Decoder(const WeightFile& file, ModelConfig config, const BackendOptions& options);
  Result<void> load();

  KvShape kv_shape() const;
  Result<void> run_batch(std::span<const Row> rows);
  void embed(std::span<const Row> rows);
  void attention(const Layer& layer, std::int64_t index, std::span<const Row> rows);
  void project(const Layer& layer, std::int64_t index, std::span<const Row> rows, const float* input);
  void rotate(float* head, std::int64_t row) const;
  void attend(std::int64_t layer, std::span<const Row> rows);
  void attend_unit(std::int64_t layer, const AttentionUnit& unit, int thread);
  void attend_split(std::int64_t layer, std::span<const AttentionUnit> units);
  struct PageRange {
    std::int64_t first, last;
  };
  /// Products of the unit's queries, which lie in the thread's scratch, and the keys of these pages.
  void score_pages(std::int64_t layer, const AttentionUnit& unit, PageRange pages, int thread);
  void attend_span(std::int64_t layer, const AttentionUnit& unit, std::int64_t span, int thread, float* out);
  void finish_unit(const AttentionUnit& unit, const float* merged);
  void feed_forward(const Layer& layer, std::int64_t index, std::int64_t rows);
  void feed(const FeedForward& weights, const cpu::Activations& input, float* out);
  void write_outputs(std::span<const Row> rows);
  cpu::Activations prepare(const float* values, std::int64_t count, std::int64_t columns, cpu::ActivationForm form);
  const float* normed_input(const float* norm, std::int64_t rows);
  void add_to_stream(const float* values, const float* bias, const float* norm, const float* norm_bias, std::int64_t rows);

  // decoder_mla.cpp
  void project_latent(const Layer& layer, std::int64_t index, std::span<const Row> rows, const float* input);
  const float* expand_values(const Layer& layer, std::int64_t rows);
  /// A place of heads in rows: head h of row i starts at data + i * row + h * head.
  template <class Float>
  struct Heads {
    Float* data;
    std::int64_t row, head;
  };
  void multiply_heads(const std::vector<cpu::Matrix>& matrices, Heads<const float> in, Heads<float> out, std::int64_t rows);

  // decoder_moe.cpp
  void routed_feed_forward(std::int64_t layer, std::int64_t rows, float* out);
  void route(const ExpertWeights& weights, const float* input, std::int64_t rows);
  void read_ahead(std::int64_t layer, std::int64_t rows, const std::vector<std::int32_t>& active);

  WeightFile file_;
  ModelConfig config_;
  Compute compute_;
  KvType kv_;
  const cpu::KernelSet* kernels_;
  std::unique_ptr<cpu::ThreadPool> pool_;
  std::vector<Layer> layers_;
  const Tensor* embedding_ = nullptr;
  const Tensor* position_vectors_ = nullptr;  ///< (context, width)
  std::vector<float> type_vector_;            ///< (width): all tokens are of the first type
  const float* embedding_norm_ = nullptr;
  const float* embedding_norm_bias_ = nullptr;
  const float* final_norm_ = nullptr;
  cpu::Matrix output_;
  cpu::ActivationForm forms_;                 ///< What the model's matrices take activations in.
  std::unique_ptr<Scratch> scratch_;
  std::uint64_t expert_limit_;
  std::unique_ptr<ExpertStore> experts_;  ///< Null without experts.
};

}  // namespace kontor::inference
