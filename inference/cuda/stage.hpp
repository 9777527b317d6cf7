#pragma once
// A stretch of a model's layers on one device: its weights, its part of the KV pages, the kernels of a pass over its layers.

#include "inference/backend.hpp"
#include "inference/cuda/device.hpp"
#include "inference/cuda/memory_plan.hpp"
#include "inference/cuda/model_tensors.hpp"
#include "inference/cuda/timeline.hpp"
#include "inference/cuda/workspace.hpp"

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace kontor::inference::cuda {

/// Used by one thread at a time. Nothing is allocated while decoding; prefill grows its own workspace.
class Stage {
 public:
  /// A token of a batch.
  struct Row {
    Timeline* timeline;
    std::int64_t position;
    TokenId token;
    float* hidden;
    float* logits;
    Shortlist* shortlist = nullptr;  ///< Instead of the logits, where it is enough.
  };

  /// All references outlive the stage.
  Stage(const ModelTensors& tensors, const Arithmetic& arithmetic, const StagePlan& plan, Device& device)
      : tensors_(tensors), config_(tensors.config()), exact_(arithmetic.exact), deterministic_(arithmetic.deterministic), kv_format_(arithmetic.kv),
        plan_(plan), device_(&device) {}

  /// Allocates everything, with `pages` KV pages. Errors: malformed, unsupported, memory (out_of_memory), internal (device_error).
  Result<void> load(std::int64_t pages);

  Device& device() const { return *device_; }
  const StagePlan& plan() const { return plan_; }
  /// The pages, plan().page_bytes each.
  std::byte* pages() const { return pages_.as<std::byte>(); }
  /// The hidden states of a batch (kBatch, width), between the layers.
  float* states() const { return work_.stream.as<float>(); }
  std::uint64_t weight_bytes_per_token() const;

  /// Puts the layers' work for up to kBatch rows onto the stream: from their tokens where the stage embeds, else from states(). Errors: memory,
  /// internal.
  Result<void> send(std::span<const Row> rows);
  Result<void> compute(std::span<const Row> rows);
  /// What the rows ask for. Waits where it is anything.
  Result<void> write_outputs(std::span<const Row> rows);

 private:
  /// A matrix in device memory; `buffer` owns what `view` names.
  struct Matrix {
    DeviceBuffer buffer;
    MatrixView view;
  };
  struct Vector {
    DeviceBuffer buffer;
    const float* data() const { return buffer.as<const float>(); }
  };
  struct Layer {
    bool on_host = false;  ///< All its matrices.
    Vector attention_norm, feed_forward_norm, query_bias, key_bias, value_bias, output_bias, query_norm, key_norm;
    Matrix query, key, value, output;
    Matrix gate, up, down;  ///< Dense, or the experts that every token takes.
    // Latent attention: `query` takes the state or its low-rank form; the heads' matrices lie one behind the other.
    Matrix query_down, keys_down, key_heads, value_heads;
    Vector query_down_norm, latent_norm;
    // Experts, one behind the other.
    Matrix router, experts_gate, experts_up, experts_down;
    Vector selection_bias;
  };

  Result<void> make_workspace(std::int64_t pages);
  Result<void> load_matrix(const std::string& name, std::int64_t columns, std::int64_t rows, bool on_host, Matrix& out, std::int64_t slabs = 1);
  /// Tensors of one type and width, one below the other.
  Result<void> load_parts(std::span<const Tensor> parts, bool on_host, Matrix& out);
  Result<void> load_vector(const std::string& name, std::int64_t length, bool required, Vector& out);
  Result<void> load_layer(std::int64_t index, Layer& layer);
  Result<void> load_attention(const std::string& prefix, Layer& layer);
  Result<void> load_latent(const std::string& prefix, Layer& layer);
  Result<void> load_both_heads(const Tensor& both, Layer& layer);
  Result<void> load_experts(std::int64_t index, Layer& layer);

  void compute_layers(std::span<const Row> rows);
  void attention(const Layer& layer, std::int64_t index, std::span<const Row> rows);
  void project_latent(const Layer& layer, std::int64_t index, std::span<const Row> rows);
  void expand_values(const Layer& layer, std::int64_t count);
  void feed_forward(const Layer& layer, std::int64_t index, std::int64_t count);
  void choose_experts(const Layer& layer, std::int64_t count);
  void add_routed(const Layer& layer, std::int64_t count);
  Pairs expert_pairs(std::int64_t count) const;
  void take_blocks(std::int64_t pairs);
  /// Heads of latent attention.
  void project_heads(const SlabProducts& products, std::int64_t count, const float* values, std::int64_t columns);
  void project_slabs_tiled(const SlabProducts& products, const Pairs& pairs, const ActivationView& x, bool by_token);
  bool slabs_tiled(const Pairs& pairs, std::int64_t rows, std::int64_t columns) const;
  void project(std::span<const ProductView> products, const ActivationView& x);
  void project_tiled(const ProductView& product, const ActivationView& x, bool pair);
  void mix(std::int64_t layer, std::span<const Row> rows);
  void mix_prefill(const KvView& cache, std::span<const Row> rows, std::int64_t first);
  bool joins_codes(std::int64_t count) const;
  ActivationTarget mixed_at(std::int64_t row, bool codes) const;
  Result<void> grow_prefill(std::int64_t positions);
  void start_shortlists(std::span<const Row* const> rows);
  Result<void> take_shortlists(std::span<const Row* const> rows);
  bool tiled(std::int64_t count) const;
  KvView cache_of(std::int64_t layer) const;
  AttentionShape shape() const { return {config_.heads, config_.kv_heads, config_.key_length, config_.value_length}; }
  ActivationTarget target(float* values) const;
  ActivationView view(const float* values, std::int64_t count, std::int64_t columns) const;

  const ModelTensors& tensors_;
  ModelConfig config_;
  bool exact_;
  bool deterministic_;
  KvFormat kv_format_;
  StagePlan plan_;
  Device* device_;
  std::vector<Layer> layers_;  ///< From plan_.first on.
  Matrix embedding_, output_;
  Vector final_norm_;
  DeviceBuffer frequencies_, pages_;
  Workspace work_;
};

}  // namespace kontor::inference::cuda
