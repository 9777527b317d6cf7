#pragma once
// The decoder on a GPU: the same model as inference/decoder.hpp, weights in their quantised form, a fixed pool of KV pages.
// Decoding multiplies by int8 activations as the CPU does; many tokens at once go through cuBLAS in binary16.

#include "inference/backend.hpp"
#include "inference/cuda/device.hpp"
#include "inference/cuda/upload.hpp"
#include "inference/model_config.hpp"

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace kontor::inference::cuda {

class PagePool;

/// What a model needs of a device's memory, reckoned before anything is loaded.
struct MemoryPlan {
  std::uint64_t weight_bytes = 0;    ///< On the device.
  std::uint64_t host_bytes = 0;      ///< Of matrices in page-locked memory of the host:
  std::int64_t layers_from = 0;      ///< those of this layer and all behind it,
  std::int64_t experts_from = 0;     ///< experts from this layer on.
  std::uint64_t workspace_bytes = 0;
  std::uint64_t page_bytes = 0;      ///< Of 64 positions in all layers.
  std::int64_t pages = 0;            ///< That fit beside the rest.
  std::uint64_t free_bytes = 0;
};

/// Used by one thread at a time. Nothing is allocated while decoding; prefill grows its own workspace. A token's result does
/// not depend on what it is decoded together with; prefill of many tokens rounds differently unless `deterministic`.
class CudaDecoder final : public Backend {
 public:
  /// Errors: those of read_model_config; malformed (missing_tensor, shape_mismatch, bad_tensor_type); unsupported
  /// (unsupported_arch) for architectures that only the CPU computes; memory (out_of_memory) with the numbers.
  static Result<std::unique_ptr<Backend>> create(const WeightFile& file, const BackendOptions& options, std::unique_ptr<Device> device);
  ~CudaDecoder() override;

  const ModelConfig& config() const override { return config_; }
  std::string device() const override { return device_->name(); }
  std::unique_ptr<Sequence> create_sequence() override;
  std::uint64_t page_bytes() const override { return plan_.page_bytes; }
  std::string arithmetic() const override;
  Result<KvPageRef> load_page(std::span<const std::byte> content) override;
  Result<void> forward(std::span<const Extension> extensions) override;
  std::uint64_t weight_bytes_per_token() const override;
  bool shortlists() const override { return true; }
  double device_seconds() const override { return device_->busy_seconds(); }
  int threads() const override { return 1; }
  void set_threads(int) override {}

  const MemoryPlan& plan() const { return plan_; }

 private:
  class Timeline;
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
  struct Row {
    Timeline* timeline;
    std::int64_t position;
    TokenId token;
    float* hidden;
    float* logits;
    Shortlist* shortlist = nullptr;  ///< Instead of the logits, where it is enough.
  };
  struct Workspace;

  CudaDecoder(const WeightFile& file, ModelConfig config, const BackendOptions& options, std::unique_ptr<Device> device);

  Result<void> load();
  Result<void> make_plan();
  /// Bytes of a layer's matrices.
  struct LayerBytes {
    std::uint64_t rest = 0, experts = 0;
  };
  Result<std::vector<LayerBytes>> weigh_layers();
  Result<void> place_layers(std::span<const LayerBytes> layers, std::uint64_t usable, std::uint64_t least, std::uint64_t comfortable);
  Result<void> check_shapes() const;
  Result<void> make_workspace();
  Result<const Tensor*> checked(const std::string& name, std::int64_t columns, std::int64_t rows, std::int64_t slabs) const;
  Result<void> load_matrix(const std::string& name, std::int64_t columns, std::int64_t rows, bool on_host, Matrix& out, std::int64_t slabs = 1);
  /// Tensors of one type and width, one below the other.
  Result<void> load_parts(std::span<const Tensor> parts, bool on_host, Matrix& out);
  Result<PlaneLayout> layout_of(std::span<const Tensor> parts) const;
  Result<void> load_attention(const std::string& prefix, Layer& layer);
  Result<void> load_latent(const std::string& prefix, Layer& layer);
  Result<void> load_both_heads(const Tensor& both, Layer& layer);
  struct ExpertMatrix {
    const char* name;
    std::int64_t columns, rows;
    Matrix Layer::*to;
  };
  std::array<ExpertMatrix, 3> expert_matrices() const;
  /// Expert by expert, whether the file has them in one tensor or in one each.
  Result<std::vector<Tensor>> expert_parts(std::int64_t layer, const ExpertMatrix& matrix) const;
  Result<void> load_experts(std::int64_t index, Layer& layer);
  Result<void> load_vector(const std::string& name, std::int64_t length, bool required, Vector& out);
  Result<void> load_layer(std::int64_t index, Layer& layer);

  Result<void> run_batch(std::span<const Row> rows);
  Result<void> send_rows(std::span<const Row> rows);
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
  void project_tiled(const ProductView& product, const ActivationView& x);
  void mix(std::int64_t layer, std::span<const Row> rows);
  void mix_prefill(const KvView& cache, std::span<const Row> rows, std::int64_t first);
  Result<void> grow_prefill(std::int64_t positions);
  Result<void> write_outputs(std::span<const Row> rows);
  void start_shortlists(std::span<const Row* const> rows);
  Result<void> take_shortlists(std::span<const Row* const> rows);
  bool tiled(std::int64_t count) const;
  KvView cache_of(std::int64_t layer) const;
  AttentionShape shape() const { return {config_.heads, config_.kv_heads, config_.key_length, config_.value_length}; }
  ActivationTarget target(float* values) const;
  ActivationView view(const float* values, std::int64_t count, std::int64_t columns) const;

  WeightFile file_;
  ModelConfig config_;
  bool exact_;          ///< Compute::f32: float32 weights, activations and cache.
  bool deterministic_;
  KvFormat kv_format_;
  std::uint64_t expert_limit_;  ///< Bytes of experts on the device; 0: what fits.
  std::unique_ptr<Device> device_;
  MemoryPlan plan_;
  std::shared_ptr<PagePool> pool_;
  std::vector<Layer> layers_;
  Matrix embedding_, output_;
  Vector final_norm_;
  DeviceBuffer frequencies_;
  bool tied_ = false;
  std::unique_ptr<Workspace> work_;
};

}  // namespace kontor::inference::cuda
