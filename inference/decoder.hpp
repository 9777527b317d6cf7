#pragma once
// The CPU backend: a transformer decoder (RMS norm, grouped-query attention with rotary positions, gated feed-forward)
// over the kernels in cpu/. Serves llama, qwen2 and qwen3; what an architecture needs is data in model_config.

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
  Result<KvPageRef> load_page(std::span<const std::byte> content) override;
  Result<void> forward(std::span<const Extension> extensions) override;
  std::uint64_t weight_bytes_per_token() const override;
  int threads() const override { return pool_->threads(); }
  void set_threads(int threads) override;

 private:
  /// Null pointers: the model has no such part.
  struct Layer {
    const float* attention_norm = nullptr;  ///< (width)
    cpu::Matrix query, key, value, output;
    const float* query_bias = nullptr;      ///< (heads * key_length); the others accordingly
    const float* key_bias = nullptr;
    const float* value_bias = nullptr;
    const float* output_bias = nullptr;
    const float* query_norm = nullptr;      ///< (key_length)
    const float* key_norm = nullptr;
    const float* feed_forward_norm = nullptr;
    cpu::Matrix gate, up, down;
  };
  struct Row;      ///< One token of a batch.
  struct Scratch;  ///< Activations of a batch.
  class Timeline;  ///< The Sequence of this backend.

  /// The tensors of a layer: name, shape, where they go.
  struct LayerShapes {
    struct MatrixShape {
      const char* name;
      std::int64_t columns, rows;
      cpu::Matrix Layer::* member;
    };
    struct VectorShape {
      const char* name;
      std::int64_t length;
      bool required;
      const float* Layer::* member;
    };
    std::vector<MatrixShape> matrices;
    std::vector<VectorShape> vectors;
  };

  Decoder(const WeightFile& file, ModelConfig config, const BackendOptions& options);
  Result<void> load();
  LayerShapes layer_shapes() const;
  Result<void> check_layer(std::int64_t index);
  Result<void> load_layer(std::int64_t index, Layer& layer);
  Result<const float*> vector_of(const std::string& name, std::int64_t length, bool required);
  Result<cpu::Matrix> matrix_of(const std::string& name, std::int64_t columns, std::int64_t rows);

  KvShape kv_shape() const;
  Result<void> run_batch(std::span<const Row> rows);
  void embed(std::span<const Row> rows);
  void attention(const Layer& layer, std::int64_t index, std::span<const Row> rows);
  void rotate(float* head, std::int64_t row) const;
  void attend(std::int64_t layer, std::span<const Row> rows);
  void attend_block(std::int64_t layer, std::int64_t kv_head, std::span<const Row> rows, std::int64_t first_row, int thread);
  void feed_forward(const Layer& layer, std::int64_t rows);
  void write_outputs(std::span<const Row> rows);
  cpu::Activations prepare(const float* values, std::int64_t count, std::int64_t columns, bool quantized);

  WeightFile file_;
  ModelConfig config_;
  Compute compute_;
  const cpu::KernelSet* kernels_;
  std::unique_ptr<cpu::ThreadPool> pool_;
  std::vector<Layer> layers_;
  const Tensor* embedding_ = nullptr;
  const float* final_norm_ = nullptr;
  cpu::Matrix output_;
  std::unique_ptr<Scratch> scratch_;
};

}  // namespace kontor::inference
