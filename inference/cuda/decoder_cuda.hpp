#pragma once
// The decoder on one GPU or several: the same model as inference/decoder.hpp, weights in their quantised form, a fixed pool of KV pages.
// Decoding multiplies by int8 activations as the CPU does; many tokens at once go through cuBLAS in binary16. Of several devices each has
// a stretch of the layers; hidden states go from one to the next.

#include "inference/backend.hpp"
#include "inference/cuda/device.hpp"
#include "inference/cuda/stage.hpp"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace kontor::inference::cuda {

/// Devices in the order in which they take layers.
struct DeviceSource {
  std::size_t count = 1;
  std::function<Result<std::unique_ptr<Device>>(std::size_t)> open;  ///< Called once for each that is needed, from the first on.
  bool all = false;  ///< Else only as many as hold the model.
};

/// Used by one thread at a time. A token's result does not depend on what it is decoded together with, nor on the number of devices; prefill
/// of many tokens rounds differently unless `deterministic`.
class CudaDecoder final : public Backend {
 public:
  /// Errors: those of open(); those of
  /// read_model_config and plan_memory; malformed (missing_tensor, shape_mismatch, bad_tensor_type); unsupported
  /// (unsupported_arch) for architectures that only the CPU computes; memory (out_of_memory) with the numbers.
  static Result<std::unique_ptr<Backend>> create(const WeightFile& file, const BackendOptions& options, const DeviceSource& devices);
  static Result<std::unique_ptr<Backend>> create(const WeightFile& file, const BackendOptions& options, std::unique_ptr<Device> device);
  ~CudaDecoder() override;

  const ModelConfig& config() const override { return tensors_.config(); }
  std::string device() const override;
  std::unique_ptr<Sequence> create_sequence() override;
  std::uint64_t page_bytes() const override { return plan_.page_bytes; }
  std::string arithmetic() const override;
  Result<KvPageRef> load_page(std::span<const std::byte> content) override;
  Result<void> forward(std::span<const Extension> extensions) override;
  std::uint64_t weight_bytes_per_token() const override;
  bool shortlists() const override { return true; }
  /// Of all devices together.
  double device_seconds() const override;
  int threads() const override { return 1; }
  void set_threads(int) override {}

  const MemoryPlan& plan() const { return plan_; }

 private:
  CudaDecoder(const WeightFile& file, const ModelConfig& config, const Arithmetic& arithmetic);

  Result<void> make_plan(const BackendOptions& options, const DeviceSource& source);
  Result<void> load(const BackendOptions& options, const DeviceSource& source);
  Result<void> run_batch(std::span<const Stage::Row> rows);
  Result<void> wait();

  ModelTensors tensors_;
  Arithmetic arithmetic_;
  std::vector<std::unique_ptr<Device>> devices_;
  MemoryPlan plan_;
  std::vector<std::unique_ptr<Stage>> stages_;
  std::shared_ptr<PagePool> pool_;
};

}  // namespace kontor::inference::cuda
