#pragma once
// What a model needs of its devices' memory and the host's, reckoned from the file's directory before anything is loaded.

#include "inference/cuda/model_tensors.hpp"
#include "inference/cuda/workspace.hpp"

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace kontor::inference::cuda {

/// A device's part: layers [first, end). The first stage has the embedding, the last one what makes logits.
struct StagePlan {
  std::int64_t first = 0, end = 0;
  bool embeds = true, outputs = true;
  std::uint64_t weight_bytes = 0;    ///< On the device.
  std::uint64_t host_bytes = 0;      ///< Of matrices in page-locked memory of the host:
  std::int64_t layers_from = 0;      ///< those of this layer and all behind it,
  std::int64_t experts_from = 0;     ///< experts from this layer on.
  std::uint64_t workspace_bytes = 0;
  std::uint64_t page_bytes = 0;      ///< Of 64 positions in its layers.
  std::uint64_t free_bytes = 0;
};

struct MemoryPlan {
  std::vector<StagePlan> stages;
  // Of all stages together:
  std::uint64_t weight_bytes = 0, host_bytes = 0, workspace_bytes = 0, page_bytes = 0;
  std::int64_t pages = 0;            ///< That fit beside the rest, on every device.
};

/// A device as the plan sees it.
struct DeviceMemory {
  std::string name;
  std::uint64_t free_bytes = 0;
  int processors = 1;
};

struct PlanOptions {
  Arithmetic arithmetic;
  std::uint64_t host_free_bytes = 0;  ///< That may be used.
  std::uint64_t expert_bytes = 0;     ///< Most of a device's memory for experts; 0: what fits.
};

/// All devices are used, at most one for each layer. The layers are split so that the fullest device is as little full as can be. What does
/// not fit goes to the host: of each
/// device's layers experts first, layers next. Errors: unsupported (unsupported_arch, kv_type); those of ModelTensors; memory
/// (out_of_memory) with the numbers.
Result<MemoryPlan> plan_memory(const ModelTensors& tensors, std::span<const DeviceMemory> devices, const PlanOptions& options);

}  // namespace kontor::inference::cuda
